//! Dumps keep the licenses, a restore never fails for them, and whatever the search_path is they are enforced.

use crate::util::*;

const ROWS: &str = "SELECT l.product, seats, pool, kind, value, note, role, reserved, max_seats
       FROM licenses l, license_exemptions, license_reservations";

/// Returns a server whose database `postgres` has no seats, an exempt role, and seats that are reserved.
fn company() -> Cluster {
    let cluster = Cluster::with_seats(0);
    cluster.sql(
        "INSERT INTO license_exemptions VALUES ('role', 'anna', 'support');
         INSERT INTO license_reservations VALUES ('TOM', 'bert', 1, 2)",
    );
    cluster
}

/// Asserts that what was restored is there, and in force.
async fn assert_licensed(cluster: &Cluster, db: &str) {
    let rows = "TOM|0||role|anna|support|bert|1|2";
    assert_eq!(cluster.sql_in(db, ROWS), rows, "{db}");
    assert!(!admits_to(cluster, db).await, "{db}");
    cluster
        .login("anna")
        .db(db)
        .from(&new_host())
        .open_ok()
        .await;
    let seats = |seats| cluster.sql_in(db, &format!("UPDATE licenses SET seats = {seats}"));
    seats(1);
    assert!(!admits_to(cluster, db).await, "{db}: the seat is kept");
    let bert = cluster.login("bert").db(db).from(&new_host());
    bert.open_ok().await.close().await;
    eventually("Bert is out", PATIENCE, async || cluster.in_use_in(db) == 0).await;
    seats(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_dump_keeps_the_licenses() {
    let cluster = company();
    for (db, dump, restore) in [
        ("plain", &[][..], &[][..]),
        ("single_transaction", &[], &["-1"]),
        ("inserts", &["--column-inserts"], &[]),
        (
            "replica",
            &["--quote-all-identifiers"],
            &["-c", "SET session_replication_role = replica", "-f", "-"],
        ),
    ] {
        let text = cluster.program("pg_dump", dump).ok();
        cluster.sql(&format!("CREATE DATABASE {db}"));
        let psql = [&["-Xq", "-v", "ON_ERROR_STOP=1", "-d", db], restore].concat();
        cluster.program_with("psql", &psql, &[], &text).ok();
        assert_licensed(&cluster, db).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_custom_dump_keeps_the_licenses() {
    let cluster = company();
    let file = cluster.socket_dir().join("dump").display().to_string();
    cluster.program("pg_dump", &["-Fc", "-f", &file]).ok();
    for (db, restore) in [
        ("plain", &[][..]),
        ("single_transaction", &["-1"]),
        ("jobs", &["-j", "2"]),
        ("no_owner", &["--no-owner", "--no-privileges"]),
    ] {
        cluster.sql(&format!("CREATE DATABASE {db}"));
        let args = [&["--exit-on-error", "-d", db, &file], restore].concat();
        cluster.program("pg_restore", &args).ok();
        assert_licensed(&cluster, db).await;
    }
    // Over one that has other licenses.
    cluster.sql("UPDATE licenses SET seats = 99; DELETE FROM license_exemptions; DELETE FROM license_reservations");
    assert!(admits(&cluster).await);
    let args = ["--clean", "--if-exists", "-d", "postgres", &file];
    cluster.program("pg_restore", &args).ok();
    assert_licensed(&cluster, "postgres").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_of_the_data_alone_is_in_force() {
    let cluster = company();
    let file = cluster.socket_dir().join("dump").display().to_string();
    cluster.program("pg_dump", &["-Fc", "-f", &file]).ok();
    for (db, options) in [
        ("triggers", &[][..]),
        ("no_triggers", &["--disable-triggers"]),
    ] {
        cluster.sql(&format!("CREATE DATABASE {db}"));
        cluster.sql_in(db, "CREATE EXTENSION pg_seats");
        assert!(admits_to(&cluster, db).await);
        let args = [
            &["--exit-on-error", "--data-only", "-d", db, &file],
            options,
        ]
        .concat();
        cluster.program("pg_restore", &args).ok();
        assert_licensed(&cluster, db).await;
        cluster.sql_in(db, "UPDATE licenses SET seats = 99");
        assert!(admits_to(&cluster, db).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_of_the_database_can_dump_it() {
    let cluster = company();
    cluster.sql("ALTER DATABASE postgres OWNER TO anna");
    let text = cluster.program("pg_dump", &["-U", "anna"]).ok();
    cluster.restore("copy", &text);
    assert_licensed(&cluster, "copy").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_preload_restores_with_a_warning() {
    let company = company();
    let text = company.program("pg_dump", &[]).ok();
    let bare = Cluster::builder().preload(false).start();
    bare.sql("CREATE ROLE anna LOGIN; CREATE ROLE bert LOGIN; CREATE ROLE lena LOGIN");
    let ran = bare.program_with("psql", &["-Xq", "-1", "-v", "ON_ERROR_STOP=1"], &[], &text);
    assert!(
        ran.stderr
            .contains("WARNING:  pg_seats enforces nothing until it is preloaded"),
        "{ran:?}"
    );
    assert!(
        ran.stderr.contains("shared_preload_libraries = 'pg_seats'"),
        "{ran:?}"
    );
    ran.ok();
    // Nothing is enforced, rows can be changed, and what would show seats says why it can't.
    assert!(admits(&bare).await);
    bare.sql("UPDATE licenses SET seats = 1; UPDATE licenses SET seats = 0");
    assert_eq!(bare.sql(ROWS), "TOM|0||role|anna|support|bert|1|2");
    let admin = bare.login("postgres").open_ok().await;
    for from in [
        "license_usage",
        "license_usage()",
        "license_active_seats",
        "license_active_seats()",
        "license_exempt_sessions",
        "license_exempt_sessions()",
        "license_checkout()",
        "license_try_checkout()",
        "license_checkin()",
        "license_held('TOM')",
        "license_lease('lena', 'local')",
        "license_heartbeat(gen_random_uuid())",
        "license_release(gen_random_uuid())",
    ] {
        let denied = admin.fails(&format!("SELECT * FROM {from}")).await;
        denied.assert("55000", "");
        assert_eq!(denied.message, "pg_seats is not preloaded");
        assert!(
            denied
                .hint
                .contains("shared_preload_libraries = 'pg_seats'"),
            "{denied:?}"
        );
    }
    assert_eq!(
        bare.program("pg_dump", &[]).ok().matches("TOM\t0").count(),
        1
    );
    // The queue in the warning is all that was missing.
    bare.append_conf("shared_preload_libraries = 'pg_seats'\n");
    bare.restart(Stop::Fast);
    assert_licensed(&bare, "postgres").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_extension_lives_in_any_schema() {
    let cluster = Cluster::with_seats(99);
    for (number, schema) in ["public", "own", "\"Größe, 2\"", "\"select\""]
        .iter()
        .enumerate()
    {
        for path in ["", "pg_catalog", "public"] {
            let db = format!("company{number}_{}", path.len());
            cluster.sql(&format!("CREATE DATABASE {db}"));
            cluster.sql_in(
                &db,
                &format!(
                    "SET search_path = '{path}'; CREATE SCHEMA IF NOT EXISTS {schema};
                 CREATE EXTENSION pg_seats SCHEMA {schema};
                 INSERT INTO {schema}.licenses (product, seats) VALUES ('TOM', 0);
                 SELECT in_use, status FROM {schema}.license_usage"
                ),
            );
            cluster.sql(&format!("ALTER DATABASE {db} SET search_path = ''"));
            assert!(!admits_to(&cluster, &db).await, "{schema}");
            cluster.sql_in(&db, &format!("UPDATE {schema}.licenses SET seats = 99"));
            assert!(admits_to(&cluster, &db).await, "{schema}");
            let text = cluster.program("pg_dump", &["-d", &db]).ok();
            cluster.restore(&format!("{db}_copy"), &text);
            let seats = format!("SELECT seats FROM {schema}.license_usage");
            assert_eq!(cluster.sql_in(&format!("{db}_copy"), &seats), "99");
        }
    }
}

/// Whatever a user has put first on the search_path, nothing of it is run, as whomever.
#[tokio::test(flavor = "multi_thread")]
async fn a_users_search_path_changes_nothing() {
    let cluster = Cluster::with_seats(99);
    cluster.sql(
        "CREATE SCHEMA evil AUTHORIZATION lena; SET ROLE lena; SET search_path = evil;
         CREATE SEQUENCE hits;
         CREATE FUNCTION yes(text, text) RETURNS bool LANGUAGE sql AS $$SELECT nextval('evil.hits') > 0$$;
         CREATE FUNCTION yes(name, text) RETURNS bool LANGUAGE sql AS $$SELECT nextval('evil.hits') > 0$$;
         CREATE FUNCTION yes(oid, oid) RETURNS bool LANGUAGE sql AS $$SELECT nextval('evil.hits') > 0$$;
         CREATE OPERATOR = (LEFTARG = text, RIGHTARG = text, FUNCTION = yes);
         CREATE OPERATOR <> (LEFTARG = text, RIGHTARG = text, FUNCTION = yes);
         CREATE OPERATOR ~~ (LEFTARG = text, RIGHTARG = text, FUNCTION = yes);
         CREATE OPERATOR = (LEFTARG = name, RIGHTARG = text, FUNCTION = yes);
         CREATE OPERATOR = (LEFTARG = oid, RIGHTARG = oid, FUNCTION = yes);
         CREATE FUNCTION quote_ident(text) RETURNS text LANGUAGE sql AS $$SELECT 'evil' WHERE nextval('evil.hits') > 0$$;
         CREATE FUNCTION host(inet) RETURNS text LANGUAGE sql AS $$SELECT 'evil' WHERE nextval('evil.hits') > 0$$;
         CREATE FUNCTION masklen(inet) RETURNS int LANGUAGE sql AS $$SELECT nextval('evil.hits')::int$$;
         CREATE TABLE pg_extension AS TABLE pg_catalog.pg_extension WITH NO DATA;
         CREATE TABLE pg_namespace AS TABLE pg_catalog.pg_namespace WITH NO DATA;
         CREATE TABLE pg_trigger (tgname text, tgenabled text, tgrelid oid);
         CREATE TABLE licenses AS TABLE public.licenses WITH NO DATA;
         CREATE TABLE license_exemptions AS SELECT 'role' AS kind, 'lena' AS value;
         CREATE TABLE license_reservations AS SELECT 'TOM' AS product, 'lena' AS role, 0 AS reserved, 0 AS max_seats;
         RESET ROLE; INSERT INTO public.license_exemptions VALUES ('host', '10.0.0.0/8')",
    );
    let path = "evil,pg_catalog,public";
    for (by, reset) in [
        ("SELECT 1".to_owned(), ""),
        (
            format!("ALTER ROLE lena SET search_path = {path}"),
            "ALTER ROLE lena RESET search_path",
        ),
        (
            format!("ALTER DATABASE postgres SET search_path = {path}"),
            "",
        ),
    ] {
        cluster.sql(&by);
        cluster.sql("UPDATE public.licenses SET seats = 99");
        let lena = cluster
            .login("lena")
            .from(&new_host())
            .options(&format!("-c search_path={path}"));
        let session = lena.open_ok().await;
        cluster.sql("UPDATE public.licenses SET seats = 0");
        let usage = "SELECT seats, status FROM public.license_usage";
        assert_eq!(session.text(usage).await, "0|over", "{by}");
        session
            .run("SELECT * FROM public.license_active_seats, public.license_exempt_sessions")
            .await;
        // A seat of its own from another computer: read by the login itself.
        cluster.sql("UPDATE public.licenses SET overdraft = overdraft");
        let denied = lena.from(&new_host()).denied().await;
        denied.assert("53300", "license_full");
        assert!(!admits(&cluster).await, "{by}");
        cluster.sql(reset);
    }
    assert_eq!(cluster.sql("SELECT is_called FROM evil.hits"), "f");
}

/// None of them keeps a login from reading a change, so that the former limits would let it in.
#[tokio::test(flavor = "multi_thread")]
async fn no_setting_of_a_client_lets_it_in() {
    let cluster = Cluster::with_seats(0);
    cluster.sql("GRANT anna TO lena");
    let parallel = if cluster.programs().major() < 16 {
        "force"
    } else {
        "debug"
    };
    let parallel = format!(
        "-c {parallel}_parallel_{}=on -c parallel_setup_cost=0 -c min_parallel_table_scan_size=0",
        if parallel == "force" { "mode" } else { "query" }
    );
    for options in [
        "-c default_transaction_isolation=serializable",
        "-c default_transaction_isolation=repeatable\\ read",
        "-c default_transaction_read_only=on -c default_transaction_deferrable=on",
        "-c statement_timeout=1 -c lock_timeout=1 -c idle_in_transaction_session_timeout=1",
        "-c enable_seqscan=off -c enable_indexscan=off -c enable_sort=off",
        "-c row_security=off",
        "-c role=anna",
        "-c work_mem=64 -c jit_above_cost=0",
        "-c client_encoding=LATIN1 -c DateStyle=German -c IntervalStyle=sql_standard",
        "-c TimeZone=Asia/Tokyo -c extra_float_digits=-15 -c bytea_output=escape",
        "-c standard_conforming_strings=off -c transform_null_equals=on",
        "-c quote_all_identifiers=on -c plan_cache_mode=force_generic_plan",
        &parallel,
    ] {
        expect_after_each(&cluster, &[("UPDATE licenses SET seats = 99", true)]).await;
        cluster.sql("UPDATE licenses SET seats = 0");
        let lena = cluster.login("lena").from(&new_host()).options(options);
        let denied = lena.denied().await;
        denied.assert("53300", "license_full");
    }
    assert!(!cluster.log().contains("the last ones stay in force"));
}
