//! How leases last and end: their time, crashes, restarts, copies, standbys.

use crate::util::*;

const GRANT: &str =
    "GRANT EXECUTE ON FUNCTION license_lease, license_heartbeat, license_release TO ";

/// Returns a server where every login takes one of so many seats of "TOM", and so do leases of postgres.
fn with_seats_and_leases(seats: u32, leases: u32) -> Cluster {
    let cluster = Cluster::with_seats(seats);
    take_leases(&cluster, "postgres", leases);
    cluster
}

fn take_leases(cluster: &Cluster, db: &str, leases: u32) {
    cluster.sql_in(
        db,
        &format!(
            "SELECT count(license_lease('user' || i, '10.0.0.1')) FROM generate_series(1, {leases}) i"
        ),
    );
}

fn one_id(cluster: &Cluster) -> String {
    cluster.sql("SELECT lease_id FROM license_leases LIMIT 1")
}

async fn admits(cluster: &Cluster) -> bool {
    cluster.login("lena").from("127.0.9.9").open().await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_whose_time_is_up_ends_with_nobody_there() {
    let cluster = with_leases(Cluster::builder(), 1);
    let app = app(&cluster, "anna").await;
    let id = lease_for(&app, "zoe", "100 ms").await;
    app.close().await;
    settles(&cluster, "it is gone, with its row", "0|0|0").await;
    let app = crate::util::app(&cluster, "anna").await;
    assert!(!beats(&app, &id).await);
    assert!(!release(&app, &id).await);
    // Nothing is left to be done.
    eventually("no database worker comes any more", PATIENCE, async || {
        cluster.worker("database worker").is_none()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_gets_the_seat_of_a_lease_whose_time_is_up() {
    let cluster = with_leases(Cluster::builder(), 1);
    let app = app(&cluster, "anna").await;
    lease_for(&app, "zoe", "300 ms").await;
    let wait = "SELECT client_user FROM license_lease('yan', '10.0.0.1', wait => '1 minute')";
    assert_eq!(app.text(wait).await, "yan");
    lease_for(&app, "yan", "300 ms").await;
    let by_session = "SELECT client_user FROM license_checkout(wait => '1 minute')";
    cluster.sql("UPDATE licenses SET seats = 2");
    assert_eq!(app.text(by_session).await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_extends_a_lease_by_its_time_to_live() {
    let cluster = with_leases(Cluster::builder(), 9);
    let app = app(&cluster, "anna").await;
    let id = lease_for(&app, "zoe", "4 s").await;
    lease_for(&app, "yan", "4 s").await;
    eventually("the other one has ended", PATIENCE, async || {
        // From the moment of the call on, by clocks that may be a little apart.
        let beat = format!(
            "SELECT expires_at BETWEEN statement_timestamp() + '3.9 s' AND clock_timestamp() + '4.1 s'
               FROM license_heartbeat('{id}') AS expires_at"
        );
        assert_eq!(app.text(&beat).await, "t");
        left(&cluster) == "1|1|1"
    })
    .await;
    let shown = "SELECT expires_at > now(), idle < '4 s' FROM license_active_seats";
    assert_eq!(cluster.sql(shown), "t|t");
    settles(&cluster, "it has ended as well", "0|0|0").await;
}

/// Nobody is told that a seat is taken by a lease whose time is up, even before its end is due.
#[tokio::test(flavor = "multi_thread")]
async fn who_would_be_denied_finds_the_seats_of_leases_whose_time_is_up() {
    let cluster = Cluster::with_seats(1);
    let admin = cluster.login("postgres").open_ok().await;
    for _ in 0..10 {
        admin
            .run("SELECT license_lease('zoe', '10.0.0.1', ttl => '1 ms'); SELECT pg_sleep(0.002)")
            .await;
        let anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
        anna.close().await;
        eventually("anna has left", PATIENCE, async || cluster.in_use() == 0).await;
        for statement in [
            "SELECT license_lease('zoe', '10.0.0.1', ttl => '1 ms')",
            "SELECT pg_sleep(0.002)",
            "SELECT license_release(lease_id) FROM license_lease('yan', '10.0.0.1')",
        ] {
            admin.run(statement).await;
        }
        settles(&cluster, "the first one is gone", "0|0|0").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_end_also_when_the_launcher_was_ended() {
    let cluster = with_leases(Cluster::builder(), 9);
    let app = app(&cluster, "anna").await;
    for _ in 0..3 {
        let launcher = cluster.launcher().await;
        lease_for(&app, "zoe", "10 ms").await;
        cluster.sql(&format!("SELECT pg_terminate_backend({launcher})"));
        settles(&cluster, "the lease has ended", "0|0|0").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_free_worker_seats_are_freed_all_the_same() {
    // One for the launcher, one for logical replication's.
    let builder = Cluster::builder()
        .conf("max_worker_processes", 2)
        .conf("max_logical_replication_workers", 2);
    let cluster = with_leases(builder, 9);
    let app = app(&cluster, "anna").await;
    for user in ["zoe", "yan"] {
        lease_for(&app, user, "10 ms").await;
        settles(&cluster, "the seat is free, its row is left", "0|0|1").await;
        cluster.sql("TRUNCATE license_leases");
    }
    // Where nobody deletes rows, leases come to life again with the server, and end again.
    lease_for(&app, "zoe", "10 ms").await;
    settles(&cluster, "the seat is free, its row is left", "0|0|1").await;
    cluster.append_conf("max_worker_processes = 8\n");
    cluster.restart(Stop::Fast);
    settles(&cluster, "the row is gone", "0|0|0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_table_is_locked_seats_are_freed_all_the_same() {
    let cluster = with_leases(Cluster::builder(), 9);
    let app = app(&cluster, "anna").await;
    lease_for(&app, "zoe", "10 ms").await;
    let admin = cluster.login("postgres").open_ok().await;
    settles(&cluster, "the first one is gone", "0|0|0").await;
    lease_for(&app, "zoe", "1 s").await;
    admin.run("BEGIN; LOCK TABLE license_leases").await;
    eventually("the seat is free", PATIENCE, async || cluster.in_use() == 0).await;
    assert!(admits(&cluster).await);
    assert_eq!(admin.text("SELECT count(*) FROM license_leases").await, "1");
    admin.run("COMMIT").await;
    settles(&cluster, "the row is gone", "0|0|0").await;
}

/// Whoever keeps one lease's row for himself must not keep others' from going.
#[tokio::test(flavor = "multi_thread")]
async fn a_locked_row_keeps_no_others() {
    let cluster = with_leases(Cluster::builder(), 9);
    let app = app(&cluster, "anna").await;
    let id = lease_for(&app, "zoe", "1 s").await;
    let idle = crate::util::app(&cluster, "anna").await;
    idle.run("BEGIN").await;
    assert!(release(&idle, &id).await);
    settles(&cluster, "its time is up", "0|0|1").await;
    for user in ["yan", "xia"] {
        lease_for(&app, user, "1 ms").await;
    }
    settles(&cluster, "the others are gone", "0|0|1").await;
    idle.run("ROLLBACK").await;
    settles(&cluster, "it is gone", "0|0|0").await;
}

/// What was released after its time was up is done with: nobody is sent for it again and again.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_whose_time_is_up_in_the_midst_of_its_release_is_done_with() {
    let cluster = with_leases(Cluster::builder().conf("log_min_messages", "debug1"), 9);
    let app = app(&cluster, "anna").await;
    let id = lease_for(&app, "zoe", "500 ms").await;
    app.run("BEGIN").await;
    assert!(release(&app, &id).await);
    eventually("its time is up", PATIENCE, async || cluster.in_use() == 0).await;
    app.run("COMMIT").await;
    assert_eq!(left(&cluster), "0|0|0");
    lease_for(&app, "yan", "1 ms").await;
    settles(&cluster, "another one has come and gone", "0|0|0").await;
    let ended = || {
        cluster
            .log()
            .matches("pg_seats database worker\" (PID")
            .count()
    };
    // While the launcher has work left it tries again every second.
    let mut quiet = (ended(), std::time::Instant::now());
    eventually("no database worker comes any more", PATIENCE, async || {
        if ended() != quiet.0 {
            quiet = (ended(), std::time::Instant::now());
        }
        quiet.1.elapsed() > std::time::Duration::from_secs(3)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_deleted_whatever_the_database_is_set_to() {
    let cluster = with_leases(Cluster::builder(), 9);
    cluster.sql(
        "ALTER DATABASE postgres SET default_transaction_read_only = on;
         ALTER DATABASE postgres SET default_transaction_isolation = serializable;
         ALTER DATABASE postgres SET search_path = pg_catalog",
    );
    cluster.sql(
        "SET default_transaction_read_only = off;
         SELECT public.license_lease('zoe', '10.0.0.1', ttl => '1 ms')",
    );
    eventually("the row is gone", PATIENCE, async || {
        cluster.sql("SELECT count(*) FROM public.license_leases") == "0"
    })
    .await;
}

/// The worker that deletes rows is a superuser: it runs nothing that the database's owner put in
/// its way.
#[tokio::test(flavor = "multi_thread")]
async fn no_users_code_runs_when_rows_are_deleted() {
    let cluster = with_leases(Cluster::builder(), 9);
    cluster.sql("ALTER DATABASE postgres OWNER TO emil; GRANT CREATE ON SCHEMA public TO emil");
    let trap = "
        CREATE TABLE public.trap (who name);
        CREATE FUNCTION public.equal(uuid, uuid) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN
            INSERT INTO public.trap VALUES (current_user);
            RETURN $1 OPERATOR(pg_catalog.=) $2;
        END$$;
        CREATE OPERATOR public.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = public.equal);
        CREATE FUNCTION public.quote_ident(name) RETURNS text LANGUAGE plpgsql AS $$BEGIN
            INSERT INTO public.trap VALUES (current_user);
            RETURN pg_catalog.quote_ident($1::text);
        END$$;
        ALTER DATABASE postgres SET search_path = public, pg_catalog";
    cluster.psql_as("emil", "postgres", trap).ok();
    cluster.sql("SELECT license_lease('zoe', '10.0.0.1', ttl => '1 ms')");
    let rows = "SELECT pg_catalog.count(*) FROM license_leases";
    eventually("the row is gone", PATIENCE, async || {
        cluster.sql(rows) == "0"
    })
    .await;
    assert_eq!(cluster.sql("SELECT who FROM public.trap LIMIT 1"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_outlive_crashes_and_restarts() {
    let cluster = with_seats_and_leases(5, 5);
    for round in ["backend", "immediate", "fast", "smart"] {
        match round {
            "backend" => {
                let victim = cluster.login("postgres").open_ok().await;
                cluster.crash_backend(victim.pid().await);
            }
            "immediate" => cluster.restart(Stop::Immediate),
            "fast" => cluster.restart(Stop::Fast),
            _ => cluster.restart(Stop::Smart),
        }
        // The very first who comes.
        let anna = cluster.login("anna").from("127.0.1.1");
        anna.denied().await.assert("53300", "license_full");
        assert_eq!(left(&cluster), "5|5|5", "{round}");
        let full_time = "SELECT bool_and(expires_at > clock_timestamp() + '4 minutes')
                           FROM license_active_seats";
        assert_eq!(cluster.sql(full_time), "t", "{round}");
        let id = one_id(&cluster);
        let beat = format!("SELECT license_heartbeat('{id}') IS NOT NULL");
        assert_eq!(cluster.sql(&beat), "t", "{round}");
    }
    let ends = "SELECT count(*) FROM license_leases WHERE license_release(lease_id)";
    assert_eq!(cluster.sql(ends), "5");
    cluster.restart(Stop::Immediate);
    assert_eq!(left(&cluster), "0|0|0");
}

/// Whatever is the first thing that is done after a start.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_call_after_a_restart_knows_the_leases() {
    let cluster = with_leases(Cluster::builder(), 2);
    let first = app(&cluster, "anna").await;
    let (zoe, yan) = (lease(&first, "zoe").await, lease(&first, "yan").await);
    let superuser = cluster.login("postgres");
    cluster.restart(Stop::Immediate);
    assert!(beats(&superuser.open_ok().await, &zoe).await);
    cluster.restart(Stop::Immediate);
    assert!(release(&superuser.open_ok().await, &zoe).await);
    cluster.restart(Stop::Immediate);
    superuser
        .open_ok()
        .await
        .run("SELECT license_lease('xia', '10.0.0.1')")
        .await;
    cluster.restart(Stop::Immediate);
    let error = superuser.open_ok().await;
    let error = error.fails("SELECT license_checkout(), license_lease('wim', '10.0.0.1')");
    error.await.assert("53400", "license_full");
    cluster.restart(Stop::Immediate);
    assert!(beats(&app(&cluster, "anna").await, &yan).await);
    let in_use = superuser.open_ok().await;
    assert_eq!(in_use.text("SELECT in_use FROM license_usage").await, "2");
}

/// A lease is a row, whatever the server was doing when it crashed.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_there_are_the_committed_leases_and_no_others() {
    let cluster = with_leases(Cluster::builder(), 9);
    let (first, second) = (app(&cluster, "anna").await, app(&cluster, "anna").await);
    let (kept, released) = (lease(&first, "zoe").await, lease(&first, "yan").await);
    let unreleased = lease(&first, "xia").await;
    assert!(release(&first, &released).await);
    first.run("BEGIN").await;
    lease(&first, "uncommitted").await;
    assert!(release(&first, &unreleased).await);
    second.run("BEGIN; SAVEPOINT a").await;
    lease(&second, "rolled back").await;
    second.run("ROLLBACK TO a").await;
    cluster.crash_backend(first.pid().await);
    assert_eq!(left(&cluster), "2|2|2");
    let app = app(&cluster, "anna").await;
    for (id, there) in [(kept, true), (released, false), (unreleased, true)] {
        assert_eq!(beats(&app, &id).await, there);
    }
}

/// The commit waits for a standby that does not exist: it is on disk, and nobody was told.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_the_commit_and_its_answer_loses_no_lease() {
    let cluster = with_leases(Cluster::builder(), 9);
    let to_be_released = lease(&app(&cluster, "anna").await, "yan").await;
    cluster.set("synchronous_standby_names", "nobody");
    let commits = [
        "SELECT license_lease('zoe', '10.0.0.1')".to_owned(),
        format!("SELECT license_release('{to_be_released}')"),
    ];
    let mut pids = Vec::new();
    for commit in commits {
        let session = cluster.login("anna").from("127.0.1.1").open_ok().await;
        pids.push(session.pid().await);
        tokio::spawn(async move { session.try_texts(&commit).await });
    }
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND usename = 'anna'";
    eventually("both commits wait", PATIENCE, async || {
        cluster.sql(&format!("SET synchronous_commit = local; {waiting}")) == "2"
    })
    .await;
    assert_eq!(cluster.in_use(), 2);
    cluster.crash_backend(pids[0]);
    let users = "SELECT client_user FROM license_active_seats";
    assert_eq!(cluster.sql(users), "zoe");
    assert_eq!(left(&cluster), "1|1|1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_name_outlives_a_crash_whole() {
    let cluster = with_leases(Cluster::builder(), 9);
    let app = app(&cluster, "anna").await;
    let name = |end: &str| format!("{}{end}", "Zoë ".repeat(60));
    for end in ["a", "b", "a"] {
        lease(&app, &name(end)).await;
    }
    let names = "SELECT client_user FROM license_active_seats ORDER BY 1";
    let expected = format!("{}\n{}", name("a"), name("b"));
    assert_eq!(cluster.sql(names), expected);
    cluster.restart(Stop::Immediate);
    assert_eq!(cluster.sql(names), expected);
    assert_eq!(left(&cluster), "2|2|3");
}

/// The server has room for as many leases after a start as before.
#[tokio::test(flavor = "multi_thread")]
async fn many_leases_outlive_a_restart() {
    let cluster = with_leases(Cluster::builder().conf("pg_seats.max_seats", 1_000), 999);
    cluster.sql(
        "SELECT count(license_lease(repeat('long', 20) || i % 100, '10.0.0.1', ttl => '1 hour'))
           FROM generate_series(1, 900) i",
    );
    assert_eq!(left(&cluster), "100|100|900");
    cluster.restart(Stop::Immediate);
    let anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
    assert_eq!(left(&cluster), "100|100|900");
    // Also without a license.
    cluster.sql("DELETE FROM licenses");
    cluster.restart(Stop::Immediate);
    drop(anna);
    let anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
    cluster.sql("INSERT INTO licenses (product, seats, claimed_at) VALUES ('TOM', 99, 'checkout')");
    assert_eq!(left(&cluster), "100|100|900");
    anna.fails("SELECT license_lease('zoe', '10.0.0.1')")
        .await
        .assert("53400", "license_full");
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_outlive_their_license() {
    let cluster = with_leases(Cluster::builder(), 1);
    let app = app(&cluster, "anna").await;
    let id = lease(&app, "zoe").await;
    for restart in [false, true] {
        cluster.sql("DELETE FROM licenses");
        if restart {
            cluster.restart(Stop::Immediate);
        }
        assert_eq!(
            cluster.sql("SELECT count(*) FROM license_active_seats"),
            "0"
        );
        let app = crate::util::app(&cluster, "anna").await;
        assert!(beats(&app, &id).await);
        let error = app.fails("SELECT license_lease('yan', '10.0.0.1')");
        error.await.assert("42704", "");
        cluster
            .sql("INSERT INTO licenses (product, seats, claimed_at) VALUES ('TOM', 1, 'checkout')");
        assert_eq!(left(&cluster), "1|1|1");
        let error = app.fails("SELECT license_lease('yan', '10.0.0.1')");
        error.await.assert("53400", "license_full");
    }
    cluster.sql("DELETE FROM licenses");
    assert!(release(&crate::util::app(&cluster, "anna").await, &id).await);
    cluster.sql("INSERT INTO licenses (product, seats, claimed_at) VALUES ('TOM', 1, 'checkout')");
    assert_eq!(left(&cluster), "0|0|0");
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_of_a_dropped_role_last_and_end() {
    let cluster = with_leases(Cluster::builder(), 9);
    cluster.sql(&format!("CREATE ROLE web LOGIN; {GRANT} web"));
    let web = app(&cluster, "web").await;
    let (kept, _) = (
        lease(&web, "zoe").await,
        lease_for(&web, "yan", "2 s").await,
    );
    web.close().await;
    cluster.sql("DROP OWNED BY web; DROP ROLE web");
    let shown = "SELECT usename, client_user, kind FROM license_active_seats
                  WHERE client_user = 'zoe'";
    let before = cluster.sql(shown);
    assert!(before.ends_with("|zoe|lease"), "{before}");
    cluster.restart(Stop::Immediate);
    assert_eq!(cluster.sql(shown), before);
    settles(&cluster, "yan's has ended", "1|1|1").await;
    // Another role of that name has nothing of it.
    cluster.sql(&format!("CREATE ROLE web LOGIN; {GRANT} web"));
    let web = app(&cluster, "web").await;
    let beat = format!("SELECT license_heartbeat('{kept}')");
    web.fails(&beat).await.assert("42501", "");
    assert!(release(&cluster.login("postgres").open_ok().await, &kept).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_go_with_the_extension() {
    let cluster = with_leases(Cluster::builder(), 1);
    let id = lease(&app(&cluster, "anna").await, "zoe").await;
    cluster.sql("BEGIN; DROP EXTENSION pg_seats; ROLLBACK");
    assert_eq!(left(&cluster), "1|1|1");
    cluster.sql("DROP EXTENSION pg_seats");
    cluster.license("postgres", "seats, claimed_at", "1, 'checkout'");
    assert_eq!(left(&cluster), "0|0|0");
    cluster.sql(&format!("{GRANT} anna"));
    let app = app(&cluster, "anna").await;
    assert!(!beats(&app, &id).await);
    lease(&app, "yan").await;
    // Within one transaction.
    cluster.sql(
        "BEGIN; DROP EXTENSION pg_seats; CREATE EXTENSION pg_seats;
         INSERT INTO licenses (product, seats, claimed_at) VALUES ('TOM', 1, 'checkout'); COMMIT",
    );
    assert_eq!(left(&cluster), "0|0|0");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_lease_does_not_keep_the_extension() {
    let cluster = with_leases(Cluster::builder(), 1);
    lease_for(&app(&cluster, "anna").await, "zoe", "1 ms").await;
    cluster.sql("DROP EXTENSION pg_seats; CREATE EXTENSION pg_seats");
    let mark = cluster.log().len();
    cluster.license("postgres", "seats, claimed_at", "1, 'checkout'");
    settles(&cluster, "nothing is left", "0|0|0").await;
    assert!(!cluster.log_since(mark).contains("could not delete"));
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_go_with_their_database() {
    let cluster = Cluster::builder().licensed("seats, claimed_at, pool", "2, 'checkout', 'firm'");
    cluster.sql("CREATE DATABASE company TEMPLATE postgres");
    take_leases(&cluster, "company", 2);
    let full = cluster.login("postgres").open_ok().await;
    let error = full.fails("SELECT license_lease('zoe', '10.0.0.1')");
    error.await.assert("53400", "license_full");
    assert_eq!(cluster.in_use(), 2);
    cluster.sql("ALTER DATABASE company RENAME TO firm");
    assert_eq!(cluster.in_use(), 2);
    let names = "SELECT DISTINCT datname FROM license_active_seats";
    assert_eq!(cluster.sql(names), "firm");
    cluster.sql("DROP DATABASE firm");
    assert_eq!(left(&cluster), "0|0|0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_database_has_no_leases() {
    let cluster = with_leases(Cluster::builder(), 2);
    take_leases(&cluster, "postgres", 2);
    let id = one_id(&cluster);
    cluster.sql("CREATE DATABASE copy TEMPLATE postgres");
    for _ in ["before", "after a restart"] {
        assert_eq!(cluster.in_use_in("copy"), 0);
        let in_copy = format!("SELECT license_heartbeat('{id}'), license_release('{id}')");
        assert_eq!(cluster.sql_in("copy", &in_copy), "|f");
        assert_eq!(left(&cluster), "2|2|2");
        cluster.restart(Stop::Fast);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_has_no_leases() {
    let cluster = with_leases(Cluster::builder(), 2);
    take_leases(&cluster, "postgres", 2);
    let dump = cluster.program("pg_dump", &[]).ok();
    assert!(!dump.contains("license_leases"));
    // The audit trail tells of them, and keeps their secret.
    for id in cluster.sql("SELECT lease_id FROM license_leases").lines() {
        assert!(!dump.contains(id));
    }
    cluster.restore("restored", &dump);
    assert_eq!(cluster.in_use_in("restored"), 0);
    assert_eq!(
        cluster.sql_in("restored", "SELECT count(*) FROM license_leases"),
        "0"
    );
    take_leases(&cluster, "restored", 2);
    assert_eq!(cluster.in_use_in("restored"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_stays() {
    let cluster = with_leases(Cluster::builder(), 2);
    let admin = cluster.login("postgres").open_ok().await;
    let moves = "CREATE SCHEMA other; ALTER EXTENSION pg_seats SET SCHEMA other";
    admin.fails(moves).await.assert("0A000", "");
    // The schema's name may change.
    let id = lease(&app(&cluster, "anna").await, "zoe").await;
    cluster.sql(
        "ALTER SCHEMA public RENAME TO renamed; ALTER DATABASE postgres SET search_path = renamed",
    );
    let app = app(&cluster, "anna").await;
    assert!(beats(&app, &id).await);
    lease_for(&app, "yan", "1 ms").await;
    settles(&cluster, "yan's has ended", "1|1|1").await;
    assert!(release(&app, &id).await);
    assert_eq!(left(&cluster), "0|0|0");
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_that_the_server_has_no_room_for_are_over_and_keep_nobody_out() {
    let cluster = Cluster::builder()
        .conf("max_connections", 20)
        .conf("pg_seats.max_seats", 200)
        .licensed("seats", "200");
    take_leases(&cluster, "postgres", 150);
    cluster.append_conf("pg_seats.max_seats = 10\n");
    cluster.restart(Stop::Fast);
    let anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
    assert_eq!(cluster.in_use(), 11);
    cluster.wait_log(
        "pg_seats has no room for 140 rows of license_leases of database \"postgres\", which count \
         no longer: increase pg_seats.max_seats",
        PATIENCE,
    );
    anna.close().await;
    assert_eq!(cluster.sql("SELECT count(*) FROM license_leases"), "150");
    cluster.append_conf("pg_seats.max_seats = 200\n");
    cluster.restart(Stop::Fast);
    let _anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
    assert_eq!(cluster.in_use(), 151);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_takes_no_leases_and_counts_none() {
    let cluster = with_leases(Cluster::builder(), 1);
    let id = lease(&app(&cluster, "anna").await, "zoe").await;
    let standby = cluster.standby();
    let app = app(&standby, "anna").await;
    for statement in [
        "SELECT license_lease('yan', '10.0.0.1')".to_owned(),
        format!("SELECT license_heartbeat('{id}')"),
        format!("SELECT license_release('{id}')"),
    ] {
        let error = app.fails(&statement).await;
        error.assert("25006", "");
        assert!(error.hint.contains("license_checkout"), "{error:?}");
    }
    assert_eq!(standby.in_use(), 0);
    let checkout = "SELECT seats_in_use FROM license_checkout(client_user => 'zoe')";
    assert_eq!(app.text(checkout).await, "1");
    let other = standby.login("bert").from("127.0.1.2").open_ok().await;
    let error = other.fails("SELECT license_checkout()");
    error.await.assert("53400", "license_full");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_promotion_leases_hold_from_the_first_login_on() {
    let primary = with_seats_and_leases(2, 2);
    let id = one_id(&primary);
    let standby = primary.standby();
    // The standby has rules of its own in force, by which there is room.
    let earlier = standby.login("anna").from("127.0.1.1").open_ok().await;
    assert_eq!(standby.in_use(), 1);
    primary.stop(Stop::Immediate);
    standby.promote();
    let latecomer = standby.login("bert").from("127.0.1.2");
    latecomer.denied().await.assert("53300", "license_full");
    assert_eq!(left(&standby), "3|3|2");
    let beat = format!("SELECT license_heartbeat('{id}') IS NOT NULL");
    assert_eq!(standby.sql(&beat), "t");
    earlier.close().await;
    let ends = "SELECT count(*) FROM license_leases WHERE license_release(lease_id)";
    assert_eq!(standby.sql(ends), "2");
    let _bert = latecomer.open_ok().await;
    eventually("anna has left", PATIENCE, async || {
        left(&standby) == "1|1|0"
    })
    .await;
}

/// Nobody is told that a lease is gone, and no seat is given away, because it is not yet known.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_promotion_nothing_is_said_of_leases_that_cannot_be_read() {
    let builder = Cluster::builder()
        .conf("max_prepared_transactions", 1)
        .conf("pg_seats.load_timeout", "300ms");
    let primary = with_leases(builder, 2);
    take_leases(&primary, "postgres", 2);
    let id = one_id(&primary);
    let standby = primary.standby();
    // The standby has rules of its own in force.
    assert!(admits(&standby).await);
    primary.sql("BEGIN; LOCK TABLE licenses; PREPARE TRANSACTION 'lock'");
    standby.catch_up(&primary);
    primary.stop(Stop::Immediate);
    standby.promote();
    let app = app(&standby, "postgres").await;
    for statement in [
        format!("SELECT license_heartbeat('{id}')"),
        format!("SELECT license_release('{id}')"),
        "SELECT license_lease('new', '10.0.0.1')".to_owned(),
    ] {
        let error = app.fails(&statement).await;
        error.assert("57P03", "license_not_loaded");
    }
    standby.sql("ROLLBACK PREPARED 'lock'");
    assert!(beats(&app, &id).await);
    assert_eq!(left(&standby), "2|2|2");
}

/// Also in databases where nobody was, and where nobody comes.
#[tokio::test(flavor = "multi_thread")]
async fn leases_end_after_a_promotion_with_nobody_there() {
    let primary = with_leases(Cluster::builder(), 9);
    primary.sql("CREATE DATABASE second TEMPLATE postgres");
    let standby = primary.standby();
    for db in ["postgres", "second"] {
        primary.sql_in(db, "SELECT license_lease('zoe', '10.0.0.1', ttl => '15 s')");
    }
    standby.catch_up(&primary);
    primary.stop(Stop::Immediate);
    standby.promote();
    let rows = "SELECT count(*) FROM license_leases";
    for db in ["postgres", "second"] {
        let deadline = 3 * PATIENCE;
        eventually("the lease has ended", deadline, async || {
            standby.sql_in(db, rows) == "0"
        })
        .await;
    }
}

/// Of a pool, what other databases have must be known as well.
#[tokio::test(flavor = "multi_thread")]
async fn the_leases_of_a_pool_hold_from_the_first_login_on() {
    let cluster = Cluster::builder().licensed("seats, pool", "2, 'firm'");
    cluster.sql("CREATE DATABASE second TEMPLATE postgres");
    take_leases(&cluster, "second", 2);
    for mode in [Stop::Fast, Stop::Immediate] {
        cluster.restart(mode);
        let anna = cluster.login("anna").from("127.0.1.1");
        anna.denied().await.assert("53300", "license_full");
        assert_eq!(cluster.in_use_in("second"), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_leases_cannot_be_read_after_a_start_nobody_takes_their_seats() {
    let builder = Cluster::builder()
        .conf("max_prepared_transactions", 1)
        .conf("pg_seats.load_timeout", "300ms");
    let cluster = builder.licensed("seats", "2");
    take_leases(&cluster, "postgres", 2);
    cluster.sql("BEGIN; LOCK TABLE license_leases; PREPARE TRANSACTION 'lock'");
    cluster.restart(Stop::Immediate);
    let anna = cluster.login("anna").from("127.0.1.1");
    anna.denied().await.assert("57P03", "license_not_loaded");
    cluster.sql("ROLLBACK PREPARED 'lock'");
    anna.denied().await.assert("53300", "license_full");
    assert_eq!(left(&cluster), "2|2|2");
}

/// The hot path: nothing is written, not even a transaction's number is taken.
#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_writes_nothing() {
    let cluster = with_leases(Cluster::builder(), 2);
    let app = app(&cluster, "anna").await;
    let id = lease(&app, "zoe").await;
    app.run("BEGIN").await;
    for _ in 0..10 {
        assert!(beats(&app, &id).await);
    }
    let number = "SELECT pg_current_xact_id_if_assigned() IS NULL";
    assert_eq!(app.text(number).await, "t");
    app.run("COMMIT").await;
}

/// As a pooler does before it gives the connection to somebody else.
#[tokio::test(flavor = "multi_thread")]
async fn discard_all_keeps_leases() {
    let cluster = with_leases(Cluster::builder(), 2);
    let app = app(&cluster, "anna").await;
    let id = lease(&app, "zoe").await;
    app.run("DISCARD ALL").await;
    assert_eq!(left(&cluster), "1|1|1");
    assert!(beats(&app, &id).await);
    assert!(release(&app, &id).await);
}

/// Many leases end in time, and their rows go in batches.
#[tokio::test(flavor = "multi_thread")]
async fn many_leases_end_together() {
    let cluster = with_leases(Cluster::builder(), 9_999);
    cluster.sql(
        "SELECT count(license_lease('user' || i, '10.0.0.1', ttl => '5 s'))
           FROM generate_series(1, 5000) i",
    );
    settles(&cluster, "all have ended", "0|0|0").await;
    assert_eq!(cluster.sql("SELECT high_water FROM license_usage"), "5000");
}
