//! Databases that count a product together (counting rule 5).

use std::fs;
use std::time::Duration;

use crate::util::*;

/// Returns a server with databases `postgres` and `south`, each with this row of "TOM".
fn two_files(columns: &str, values: &str) -> Cluster {
    let cluster = Cluster::builder().licensed(columns, values);
    add_file(&cluster, columns, values);
    cluster
}

fn add_file(cluster: &Cluster, columns: &str, values: &str) {
    cluster.sql("CREATE DATABASE south");
    cluster.license("south", columns, values);
}

fn pooled(seats: u32) -> Cluster {
    two_files("seats, pool", &format!("{seats}, 'firm'"))
}

async fn open(cluster: &Cluster, user: &str, db: &str) -> Session {
    login(cluster, user, db).open_ok().await
}

fn login(cluster: &Cluster, user: &str, db: &str) -> Login {
    cluster.login(user).db(db).from("127.0.1.1")
}

async fn is_full(cluster: &Cluster, user: &str, db: &str) {
    let denied = login(cluster, user, db).denied().await;
    denied.assert("53300", "license_full");
}

/// Waits until the views show this of `postgres` and `south`: a change in the one shows in the other in a moment.
async fn in_use_becomes(cluster: &Cluster, seats: [i64; 2]) {
    let what = format!("{seats:?} seats are in use");
    eventually(&what, PATIENCE, async || {
        ["postgres", "south"].map(|db| cluster.in_use_in(db)) == seats
    })
    .await;
}

/// Waits until no database worker is reading tables, and each has said what it has to say.
async fn visits_end(cluster: &Cluster) {
    let workers =
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_seats database worker'";
    eventually("visits end", PATIENCE, async || cluster.sql(workers) == "0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn superusers_in_every_company_file_count_once_they_are_no_longer_exempt() {
    let cluster = pooled(1);
    let _root = open(&cluster, "postgres", "south").await;
    cluster.set("pg_seats.exempt_superusers", "off");
    // Nobody has asked in the other company file since.
    eventually(
        "the other company file's are counted",
        PATIENCE,
        async || cluster.sql("SELECT count(*) FROM license_active_seats") == "2",
    )
    .await;
    is_full(&cluster, "bert", "postgres").await;
    cluster.set("pg_seats.exempt_superusers", "on");
    in_use_becomes(&cluster, [0, 0]).await;
    open(&cluster, "bert", "postgres").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_identity_in_two_company_files_takes_one_seat() {
    let cluster = pooled(1);
    let north = open(&cluster, "anna", "postgres").await;
    let south = open(&cluster, "anna", "south").await;
    in_use_becomes(&cluster, [1, 1]).await;
    is_full(&cluster, "bert", "south").await;
    north.close().await;
    eventually("one session is left", PATIENCE, async || {
        cluster.sql("SELECT sessions FROM license_active_seats") == "1"
    })
    .await;
    is_full(&cluster, "bert", "postgres").await;
    south.close().await;
    in_use_becomes(&cluster, [0, 0]).await;
    open(&cluster, "bert", "postgres").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_roles_in_two_files_on_one_computer_take_two_seats_unless_counted_by_host() {
    let cluster = pooled(2);
    let _anna = open(&cluster, "anna", "postgres").await;
    let _bert = open(&cluster, "bert", "south").await;
    in_use_becomes(&cluster, [2, 2]).await;
    is_full(&cluster, "carl", "south").await;
    for db in ["postgres", "south"] {
        cluster.sql_in(db, "UPDATE licenses SET counted_by = 'host', seats = 1");
    }
    in_use_becomes(&cluster, [1, 1]).await;
    open(&cluster, "carl", "south").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_database_checks_the_pool_against_its_own_seats() {
    let cluster = pooled(3);
    cluster.sql_in("south", "UPDATE licenses SET seats = 1");
    let _anna = open(&cluster, "anna", "postgres").await;
    let denied = login(&cluster, "bert", "south").denied().await;
    let detail = &denied.assert("53300", "license_full").detail;
    assert!(detail.starts_with("1 of 1 seats"), "{detail}");
    let _bert = open(&cluster, "bert", "postgres").await;
    // Who holds a seat joins it also where the pool is beyond this database's seats.
    let _again = open(&cluster, "bert", "south").await;
    let usage = "SELECT in_use, seats, available, status FROM license_usage";
    assert_eq!(cluster.sql(usage), "2|3|1|ok");
    assert_eq!(cluster.sql_in("south", usage), "2|1|0|over");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_pools_products_and_databases_count_apart() {
    let cluster = pooled(1);
    let _anna = open(&cluster, "anna", "postgres").await;
    is_full(&cluster, "bert", "south").await;
    for other in [
        "pool = 'other'",
        "pool = NULL",
        "pool = 'firm', product = 'Other'",
    ] {
        cluster.sql_in("south", &format!("UPDATE licenses SET {other}"));
        let bert = open(&cluster, "bert", "south").await;
        bert.close().await;
        // Were he still in when the file joins the pool, he would hold a seat of it.
        eventually("Bert is out", PATIENCE, async || {
            cluster.sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'bert'") == "0"
        })
        .await;
        cluster.sql_in(
            "south",
            "UPDATE licenses SET pool = 'firm', product = 'TOM'",
        );
        is_full(&cluster, "bert", "south").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seat_shows_in_the_views_of_each_of_its_databases() {
    let cluster = pooled(10);
    let _anna = open(&cluster, "anna", "south").await;
    let seats = "SELECT seat_id, product, datname, usename, client_host, sessions, kind FROM license_active_seats";
    let shown = cluster.sql(seats);
    assert!(
        shown.ends_with("|TOM|south|anna|127.0.1.1|1|login"),
        "{shown}"
    );
    assert_eq!(cluster.sql_in("south", seats), shown);
    let _again = open(&cluster, "anna", "postgres").await;
    let shown = cluster.sql(seats);
    // In two databases: none of them is the seat's.
    assert!(shown.ends_with("|TOM||anna|127.0.1.1|2|login"), "{shown}");
    assert_eq!(cluster.sql_in("south", seats), shown);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_rows_disagree_the_finest_rule_rules_with_a_warning() {
    let cluster = pooled(10);
    let warning = r#"databases of one pool count "TOM" by different rules"#;
    let sessions = [
        cluster.login("anna").from("127.0.1.1").open_ok().await,
        cluster.login("anna").from("127.0.1.2").open_ok().await,
        cluster
            .login("anna")
            .db("south")
            .from("127.0.1.2")
            .open_ok()
            .await,
    ];
    let rules = |north: &str, south: &str| {
        for (db, rule) in [("postgres", north), ("south", south)] {
            let update = format!("UPDATE licenses SET counted_by = '{rule}'");
            cluster.sql_in(db, &update);
        }
    };
    assert!(!cluster.log().contains(warning));
    for (north, south, seats) in [
        ("user_host", "user", 2),
        ("user", "user_host", 2),
        ("user", "session", 3),
        ("user", "host", 2),
        ("host", "user", 2),
        ("user", "user", 1),
    ] {
        let mark = cluster.log().len();
        rules(north, south);
        in_use_becomes(&cluster, [seats; 2]).await;
        if north != south {
            cluster.wait_log_since(mark, &format!("WARNING:  {warning}"));
        }
    }
    // Between the two changes that made them agree there may still have been a warning.
    visits_end(&cluster).await;
    let mark = cluster.log().len();
    rules("user", "user");
    in_use_becomes(&cluster, [1, 1]).await;
    visits_end(&cluster).await;
    assert!(!cluster.log_since(mark).contains(warning));
    // Two users on one computer.
    for session in sessions {
        session.close().await;
    }
    rules("host", "user");
    let _anna = open(&cluster, "anna", "postgres").await;
    let _bert = open(&cluster, "bert", "south").await;
    in_use_becomes(&cluster, [2, 2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_joins_and_leaves_the_pool_with_the_sessions_that_are_in() {
    let cluster = Cluster::builder().licensed("seats, pool", "2, 'firm'");
    add_file(&cluster, "seats", "5");
    let _anna = open(&cluster, "anna", "postgres").await;
    let _bert = open(&cluster, "bert", "south").await;
    let _too = open(&cluster, "anna", "south").await;
    in_use_becomes(&cluster, [1, 2]).await;
    cluster.sql_in("south", "UPDATE licenses SET pool = 'firm'");
    is_full(&cluster, "carl", "postgres").await;
    in_use_becomes(&cluster, [2, 2]).await;
    cluster.sql_in("south", "UPDATE licenses SET pool = NULL");
    let _carl = open(&cluster, "carl", "postgres").await;
    in_use_becomes(&cluster, [2, 2]).await;
    cluster.sql_in("south", "DELETE FROM licenses");
    is_full(&cluster, "dora", "postgres").await;
    open(&cluster, "dora", "south").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_right_after_a_commit_in_another_database_of_the_pool_sees_it() {
    let cluster = Cluster::builder().licensed("seats, pool", "2, 'firm'");
    add_file(&cluster, "seats", "5");
    let _bert = open(&cluster, "bert", "south").await;
    let _carl = open(&cluster, "carl", "south").await;
    let admin = cluster.login("postgres").db("south").open_ok().await;
    for _ in 0..10 {
        admin.run("UPDATE licenses SET pool = 'firm'").await;
        is_full(&cluster, "anna", "postgres").await;
        admin.run("UPDATE licenses SET pool = NULL").await;
        open(&cluster, "anna", "postgres").await.close().await;
        eventually("anna has left", PATIENCE, async || cluster.in_use() == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_the_pool_counts_all_its_databases() {
    let cluster = pooled(1);
    for mode in [Stop::Fast, Stop::Immediate] {
        cluster.restart(mode);
        let anna = open(&cluster, "anna", "south").await;
        is_full(&cluster, "bert", "postgres").await;
        in_use_becomes(&cluster, [1, 1]).await;
        cluster.crash_backend(anna.pid().await);
        open(&cluster, "bert", "postgres").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_a_pooled_login_waits_until_every_database_has_been_read() {
    let cluster = Cluster::builder()
        .conf("max_prepared_transactions", 1)
        .conf("pg_seats.load_timeout", "1min")
        .licensed("seats, pool", "2, 'firm'");
    add_file(&cluster, "seats, pool", "2, 'firm'");
    let lease = "SELECT license_lease('zoe', '10.0.0.1', 'TOM', '1 day')";
    cluster.sql_in("south", lease);
    // Locks that survive the restart keep the database worker from reading what leases there are.
    let lock = "BEGIN; LOCK TABLE licenses, license_leases; PREPARE TRANSACTION 'lock'";
    cluster.sql_in("south", lock);
    cluster.restart(Stop::Immediate);
    let waiting = tokio::spawn(login(&cluster, "anna", "postgres").open_ok());
    let waits = "SELECT count(*) FROM pg_stat_activity
                 WHERE usename = 'anna' AND wait_event_type = 'Extension'";
    eventually("the login waits", PATIENCE, async || {
        cluster.sql(waits) == "1"
    })
    .await;
    cluster.sql_in("south", "ROLLBACK PREPARED 'lock'");
    let _anna = waiting.await.unwrap();
    is_full(&cluster, "bert", "south").await;

    cluster.sql_in("south", lock);
    cluster.set("pg_seats.load_timeout", "1s");
    cluster.restart(Stop::Immediate);
    let denied = login(&cluster, "anna", "postgres").denied().await;
    denied.assert("57P03", "license_not_loaded");
    open(&cluster, "postgres", "postgres").await;
    cluster.sql_in("south", "ROLLBACK PREPARED 'lock'");
    eventually("the pool is open again", PATIENCE, async || {
        login(&cluster, "anna", "postgres").open().await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fast_shutdown_right_after_a_change_of_the_pool_ends() {
    let cluster = pooled(1);
    for seats in 2..5 {
        for db in ["postgres", "south"] {
            cluster.sql_in(db, &format!("UPDATE licenses SET seats = {seats}"));
        }
        cluster.restart(Stop::Fast);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_the_first_logins_of_a_pool_race_for_its_seats() {
    let cluster = pooled(5);
    cluster.restart(Stop::Immediate);
    let results = race(40, |i| {
        let db = ["postgres", "south"][i % 2];
        cluster
            .login("anna")
            .db(db)
            .from(&format!("127.0.2.{}", i + 1))
    })
    .await;
    let (admitted, denied): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    for result in denied {
        result.unwrap_err().assert("53300", "license_full");
    }
    assert_eq!(admitted.len(), 5);
    in_use_becomes(&cluster, [5, 5]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_worker_for_the_visit_a_pooled_login_fails_and_others_do_not() {
    let cluster = pooled(10);
    cluster.sql("CREATE DATABASE alone");
    cluster.license("alone", "seats", "1");
    for (name, value) in [
        // The launcher takes the only one.
        ("max_worker_processes", "1"),
        ("max_logical_replication_workers", "0"),
        ("pg_seats.load_timeout", "1s"),
    ] {
        cluster.append_conf(&format!("{name} = {value}\n"));
    }
    cluster.restart(Stop::Immediate);
    let within = Duration::from_secs(1) + PATIENCE;
    let denied = tokio::time::timeout(within, login(&cluster, "anna", "south").denied()).await;
    let denied = denied.expect("an answer within load_timeout");
    assert_eq!(
        denied.assert("57P03", "license_not_loaded").message,
        r#"could not load licenses of database "south""#
    );
    cluster.wait_log("increase max_worker_processes", PATIENCE);
    open(&cluster, "postgres", "south").await;
    let _bert = open(&cluster, "bert", "alone").await;
    is_full(&cluster, "carl", "alone").await;
    // As soon as there is a worker the pool is open again.
    cluster.append_conf("max_worker_processes = 8\npg_seats.load_timeout = '30s'\n");
    cluster.restart(Stop::Immediate);
    open(&cluster, "anna", "south").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_from_a_pooled_template_is_of_the_pool_at_once() {
    let cluster = pooled(2);
    let _anna = open(&cluster, "anna", "postgres").await;
    cluster.sql("CREATE DATABASE branch TEMPLATE south");
    let _bert = open(&cluster, "bert", "branch").await;
    in_use_becomes(&cluster, [2, 2]).await;
    assert_eq!(cluster.in_use_in("branch"), 2);
    is_full(&cluster, "carl", "branch").await;
    is_full(&cluster, "carl", "postgres").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_a_database_frees_its_own_seats_and_no_others() {
    let cluster = pooled(3);
    let _anna = open(&cluster, "anna", "postgres").await;
    let _too = open(&cluster, "anna", "south").await;
    let _bert = open(&cluster, "bert", "south").await;
    assert_eq!(cluster.in_use(), 2);
    cluster.sql("DROP DATABASE south WITH (FORCE)");
    let seats = "SELECT usename, datname, sessions FROM license_active_seats";
    assert_eq!(cluster.sql(seats), "anna|postgres|1");
    let _carl = open(&cluster, "carl", "postgres").await;
    let _dora = open(&cluster, "dora", "postgres").await;
    is_full(&cluster, "emil", "postgres").await;
    // A new database of that name is not of the pool before it says so.
    cluster.sql("CREATE DATABASE south");
    let _emil = open(&cluster, "emil", "south").await;
    assert_eq!(cluster.in_use(), 3);
}

/// Waits until the server will remember that a database has no leases.
async fn is_without_leases(cluster: &Cluster, database: &str) {
    let oid: u64 = cluster
        .sql(&format!(
            "SELECT oid FROM pg_database WHERE datname = '{database}'"
        ))
        .parse()
        .unwrap();
    eventually("it is remembered", PATIENCE, async || {
        let file = fs::read(cluster.data_dir().join("pg_seats.pools")).unwrap_or_default();
        let file: serde_json::Value = serde_json::from_slice(&file).unwrap_or_default();
        let databases = file["pools"]["without_leases"].as_array();
        databases.is_some_and(|databases| databases.contains(&oid.into()))
    })
    .await;
}

/// Asserts that a member of the pool that can't be read after a restart, and nobody counts there, keeps nobody out;
/// with a lease, it does.
async fn is_passed_over_after(damage: &str) {
    let cluster = pooled(1);
    cluster.sql_in("south", damage);
    is_without_leases(&cluster, "south").await;
    for mode in [Stop::Fast, Stop::Immediate] {
        cluster.restart(mode);
        open(&cluster, "anna", "postgres").await.close().await;
        let what = r#"could not load licenses of database "south""#;
        cluster.wait_log(what, PATIENCE);
        let denied = login(&cluster, "bert", "south").denied().await;
        denied.assert("57P03", "license_not_loaded");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_a_type_that_is_none_in_one_member_keeps_nobody_out_of_the_pool() {
    is_passed_over_after("CREATE DOMAIN count AS int; ALTER TABLE licenses ALTER seats TYPE count")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_under_another_name_in_one_member_keeps_nobody_out_of_the_pool() {
    is_passed_over_after("ALTER TABLE license_exemptions RENAME TO former").await;
}

/// Indexes of others are not looked at by what only reads.
#[tokio::test(flavor = "multi_thread")]
async fn code_that_fails_as_nobody_in_one_member_keeps_nobody_out_of_the_pool() {
    let cluster = pooled(1);
    cluster.sql_in(
        "south",
        "CREATE FUNCTION who(int) RETURNS boolean IMMUTABLE LANGUAGE plpgsql
             AS 'BEGIN RETURN current_user = session_user; END';
         CREATE INDEX ON license_exemptions (note) WHERE public.who(1)",
    );
    cluster.restart(Stop::Immediate);
    for db in ["postgres", "south"] {
        open(&cluster, "anna", db).await.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_can_not_be_read_and_has_leases_is_waited_for() {
    let cluster = Cluster::builder()
        .conf("pg_seats.load_timeout", "2s")
        .licensed("seats, pool", "2, 'firm'");
    add_file(&cluster, "seats, pool", "2, 'firm'");
    let lease = "SELECT license_lease('zoe', '10.0.0.1', 'TOM', '1 day')";
    cluster.sql_in("south", lease);
    cluster.sql_in("south", "ALTER TABLE license_exemptions RENAME TO former");
    cluster.restart(Stop::Immediate);
    let denied = login(&cluster, "anna", "postgres").denied().await;
    denied.assert("57P03", "license_not_loaded");
    assert!(denied.detail.contains("south"), "{denied:?}");
    cluster.sql_in("south", "ALTER TABLE former RENAME TO license_exemptions");
    open(&cluster, "anna", "postgres").await;
    in_use_becomes(&cluster, [1, 1]).await;
}

/// As on a file system that is not mounted at boot.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_nobody_can_connect_to_and_that_has_leases_is_waited_for() {
    let cluster = Cluster::builder()
        .conf("pg_seats.load_timeout", "5s")
        .licensed("seats, pool", "2, 'firm'");
    add_file(&cluster, "seats, pool", "2, 'firm'");
    let lease = "SELECT license_lease('zoe', '10.0.0.1', 'TOM', '1 day')";
    cluster.sql_in("south", lease);
    let files = cluster.sql("SELECT 'base/' || oid FROM pg_database WHERE datname = 'south'");
    let files = cluster.data_dir().join(files);
    let away = files.with_extension("away");
    cluster.stop(Stop::Fast);
    fs::rename(&files, &away).unwrap();
    cluster.start_again();
    // By then three database workers have not got in.
    let denied = login(&cluster, "anna", "postgres").denied().await;
    denied.assert("57P03", "license_not_loaded");
    assert!(denied.detail.contains("south"), "{denied:?}");
    fs::rename(&away, &files).unwrap();
    eventually("it is read", PATIENCE, async || {
        login(&cluster, "anna", "postgres").open().await.is_ok()
    })
    .await;
    let _anna = open(&cluster, "anna", "postgres").await;
    in_use_becomes(&cluster, [2, 2]).await;
}

/// What is remembered of pools is not believed where a server without the library has changed it.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_joined_while_the_library_was_not_loaded_is_waited_for() {
    let cluster = Cluster::builder()
        .conf("max_prepared_transactions", 5)
        .conf("pg_seats.load_timeout", "2s")
        .licensed("seats, pool", "1, 'firm'");
    add_file(&cluster, "seats, pool", "1, NULL");
    let lease = "SELECT license_lease('zoe', '10.0.0.1', 'TOM', '1 day')";
    cluster.sql_in("south", lease);
    is_without_leases(&cluster, "postgres").await;
    cluster.stop(Stop::Fast);
    cluster.append_conf("shared_preload_libraries = ''\n");
    cluster.start_again();
    cluster.sql_in("south", "UPDATE licenses SET pool = 'firm'");
    let lock = "BEGIN; LOCK TABLE licenses; PREPARE TRANSACTION 'lock'";
    cluster.sql_in("south", lock);
    cluster.stop(Stop::Fast);
    cluster.append_conf("shared_preload_libraries = 'pg_seats'\n");
    cluster.start_again();
    let denied = login(&cluster, "anna", "postgres").denied().await;
    denied.assert("57P03", "license_not_loaded");
    assert!(denied.detail.contains("south"), "{denied:?}");
    cluster.sql_in("south", "ROLLBACK PREPARED 'lock'");
    in_use_becomes(&cluster, [1, 1]).await;
    is_full(&cluster, "anna", "postgres").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_its_owner_may_not_use_is_read_all_the_same() {
    let cluster = pooled(1);
    let revoke = "REVOKE ALL ON SCHEMA public FROM PUBLIC, pg_database_owner";
    cluster.sql("CREATE ROLE keeper LOGIN; ALTER DATABASE south OWNER TO keeper");
    cluster.sql_in("south", "ALTER SCHEMA public OWNER TO pg_database_owner");
    cluster.sql_in("south", revoke);
    cluster.restart(Stop::Fast);
    let keeper = open(&cluster, "keeper", "south").await;
    is_full(&cluster, "anna", "postgres").await;
    let grant = "GRANT USAGE ON SCHEMA public TO PUBLIC";
    keeper.run(grant).await;
    in_use_becomes(&cluster, [1, 1]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grace_that_ends_after_all_dates_is_refused_wherever_one_is() {
    let cluster = pooled(1);
    let set = "SET timezone = 'Etc/GMT+12';
               UPDATE licenses SET valid_until = '294276-11-30 20:00:00', grace = '1 mon'";
    let admin = cluster.login("postgres").db("south").open_ok().await;
    assert_eq!(admin.fails(set).await.sqlstate, "22008");
    // What is there all the same can be read.
    cluster.sql_in(
        "south",
        &format!("ALTER TABLE licenses DROP CONSTRAINT licenses_grace_ends_in_time; {set}"),
    );
    cluster.restart(Stop::Fast);
    open(&cluster, "anna", "south").await;
}

/// Whoever may create databases holds up no pool by that: neither with those that nobody can be in, nor with one that
/// is locked.
#[tokio::test(flavor = "multi_thread")]
async fn databases_that_are_created_hold_up_no_pool() {
    let cluster = Cluster::builder()
        .conf("max_prepared_transactions", 1)
        .licensed("seats, pool", "2, 'firm'");
    add_file(&cluster, "seats, pool", "2, 'firm'");
    cluster.sql("CREATE ROLE dev LOGIN CREATEDB");
    let at_once = async |user: &str| {
        let login = login(&cluster, user, "postgres");
        let login = tokio::time::timeout(Duration::from_secs(2), login.open_ok()).await;
        login.expect("nobody is waited for").close().await;
    };
    let as_dev = |statement: &str| format!("SET ROLE dev; {statement}");
    for k in 0..4 {
        cluster.sql(&as_dev(&format!(
            "CREATE DATABASE nc{k} TEMPLATE template0 ALLOW_CONNECTIONS false"
        )));
        at_once("anna").await;
    }
    cluster.sql(&as_dev("CREATE DATABASE x TEMPLATE template0"));
    let dev = cluster.login("postgres").open_ok().await;
    dev.run("SET ROLE dev").await;
    dev.run("BEGIN").await;
    dev.run("ALTER DATABASE x RENAME TO x3").await;
    for _ in 0..3 {
        at_once("bert").await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    // Who is in one that was made of a member counts.
    cluster.sql("CREATE DATABASE branch TEMPLATE south");
    let _anna = open(&cluster, "anna", "branch").await;
    let _bert = open(&cluster, "bert", "south").await;
    is_full(&cluster, "carl", "postgres").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_leases_that_can_not_be_read_keeps_nobody_out_of_the_pool() {
    is_passed_over_after("ALTER TABLE license_leases RENAME TO former").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_created_and_is_locked_over_a_restart_holds_up_no_pool() {
    let cluster = Cluster::builder()
        .conf("max_prepared_transactions", 1)
        .licensed("seats, pool", "2, 'firm'");
    cluster.sql("CREATE DATABASE x TEMPLATE template0");
    is_without_leases(&cluster, "x").await;
    cluster.sql("BEGIN; ALTER DATABASE x RENAME TO x3; PREPARE TRANSACTION 'lock'");
    for mode in [Stop::Fast, Stop::Immediate] {
        cluster.restart(mode);
        open(&cluster, "anna", "postgres").await.close().await;
    }
}
