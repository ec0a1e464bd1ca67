//! How many seats one user may have, and shared roles; the leases that a role has taken.

use crate::util::*;

const FULL: [&str; 2] = ["53300", "license_user_limit"];

fn limited(values: &str) -> Cluster {
    Cluster::builder()
        .conf("max_connections", 120)
        .licensed("seats, max_per_user", values)
}

fn host(i: usize) -> String {
    format!("127.0.{}.{}", 2 + i / 200, 1 + i % 200)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_role_has_so_many_seats_and_reads_why_it_gets_no_more() {
    let cluster = limited("3, 2");
    let at = |user: &str, i| cluster.login(user).from(&host(i));
    let first = at("anna", 1).open_ok().await;
    let _second = at("anna", 2).open_ok().await;
    let _joins = at("anna", 2).open_ok().await;
    let denied = at("anna", 3).denied().await;
    denied.assert(FULL[0], FULL[1]);
    assert_eq!(denied.severity, "FATAL");
    assert_eq!(
        denied.message,
        "maximum seats of one user reached for \"TOM\""
    );
    assert_eq!(denied.detail, "2 of 2 seats of one user are in use.");
    let hint = "Log out where you work no longer, or have an administrator raise the license's max_per_user.";
    assert_eq!(denied.hint, hint);
    // Whatever she calls herself.
    at("anna", 1)
        .workstation("LAPTOP")
        .denied()
        .await
        .assert(FULL[0], FULL[1]);
    let call = "SELECT license_checkout(client_user => 'zoe')";
    let error = first.fails(call).await;
    error.assert("53400", "license_user_limit");
    assert_eq!(error.message, denied.message);
    let tried = "SELECT count(*) FROM license_try_checkout(client_user => 'zoe')";
    assert_eq!(first.text(tried).await, "0");
    // Before all seats are taken, and also then.
    let _bert = at("bert", 3).open_ok().await;
    at("anna", 3).denied().await.assert(FULL[0], FULL[1]);
    at("carl", 3).denied().await.assert("53300", "license_full");
    // Who is in stays, and a higher number is in force at once.
    cluster.sql("UPDATE licenses SET max_per_user = 1, seats = 9");
    at("anna", 3).denied().await.assert(FULL[0], FULL[1]);
    assert_eq!(first.text("SELECT 1").await, "1");
    cluster.sql("UPDATE licenses SET max_per_user = 3");
    let _third = at("anna", 3).open_ok().await;
    cluster.sql("UPDATE licenses SET max_per_user = 1, enforcement = 'warn'");
    let _fourth = at("anna", 4).open_ok().await;
    assert!(cluster.log().contains("would have denied user \"anna\" at"));
    assert_eq!(cluster.in_use(), 5);
    let told = "SELECT detail ->> 'reason', detail ->> 'user_limit' FROM license_events
                 WHERE event = 'denial' AND usename = 'anna' ORDER BY at LIMIT 1";
    eventually("the trail tells of it", PATIENCE, async || {
        cluster.sql(told) == "license_user_limit|2"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_roles_are_not_bound_and_bad_numbers_are_refused() {
    let cluster = limited("9, 1");
    cluster.sql(
        "CREATE ROLE counter; GRANT counter TO anna;
         INSERT INTO license_reservations (product, role, shared) VALUES ('TOM', 'counter', true)",
    );
    let at = |user: &str, i| cluster.login(user).from(&host(i));
    let _anna = (at("anna", 1).open_ok().await, at("anna", 2).open_ok().await);
    let _bert = at("bert", 1).open_ok().await;
    at("bert", 2).denied().await.assert(FULL[0], FULL[1]);
    cluster.sql("UPDATE license_reservations SET shared = DEFAULT");
    at("anna", 3).denied().await.assert(FULL[0], FULL[1]);
    let admin = cluster.login("postgres").open_ok().await;
    for number in [0, -1] {
        let update = format!("UPDATE licenses SET max_per_user = {number}");
        let refused = admin.fails(&update).await;
        refused.assert("23514", "licenses_max_per_user_positive");
    }
    let null = "UPDATE license_reservations SET shared = NULL";
    assert_eq!(admin.fails(null).await.sqlstate, "23502");
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_log_in_at_once_one_role_has_no_more() {
    let cluster = limited("50, 3");
    let admin = cluster.login("postgres").open_ok().await;
    for round in 0..4 {
        let racers = race(60, |i| cluster.login(STAFF[i % 2]).from(&host(i)));
        let mut inside = Vec::new();
        for result in racers.await {
            match result {
                Ok(session) => inside.push(session),
                Err(denied) => {
                    denied.assert(FULL[0], FULL[1]);
                }
            }
        }
        assert_eq!(inside.len(), 6, "round {round}");
        let by_role = "SELECT string_agg(n::text, ' ') FROM (SELECT count(*) AS n
                         FROM license_active_seats GROUP BY usename) s";
        assert_eq!(admin.text(by_role).await, "3 3");
        match round {
            // Killed, and the server's backends crashed: nothing is left, and nothing is lost.
            1 => {
                let victim = inside[0].pid().await;
                cluster.kill_backend(victim, Signal::SIGTERM);
            }
            2 => {
                cluster.crash_backend(inside[0].pid().await);
                break;
            }
            _ => {}
        }
        drop(inside);
        eventually("all have left", PATIENCE, async || {
            admin.val::<i32>("SELECT in_use FROM license_usage").await == 0
        })
        .await;
    }
    eventually("the server is there again", PATIENCE, async || {
        cluster.login("postgres").open().await.is_ok()
    })
    .await;
    let racers = race(20, |i| cluster.login("anna").from(&host(i))).await;
    assert_eq!(racers.iter().filter(|result| result.is_ok()).count(), 3);
    // The clients are killed in the midst of a query.
    drop(racers);
    eventually("all have left", PATIENCE, async || cluster.in_use() == 0).await;
    let mut busy = Vec::new();
    for i in 0..3 {
        // A program comes from the server's own computer.
        let pc = format!("PC-{i}");
        busy.push(cluster.login("anna").workstation(&pc).process());
    }
    eventually("they are in", PATIENCE, async || cluster.in_use() == 3).await;
    cluster
        .login("anna")
        .from(&host(9))
        .denied()
        .await
        .assert(FULL[0], FULL[1]);
    for client in busy {
        client.kill9();
    }
    eventually("she may come back", PATIENCE, async || {
        cluster.login("anna").from(&host(9)).open().await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_pool_each_database_goes_by_its_own_number_and_a_dump_keeps_it() {
    let cluster = Cluster::builder().licensed("seats, pool, max_per_user", "9, 'firm', 1");
    cluster.sql("CREATE DATABASE south");
    cluster.license("south", "seats, pool, max_per_user", "9, 'firm', 2");
    let at = |db: &str, i| cluster.login("anna").db(db).from(&host(i));
    let _first = at("south", 1).open_ok().await;
    at("postgres", 2).denied().await.assert(FULL[0], FULL[1]);
    let _second = at("south", 2).open_ok().await;
    at("south", 3).denied().await.assert(FULL[0], FULL[1]);
    // The same seat.
    let _joins = at("postgres", 2).open_ok().await;
    cluster.sql(
        "INSERT INTO license_reservations (product, role, shared) VALUES ('TOM', 'bert', true)",
    );
    let dump = cluster.program("pg_dump", &[]).ok();
    cluster.restore("restored", &dump);
    let rows =
        "SELECT max_per_user, shared FROM licenses l JOIN license_reservations r USING (product)";
    assert_eq!(cluster.sql_in("restored", rows), "1|t");
    at("restored", 4).denied().await.assert(FULL[0], FULL[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_count_for_their_users_who_wait_and_let_others_pass() {
    let cluster =
        Cluster::builder().licensed("seats, claimed_at, max_per_user", "9, 'checkout', 1");
    cluster.sql(
        "GRANT EXECUTE ON FUNCTION license_lease, license_heartbeat, license_release TO anna, bert",
    );
    let [anna, bert] = ["anna", "bert"].map(|user| cluster.login(user).from("127.0.1.1"));
    let (anna, bert) = (anna.open_ok().await, bert.open_ok().await);
    let lease = |user: &str, pc: u32| {
        format!("SELECT lease_id FROM license_lease('{user}', '10.0.0.{pc}')")
    };
    let zoe = anna.text(&lease("zoe", 1)).await;
    anna.text(&lease("yan", 1)).await;
    for session in [&anna, &bert] {
        session
            .fails(&lease("zoe", 2))
            .await
            .assert("53400", "license_user_limit");
    }
    let waits = "SELECT client_host FROM license_lease('zoe', '10.0.0.2', wait => '1 minute')";
    let waiter = tokio::spawn(async move { bert.text(waits).await });
    eventually("zoe waits", PATIENCE, async || {
        cluster.sql("SELECT waiting FROM license_usage") == "1"
    })
    .await;
    anna.text(&lease("xia", 2)).await;
    anna.run(&format!("SELECT license_release('{zoe}')")).await;
    assert_eq!(waiter.await.unwrap(), "10.0.0.2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_sees_the_leases_that_it_or_its_groups_took() {
    let cluster = Cluster::builder().licensed("seats, claimed_at", "9, 'checkout'");
    cluster.sql(
        "CREATE ROLE app; GRANT app TO anna, bert;
         GRANT EXECUTE ON FUNCTION license_lease, license_heartbeat, license_release TO app, carl",
    );
    let session = |user: &str| {
        let login = cluster.login(user).from("127.0.1.1");
        async move { login.open_ok().await }
    };
    let (anna, bert, carl) = (
        session("anna").await,
        session("bert").await,
        session("carl").await,
    );
    let long = "z".repeat(300);
    anna.run(&format!(
        "SELECT license_lease('ann', 'pc-7', ttl => '90 seconds');
         SET ROLE app; SELECT license_lease('{long}', '10.0.0.1')"
    ))
    .await;
    carl.run("SELECT license_lease('cid', 'LOCAL')").await;
    let own = "SELECT client_user, client_host, ttl, product, taken_by FROM license_own_leases";
    let of_app = format!("{long}|10.0.0.1|00:05:00|TOM|app");
    assert_eq!(bert.texts(own).await, [of_app.as_str()]);
    assert_eq!(anna.texts(own).await, [of_app.as_str()]);
    anna.run("RESET ROLE").await;
    let of_anna = "ann|pc-7|00:01:30|TOM|anna".to_owned();
    assert_eq!(anna.texts(own).await, [of_anna.clone(), of_app.clone()]);
    assert_eq!(carl.texts(own).await.len(), 1);
    assert_eq!(session("dora").await.texts(own).await, [""; 0]);
    // Whoever rotates finds them by it, and nobody sees what is not committed.
    carl.run("BEGIN; SELECT license_lease('dan', '10.0.0.9')")
        .await;
    assert_eq!(carl.texts(own).await.len(), 2);
    assert_eq!(cluster.sql("SELECT count(*) FROM license_own_leases"), "3");
    carl.run("ROLLBACK").await;
    let beats = "SELECT license_heartbeat(lease_id) > now() FROM license_own_leases";
    assert_eq!(bert.texts(beats).await, ["t"]);
    // Also after a crash.
    cluster.restart(Stop::Immediate);
    let bert = session("bert").await;
    assert_eq!(bert.texts(own).await, [of_app]);
    let none = "SELECT license_release(lease_id) FROM license_own_leases";
    assert_eq!(bert.texts(none).await, ["t"]);
    assert_eq!(bert.texts(own).await, [""; 0]);
}
