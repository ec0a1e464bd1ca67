//! Signed licenses may say how many identities are exempt at once by `license_exemptions`: nobody goes around that.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::util::*;

/// Returns a license of so many seats of "TOM", of which so many identities may be exempt.
fn claims(vendor: &Vendor, seats: u32, exempt: Option<u32>) -> Value {
    let mut claims = vendor.claims(seats);
    claims["exempt"] = json!(exempt);
    claims
}

/// Starts a server with such a license. Anna, Bert and Carl are exempt, and all computers of 127.0.9.0/24.
async fn limited(seats: u32, exempt: u32) -> Desk {
    let vendor = Vendor::aptora();
    let cluster = Cluster::builder().with_key_of(&vendor);
    exempts(&cluster, "postgres");
    cluster.install(&vendor.sign(&claims(&vendor, seats, Some(exempt))));
    Desk::of(cluster).await
}

fn exempts(cluster: &Cluster, datname: &str) {
    cluster.sql_in(
        datname,
        "INSERT INTO license_exemptions (kind, value)
         VALUES ('role', 'anna'), ('role', 'bert'), ('role', 'carl'), ('host', '127.0.9.0/24')",
    );
}

/// Returns the reason for which a session is exempt, or the kind of the seat that it has.
async fn standing(desk: &Desk, session: &Session) -> String {
    let pid = session.pid().await;
    let standing = format!(
        "SELECT reason FROM license_exempt_sessions WHERE pid = {pid}
         UNION ALL SELECT kind FROM license_active_seats WHERE {pid} = ANY (pids)"
    );
    desk.admin.text(&standing).await
}

/// Logs in, and is exempt for this reason, or has a seat of this kind.
async fn enters(desk: &Desk, login: &Login, expected: &str) -> Session {
    let session = login.open_ok().await;
    assert_eq!(standing(desk, &session).await, expected, "{login}");
    session
}

async fn is_full(login: &Login) {
    login.denied().await.assert("53300", "license_full");
}

/// Logs in as soon as it is exempt; until then no seat is free.
async fn becomes_exempt(desk: &Desk, login: &Login) -> Session {
    let mut session = None;
    eventually("a place is free", PATIENCE, async || {
        session = login.open().await.ok();
        session.is_some()
    })
    .await;
    let session = session.unwrap();
    assert_eq!(standing(desk, &session).await, "exempt role");
    session
}

/// Returns the sessions that `license_exemptions` exempts, and the seats in use.
async fn usage(desk: &Desk) -> String {
    let usage =
        "SELECT (SELECT count(*) FROM license_exempt_sessions WHERE reason LIKE 'exempt %'), in_use
                   FROM license_usage";
    desk.admin.text(usage).await
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_limit_exempt_roles_and_hosts_count_as_anybody() {
    let desk = limited(2, 2).await;
    let anna = desk.at("anna", "127.0.1.1");
    let first = enters(&desk, &anna, "exempt role").await;
    // One identity is one, however many sessions it has.
    let second = enters(&desk, &anna, "exempt role").await;
    let _host = enters(&desk, &desk.at("dora", "127.0.9.1"), "exempt host").await;
    assert_eq!(usage(&desk).await, "3|0");
    let carl = desk.at("carl", "127.0.1.3");
    let _counted = [
        enters(&desk, &desk.at("bert", "127.0.1.2"), "login").await,
        enters(&desk, &desk.at("anna", "127.0.9.2"), "login").await,
    ];
    assert_eq!(usage(&desk).await, "3|2");
    // The administrator is one more.
    let column = "SELECT exempt FROM license_usage";
    eventually("psql is out", PATIENCE, async || {
        desk.admin.text(column).await == "4"
    })
    .await;
    is_full(&carl).await;
    is_full(&desk.at("emil", "127.0.9.3")).await;
    first.close().await;
    is_full(&carl).await;
    second.close().await;
    let _next = becomes_exempt(&desk, &carl).await;
    is_full(&desk.at("anna", "127.0.1.1")).await;
    // Whoever counted does so still.
    assert_eq!(usage(&desk).await, "2|2");
}

#[tokio::test(flavor = "multi_thread")]
async fn superusers_and_replication_are_exempt_besides() {
    let desk = limited(0, 1).await;
    desk.admin.run("ALTER ROLE carl REPLICATION").await;
    let _root = enters(&desk, &desk.at("postgres", "127.0.9.1"), "superuser").await;
    let _carl = enters(&desk, &desk.at("carl", "127.0.9.1"), "replication").await;
    let _anna = enters(&desk, &desk.at("anna", "127.0.1.1"), "exempt role").await;
    is_full(&desk.at("bert", "127.0.1.1")).await;
    let _root = enters(&desk, &desk.at("postgres", "127.0.9.2"), "superuser").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_race_no_more_are_exempt_than_may_be() {
    let desk = limited(3, 2).await;
    for round in 0..5 {
        // Two sessions of each identity.
        let login = |i: usize| desk.at("anna", &format!("127.0.{}.{}", 1 + i % 4, 1 + i / 8));
        let results = race(64, login).await;
        let (mut hosts, mut sessions) = (BTreeSet::new(), Vec::new());
        for (i, result) in results.into_iter().enumerate() {
            match result {
                Ok(session) => {
                    hosts.insert((i % 4, i / 8));
                    sessions.push(session);
                }
                Err(denied) => {
                    denied.assert("53300", "license_full");
                }
            }
        }
        // Nobody leaves meanwhile: whoever is denied stays so, and so does every other session of it.
        assert_eq!((hosts.len(), sessions.len()), (5, 10), "round {round}");
        assert_eq!(usage(&desk).await, "4|3", "round {round}");
        for session in sessions {
            session.close().await;
        }
        eventually("all are gone", PATIENCE, async || {
            usage(&desk).await == "0|0"
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_client_or_backend_frees_the_place() {
    let desk = limited(0, 1).await;
    let bert = desk.at("bert", "127.0.1.2");
    let mut program = desk.cluster.login("anna").from("127.0.0.1").process();
    program.backend_pid();
    is_full(&bert).await;
    program.send("SELECT pg_sleep(600);");
    program.kill9();
    let session = becomes_exempt(&desk, &bert).await;
    let anna = desk.at("anna", "127.0.1.1");
    is_full(&anna).await;
    desk.cluster.crash_backend(session.pid().await);
    desk.cluster.wait_ready();
    let desk = Desk::of(desk.cluster).await;
    let _anna = becomes_exempt(&desk, &anna).await;
    is_full(&bert).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_comes_or_goes_throws_nobody_out_and_the_first_are_exempt() {
    let vendor = Vendor::aptora();
    let cluster = Cluster::builder().with_key_of(&vendor);
    exempts(&cluster, "postgres");
    // Each token is younger than the last.
    let mut issued = unix_now() - DAY;
    let mut token = |exempt| {
        let mut claims = claims(&vendor, 1, exempt);
        issued += 1;
        claims["iat"] = json!(issued);
        vendor.sign(&claims)
    };
    cluster.install(&token(None));
    let desk = Desk::of(cluster).await;
    let mut sessions = Vec::new();
    for (role, host) in [
        ("bert", "127.0.1.2"),
        ("anna", "127.0.1.1"),
        ("dora", "127.0.9.1"),
    ] {
        let expected = if role == "dora" {
            "exempt host"
        } else {
            "exempt role"
        };
        sessions.push(enters(&desk, &desk.at(role, host), expected).await);
    }
    let renewed = [
        (Some(1), ["exempt role", "login", "login"]),
        (Some(2), ["exempt role", "exempt role", "login"]),
        (Some(0), ["login", "login", "login"]),
        (None, ["exempt role", "exempt role", "exempt host"]),
        (Some(1), ["exempt role", "login", "login"]),
    ];
    for (exempt, expected) in renewed {
        desk.cluster.install(&token(exempt));
        for (session, expected) in sessions.iter().zip(expected) {
            assert_eq!(standing(&desk, session).await, expected, "{exempt:?}");
        }
    }
    // Other changes, and none, leave it at that.
    for change in [
        "UPDATE licenses SET warn_at_percent = 50",
        "UPDATE license_exemptions SET note = 'support'",
        "DELETE FROM licenses",
    ] {
        desk.cluster.sql(change);
        is_full(&desk.at("carl", "127.0.1.3")).await;
        for (session, expected) in sessions.iter().zip(["exempt role", "login", "login"]) {
            assert_eq!(standing(&desk, session).await, expected, "{change}");
        }
    }
    sessions.remove(0).close().await;
    // When rules are read anew, the next in the order of logins is exempt.
    eventually("Bert is out", PATIENCE, async || {
        usage(&desk).await == "0|2"
    })
    .await;
    desk.cluster
        .sql("UPDATE license_exemptions SET note = 'helpdesk'");
    assert_eq!(usage(&desk).await, "1|1");
    assert_eq!(standing(&desk, &sessions[0]).await, "exempt role");
    desk.cluster.sql("SELECT pg_reload_conf()");
    is_full(&desk.at("carl", "127.0.1.3")).await;
    assert_eq!(usage(&desk).await, "1|1");
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_under_one_license_share_the_limit() {
    let vendor = Vendor::aptora();
    let cluster = Cluster::builder().with_key_of(&vendor);
    cluster.sql("CREATE DATABASE company");
    cluster.sql_in("company", "CREATE EXTENSION pg_seats");
    let token = vendor.sign(&claims(&vendor, 0, Some(1)));
    for datname in ["postgres", "company"] {
        exempts(&cluster, datname);
        cluster.sql_in(datname, &format!("SELECT license_install('{token}')"));
    }
    let desk = Desk::of(cluster).await;
    let anna = desk.at("anna", "127.0.1.1");
    let here = enters(&desk, &anna, "exempt role").await;
    let there = anna.clone().db("company").open_ok().await;
    let bert = desk.at("bert", "127.0.1.2");
    for login in [bert.clone(), bert.clone().db("company")] {
        is_full(&login).await;
    }
    here.close().await;
    is_full(&bert).await;
    there.close().await;
    let mut there = None;
    eventually("the place is free", PATIENCE, async || {
        there = bert.clone().db("company").open().await.ok();
        there.is_some()
    })
    .await;
    is_full(&anna).await;
    is_full(&anna.db("company")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn checkouts_of_exempt_sessions_have_the_same_limit() {
    let vendor = Vendor::aptora();
    let cluster = Cluster::builder().with_key_of(&vendor);
    exempts(&cluster, "postgres");
    let mut claims = claims(&vendor, 1, Some(2));
    claims["products"][0]["claimed_at"] = json!("checkout");
    cluster.install(&vendor.sign(&claims));
    let desk = Desk::of(cluster).await;
    let [anna, bert, carl] = [
        enters(&desk, &desk.at("anna", "127.0.1.1"), "exempt role").await,
        enters(&desk, &desk.at("bert", "127.0.1.2"), "exempt role").await,
        enters(&desk, &desk.at("carl", "127.0.1.3"), "exempt role").await,
    ];
    let held = "SELECT license_held('TOM')";
    assert!(!anna.val::<bool>(held).await);
    assert_eq!(anna.checkout().await, "");
    assert!(anna.val::<bool>(held).await);
    // Each user of an application is one.
    let for_user = "SELECT seat_id FROM license_checkout('TOM', client_user => 'ann')";
    assert_eq!(bert.text(for_user).await, "");
    let refused = "SELECT * FROM license_checkout('TOM', client_user => 'bob')";
    assert_ne!(carl.checkout().await, "");
    bert.fails(refused).await.assert("53400", "license_full");
    assert!(!desk.user("dora").await.try_checkout().await);
    let seats = "SELECT usename, kind FROM license_active_seats";
    assert_eq!(desk.admin.texts(seats).await, ["carl|checkout"]);
    // In the queue for a seat like anybody.
    let waiter = desk.enqueue(bert).await;
    assert!(carl.checkin().await);
    let bert = waiter.seated().await;
    assert!(bert.val::<bool>(held).await);
    assert!(!carl.val::<bool>(held).await);
    assert!(anna.checkin().await);
    assert_eq!(carl.checkout().await, "");
    assert_eq!(desk.in_use().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trail_tells_of_a_seat_that_somebody_exempt_took() {
    let trail = Trail {
        desk: limited(1, 1).await,
    };
    let anna = trail.at("anna", "127.0.1.1").open_ok().await;
    let bert = trail.at("bert", "127.0.1.2").open_ok().await;
    is_full(&trail.at("carl", "127.0.1.3")).await;
    bert.close().await;
    eventually("Bert is out", PATIENCE, async || trail.in_use().await == 0).await;
    let told = "SELECT string_agg(event || ' ' || usename, ', ' ORDER BY at, ctid)
                  FROM license_events WHERE usename <> 'postgres'";
    let expected = "exempt login anna, login bert, denial carl, release bert";
    trail.shows(told, expected).await;
    drop(anna);
}
