//! Timeouts that PostgreSQL counts while somebody logs in: the promised message comes all the same.

use crate::util::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_waits_is_told_why_it_is_refused_whatever_its_timeouts_are() {
    let cluster = Cluster::builder()
        .conf("max_prepared_transactions", 5)
        .conf("pg_seats.load_timeout", "1s")
        .licensed("seats, pool", "0, 'company'");
    if cluster.programs().major() < 17 {
        return skipped("this PostgreSQL has no transaction_timeout");
    }
    let anna = cluster.login("anna").from("127.0.1.1");
    for setting in [
        "ALTER ROLE anna SET statement_timeout = '50ms'; ALTER ROLE anna SET lock_timeout = '50ms'",
        "ALTER ROLE anna SET idle_in_transaction_session_timeout = '50ms'",
        "ALTER ROLE anna SET transaction_timeout = '50ms'",
    ] {
        cluster.sql(setting);
        // This lock is there when the server starts, before anybody can read.
        cluster.sql("BEGIN; LOCK TABLE licenses; PREPARE TRANSACTION 'held'");
        cluster.restart(Stop::Fast);
        anna.denied().await.assert("57P03", "license_not_loaded");
        cluster.sql("ROLLBACK PREPARED 'held'");
        eventually("the limits are read", PATIENCE, async || {
            anna.denied().await.sqlstate == "53300"
        })
        .await;
    }
    // The next transaction has all of its time, and no more.
    cluster.sql("UPDATE licenses SET seats = 1; ALTER ROLE anna RESET statement_timeout");
    let anna = anna.open_ok().await;
    let ended = anna.try_texts("SELECT pg_sleep(5)").await.unwrap_err();
    assert_eq!(ended.sqlstate, "25P04", "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_waits_for_a_seat_to_give_way_is_told_why_it_is_refused() {
    let desk = Desk::licensed("seats, reclaim_idle_after", "1, '0'").await;
    if desk.cluster.programs().major() < 17 {
        return skipped("this PostgreSQL has no transaction_timeout");
    }
    desk.admin
        .run("ALTER ROLE bert SET transaction_timeout = '50ms'")
        .await;
    let anna = desk.user("anna").await;
    let pid = anna.pid().await;
    // It can't answer, and so the newcomer waits for two seconds.
    desk.cluster.signal(pid, Signal::SIGSTOP);
    let denied = desk.login("bert").denied().await;
    desk.cluster.signal(pid, Signal::SIGCONT);
    denied.assert("53300", "license_full");
}
