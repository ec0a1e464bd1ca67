//! A client that is cut off frees its seat within `pg_seats.dead_client_timeout`, and one that lives
//! stays in.

use std::fs;
use std::time::Duration;

use crate::util::*;

/// What a session has that is counted, and comes over TCP.
const SHOWN: &str = "SELECT current_setting('client_connection_check_interval'),
                            current_setting('tcp_keepalives_idle'),
                            current_setting('tcp_keepalives_interval'),
                            current_setting('tcp_keepalives_count'),
                            current_setting('tcp_user_timeout')";

/// By the default of 30 seconds.
const OURS: &str = "500ms|8|6|3|26000";

/// Those that pg_seats has not set; a Unix socket has none to show.
const UNSET: &str =
    "SELECT count(*) FROM pg_settings WHERE name LIKE 'tcp\\_%' AND reset_val = '0'";

/// Returns the login of one user from a host of her own.
fn anna(cluster: &Cluster) -> Login {
    cluster.login("anna").from("127.0.1.1")
}

/// Returns what she is shown at login.
async fn shown(login: &Login) -> String {
    login.open_ok().await.text(SHOWN).await
}

/// Returns what the system gives a connection.
fn of_system() -> String {
    let own = ["time", "intvl", "probes"].map(|name| {
        let file = format!("/proc/sys/net/ipv4/tcp_keepalive_{name}");
        fs::read_to_string(file).unwrap().trim().to_owned()
    });
    format!("{}|0", own.join("|"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_over_tcp_is_given_up_within_the_timeout() {
    let cluster = Cluster::with_seats(1);
    assert_eq!(cluster.sql("SHOW pg_seats.dead_client_timeout"), "30s");
    for (timeout, limits) in [
        ("30s", OURS),
        ("3s", "500ms|1|1|1|2000"),
        ("10s", "500ms|2|2|3|8000"),
        ("10min", "500ms|133|133|3|532000"),
    ] {
        cluster.set("pg_seats.dead_client_timeout", timeout);
        assert_eq!(shown(&anna(&cluster)).await, limits, "{timeout}");
    }
    if has_ipv6() {
        cluster.reset("pg_seats.dead_client_timeout");
        assert_eq!(shown(&cluster.login("anna").from("::1")).await, OURS);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shortest_and_the_longest_timeout_are_valid_and_no_others() {
    let cluster = Cluster::with_seats(1);
    for (timeout, limits) in [
        ("1ms", "500ms|1|1|1|2000"),
        ("1s", "500ms|1|1|1|2000"),
        ("1h", "500ms|802|799|3|3199000"),
    ] {
        cluster.set("pg_seats.dead_client_timeout", timeout);
        assert_eq!(shown(&anna(&cluster)).await, limits, "{timeout}");
    }
    for timeout in ["-1", "3600001", "2h"] {
        let set = format!("ALTER SYSTEM SET pg_seats.dead_client_timeout = '{timeout}'");
        let refused = cluster.psql_as("postgres", "postgres", &set).failed();
        assert!(refused.contains("outside the valid range"), "{refused}");
    }
    let session = anna(&cluster).open_ok().await;
    let set = session.fails("SET pg_seats.dead_client_timeout = '1s'");
    set.await.assert("55P02", "");
    let log = cluster.log();
    assert!(!log.contains("setsockopt"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_timeout_the_system_decides() {
    let cluster = Cluster::builder()
        .conf("pg_seats.dead_client_timeout", 0)
        .licensed("seats", "1");
    let session = anna(&cluster).open_ok().await;
    assert_eq!(session.text(SHOWN).await, format!("500ms|{}", of_system()));
    assert_eq!(session.text(UNSET).await, "4");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_over_the_unix_socket_has_none() {
    let cluster = Cluster::with_seats(1);
    let session = cluster.login("anna").unix().open_ok().await;
    assert_eq!(session.text(SHOWN).await, "500ms|0|0|0|0");
    assert_eq!(session.text(UNSET).await, "4");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_are_exempt_whatever_the_rules_are_left_alone() {
    let cluster = Cluster::with_seats(1);
    cluster.sql("CREATE ROLE mirror LOGIN REPLICATION");
    for user in ["postgres", "mirror"] {
        let session = cluster.login(user).from("127.0.1.1").open_ok().await;
        let shown = session.text(SHOWN).await;
        assert!(shown.ends_with(&of_system()), "{user}: {shown}");
        assert_eq!(session.text(UNSET).await, "4", "{user}");
    }
    assert_eq!(shown(&anna(&cluster)).await, OURS);
}

/// They are counted as soon as the exemption is deleted.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_the_rules_exempt_are_not() {
    let cluster = Cluster::with_seats(1);
    cluster.sql(
        "INSERT INTO license_exemptions (kind, value) VALUES ('role', 'bert'), ('host', '127.0.1.3')",
    );
    for (user, host) in [("bert", "127.0.1.2"), ("carl", "127.0.1.3")] {
        let login = cluster.login(user).from(host);
        assert_eq!(shown(&login).await, OURS, "{user}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clients_own_values_win() {
    let cluster = Cluster::with_seats(1);
    for (options, limits) in [
        ("-c tcp_keepalives_idle=60", "500ms|60|6|3|26000"),
        ("-c tcp_keepalives_interval=70", "500ms|8|70|3|26000"),
        ("-c tcp_keepalives_count=20", "500ms|8|6|20|26000"),
        ("-c tcp_user_timeout=1h", "500ms|8|6|3|3600000"),
        ("-c tcp_user_timeout=0", "500ms|8|6|3|0"),
        ("-c tcp_user_timeout=1s", "500ms|8|6|3|1000"),
    ] {
        let login = anna(&cluster).options(options);
        assert_eq!(shown(&login).await, limits, "{options}");
    }
    let session = anna(&cluster).open_ok().await;
    session.run("SET tcp_keepalives_idle = 60").await;
    assert_eq!(session.text(SHOWN).await, "500ms|60|6|3|26000");
    for back in ["RESET tcp_keepalives_idle", "RESET ALL", "DISCARD ALL"] {
        session.run(back).await;
        assert_eq!(session.text(SHOWN).await, OURS, "{back}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_clients_own_probes_give_up_sooner_so_does_the_user_timeout() {
    let cluster = Cluster::with_seats(1);
    for (options, limits) in [
        ("-c tcp_keepalives_idle=2", "500ms|2|6|3|20000"),
        ("-c tcp_keepalives_count=1", "500ms|8|6|1|14000"),
        (
            "-c tcp_keepalives_idle=1 -c tcp_keepalives_interval=1 -c tcp_keepalives_count=2",
            "500ms|1|1|2|3000",
        ),
    ] {
        let login = anna(&cluster).options(options);
        assert_eq!(shown(&login).await, limits, "{options}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_administrators_values_win() {
    let cluster = Cluster::with_seats(1);
    for object in [
        "ROLE anna",
        "DATABASE postgres",
        "ROLE anna IN DATABASE postgres",
    ] {
        cluster.sql(&format!(
            "ALTER {object} SET tcp_keepalives_idle = 61;
             ALTER {object} SET tcp_user_timeout = '62s'"
        ));
        let limits = "500ms|61|6|3|62000";
        assert_eq!(shown(&anna(&cluster)).await, limits, "{object}");
        cluster.sql(&format!("ALTER {object} RESET ALL"));
    }
    assert_eq!(shown(&anna(&cluster)).await, OURS);
    cluster.set("tcp_keepalives_interval", "63");
    cluster.set("tcp_user_timeout", "64s");
    assert_eq!(shown(&anna(&cluster)).await, "500ms|8|63|3|64000");
    // A value that is also the default is a value.
    cluster.set("tcp_user_timeout", "0");
    assert_eq!(shown(&anna(&cluster)).await, "500ms|8|63|3|0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_living_client_stays_in_however_long_it_is_silent() {
    let cluster = Cluster::builder()
        .conf("pg_seats.dead_client_timeout", "1s")
        .licensed("seats", "1");
    let session = anna(&cluster).open_ok().await;
    cluster.sql("SELECT pg_sleep(4)");
    session.run("SELECT pg_sleep(4)").await;
    assert_eq!(cluster.in_use(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_nothing_of_a_result_is_given_up_unless_the_clients_own_user_timeout_says_otherwise()
 {
    let cluster = Cluster::builder()
        .conf("pg_seats.dead_client_timeout", "1s")
        .licensed("seats", "2");
    let local = |user| cluster.login(user).from("127.0.0.1");
    let mut anna = local("anna").process();
    let mut bert = local("bert").options("-c tcp_user_timeout=0").process();
    for program in [&mut anna, &mut bert] {
        program.backend_pid();
        program.send(ENDLESS);
    }
    eventually("one is given up", PATIENCE, async || cluster.in_use() == 1).await;
    cluster.sql("SELECT pg_sleep(2)");
    let who = "SELECT usename FROM license_active_seats";
    assert_eq!(cluster.sql(who), "bert");
}

/// More than the network and both computers hold; psql passes it on, and nobody reads it there.
const ENDLESS: &str = "COPY (SELECT repeat('x', 1000), generate_series(1, 1000000000)) TO STDOUT;";

/// The same, and psql reads all that arrives.
const ENDLESS_AND_READ: &str =
    "COPY (SELECT repeat('x', 1000), generate_series(1, 1000000000)) TO STDOUT \\g /dev/null";

/// A timeout for tests, and what a busy machine may need beyond it.
const TIMEOUT: &str = "3s";
const IN_TIME: Duration = Duration::from_secs(3 + 2);

/// A server with one seat, and a client at the other end of a cable.
struct Branch {
    admin: Session,
    cluster: Cluster,
    lan: Lan,
}

impl Branch {
    /// Lays the cable; `None` where this machine lets nobody do that.
    async fn open(timeout: &str) -> Option<Self> {
        let lan = Lan::lay()?;
        let cluster = lan.server().conf("pg_seats.dead_client_timeout", timeout);
        let cluster = cluster.licensed("seats", "1");
        let admin = cluster.login("postgres").open_ok().await;
        Some(Self {
            admin,
            cluster,
            lan,
        })
    }

    fn anna(&self) -> Login {
        self.lan.client(&self.cluster.login("anna"))
    }

    /// Logs Anna in, and waits until this is so of her session.
    async fn anna_in(&self, statement: &str, state: &str) -> ClientProcess {
        let mut program = self.anna().process();
        let pid = program.backend_pid();
        program.send(statement);
        let reached = format!("SELECT ({state}) IS TRUE FROM pg_stat_activity WHERE pid = {pid}");
        eventually(state, PATIENCE, async || self.admin.val(&reached).await).await;
        assert_eq!(self.in_use().await, 1);
        program
    }

    async fn in_use(&self) -> i32 {
        self.admin.val("SELECT in_use FROM license_usage").await
    }

    /// Pulls the cable, and asserts that the next user gets the seat in time.
    async fn a_pulled_cable_frees_the_seat(&self) {
        self.lan.pull();
        eventually("the seat is free", IN_TIME, async || {
            self.in_use().await == 0
        })
        .await;
        self.cluster.login("bert").open_ok().await.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cable_pulled_while_idle_frees_the_seat() {
    let Some(branch) = Branch::open(TIMEOUT).await else {
        return;
    };
    let _anna = branch.anna_in("", "state = 'idle'").await;
    branch.a_pulled_cable_frees_the_seat().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cable_pulled_in_an_open_transaction_frees_the_seat() {
    let Some(branch) = Branch::open(TIMEOUT).await else {
        return;
    };
    let _anna = branch
        .anna_in("BEGIN;", "state = 'idle in transaction'")
        .await;
    branch.a_pulled_cable_frees_the_seat().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cable_pulled_in_the_middle_of_a_query_frees_the_seat() {
    let Some(branch) = Branch::open(TIMEOUT).await else {
        return;
    };
    let sleeping = "wait_event = 'PgSleep'";
    let _anna = branch.anna_in("SELECT pg_sleep(600);", sleeping).await;
    branch.a_pulled_cable_frees_the_seat().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cable_pulled_in_the_middle_of_a_result_frees_the_seat() {
    let Some(branch) = Branch::open(TIMEOUT).await else {
        return;
    };
    let flowing = "EXISTS (SELECT FROM pg_stat_progress_copy WHERE bytes_processed > 100000000)";
    let _anna = branch.anna_in(ENDLESS_AND_READ, flowing).await;
    branch.a_pulled_cable_frees_the_seat().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cable_pulled_while_nobody_reads_the_result_frees_the_seat() {
    let Some(branch) = Branch::open(TIMEOUT).await else {
        return;
    };
    let stuck = "wait_event = 'ClientWrite'";
    let _anna = branch.anna_in(ENDLESS, stuck).await;
    branch.a_pulled_cable_frees_the_seat().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cable_pulled_in_the_middle_of_copy_from_frees_the_seat() {
    let Some(branch) = Branch::open(TIMEOUT).await else {
        return;
    };
    let copy = "CREATE TEMP TABLE orders (n int);\nCOPY orders FROM STDIN;\n1\n2";
    let waiting = "wait_event = 'ClientRead' AND query LIKE 'COPY%'";
    let _anna = branch.anna_in(copy, waiting).await;
    branch.a_pulled_cable_frees_the_seat().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_for_less_patience_gets_it() {
    // Twelve times what the client asks for.
    let Some(branch) = Branch::open("36s").await else {
        return;
    };
    let own = "-c tcp_keepalives_idle=1 -c tcp_keepalives_interval=1 -c tcp_keepalives_count=2";
    let mut program = branch.anna().options(own).process();
    program.backend_pid();
    assert_eq!(branch.in_use().await, 1);
    branch.a_pulled_cable_frees_the_seat().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cable_that_is_plugged_in_again_soon_ends_no_session() {
    let Some(branch) = Branch::open("30s").await else {
        return;
    };
    let query = "SELECT pg_sleep(2), 'arrived';";
    let mut anna = branch.anna_in(query, "wait_event = 'PgSleep'").await;
    branch.lan.pull();
    branch.admin.run("SELECT pg_sleep(3)").await;
    branch.lan.plug();
    assert_eq!(anna.ask("SELECT 'and the next';"), "|arrived");
    assert_eq!(branch.in_use().await, 1);
}
