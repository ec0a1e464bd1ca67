//! Every way a session can end frees its seat within a second, and a login that fails takes none.

use std::fs;
use std::time::Duration;

use crate::util::*;

/// The promise: a seat is free so soon after its last holder's end.
const SOON: Duration = Duration::from_secs(1);

/// One seat, and the administrator who looks.
struct Office {
    admin: Session,
    cluster: Cluster,
}

impl Office {
    async fn open() -> Self {
        Self::of(Cluster::with_seats(1)).await
    }

    async fn of(cluster: Cluster) -> Self {
        let admin = cluster.login("postgres").open_ok().await;
        Self { admin, cluster }
    }

    fn anna(&self) -> Login {
        self.cluster.login("anna").from("127.0.1.1")
    }

    async fn in_use(&self) -> i32 {
        self.admin.val("SELECT in_use FROM license_usage").await
    }

    /// Logs Anna in with a session of her own.
    async fn anna_in(&self) -> Session {
        let session = self.anna().open_ok().await;
        assert_eq!(self.in_use().await, 1);
        session
    }

    /// Logs Anna in with a program of her own, at the server's computer.
    async fn program(&self) -> ClientProcess {
        let mut program = self.cluster.login("anna").from("127.0.0.1").process();
        program.backend_pid();
        assert_eq!(self.in_use().await, 1);
        program
    }

    /// Kills Anna's program in the middle of this statement.
    async fn killed_amid(&self, statement: &str, then: &str) {
        let mut program = self.program().await;
        program.send(statement);
        program.send(then);
        let busy =
            "SELECT count(*) FROM pg_stat_activity WHERE usename = 'anna' AND state = 'active'
                       AND (wait_event IN ('PgSleep', 'ClientRead', 'ClientWrite'))";
        eventually("the statement runs", PATIENCE, async || {
            self.admin.val::<i64>(busy).await == 1
        })
        .await;
        program.kill9();
        self.seat_is_free_soon().await;
    }

    /// Asserts that the seat is free within a second, and that the next user gets it.
    async fn seat_is_free_soon(&self) {
        eventually("the seat is free", SOON, async || self.in_use().await == 0).await;
        let next = self.cluster.login("bert").from("127.0.1.2");
        next.open_ok().await.close().await;
    }

    /// Asserts that nobody has ever held a seat or been denied one.
    async fn no_seat_was_taken(&self) {
        let usage = "SELECT in_use, high_water, denied FROM license_usage";
        assert_eq!(self.admin.text(usage).await, "0|0|0");
        let next = self.cluster.login("bert").from("127.0.1.2");
        next.open_ok().await.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_polite_goodbye_frees_the_seat() {
    let office = Office::open().await;
    office.anna_in().await.close().await;
    office.seat_is_free_soon().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_connection_frees_the_seat() {
    let office = Office::open().await;
    office.anna_in().await.abort().await;
    office.seat_is_free_soon().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_killed_while_idle_frees_the_seat() {
    let office = Office::open().await;
    office.program().await.kill9();
    office.seat_is_free_soon().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_killed_in_an_open_transaction_frees_the_seat() {
    let office = Office::open().await;
    let mut program = office.program().await;
    assert_eq!(program.ask("BEGIN; SELECT 1;"), "1");
    program.kill9();
    office.seat_is_free_soon().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_killed_in_the_middle_of_a_query_frees_the_seat() {
    let office = Office::open().await;
    office.killed_amid("SELECT pg_sleep(600);", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_killed_in_the_middle_of_copy_from_frees_the_seat() {
    let office = Office::open().await;
    office
        .admin
        .run("CREATE TABLE orders (n int); GRANT ALL ON orders TO anna")
        .await;
    office
        .killed_amid("COPY orders FROM STDIN;", "1\n2\n3")
        .await;
    assert_eq!(office.admin.text("SELECT count(*) FROM orders").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_killed_in_the_middle_of_copy_to_frees_the_seat() {
    let office = Office::open().await;
    // psql waits for somebody to read its output, and the server for psql.
    let endless = "COPY (SELECT repeat('x', 1000), generate_series(1, 1000000000)) TO STDOUT;";
    office.killed_amid(endless, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pg_terminate_backend_frees_the_seat() {
    let office = Office::open().await;
    let anna = office.anna_in().await;
    let end = format!("SELECT pg_terminate_backend({})", anna.pid().await);
    assert_eq!(office.admin.text(&end).await, "t");
    office.seat_is_free_soon().await;
    anna.ended().await.assert("57P01", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn pg_terminate_backend_in_the_middle_of_a_query_frees_the_seat() {
    let office = Office::open().await;
    let anna = office.anna_in().await;
    let end = format!("SELECT pg_terminate_backend({})", anna.pid().await);
    let query = tokio::spawn(async move { anna.fails("SELECT pg_sleep(600)").await });
    eventually("the query runs", PATIENCE, async || {
        let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        office.admin.val::<i64>(sleeping).await == 1
    })
    .await;
    assert_eq!(office.admin.text(&end).await, "t");
    office.seat_is_free_soon().await;
    query.await.unwrap().assert("57P01", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_session_timeout_frees_the_seat() {
    let office = Office::open().await;
    let login = office.anna().options("-c idle_session_timeout=200ms");
    login.open_ok().await.ended().await.assert("57P05", "");
    office.seat_is_free_soon().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_and_started_server_has_all_seats_free() {
    let cluster = Cluster::with_seats(1);
    for mode in [Stop::Fast, Stop::Immediate] {
        let anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
        assert_eq!(cluster.in_use(), 1);
        cluster.restart(mode);
        anna.ended().await;
        assert_eq!(cluster.in_use(), 0, "{mode:?}");
        let bert = cluster.login("bert").from("127.0.1.2").open_ok().await;
        let denied = cluster.login("anna").from("127.0.1.1").denied().await;
        denied.assert("53300", "license_full");
        bert.close().await;
        eventually("the seat is free", SOON, async || cluster.in_use() == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_without_the_connect_privilege_takes_no_seat() {
    let office = Office::open().await;
    office
        .admin
        .run("REVOKE CONNECT ON DATABASE postgres FROM PUBLIC")
        .await;
    office.anna().denied().await.assert("42501", "");
    office
        .admin
        .run("GRANT CONNECT ON DATABASE postgres TO PUBLIC")
        .await;
    office.no_seat_was_taken().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_beyond_a_connection_limit_takes_no_seat() {
    let office = Office::open().await;
    for object in ["DATABASE postgres", "ROLE anna"] {
        let limit = |limit| format!("ALTER {object} CONNECTION LIMIT {limit}");
        office.admin.run(&limit(0)).await;
        // The same SQLSTATE as ours, without our reason.
        office.anna().denied().await.assert("53300", "");
        office.admin.run(&limit(-1)).await;
    }
    office.no_seat_was_taken().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_to_no_database_takes_no_seat() {
    let office = Office::open().await;
    let closed = "CREATE DATABASE closed ALLOW_CONNECTIONS false";
    office.admin.run(closed).await;
    let anna = office.anna();
    anna.clone()
        .db("nowhere")
        .denied()
        .await
        .assert("3D000", "");
    anna.db("closed").denied().await.assert("55000", "");
    office.no_seat_was_taken().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_not_authenticated_takes_no_seat() {
    let office = Office::of(Cluster::builder().scram().licensed("seats", "1")).await;
    let guess = office.anna().password("guess");
    guess.denied().await.assert("28P01", "");
    let unknown = office.cluster.login("nobody").from("127.0.1.1");
    unknown.password("guess").denied().await.assert("28P01", "");
    office.admin.run("ALTER ROLE anna NOLOGIN").await;
    let anna = office.anna().password("anna");
    anna.denied().await.assert("28000", "");
    let usage = "SELECT in_use, high_water, denied FROM license_usage";
    assert_eq!(office.admin.text(usage).await, "0|0|0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_with_a_bad_startup_option_takes_no_seat() {
    let office = Office::open().await;
    for (option, sqlstate) in [
        ("-c work_mem=much", "22023"),
        ("-c no_such_setting=1", "42704"),
        ("-c log_connections=on", "42501"),
        ("-c pg_seats.workstation=a\x01b", "22023"),
    ] {
        let denied = office.anna().options(option).denied().await;
        denied.assert(sqlstate, "");
    }
    office.no_seat_was_taken().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_whose_preloaded_library_is_missing_takes_no_seat() {
    let office = Office::open().await;
    let missing = "ALTER ROLE anna SET session_preload_libraries = 'no_such_library'";
    office.admin.run(missing).await;
    office.anna().denied().await.assert("58P01", "");
    office.no_seat_was_taken().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_whose_event_trigger_fails_keeps_no_seat() {
    let office = Office::open().await;
    if office.cluster.programs().major() < 17 {
        return skipped("this PostgreSQL has no event triggers at login");
    }
    office
        .admin
        .run(
            "CREATE FUNCTION closed() RETURNS event_trigger LANGUAGE plpgsql AS
                 $$BEGIN IF session_user = 'anna' THEN RAISE 'closed on Sundays'; END IF; END$$;
             CREATE EVENT TRIGGER sunday ON login EXECUTE FUNCTION closed()",
        )
        .await;
    let denied = office.anna().denied().await;
    assert_eq!(denied.message, "closed on Sundays");
    office.seat_is_free_soon().await;
}

/// Tells how long the server takes to notice a dead client, as the session sees it.
async fn notices_after(login: Login) -> String {
    let session = login.open_ok().await;
    session.text("SHOW client_connection_check_interval").await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admitted_session_looks_twice_a_second_whether_its_client_is_there() {
    let office = Office::open().await;
    assert_eq!(notices_after(office.anna()).await, "500ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clients_own_check_interval_wins() {
    let office = Office::open().await;
    for (value, shown) in [("3s", "3s"), ("0", "0")] {
        let option = format!("-c client_connection_check_interval={value}");
        assert_eq!(notices_after(office.anna().options(&option)).await, shown);
    }
    let session = office.anna().open_ok().await;
    session
        .run("SET client_connection_check_interval = '4s'")
        .await;
    let shown = session.text("SHOW client_connection_check_interval").await;
    assert_eq!(shown, "4s");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_administrators_check_interval_wins() {
    let office = Office::open().await;
    for object in [
        "ROLE anna",
        "DATABASE postgres",
        "ROLE anna IN DATABASE postgres",
    ] {
        let setting = format!("ALTER {object} SET client_connection_check_interval");
        office.admin.run(&format!("{setting} = '3s'")).await;
        assert_eq!(notices_after(office.anna()).await, "3s", "{object}");
        office.admin.run(&format!("{setting} = DEFAULT")).await;
    }
    // From postgresql.conf, for those who are in as well.
    let inside = office.anna().open_ok().await;
    let shown = async || inside.text("SHOW client_connection_check_interval").await;
    assert_eq!(shown().await, "500ms");
    for (value, seen) in [("4s", "4s"), ("0", "0")] {
        office
            .cluster
            .set("client_connection_check_interval", value);
        assert_eq!(notices_after(office.anna()).await, seen);
        eventually("the session has read it", PATIENCE, async || {
            shown().await == seen
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_interval_that_the_administrator_takes_back_is_ours_again() {
    let office = Office::open().await;
    office.cluster.set("client_connection_check_interval", "4s");
    assert_eq!(notices_after(office.anna()).await, "4s");
    office.cluster.reset("client_connection_check_interval");
    assert_eq!(notices_after(office.anna()).await, "500ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_superusers_session_keeps_its_settings() {
    let office = Office::open().await;
    let boss = office.cluster.login("postgres").from("127.0.1.9");
    assert_eq!(notices_after(boss).await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_exits_early_leaves_the_server_in_peace() {
    let office = Office::open().await;
    // A client that connects, says nothing, and goes.
    for _ in 0..20 {
        drop(tokio::net::TcpStream::connect(("127.0.0.1", office.cluster.port())).await);
    }
    office.no_seat_was_taken().await;
    let log = fs::read_to_string(office.cluster.socket_dir().join("log")).unwrap();
    assert!(!log.contains("PANIC") && !log.contains("terminated by signal"));
}
