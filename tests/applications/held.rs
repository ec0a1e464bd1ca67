//! `license_held` in policies and CHECKs: who may use what a seat is for.

use crate::util::*;

const HELD: &str = "SELECT license_held('TOM')";

/// A table that is open to those alone who hold a seat of "TOM".
const PAYROLL: &str =
    "CREATE TABLE payroll (employee text, module text DEFAULT 'TOM', CHECK (license_held('TOM')));
    ALTER TABLE payroll ENABLE ROW LEVEL SECURITY;
    CREATE POLICY with_seat ON payroll USING (license_held(module));
    GRANT ALL ON payroll TO PUBLIC;
    INSERT INTO payroll SELECT n FROM generate_series(1, 1000) n";

async fn holds(session: &Session) -> bool {
    session.val(HELD).await
}

async fn counts(session: &Session) -> String {
    session.text("SELECT count(*) FROM payroll").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_holds_what_it_has_checked_out() {
    let desk = Desk::with_seats(1).await;
    let (anna, bert) = (desk.user("anna").await, desk.user("bert").await);
    assert!(!holds(&anna).await && !holds(&bert).await);
    anna.checkout().await;
    assert!(holds(&anna).await && !holds(&bert).await);
    anna.checkout().await;
    anna.checkin().await;
    assert!(holds(&anna).await);
    anna.checkin().await;
    assert!(!holds(&anna).await);
    // For one of the application's users.
    let user = "client_user => 'x'";
    anna.run(&format!("SELECT license_checkout({user})")).await;
    assert!(holds(&anna).await);
    anna.run("DISCARD ALL").await;
    assert!(!holds(&anna).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_holds_what_its_login_claimed() {
    let desk = Desk::licensed("seats, application_name", "5, 'tom%'").await;
    let anna = desk.login("anna").app("tom").open_ok().await;
    let other = desk.login("bert").app("other").open_ok().await;
    assert!(holds(&anna).await);
    // It claims no license.
    assert!(!holds(&other).await);
    // One product's seats never serve another.
    desk.admin
        .run("INSERT INTO licenses (product, claimed_at) VALUES ('PAY', 'checkout')")
        .await;
    assert_eq!(anna.text("SELECT license_held('PAY')").await, "f");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_session_of_the_same_identity_counts() {
    let desk = Desk::with_seats(5).await;
    let (anna, twin) = (desk.user("anna").await, desk.user("anna").await);
    let abroad = desk.cluster.login("anna").from("127.0.1.99");
    let abroad = abroad.open_ok().await;
    anna.checkout().await;
    assert!(holds(&twin).await && !holds(&abroad).await);
    desk.admin
        .run("UPDATE licenses SET counted_by = 'session'")
        .await;
    assert!(holds(&anna).await && !holds(&twin).await);
    desk.admin
        .run("UPDATE licenses SET counted_by = 'user'")
        .await;
    assert!(holds(&twin).await && holds(&abroad).await);
    anna.close().await;
    desk.in_use_becomes(0).await;
    assert!(!holds(&twin).await);
    // An application's user is somebody else.
    twin.run("SELECT license_checkout(client_user => 'x')")
        .await;
    assert!(holds(&twin).await && !holds(&abroad).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seat_of_another_database_of_the_pool_counts() {
    let row = "'checkout', 5, 'firm'";
    let desk = Desk::licensed("claimed_at, seats, pool", row).await;
    desk.cluster.sql("CREATE DATABASE second");
    desk.cluster
        .license("second", "claimed_at, seats, pool", row);
    let anna = desk.user("anna").await;
    let elsewhere = desk.login("anna").db("second").open_ok().await;
    assert!(!holds(&anna).await);
    elsewhere.checkout().await;
    assert!(holds(&anna).await);
    elsewhere.checkin().await;
    assert!(!holds(&anna).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn exempt_sessions_hold_everything() {
    let desk = Desk::with_seats(0).await;
    desk.admin
        .run("INSERT INTO license_exemptions VALUES ('role', 'anna'); ALTER ROLE carl REPLICATION")
        .await;
    let (anna, bert, carl) = (
        desk.user("anna").await,
        desk.user("bert").await,
        desk.user("carl").await,
    );
    assert!(holds(&desk.admin).await && holds(&anna).await && holds(&carl).await);
    assert!(!holds(&bert).await);
    desk.admin.run("DELETE FROM license_exemptions").await;
    assert!(!holds(&anna).await);
    // Whatever is licensed.
    assert_eq!(desk.admin.text("SELECT license_held('TIM')").await, "t");
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_holds_what_is_not_enforced() {
    let desk = Desk::with_seats(0).await;
    let anna = desk.user("anna").await;
    for (enforcement, held) in [("on", false), ("warn", true), ("off", true)] {
        let row = |word| format!("UPDATE licenses SET enforcement = '{word}'");
        desk.admin.run(&row(enforcement)).await;
        assert_eq!(holds(&anna).await, held, "the row's: {enforcement}");
        desk.admin.run(&row("on")).await;
        assert!(!holds(&anna).await);
        desk.cluster.set("pg_seats.enforcement", enforcement);
        eventually("the session has read it", PATIENCE, async || {
            anna.text("SHOW pg_seats.enforcement").await == enforcement
        })
        .await;
        assert_eq!(holds(&anna).await, held, "the server's: {enforcement}");
        desk.cluster.reset("pg_seats.enforcement");
        eventually("the session has read it", PATIENCE, async || {
            anna.text("SHOW pg_seats.enforcement").await == "on"
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_product_is_an_error_and_null_is_null() {
    let desk = Desk::with_seats(1).await;
    let anna = desk.user("anna").await;
    for product in ["TIM", "", "tom"] {
        let call = format!("SELECT license_held('{product}')");
        anna.fails(&call).await.assert("42704", "");
    }
    assert_eq!(anna.text("SELECT license_held(NULL) IS NULL").await, "t");
    desk.admin.run("DELETE FROM licenses").await;
    anna.fails(HELD).await.assert("42704", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_opens_the_table_to_holders() {
    let desk = Desk::with_seats(1).await;
    desk.admin.run(PAYROLL).await;
    let (anna, bert) = (desk.user("anna").await, desk.user("bert").await);
    assert_eq!(counts(&anna).await, "0");
    anna.fails("INSERT INTO payroll VALUES ('x')")
        .await
        .assert("42501", "");
    anna.checkout().await;
    assert_eq!(counts(&anna).await, "1000");
    anna.run("INSERT INTO payroll VALUES ('x')").await;
    assert_eq!(counts(&bert).await, "0");
    assert_eq!(
        bert.texts("DELETE FROM payroll RETURNING employee").await,
        [""; 0]
    );
    // In the middle of a prepared statement's life, and of a transaction.
    anna.run("PREPARE look AS SELECT count(*) FROM payroll; BEGIN")
        .await;
    assert_eq!(anna.text("EXECUTE look").await, "1001");
    anna.checkin().await;
    assert_eq!(anna.text("EXECUTE look").await, "0");
    assert!(bert.try_checkout().await);
    assert_eq!(anna.text("EXECUTE look").await, "0");
    anna.run("COMMIT").await;
    assert_eq!(counts(&bert).await, "1001");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_lets_holders_alone_write() {
    let desk = Desk::with_seats(1).await;
    desk.admin
        .run(
            "CREATE TABLE slips (n int, CHECK (license_held('TOM'))); GRANT ALL ON slips TO PUBLIC",
        )
        .await;
    let anna = desk.user("anna").await;
    let insert = "INSERT INTO slips VALUES (1)";
    let denied = anna.fails(insert).await;
    denied.assert("23514", "slips_check");
    anna.checkout().await;
    anna.run(insert).await;
    anna.run("UPDATE slips SET n = 2").await;
    anna.checkin().await;
    anna.fails("UPDATE slips SET n = 3")
        .await
        .assert("23514", "slips_check");
    desk.admin.run(insert).await;
    assert_eq!(anna.text("SELECT count(*) FROM slips").await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_workers_answer_for_their_session() {
    let desk = Desk::with_seats(5).await;
    desk.admin.run(PAYROLL).await;
    let grow = "INSERT INTO payroll SELECT n FROM generate_series(1, 100000) n; ANALYZE payroll";
    desk.admin.run(grow).await;
    desk.admin
        .run("GRANT EXECUTE ON FUNCTION license_lease(text, text, text, interval, interval), license_heartbeat(uuid) TO PUBLIC")
        .await;
    let parallel = "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;
        SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 2;
        SET parallel_leader_participation = off";
    let count = async |session: &Session| {
        let plan = "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) SELECT count(*) FROM payroll";
        let plan = session.texts(plan).await.join("\n");
        assert!(plan.contains("Workers Launched: "), "{plan}");
        assert!(!plan.contains("Workers Launched: 0"), "{plan}");
        assert!(plan.contains("license_held"), "{plan}");
        counts(session).await
    };
    let (anna, bert) = (desk.user("anna").await, desk.user("bert").await);
    for session in [&anna, &bert] {
        session.run(parallel).await;
        assert_eq!(count(session).await, "0");
    }
    anna.checkout().await;
    assert_eq!(count(&anna).await, "101000");
    assert_eq!(count(&bert).await, "0");
    // A lease is lent to the leader's transaction.
    bert.run("BEGIN").await;
    let lease = bert
        .text("SELECT lease_id FROM license_lease('x', 'pc')")
        .await;
    bert.run(&format!("SELECT license_heartbeat('{lease}')"))
        .await;
    assert_eq!(count(&bert).await, "101000");
    bert.run("COMMIT").await;
    assert_eq!(count(&bert).await, "0");
    anna.checkin().await;
    assert_eq!(count(&anna).await, "0");
    // Rules that are outdated can't be read there.
    desk.admin
        .run("UPDATE licenses SET enforcement = 'off'")
        .await;
    eventually("somebody else has read them", PATIENCE, async || {
        count(&anna).await == "101000"
    })
    .await;
    anna.fails("SELECT count(*) FROM payroll WHERE license_held(module || 'X')")
        .await
        .assert("42704", "");
}

/// Calls what is not to be called in a parallel worker, by functions that are marked as if it were.
const MARKED_SAFE: &str = r#"DO $do$
DECLARE
    call text;
    number int := 0;
BEGIN
    FOREACH call IN ARRAY ARRAY[
        $$license_checkout('TOM')::text$$,
        $$(SELECT count(*)::text FROM license_try_checkout('TOM'))$$,
        $$license_checkin('TOM')::text$$,
        $$license_lease('x', '10.0.0.1', 'TOM')::text$$,
        $$license_heartbeat('00000000-0000-0000-0000-000000000000')::text$$,
        $$license_release('00000000-0000-0000-0000-000000000000')::text$$]
    LOOP
        number := number + 1;
        EXECUTE format(
            'CREATE FUNCTION safe%s() RETURNS text LANGUAGE plpgsql PARALLEL SAFE SECURITY DEFINER AS $f$BEGIN RETURN %s; END$f$',
            number, call);
    END LOOP;
END$do$"#;

#[tokio::test(flavor = "multi_thread")]
async fn no_seat_is_had_by_way_of_a_parallel_worker() {
    let desk = Desk::with_seats(0).await;
    let anna = desk.user("anna").await;
    desk.admin.run(MARKED_SAFE).await;
    let setting = if desk.cluster.programs().major() < 16 {
        "force_parallel_mode"
    } else {
        "debug_parallel_query"
    };
    anna.run(&format!("SET {setting} = on")).await;
    for number in 1..=6 {
        let refused = anna.fails(&format!("SELECT safe{number}()")).await;
        refused.assert("25000", "");
        let words = "during a parallel operation";
        assert!(refused.message.contains(words), "{refused:?}");
    }
    anna.run(&format!("RESET {setting}")).await;
    anna.fails("SELECT safe1()")
        .await
        .assert("53400", "license_full");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exempt_sessions_parallel_workers_hold_everything() {
    let desk = Desk::with_seats(0).await;
    desk.admin.run(PAYROLL).await;
    desk.admin
        .run("INSERT INTO license_exemptions VALUES ('role', 'anna')")
        .await;
    let anna = desk.user("anna").await;
    anna.run(
        "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;
         SET min_parallel_table_scan_size = 0; SET parallel_leader_participation = off",
    )
    .await;
    assert_eq!(counts(&anna).await, "1000");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_restores_tables_with_policies_and_checks() {
    let desk = Desk::with_seats(1).await;
    desk.admin.run(PAYROLL).await;
    let text = desk.cluster.program("pg_dump", &[]).ok();
    let insert = desk.cluster.program("pg_dump", &["--inserts"]).ok();
    for (db, text) in [("copied", text), ("inserted", insert)] {
        desk.cluster.restore(db, &text);
        let rows = "SELECT count(*) FROM payroll";
        assert_eq!(desk.cluster.sql_in(db, rows), "1000");
        let anna = desk.login("anna").db(db).open_ok().await;
        assert_eq!(counts(&anna).await, "0");
        anna.checkout().await;
        assert_eq!(counts(&anna).await, "1000");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_restores_also_where_superusers_count() {
    let cluster = Cluster::builder()
        .conf("pg_seats.exempt_superusers", "off")
        .licensed("claimed_at, seats", "'checkout', 1");
    cluster.sql("UPDATE licenses SET enforcement = 'off'");
    cluster.sql(PAYROLL);
    cluster.sql("UPDATE licenses SET enforcement = 'on'");
    let text = cluster.program("pg_dump", &[]).ok();
    cluster.restore("copied", &text);
    assert_eq!(
        cluster.sql_in("copied", "SELECT count(*) FROM payroll"),
        "1000"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_seen_at_once() {
    let desk = Desk::with_seats(1).await;
    let (anna, bert) = (desk.user("anna").await, desk.user("bert").await);
    for _ in 0..20 {
        anna.checkout().await;
        assert!(holds(&anna).await);
        anna.checkin().await;
        assert!(!holds(&anna).await);
        desk.admin
            .run("UPDATE licenses SET claimed_at = 'login', seats = 2")
            .await;
        assert!(holds(&anna).await && holds(&bert).await);
        desk.admin
            .run("UPDATE licenses SET claimed_at = 'checkout', seats = 1")
            .await;
        assert!(!holds(&anna).await && !holds(&bert).await);
    }
    // What is not committed is not seen, also by who changes it.
    desk.admin.run("GRANT ALL ON licenses TO anna").await;
    anna.run("BEGIN; UPDATE licenses SET enforcement = 'off'")
        .await;
    assert!(!holds(&anna).await);
    anna.run("COMMIT").await;
    assert!(holds(&anna).await);
}

/// A policy asks for every row.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_does_not_wait_for_a_lock_with_every_row() {
    let desk = Desk::with_seats(1).await;
    let anna = desk.user("anna").await;
    anna.checkout().await;
    anna.run("SET statement_timeout = '10s'").await;
    let count = "SELECT count(*) FROM generate_series(1, 10000) n
                  WHERE license_held(CASE WHEN n > 0 THEN 'TOM' END)";
    let locker = desk.change_and_lock().await;
    assert_eq!(anna.text(count).await, "10000");
    locker.close().await;
    // Where changes come unnoticed.
    desk.admin
        .run("ALTER TABLE licenses DISABLE TRIGGER USER")
        .await;
    assert_eq!(anna.text(count).await, "10000");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_held_in_the_transaction_of_its_heartbeat() {
    let desk = Desk::with_seats(1).await;
    desk.admin
        .run("GRANT EXECUTE ON FUNCTION license_lease(text, text, text, interval, interval), license_heartbeat(uuid), license_release(uuid) TO anna")
        .await;
    let (app, twin) = (desk.user("anna").await, desk.user("anna").await);
    let lease = app
        .text("SELECT lease_id FROM license_lease('x', '10.0.0.1')")
        .await;
    assert!(!holds(&app).await);
    let beat = format!("SELECT license_heartbeat('{lease}')");
    for (end, part) in [("COMMIT", ""), ("ROLLBACK", ""), ("COMMIT", "SAVEPOINT a")] {
        app.run("BEGIN").await;
        assert!(!holds(&app).await);
        app.run(part).await;
        app.run(&beat).await;
        assert!(holds(&app).await && !holds(&twin).await);
        app.run(end).await;
        assert!(!holds(&app).await);
    }
    // Alone it lasts for the one statement.
    app.run(&beat).await;
    assert!(!holds(&app).await);
    // Released, it is no longer held.
    app.run("BEGIN").await;
    app.run(&beat).await;
    let release = format!("SELECT license_release('{lease}')");
    assert_eq!(twin.text(&release).await, "t");
    assert!(!holds(&app).await);
    app.run("COMMIT").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_answers_on_a_standby() {
    let desk = Desk::with_seats(1).await;
    desk.admin.run(PAYROLL).await;
    let standby = desk.cluster.standby();
    standby.catch_up(&desk.cluster);
    let standby = Desk::of(standby).await;
    let anna = standby.user("anna").await;
    assert_eq!(counts(&anna).await, "0");
    anna.checkout().await;
    assert_eq!(counts(&anna).await, "1000");
    assert!(!holds(&desk.user("anna").await).await);
}
