//! Applications behind a real PgBouncer in transaction mode: many users, few connections.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Barrier;

use crate::util::*;

/// The connections that the pooler may have.
const CONNECTIONS: u32 = 5;

/// Creates a role for the pooler that may lease.
fn create_web(cluster: &Cluster) {
    cluster.sql(
        "CREATE ROLE web LOGIN;
         GRANT EXECUTE ON FUNCTION license_lease, license_heartbeat, license_release TO web;
         CREATE TABLE orders AS SELECT 1 AS n;
         GRANT SELECT ON orders TO web",
    );
}

/// One person at a computer with a browser, whom the application knows by name.
struct Visitor {
    name: String,
    host: String,
    /// The application's connection to the pooler, for this person's requests.
    session: Session,
}

impl Visitor {
    async fn arrives(pooler: &Pooler, i: usize) -> Self {
        Self {
            name: format!("visitor{i}"),
            host: format!("10.0.0.{i}"),
            session: pooler.login().open_ok().await,
        }
    }

    /// Asks for a seat: the lease and the seats then in use.
    async fn lease(&self) -> Result<(String, i64), Denied> {
        let Self { name, host, .. } = self;
        let rows = self
            .session
            .try_texts(&format!(
                "SELECT lease_id, seats_in_use FROM license_lease('{name}', '{host}', 'TOM')"
            ))
            .await?;
        let (lease, in_use) = rows[0].split_once('|').unwrap();
        Ok((lease.to_owned(), in_use.parse().unwrap()))
    }

    /// Serves one request: keeps the lease and reads the orders in one transaction.
    async fn works(&self, lease: &str) {
        let rows = self
            .session
            .texts(&format!(
                "BEGIN;
                 SELECT license_heartbeat('{lease}') > now();
                 SELECT count(*) FROM orders;
                 COMMIT"
            ))
            .await;
        assert_eq!(rows, ["t", "1"]);
    }

    async fn leaves(&self, lease: &str) {
        let released = format!("SELECT license_release('{lease}')");
        assert_eq!(self.session.text(&released).await, "t");
    }
}

/// Makes everybody do this at the same moment, and returns the results in the visitors' order.
async fn at_once<V: Clone, F>(visitors: &[V], act: impl Fn(V) -> F) -> Vec<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let line = Arc::new(Barrier::new(visitors.len()));
    let running: Vec<_> = visitors
        .iter()
        .map(|visitor| (act(visitor.clone()), Arc::clone(&line)))
        .map(|(acting, line)| {
            tokio::spawn(async move {
                line.wait().await;
                acting.await
            })
        })
        .collect();
    let mut results = Vec::new();
    for task in running {
        results.push(task.await.unwrap());
    }
    results
}

fn connections(cluster: &Cluster) -> i64 {
    cluster
        .sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'web'")
        .parse()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_visitors_share_ten_seats_over_five_connections() {
    let cluster = Cluster::with_seats(10);
    create_web(&cluster);
    cluster.sql("INSERT INTO license_exemptions (kind, value) VALUES ('role', 'web')");
    let pooler = cluster.pooler("web", CONNECTIONS);
    let mut outside = Vec::new();
    for i in 0..40 {
        outside.push(Arc::new(Visitor::arrives(&pooler, i).await));
    }

    // Ten at a time, until everybody has been in.
    for round in 0..4 {
        let leases = at_once(&outside, async |visitor| visitor.lease().await).await;
        let mut inside = Vec::new();
        let mut denied = Vec::new();
        for (visitor, lease) in outside.into_iter().zip(leases) {
            match lease {
                Ok((lease, in_use)) => {
                    assert!(in_use <= 10, "{in_use} seats in use");
                    inside.push((visitor, lease));
                }
                Err(refusal) => {
                    refusal.assert("53400", "license_full");
                    denied.push(visitor);
                }
            }
        }
        outside = denied;
        assert_eq!((inside.len(), outside.len()), (10, 30 - 10 * round));
        assert_seats_are_the_visitors(&cluster, &inside).await;

        at_once(&inside, async |(visitor, lease)| {
            for _ in 0..3 {
                visitor.works(&lease).await;
            }
        })
        .await;
        assert_eq!(cluster.in_use(), 10);
        at_once(&inside, async |(visitor, lease)| {
            visitor.leaves(&lease).await
        })
        .await;
        assert_eq!(cluster.in_use(), 0);
    }

    let rows = "SELECT count(*) FROM license_active_seats";
    assert_eq!(cluster.sql(rows), "0");
    assert_eq!(cluster.sql("SELECT high_water FROM license_usage"), "10");
}

/// Asserts that each visitor who is in has a seat, at the visitor's own address, and the pooler none.
async fn assert_seats_are_the_visitors(cluster: &Cluster, inside: &[(Arc<Visitor>, String)]) {
    let mut seats: Vec<_> = inside
        .iter()
        .map(|(visitor, _)| format!("lease|web|{}|{}", visitor.name, visitor.host))
        .collect();
    seats.sort_unstable();
    let shown = "SELECT kind, usename, client_user, client_host FROM license_active_seats";
    let shown = cluster.sql(shown);
    let mut shown: Vec<_> = shown.lines().collect();
    shown.sort_unstable();
    assert_eq!(shown, seats);
    let exempt = "SELECT count(*) FROM license_exempt_sessions WHERE usename = 'web'";
    // One may be about to open.
    eventually("the connections are exempt", PATIENCE, async || {
        let open = connections(cluster);
        assert!((1..=i64::from(CONNECTIONS)).contains(&open), "{open}");
        cluster.sql(exempt) == open.to_string()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_behind_a_pooler_wants_the_heartbeat_in_the_same_transaction() {
    // Claimed by applications alone: the pooler's logins take no seat and need no exemption, with
    // which the policy would let everybody pass.
    let cluster = Cluster::builder().licensed("seats, claimed_at", "2, 'checkout'");
    create_web(&cluster);
    cluster.sql(
        "ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
         CREATE POLICY licensed ON orders USING (license_held('TOM'))",
    );
    // All share the one connection, and no request may profit from the one before it.
    let pooler = cluster.pooler("web", 1);
    let (anna, bert) = (
        Visitor::arrives(&pooler, 1).await,
        Visitor::arrives(&pooler, 2).await,
    );
    let orders = "SELECT count(*) FROM orders";
    assert_eq!(anna.session.text(orders).await, "0");
    let (lease, _) = anna.lease().await.unwrap();
    assert_eq!(anna.session.text(orders).await, "0");
    anna.works(&lease).await;
    assert_eq!(anna.session.text(orders).await, "0");
    assert_eq!(bert.session.text(orders).await, "0");

    // A lease of his own lends bert nothing until its heartbeat, and nothing after a rollback.
    let (other, _) = bert.lease().await.unwrap();
    let in_transaction = format!("BEGIN; {orders}; ROLLBACK");
    assert_eq!(bert.session.texts(&in_transaction).await, ["0"]);
    let rolled_back =
        format!("BEGIN; SELECT license_heartbeat('{other}') IS NULL; {orders}; ROLLBACK; {orders}");
    assert_eq!(bert.session.texts(&rolled_back).await, ["f", "1", "0"]);
    bert.works(&other).await;

    // A lease that is gone lends nothing.
    bert.leaves(&other).await;
    let too_late = format!("BEGIN; SELECT license_heartbeat('{other}') IS NULL; {orders}; COMMIT");
    assert_eq!(bert.session.texts(&too_late).await, ["t", "0"]);
    anna.works(&lease).await;
    anna.leaves(&lease).await;
    assert_eq!(cluster.in_use(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn at_login_everybody_behind_a_pooler_is_the_pooler() {
    let cluster = Cluster::with_seats(1);
    cluster.sql("CREATE ROLE web LOGIN");
    let pooler = cluster.pooler("web", 2);
    let (first, second) = (
        pooler.login().open_ok().await,
        pooler.login().open_ok().await,
    );
    for session in [&first, &second] {
        session.run("BEGIN").await;
    }
    assert_eq!(connections(&cluster), 2);
    let seats = "SELECT usename, client_host, sessions FROM license_active_seats";
    assert_eq!(cluster.sql(seats), "web|local|2");
    for session in [&first, &second] {
        session.run("COMMIT").await;
    }
    // The connections stay when the clients go, and the seat with them.
    first.close().await;
    second.close().await;
    assert_eq!(cluster.sql(seats), "web|local|2");
    drop(pooler);
    eventually("the seat is free", PATIENCE, async || cluster.in_use() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pgbouncer_passes_on_the_message_of_a_denied_login_alone() {
    let cluster = Cluster::with_seats(0);
    cluster.sql("CREATE ROLE web LOGIN");
    let pooler = cluster.pooler("web", CONNECTIONS);
    let denied = pooler.login().denied().await;
    let fields = [
        &denied.message,
        &denied.detail,
        &denied.hint,
        &denied.reason,
    ];
    let message = r#"maximum user license count reached for "TOM""#;
    assert_eq!(fields, [message, "", "", ""]);
}

/// One denied login stalls the pool, also when there is a seat again.
#[tokio::test(flavor = "multi_thread")]
async fn pgbouncer_tries_again_only_after_its_server_login_retry() {
    let cluster = Cluster::with_seats(0);
    cluster.sql("CREATE ROLE web LOGIN");
    let pooler = cluster.pooler_with("web", CONNECTIONS, "server_login_retry = 4\n");
    pooler.login().denied().await;
    let denied = Instant::now();
    cluster.sql("UPDATE licenses SET seats = 1");
    // Whoever comes meanwhile waits, or is refused.
    while pooler.login().open().await.is_err() {
        assert!(denied.elapsed() < PATIENCE);
    }
    let stalled = denied.elapsed();
    assert!(stalled > Duration::from_secs(2), "{stalled:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workstation_does_not_pass_pgbouncer() {
    let cluster = Cluster::with_seats(9);
    cluster.sql("CREATE ROLE web LOGIN");
    let strict = cluster.pooler("web", CONNECTIONS);
    let denied = strict.login().workstation("PC-7").denied().await;
    assert!(
        denied.message.contains("unsupported startup parameter"),
        "{denied:?}"
    );
    let ignore = "ignore_startup_parameters = options\n";
    let lenient = cluster.pooler_with("web", CONNECTIONS, ignore);
    let session = lenient.login().workstation("PC-7").open_ok().await;
    session.run("SELECT 1").await;
    let seats = "SELECT usename, coalesce(workstation, '') FROM license_active_seats";
    assert_eq!(cluster.sql(seats), "web|");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_of_a_pooler_share_its_connections_and_nothing_is_left_of_it() {
    let cluster = Cluster::builder().preload(false).start();
    cluster.sql("CREATE ROLE web LOGIN");
    let pooler = cluster.pooler("web", 2);
    let mut clients = Vec::new();
    for _ in 0..12 {
        clients.push(pooler.login().open_ok().await);
    }
    for client in &clients {
        assert_eq!(client.text("SELECT current_user").await, "web");
    }
    let open = connections(&cluster);
    assert!((1..=2).contains(&open), "{open}");
    let folder = pooler.folder().to_owned();
    drop(pooler);
    assert!(!folder.exists());
    for client in clients {
        client.ended().await;
    }
    eventually("its connections are gone", PATIENCE, async || {
        connections(&cluster) == 0
    })
    .await;
}
