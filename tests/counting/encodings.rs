//! Databases whose encoding is not UTF8: names are counted, compared and shown as the same letters
//! everywhere.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use crate::util::*;

/// Returns a server with ten seats of "TOM" in `postgres`, which is UTF8, and in `old`, which is not.
fn with_old(encoding: &str) -> Cluster {
    let cluster = Cluster::with_seats(10);
    cluster.sql(&format!(
        "CREATE DATABASE old ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"
    ));
    cluster.license("old", "seats", "10");
    cluster
}

/// Runs statements as a client that speaks UTF8.
#[track_caller]
fn sql_in(cluster: &Cluster, db: &str, sql: &str) -> String {
    cluster.sql_in(db, &format!("SET client_encoding = 'UTF8';\n{sql}"))
}

/// Returns psql of a client that sends these bytes as user, workstation and application name to `old`.
fn psql_of_bytes(cluster: &Cluster, user: &[u8], name: &[u8]) -> Command {
    let options = [b"-c pg_seats.workstation=", name].concat();
    let mut psql = cluster.programs().client("psql");
    psql.env("PGUSER", OsStr::from_bytes(user))
        .env("PGOPTIONS", OsStr::from_bytes(&options))
        .env("PGAPPNAME", OsStr::from_bytes(name))
        .env("PGDATABASE", "old")
        .env("PGCLIENTENCODING", "UTF8")
        .env("PGHOST", cluster.socket_dir())
        .env("PGPORT", cluster.port().to_string());
    psql
}

/// Returns what such a client sees of its own seat, or why it has none.
fn facts_of_bytes(cluster: &Cluster, user: &[u8], name: &[u8]) -> Ran {
    let facts =
        "SELECT usename, session_user, workstation, current_setting('pg_seats.workstation'),
                        application_name, product
                   FROM license_active_seats WHERE pg_backend_pid() = ANY (pids)";
    let mut psql = psql_of_bytes(cluster, user, name);
    psql.args(["-XAtqc", facts]).output().unwrap().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_beyond_ascii_are_shown_as_the_database_has_them() {
    let cluster = with_old("LATIN1");
    sql_in(&cluster, "old", "CREATE ROLE \"Zoë\" LOGIN");
    // What is sent at connection start PostgreSQL takes in the database's encoding.
    for (bytes, shown) in [(&b"B\xfcro"[..], "Büro"), ("Büro".as_bytes(), "BÃ¼ro")] {
        assert_eq!(
            facts_of_bytes(&cluster, b"Zo\xeb", bytes).ok(),
            format!("Zoë|Zoë|{shown}|{shown}|{shown}|TOM")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_sql_ascii_letters_beyond_ascii_are_utf8() {
    let cluster = with_old("SQL_ASCII");
    cluster.sql("CREATE ROLE \"Zoë\" LOGIN");
    let shown = facts_of_bytes(&cluster, "Zoë".as_bytes(), "Büro".as_bytes());
    assert_eq!(shown.ok(), "Zoë|Zoë|Büro|Büro|Büro|TOM");
    let refused = facts_of_bytes(&cluster, b"anna", b"B\xfcro").failed();
    for part in [
        "FATAL:  invalid value for parameter \"pg_seats.workstation\"",
        "DETAIL:  Not all of it is text in the database's encoding, SQL_ASCII.",
        "HINT:  ",
    ] {
        assert!(refused.contains(part), "{refused}");
    }
    // Nobody needs an application's or a role's name to be whole.
    let create = r"DO $$BEGIN EXECUTE format('CREATE ROLE %I LOGIN', E'Zo\xeb'); END$$";
    cluster.sql_in("old", create);
    let mut psql = psql_of_bytes(&cluster, b"Zo\xeb", b"B\xfcro");
    let seats =
        "SELECT count(*) FROM license_active_seats WHERE usename <> '' AND application_name <> ''";
    let ran: Ran = psql
        .env_remove("PGOPTIONS")
        .env("PGCLIENTENCODING", "SQL_ASCII")
        .args(["-XAtqc", seats])
        .output()
        .unwrap()
        .into();
    assert_eq!(ran.ok(), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn workstations_that_differ_beyond_ascii_are_two_in_every_encoding() {
    for encoding in ["LATIN1", "WIN1252", "SQL_ASCII", "EUC_JP", "UTF8"] {
        let cluster = with_old(encoding);
        let login = cluster.login("anna").db("old");
        let names = if encoding == "EUC_JP" {
            // Letters of EUC_JP, which the test can send because they are UTF-8 as well.
            ["Büro ´", "Büro µ"]
        } else {
            ["Büro ä", "Büro ö"]
        };
        let [first, second] = names.map(|name| login.clone().workstation(name));
        let _two = (first.open_ok().await, second.open_ok().await);
        let _again = first.open_ok().await;
        assert_eq!(cluster.in_use_in("old"), 2, "{encoding}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workstation_that_can_not_be_kept_whole_is_refused() {
    for (encoding, name, cause) in [
        // C3 81, and 81 is no letter there.
        ("WIN1252", "Á".to_owned(), "Not all of it is text"),
        // 32 letters there, each of two bytes in UTF-8.
        (
            "LATIN1",
            "ä".repeat(16),
            "A workstation's name has at most 63 bytes",
        ),
    ] {
        let cluster = with_old(encoding);
        let denied = cluster.login("anna").db("old").workstation(&name).denied();
        let denied = denied.await;
        denied.assert("22023", "");
        assert_eq!(denied.severity, "FATAL");
        let message = r#"invalid value for parameter "pg_seats.workstation": "Ã"#;
        assert!(denied.message.starts_with(message), "{denied:?}");
        assert!(denied.detail.starts_with(cause), "{denied:?}");
        assert!(!denied.hint.is_empty(), "{denied:?}");
        assert_eq!(cluster.in_use_in("old"), 0);
        // Nobody is merged with a superuser, who always gets in.
        let root = cluster.login("postgres").db("old").workstation(&name);
        root.open_ok().await;
        cluster.set("pg_seats.exempt_superusers", "off");
        root.open_ok().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn products_of_a_latin1_database_are_shown_as_it_has_them() {
    let cluster = with_old("LATIN1");
    let rename = "UPDATE licenses SET product = 'Büro', seats = 0";
    sql_in(&cluster, "old", rename);
    let denied = cluster.login("anna").db("old").denied().await;
    assert_eq!(
        denied.assert("53300", "license_full").message,
        r#"maximum user license count reached for "Büro""#
    );
    let same = "SELECT count(*) FROM license_usage JOIN licenses USING (product)";
    assert_eq!(cluster.sql_in("old", same), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_shows_a_denial_of_a_latin1_database() {
    let cluster = with_old("LATIN1");
    cluster.sql("CREATE ROLE \"Zoë\" LOGIN");
    let rename = "UPDATE licenses SET product = 'Büro »Süd«', seats = 1";
    sql_in(&cluster, "old", rename);
    let zoe = cluster.login("Zoë").db("old").open_ok().await;
    // A role's name has no encoding: so PostgreSQL itself reads this one here.
    assert_eq!(zoe.text("SELECT session_user").await, "ZoÃ«");
    let psql = |encoding: &str| -> Ran {
        let mut psql = psql_of_bytes(&cluster, b"anna", b"PC");
        psql.env("PGCLIENTENCODING", encoding)
            .args(["-Xc", "SELECT 1"]);
        psql.output().unwrap().into()
    };
    let mut heard = String::new();
    eventually("Zoë is idle", PATIENCE, async || {
        heard = psql("UTF8").failed();
        heard.contains("Idle longest")
    })
    .await;
    let (_, words) = heard.split_once("FATAL:").unwrap();
    assert_eq!(
        words,
        "  maximum user license count reached for \"Büro »Süd«\"\n\
         DETAIL:  1 of 1 seats are in use. Idle longest: \"ZoÃ«\".\n\
         HINT:  Someone must log out before another user can log in, \
         or an administrator must raise the number of seats.\n"
    );
    // Letters that no client can get wrong.
    assert!(
        psql("LATIN1")
            .failed()
            .contains("B\u{FFFD}ro \u{FFFD}S\u{FFFD}d\u{FFFD}")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn log_lines_are_in_the_databases_encoding_and_leave_no_trace() {
    let cluster = with_old("LATIN1");
    let warn = "UPDATE licenses SET product = 'Büro', seats = 0, enforcement = 'warn'";
    sql_in(&cluster, "old", warn);
    let anna = cluster.login("anna").db("old").open_ok().await;
    // The test reads the log as UTF-8, which it is not here.
    cluster.wait_log(
        "license \"B\u{FFFD}ro\" would have denied user \"anna\"",
        PATIENCE,
    );
    assert_eq!(anna.fails("SELECT 1/0").await.message, "division by zero");
    assert_eq!(
        anna.fails("SELECT 'Büro'::int").await.message,
        "invalid input syntax for type integer: \"Büro\""
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_counts_databases_of_different_encodings_together() {
    let cluster = Cluster::builder().licensed("seats", "10");
    for (db, encoding) in [("old", "LATIN1"), ("older", "WIN1252"), ("new", "UTF8")] {
        cluster.sql(&format!(
            "CREATE DATABASE {db} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"
        ));
        cluster.license(db, "seats", "2");
        sql_in(
            &cluster,
            db,
            "UPDATE licenses SET product = 'Büro', pool = 'Süd'",
        );
    }
    cluster.sql("CREATE ROLE \"日本\" LOGIN");
    let open = |user: &str, db: &str| cluster.login(user).db(db).from("127.0.1.1").open_ok();
    let _anna = [
        open("anna", "old").await,
        open("anna", "older").await,
        open("anna", "new").await,
    ];
    let nihon = open("日本", "new").await;
    for db in ["old", "older", "new"] {
        let usage = "SELECT product, in_use FROM license_usage";
        eventually("two seats are in use", PATIENCE, async || {
            sql_in(&cluster, db, usage) == "Büro|2"
        })
        .await;
        let denied = cluster
            .login("bert")
            .db(db)
            .from("127.0.1.1")
            .denied()
            .await;
        assert_eq!(
            denied.assert("53300", "license_full").message,
            "maximum user license count reached for \"Büro\""
        );
        let shown = sql_in(
            &cluster,
            db,
            "SELECT product, usename, sessions FROM license_active_seats ORDER BY opened_at",
        );
        let guest = if db == "new" { "日本" } else { "??" };
        assert_eq!(shown, format!("Büro|anna|3\nBüro|{guest}|1"), "{db}");
    }
    nihon.close().await;
    eventually("a seat is free", PATIENCE, async || {
        sql_in(&cluster, "old", "SELECT in_use FROM license_usage") == "1"
    })
    .await;
    open("bert", "old").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_with_bytes_that_the_encoding_lacks_logs_in() {
    let cluster = with_old("WIN1252");
    cluster.sql("CREATE ROLE \"Á\" LOGIN; CREATE DATABASE \"Ý\" TEMPLATE old");
    for db in ["old", "Ý"] {
        cluster.sql_in(db, "UPDATE licenses SET seats = 1");
        // This psql speaks the database's own encoding: PostgreSQL can't say this name in UTF-8.
        let mut first = cluster.login("Á").db(db).app("Í").process();
        let shown =
            r"SELECT usename = U&'\00C3?', application_name <> '' FROM license_active_seats;";
        assert_eq!(first.ask(shown), "t|t");
        let denied = cluster.login("anna").db(db).denied().await;
        denied.assert("53300", "license_full");
        assert!(!denied.detail.contains('\u{FFFD}'), "{denied:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn patterns_and_exempt_roles_beyond_ascii_match_in_a_latin1_database() {
    let cluster = with_old("LATIN1");
    sql_in(
        &cluster,
        "old",
        "CREATE ROLE \"Zoë\" LOGIN; CREATE ROLE \"Chloë\" LOGIN; GRANT \"Chloë\" TO anna;
         INSERT INTO license_exemptions VALUES ('role', 'Chloë');
         INSERT INTO licenses (product, seats, application_name) VALUES ('Büro', 1, 'B_roü%')",
    );
    let shown = facts_of_bytes(&cluster, b"Zo\xeb", b"B\xfcro\xfcber").ok();
    assert_eq!(shown, "Zoë|Zoë|Büroüber|Büroüber|Büroüber|Büro");
    let mut psql = psql_of_bytes(&cluster, b"anna", b"B\xfcro");
    let reason =
        "SELECT application_name, reason FROM license_exempt_sessions WHERE pid = pg_backend_pid()";
    let ran: Ran = psql.args(["-XAtqc", reason]).output().unwrap().into();
    assert!(ran.clone().ok().starts_with("Büro|"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_limited_as_utf8_in_every_encoding() {
    let cluster = with_old("LATIN1");
    let root = cluster.login("postgres").db("old").open_ok().await;
    for (statement, sqlstate, constraint) in [
        ("UPDATE licenses SET product = repeat('ä', 31)", "", ""),
        (
            "UPDATE licenses SET product = repeat('ä', 32)",
            "23514",
            "licenses_product_is_a_name",
        ),
        ("UPDATE licenses SET pool = repeat('ä', 31)", "", ""),
        (
            "UPDATE licenses SET pool = repeat('ä', 32)",
            "23514",
            "licenses_pool_is_a_name",
        ),
        (
            "UPDATE licenses SET application_name = repeat('ä', 63)",
            "",
            "",
        ),
        (
            "UPDATE licenses SET application_name = repeat('ä', 64)",
            "23514",
            "licenses_application_name_is_a_pattern",
        ),
        (
            "INSERT INTO license_exemptions VALUES ('role', repeat('ä', 31))",
            "",
            "",
        ),
        (
            "INSERT INTO license_exemptions VALUES ('role', repeat('ä', 32))",
            "23514",
            "license_exemptions_role_is_a_name",
        ),
    ] {
        let done = root
            .try_texts(statement)
            .await
            .map_err(|denied| (denied.sqlstate.clone(), denied.reason.clone()));
        let refused = done.err().unwrap_or_default();
        assert_eq!(refused, (sqlstate.into(), constraint.into()), "{statement}");
    }
    cluster.sql_in("old", "UPDATE licenses SET application_name = NULL");
    let _anna = cluster.login("anna").db("old").open_ok().await;
    let product = "SELECT product FROM license_active_seats";
    assert_eq!(sql_in(&cluster, "old", product), "ä".repeat(31));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_utf8_lacks_are_refused_at_the_statement() {
    for (encoding, bytes, sqlstate) in [
        ("SQL_ASCII", r"B\xfcro", "22021"),
        ("WIN1252", r"B\x81", "22P05"),
    ] {
        let cluster = with_old(encoding);
        let root = cluster.login("postgres").db("old").open_ok().await;
        for statement in [
            format!("UPDATE licenses SET product = E'{bytes}'"),
            format!("UPDATE licenses SET pool = E'{bytes}'"),
            format!("UPDATE licenses SET application_name = E'{bytes}'"),
            format!("INSERT INTO license_exemptions VALUES ('role', E'{bytes}')"),
        ] {
            let denied = root.fails(&statement).await;
            assert_eq!(
                denied.sqlstate, sqlstate,
                "{encoding}: {statement}: {denied:?}"
            );
        }
        cluster.login("anna").db("old").open_ok().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extension_in_a_schema_beyond_ascii_counts() {
    let cluster = with_old("LATIN1");
    sql_in(
        &cluster,
        "old",
        "DROP EXTENSION pg_seats; CREATE SCHEMA \"Büro\"; CREATE EXTENSION pg_seats SCHEMA \"Büro\";
         INSERT INTO \"Büro\".licenses (product, seats) VALUES ('TOM', 1)",
    );
    let _anna = cluster.login("anna").db("old").open_ok().await;
    let denied = cluster.login("bert").db("old").denied().await;
    denied.assert("53300", "license_full");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_has_no_way_to_utf8_is_not_licensed_and_admits_everyone() {
    let cluster = Cluster::with_seats(1);
    cluster.sql(
        "CREATE DATABASE mule ENCODING 'MULE_INTERNAL' LOCALE 'C' TEMPLATE template0; CREATE ROLE \"Zoë\" LOGIN",
    );
    let create = "CREATE EXTENSION pg_seats";
    cluster.psql_as("postgres", "mule", create).ok();
    let refused = "INSERT INTO licenses (product, seats) VALUES ('TOM', 1)";
    let refused = cluster.psql_as("postgres", "mule", refused).failed();
    let why =
        "default conversion function for encoding \"MULE_INTERNAL\" to \"UTF8\" does not exist";
    assert!(refused.contains(why), "{refused}");
    let (mut zoe, mut anna) = (
        cluster.login("Zoë").db("mule").process(),
        cluster.login("anna").db("mule").app("Büro").process(),
    );
    let shown = "SELECT usename, reason FROM license_exempt_sessions;";
    assert_eq!(zoe.ask(shown), "Zo??|no license claimed");
    assert_eq!(anna.ask(shown), "anna|no license claimed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warning_that_its_client_can_not_read_keeps_nobody_out() {
    let cluster = Cluster::with_seats(9);
    cluster.sql("CREATE DATABASE south");
    cluster.license("south", "seats", "9");
    for (db, rule) in [("postgres", "user"), ("south", "user_host")] {
        cluster.sql_in(
            db,
            &format!(
                "UPDATE licenses SET product = 'Büro €', pool = 'firm', counted_by = '{rule}'"
            ),
        );
    }
    for (encoding, can_read) in [("UTF8", true), ("LATIN9", true), ("LATIN1", false)] {
        let mark = cluster.log().len();
        // Who reads the changed rules finds that they disagree, unless a database worker is faster.
        let mut read = false;
        for _ in 0..10 {
            let change = "UPDATE licenses SET overdraft = 1 - overdraft";
            let look = "SELECT count(*) FROM license_usage";
            let ran = cluster.psql(
                &["-At", "-c", change, "-c", look],
                &[("PGCLIENTENCODING", encoding)],
            );
            read |= ran.stderr.contains("databases of one pool count");
            assert_eq!(ran.ok(), "UPDATE 1\n1", "{encoding}");
        }
        assert_eq!(read, can_read, "{encoding}");
        cluster.wait_log_since(
            mark,
            "databases of one pool count \"Büro €\" by different rules",
        );
    }
}
