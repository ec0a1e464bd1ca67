//! The audit trail: everything that happens is in it, and nothing breaks out of its field.

use crate::util::*;

const ALL: &str = "event, product, usename, client_user, client_host, workstation, datname";

#[tokio::test(flavor = "multi_thread")]
async fn who_took_and_left_a_seat_is_in_the_trail() {
    let trail = Trail::of("seats", "9").await;
    let login = trail.login("anna").workstation("LAPTOP");
    let (first, again) = (login.open_ok().await, login.open_ok().await);
    trail
        .becomes(ALL, &["login|TOM|anna||127.0.1.1|LAPTOP|postgres"])
        .await;
    first.close().await;
    again.close().await;
    trail
        .becomes(
            &format!("{ALL}, detail ->> 'cause'"),
            &[
                "login|TOM|anna||127.0.1.1|LAPTOP|postgres|",
                "release|TOM|anna||127.0.1.1|LAPTOP|postgres|logout",
            ],
        )
        .await;
    let same = "SELECT count(DISTINCT detail ->> 'seat_id'), count(*), min(at) < max(at),
                       bool_and(at BETWEEN now() - interval '1 minute' AND now())
                  FROM license_events WHERE usename = 'anna'";
    assert_eq!(trail.admin.text(same).await, "1|2|t|t");
}

/// As PostgreSQL's statistics have it, and whether it is one of ours.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_says_how_its_session_ended() {
    let trail = Trail::of("seats", "9").await;
    trail.user("anna").await.close().await;
    trail.user("bert").await.abort().await;
    let carl = trail.user("carl").await;
    let kill = format!("SELECT pg_terminate_backend({})", carl.pid().await);
    trail.admin.run(&kill).await;
    carl.ended().await.assert("57P01", "");
    let dora = trail
        .login("dora")
        .options("-c idle_session_timeout=100ms")
        .open_ok()
        .await;
    dora.ended().await.assert("57P05", "");
    let mut busy = trail.cluster.login("emil").from("127.0.0.1").process();
    busy.ask("SELECT 1;");
    busy.send("SELECT pg_sleep(1000);");
    busy.kill9();
    let fay = trail.user("fay").await;
    trail
        .admin
        .run("SELECT license_terminate(seat_id) FROM license_active_seats WHERE usename = 'fay'")
        .await;
    fay.ended().await;
    let causes = "SELECT string_agg(usename || ' ' || (detail ->> 'cause'), ', ' ORDER BY usename)
                    FROM license_events WHERE event = 'release'";
    trail
        .shows(
            causes,
            "anna logout, bert abandoned, carl killed, dora fatal, emil abandoned, fay termination",
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_applications_take_and_give_back_is_in_the_trail() {
    let trail = Trail::of("claimed_at, seats, overdraft", "'checkout', 1, 1").await;
    trail
        .admin
        .run("GRANT EXECUTE ON FUNCTION license_lease, license_release TO anna")
        .await;
    let anna = trail.user("anna").await;
    let seat = anna.text("SELECT seat_id FROM license_checkout()").await;
    assert!(anna.checkin().await);
    anna.run("BEGIN; SELECT * FROM license_lease('zoe', 'desk 7', ttl => '5s'); COMMIT")
        .await;
    anna.checkout().await;
    let denied = anna
        .fails("SELECT license_checkout(client_user => 'cid')")
        .await;
    denied.assert("53400", "license_full");
    trail
        .becomes(
            "event, client_user, client_host, detail ->> 'cause', detail ->> 'in_use', detail ->> 'reason',
             detail ->> 'limit'",
            &[
                "checkout||127.0.1.1||1||",
                "warning||||1||",
                "release||127.0.1.1|given back|0||",
                "lease|zoe|desk 7||1||",
                "warning||||1||",
                "checkout||127.0.1.1||2||",
                "overdraft||127.0.1.1||2|license_full|1",
                "warning||||2||",
                "denial|cid|127.0.1.1||2|license_full|2",
                "lease expiry|zoe|desk 7||||",
                "release|zoe|desk 7|lease expiry|1||",
            ],
        )
        .await;
    let id =
        "SELECT DISTINCT detail ->> 'seat_id' FROM license_events WHERE detail ->> 'in_use' = '0'";
    assert_eq!(trail.admin.text(id).await, seat);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_survives_though_its_connection_had_no_transaction_and_is_in_the_log() {
    let trail = Trail::of("seats", "0").await;
    trail.login("anna").denied().await;
    trail
        .becomes(
            &format!("{ALL}, detail"),
            &[r#"denial|TOM|anna||127.0.1.1||postgres|{"kind": "login", "limit": 0, "in_use": 0, "reason": "license_full"}"#],
        )
        .await;
    let line = "FATAL:  maximum user license count reached for \"TOM\"";
    assert!(trail.cluster.log().contains(line));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_denial_of_a_call_is_in_the_log() {
    let trail = Trail::of("claimed_at, seats", "'checkout', 0").await;
    let anna = trail.user("anna").await;
    let mark = trail.cluster.log().len();
    assert!(!anna.try_checkout().await);
    trail.cluster.wait_log_since(
        mark,
        "LOG:  license \"TOM\" denied user \"anna\" at 127.0.1.1: 0 of 0 seats were in use",
    );
    let none = anna.texts("SELECT * FROM license_try_checkout(client_user => 'zoe')");
    assert!(none.await.is_empty());
    trail
        .cluster
        .wait_log_since(mark, "denied user \"zoe\" by role \"anna\"");
    anna.fails("SELECT license_checkout()").await;
    trail
        .cluster
        .wait_log_since(mark, "ERROR:  maximum user license");
    // An error that somebody catches is in no log by itself.
    let mark = trail.cluster.log().len();
    anna.run(
        "DO $$BEGIN PERFORM license_checkout(client_user => 'cid');
             EXCEPTION WHEN configuration_limit_exceeded THEN NULL; END$$",
    )
    .await;
    trail.cluster.wait_log_since(
        mark,
        "LOG:  license \"TOM\" denied user \"cid\" by role \"anna\"",
    );
    // Nobody but the server log hears of a try.
    assert!(anna.notices().is_empty());
    trail
        .becomes(
            "event, client_user",
            // What is denied to one user again is told with others of its minute.
            &["denial|", "denial|zoe", "denial|cid"],
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn warn_and_dates_and_exempt_logins_are_in_the_trail() {
    let trail = Trail::of("seats, enforcement", "0, 'warn'").await;
    trail
        .admin
        .run("INSERT INTO license_exemptions VALUES ('role', 'bert')")
        .await;
    let _anna = trail.user("anna").await;
    let _bert = trail.user("bert").await;
    trail
        .admin
        .run("UPDATE licenses SET enforcement = 'on', valid_until = '2020-01-01 00:00:00+00'")
        .await;
    trail.login("carl").denied().await;
    trail
        .becomes(
            "event, usename, detail ->> 'reason', detail ->> 'enforcement', detail ->> 'valid_until'",
            &[
                "denial|anna|license_full|warn|",
                "warning||||",
                "login|anna|||",
                "exempt login|bert|exempt role||",
                "denial|carl|license_expired||2020-01-01T00:00:00+00:00",
            ],
        )
        .await;
    let boss = "SELECT count(*) FROM license_events
                 WHERE event = 'exempt login' AND usename = 'postgres'";
    let before: i64 = trail.admin.text(boss).await.parse().unwrap();
    trail.cluster.sql("SELECT 1");
    let after = (before + 1).to_string();
    trail.shows(boss, &after).await;
}

const CHANGES: &str = "event, product, usename, client_host, detail";

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_licenses_say_who_from_what_to_what() {
    let trail = Trail::of("seats", "9").await;
    trail
        .admin
        .run(
            "GRANT SELECT, UPDATE (seats, purchased) ON licenses TO anna;
             GRANT ALL ON license_exemptions TO bert",
        )
        .await;
    let anna = trail.user("anna").await;
    anna.run("UPDATE licenses SET seats = 10, purchased = 20")
        .await;
    anna.run("UPDATE licenses SET seats = 5").await;
    anna.run("UPDATE licenses SET purchased = NULL").await;
    anna.run("UPDATE licenses SET seats = NULL").await;
    anna.run("UPDATE licenses SET seats = seats").await;
    anna.run("SET ROLE anna; BEGIN; UPDATE licenses SET seats = 1; ROLLBACK")
        .await;
    anna.run("BEGIN; SAVEPOINT s; UPDATE licenses SET seats = 2; ROLLBACK TO s; COMMIT")
        .await;
    anna.run("BEGIN; SAVEPOINT s; UPDATE licenses SET seats = 3; RELEASE s; COMMIT")
        .await;
    anna.fails("DELETE FROM licenses").await;
    let bert = trail.user("bert").await;
    bert.run("INSERT INTO license_exemptions VALUES ('role', 'anna', 'boss')")
        .await;
    bert.run("UPDATE license_exemptions SET note = NULL").await;
    bert.run("TRUNCATE license_exemptions").await;
    let mut rows = trail.rows(CHANGES).await;
    rows.retain(|row| !row.starts_with("login"));
    assert_eq!(
        rows,
        [
            r#"raise|TOM|anna|127.0.1.1|{"seats": {"to": 10, "from": 9}, "purchased": {"to": 20}}"#,
            r#"reduction|TOM|anna|127.0.1.1|{"seats": {"to": 5, "from": 10}}"#,
            r#"license changed|TOM|anna|127.0.1.1|{"purchased": {"from": 20}}"#,
            r#"raise|TOM|anna|127.0.1.1|{"seats": {"from": 5}}"#,
            r#"reduction|TOM|anna|127.0.1.1|{"seats": {"to": 3}}"#,
            r#"exemption added||bert|127.0.1.2|{"kind": {"to": "role"}, "note": {"to": "boss"}, "value": {"to": "anna"}}"#,
            r#"exemption changed||bert|127.0.1.2|{"row": {"kind": "role", "note": "boss", "value": "anna"}, "note": {"from": "boss"}}"#,
            "exemption truncated||bert|127.0.1.2|{}",
        ]
    );
    trail
        .admin
        .run("TRUNCATE license_events; COPY licenses (product, seats, claimed_at) FROM PROGRAM 'echo CRM,3,checkout' (FORMAT csv)")
        .await;
    trail
        .admin
        .run("UPDATE licenses SET product = 'Crm' WHERE product = 'CRM'; DELETE FROM licenses")
        .await;
    let rows = "SELECT event, product, detail -> 'product', usename FROM license_events
                 WHERE event LIKE 'license%' ORDER BY at, ctid";
    assert_eq!(
        trail.admin.texts(rows).await,
        [
            r#"license added|CRM|{"to": "CRM"}|postgres"#,
            r#"license changed|Crm|{"to": "Crm", "from": "CRM"}|postgres"#,
            r#"license removed|TOM|{"from": "TOM"}|postgres"#,
            r#"license removed|Crm|{"from": "Crm"}|postgres"#,
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_has_the_trail_and_restores_it() {
    let trail = Trail::of("seats", "9").await;
    trail.user("anna").await.close().await;
    trail.becomes("event", &["login", "release"]).await;
    let text = trail.cluster.program("pg_dump", &[]).ok();
    trail.cluster.restore("restored", &text);
    let rows = "SELECT at, event, usename, datname, detail FROM license_events
                 WHERE usename = 'anna' ORDER BY at";
    assert_eq!(
        trail.cluster.sql_in("restored", rows),
        trail.cluster.sql(rows)
    );
    // The restored trail goes on.
    let bert = trail.login("bert").db("restored").open_ok().await;
    eventually("the restored trail goes on", SOON, async || {
        let last = "SELECT event, datname FROM license_events WHERE usename = 'bert'";
        trail.cluster.sql_in("restored", last) == "login|restored"
    })
    .await;
    bert.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_rows_go_in_batches_and_young_ones_stay() {
    let trail = Trail::of("seats", "9").await;
    let kept = "SELECT count(*), max(now() - at) < interval '401 days'
                  FROM license_events WHERE event = 'old'";
    trail
        .admin
        .run(
            "INSERT INTO license_events
             SELECT now() - n * interval '1 day', 'old' FROM generate_series(1, 2500) n",
        )
        .await;
    // Three batches of a thousand, one after the other without a login.
    let _anna = trail.user("anna").await;
    trail.shows(kept, "399|t").await;
    trail.cluster.set("pg_seats.event_retention", "10d");
    let _bert = trail.user("bert").await;
    trail.shows(kept, "9|t").await;
    trail.cluster.set("pg_seats.event_retention", "-1");
    trail
        .admin
        .run("INSERT INTO license_events VALUES ('-infinity', 'old'), ('1000-01-01', 'old')")
        .await;
    let _carl = trail.user("carl").await;
    let carl = "SELECT count(*) FROM license_events WHERE usename = 'carl'";
    trail.shows(carl, "1").await;
    let ancient = "SELECT count(*) FROM license_events WHERE event = 'old'";
    assert_eq!(trail.admin.text(ancient).await, "11");
}

#[test]
fn the_retention_has_bounds_and_units() {
    let cluster = Cluster::start();
    assert_eq!(cluster.sql("SHOW pg_seats.event_retention"), "400d");
    for (value, fine) in [
        ("1min", true),
        ("-1", true),
        ("0", true),
        ("-2", false),
        ("a week", false),
        ("2147483647", true),
    ] {
        let set = format!("ALTER SYSTEM SET pg_seats.event_retention = '{value}'");
        let ran = cluster.psql_as("postgres", "postgres", &set);
        assert_eq!(ran.status == Some(0), fine, "{value}");
    }
    let refused = cluster.psql_as("postgres", "postgres", "SET pg_seats.event_retention = 5");
    assert!(refused.failed().contains("cannot be changed now"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_retention_deletes_nothing_and_fails_nowhere() {
    let cluster = Cluster::builder()
        .conf("pg_seats.event_retention", "2147483647")
        .licensed("seats", "9");
    let trail = Trail::at(cluster).await;
    trail
        .admin
        .run("INSERT INTO license_events VALUES ('1000-01-01', 'old')")
        .await;
    let _anna = trail.user("anna").await;
    trail.becomes("event", &["old", "login"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pg_monitor_reads_the_trail_and_nobody_else_writes_it() {
    let trail = Trail::of("seats", "9").await;
    trail.admin.run("GRANT pg_monitor TO anna").await;
    let (anna, bert) = (trail.user("anna").await, trail.user("bert").await);
    anna.run("SELECT * FROM license_events").await;
    bert.fails("SELECT * FROM license_events")
        .await
        .assert("42501", "");
    for user in [&anna, &bert] {
        for statement in [
            "INSERT INTO license_events VALUES (now(), 'forged')",
            "UPDATE license_events SET event = 'forged'",
            "DELETE FROM license_events",
            "TRUNCATE license_events",
            "SELECT * FROM license_counts",
            "UPDATE license_counts SET denied = 0",
            "DROP TABLE license_events",
        ] {
            user.fails(statement).await.assert("42501", "");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_crossing_is_notified_and_logged_once_and_names_nobody() {
    let trail = Trail::of("seats, overdraft, warn_at_percent", "2, 1, 50").await;
    trail
        .admin
        .run("INSERT INTO license_exemptions VALUES ('role', 'lena')")
        .await;
    let listener = trail.user("lena").await;
    listener.run("LISTEN pg_seats").await;
    let mark = trail.cluster.log().len();
    let _anna = trail.user("anna").await;
    let _bert = trail.user("bert").await;
    let carl = trail.user("carl").await;
    let again = trail.user("carl").await;
    let payloads = notified(&listener, 3).await;
    for (payload, level, in_use) in [
        (&payloads[0], "warning", 1),
        (&payloads[1], "full", 2),
        (&payloads[2], "overdraft", 3),
    ] {
        assert_eq!(
            *payload,
            format!(
                r#"{{"event":"warning","in_use":{in_use},"level":"{level}","product":"TOM","seats":2}}"#
            )
        );
        let line =
            format!("license \"TOM\" is at level \"{level}\": {in_use} of 2 seats were in use");
        trail.cluster.wait_log_since(mark, &line);
        assert_eq!(trail.cluster.log_since(mark).matches(&line).count(), 1);
    }
    again.close().await;
    carl.close().await;
    trail.in_use_becomes(2).await;
    let _carl = trail.user("carl").await;
    let payloads = notified(&listener, 4).await;
    assert!(payloads[3].contains("overdraft"));
    let events = "SELECT string_agg(detail ->> 'level', ',' ORDER BY at, ctid)
                    FROM license_events WHERE event = 'warning'";
    assert_eq!(
        trail.admin.text(events).await,
        "warning,full,overdraft,overdraft"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_license_is_warned_of_once_for_each_number_of_days() {
    let trail = Trail::of("seats", "9").await;
    let listener = trail.cluster.login("postgres").open_ok().await;
    listener.run("LISTEN pg_seats").await;
    let mark = trail.cluster.log().len();
    for (number, days) in [(1, 30), (2, 14), (3, 7), (4, 1)] {
        trail
            .admin
            .run(&format!(
                "UPDATE licenses SET valid_until = now() + interval '{days} days' - interval '1 hour'"
            ))
            .await;
        let payloads = notified(&listener, number).await;
        let days = format!("\"days\":{days},");
        assert!(payloads[number - 1].contains(&days), "{payloads:?}");
        assert!(payloads[number - 1].contains("\"level\":\"ending\""));
        // Others come, and it is written anew.
        trail.user("anna").await.close().await;
        let anna = format!(
            "SELECT count(*) FROM license_events WHERE event = 'login' AND usename = 'anna'
              HAVING count(*) = {number}"
        );
        trail.shows(&anna, &number.to_string()).await;
    }
    // A short retention brings none of them back, nor does a restart.
    trail.cluster.set("pg_seats.event_retention", "0");
    trail.user("anna").await.close().await;
    trail
        .shows(
            "SELECT count(*) FROM license_events WHERE event <> 'warning'",
            "0",
        )
        .await;
    let ending = "SELECT count(*) FROM license_events WHERE detail ->> 'level' = 'ending'";
    assert_eq!(trail.admin.text(ending).await, "4");
    drop(listener);
    trail.cluster.restart(Stop::Fast);
    trail.user("anna").await;
    trail.cluster.sql("SELECT pg_sleep(2)");
    assert_eq!(trail.cluster.sql(ending), "4");
    let line = trail.cluster.log_since(mark);
    assert_eq!(line.matches("license \"TOM\" ends within").count(), 4);
}

/// Starts a commit that waits for a standby that never comes, with the lock that every NOTIFY needs.
async fn stuck_notifier(trail: &Trail) -> tokio::task::JoinHandle<()> {
    trail.admin.run("CREATE TABLE notes (note text)").await;
    trail.cluster.set("synchronous_standby_names", "nobody");
    let notifier = trail.cluster.login("postgres").open_ok().await;
    let pid = notifier.pid().await;
    // The first ones may be faster than the setting.
    let stuck = tokio::spawn(async move {
        loop {
            // Who has written nothing waits for nobody.
            let notify = "INSERT INTO notes VALUES ('new'); NOTIFY notes; SELECT pg_sleep(0.01)";
            notifier.run(notify).await;
        }
    });
    let waits = format!("SELECT wait_event FROM pg_stat_activity WHERE pid = {pid}");
    trail.shows(&waits, "SyncRep").await;
    stuck
}

#[tokio::test(flavor = "multi_thread")]
async fn who_locks_the_queue_of_notifications_keeps_nothing_from_being_written_or_logged_off() {
    let trail = Trail::of("seats, idle_timeout", "1, '3 seconds'").await;
    let stuck = stuck_notifier(&trail).await;
    let mark = trail.cluster.log().len();
    let anna = trail.user("anna").await;
    let could_not = "could not notify who listens on pg_seats in database \"postgres\": \
                     canceling statement due to lock timeout";
    trail.cluster.wait_log_since(mark, could_not);
    anna.ended().await.assert("57P05", "license_idle");
    let rows = ["warning|full", "login|", "release|", "idle log-off|"];
    trail.becomes("event, detail ->> 'level'", &rows).await;
    assert_eq!(trail.cluster.log_since(mark).matches(could_not).count(), 1);
    assert!(
        !trail
            .cluster
            .log_since(mark)
            .contains("could not write license_events")
    );
    stuck.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_of_notifications_keeps_nothing_from_being_written() {
    let cluster = Cluster::builder();
    if Programs::from_env().major() < 17 {
        return skipped("the queue of this PostgreSQL has eight gigabytes");
    }
    let cluster = cluster.conf("max_notify_queue_pages", "64");
    let trail = Trail::at(cluster.licensed("seats", "1")).await;
    let listener = trail.cluster.login("postgres").open_ok().await;
    listener.run("LISTEN pg_seats").await;
    listener.run("BEGIN").await;
    let many =
        "SELECT pg_notify('elsewhere', n || repeat('x', 7000)) FROM generate_series(1, 200) n";
    trail.admin.fails(many).await.assert("54000", "");
    let mark = trail.cluster.log().len();
    trail.user("anna").await.close().await;
    let rows = ["warning|full", "login|", "release|"];
    trail.becomes("event, detail ->> 'level'", &rows).await;
    trail.cluster.wait_log_since(
        mark,
        "could not notify who listens on pg_seats in database \"postgres\": too many notifications",
    );
    // When there is room again, whoever listens is notified.
    for step in [
        "COMMIT",
        "UNLISTEN *",
        "SELECT pg_notification_queue_usage()",
        "LISTEN pg_seats",
    ] {
        listener.run(step).await;
    }
    trail.user("anna").await.close().await;
    assert_eq!(notified(&listener, 1).await.len(), 1);
    let rows = [rows, rows].concat();
    trail.becomes("event, detail ->> 'level'", &rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_names_wait_as_long_as_their_events() {
    let trail = Trail::of("claimed_at, seats", "'checkout', 1000").await;
    trail
        .cluster
        .sql("GRANT EXECUTE ON FUNCTION license_lease TO anna");
    let locker = trail.cluster.login("postgres").open_ok().await;
    locker.run("BEGIN; LOCK TABLE license_events").await;
    let mut staff = Vec::new();
    for user in &STAFF[..6] {
        let session = trail.user(user).await;
        session
            .run(&format!(
                "SELECT license_checkout(client_user => repeat('{user}', 100) || n) FROM generate_series(1, 10) n"
            ))
            .await;
        staff.push(session);
    }
    locker.run("COMMIT").await;
    let told = "SELECT count(DISTINCT client_user), min(length(client_user)) > 300,
                       count(detail -> 'no_room_for')
                  FROM license_events WHERE event = 'checkout'";
    trail.shows(told, "60|t|0").await;
}

/// What could break out of a line, a JSON text, a notification or a statement.
const NASTY: [&str; 10] = [
    r#"quote" here"#,
    r"back\slash\",
    "%s%n%d",
    "it's; DROP TABLE license_events; --",
    "$$ $1 :name {x}",
    "\u{202e}gnitirw",
    "line\u{2028}end",
    "next\u{85}line",
    "turned\u{2066}",
    r#"","event":"forged"#,
];

/// Roles alone may be called so.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_of_two_lines_stays_in_one() {
    let trail = Trail::of("seats", "1").await;
    trail.admin.run("CREATE ROLE \"two\nlines\" LOGIN").await;
    let role = trail.cluster.login("two\nlines").from("127.0.2.1");
    let session = role.open_ok().await;
    let none = session.texts("SELECT * FROM license_try_checkout(client_user => 'zoe')");
    assert!(none.await.is_empty());
    trail.cluster.wait_log(
        r#"LOG:  license "TOM" denied user "zoe" by role "two\nlines": 1 of 1 seats were in use"#,
        PATIENCE,
    );
    eventually("it is named among the idle", PATIENCE, async || {
        let detail = trail.login("anna").denied().await.detail.clone();
        detail == r#"1 of 1 seats are in use. Idle longest: "two\nlines"."#
    })
    .await;
    let told = "SELECT count(*) FROM license_events
                 WHERE usename = E'two\\nlines' AND event IN ('login', 'denial')";
    trail.shows(told, "2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_somebody_is_called_breaks_out_of_its_field() {
    let trail = Trail::of("seats", "0").await;
    let listener = trail.cluster.login("postgres").open_ok().await;
    listener.run("LISTEN pg_seats").await;
    for name in NASTY {
        let role = format!("r {name}");
        let quoted = role.replace('"', "\"\"");
        trail
            .admin
            .run(&format!(
                "TRUNCATE license_events; CREATE ROLE \"{quoted}\" LOGIN"
            ))
            .await;
        trail
            .admin
            .run(&format!(
                "DELETE FROM licenses; DELETE FROM license_reservations;
                 INSERT INTO licenses (product, seats, enforcement) VALUES ('p {0}', 1, 'warn');
                 INSERT INTO licenses (product, seats, claimed_at)
                     VALUES ('q {0}', 1, 'checkout'), ('s {0}', 9, 'checkout');
                 INSERT INTO license_reservations VALUES ('s {0}', 'r {0}', 0, 0)",
                name.replace('\'', "''")
            ))
            .await;
        let mark = trail.cluster.log().len();
        let login = trail
            .cluster
            .login(&role)
            .from("127.0.2.1")
            .workstation(&format!("w {name}"));
        let session = login.open_ok().await;
        let user = format!("c {name}").replace('\'', "''");
        let product = format!("q {name}").replace('\'', "''");
        session
            .run(&format!(
                "SELECT license_checkout('{product}', client_user => '{user}')"
            ))
            .await;
        let denied = session
            .fails(&format!(
                "SELECT license_checkout('{product}', client_user => 'other')"
            ))
            .await;
        denied.assert("53400", "license_full");
        let tried =
            format!("SELECT * FROM license_try_checkout('{product}', client_user => '{user} 2')");
        assert!(session.texts(&tried).await.is_empty());
        let tried = tried.replacen("'q ", "'s ", 1);
        assert!(session.texts(&tried).await.is_empty());
        let other = trail.user("anna").await;
        let rows = format!(
            "SELECT count(*) FILTER (WHERE event = 'login' AND product = $p${p}$p$
                                       AND usename = $p${r}$p$ AND workstation = $p${w}$p$),
                    count(*) FILTER (WHERE event = 'checkout' AND product = $p${q}$p$
                                       AND client_user = $p${c}$p$),
                    count(*) FILTER (WHERE event = 'denial' AND product = $p${q}$p$
                                       AND client_user = $p${c} 2$p$),
                    count(*) FILTER (WHERE event = 'forged')
               FROM license_events",
            p = format_args!("p {name}"),
            q = format_args!("q {name}"),
            r = role,
            w = format_args!("w {name}"),
            c = format_args!("c {name}"),
        );
        trail.shows(&rows, "1|1|1|0").await;
        let shown: String = format!("p {name}")
            .chars()
            .flat_map(|letter| match letter {
                '"' | '\\' => vec!['\\', letter],
                '\u{202e}' => r"\u202e".chars().collect(),
                '\u{2028}' => r"\u2028".chars().collect(),
                '\u{85}' => r"\u0085".chars().collect(),
                '\u{2066}' => r"\u2066".chars().collect(),
                other => vec![other],
            })
            .collect();
        for line in [
            format!("license \"{shown}\" is at level \"full\": 1 of 1 seats were in use"),
            format!("license \"{shown}\" would have denied user \"anna\" at 127.0.1.1"),
            format!("maximum user license count reached for \"q {name}\""),
            format!(
                "denied user \"{} 2\" by role \"",
                shown.replacen('p', "c", 1)
            ),
            format!(
                "0 of 0 seats for members of role \"{}\" were in use",
                shown.replacen('p', "r", 1)
            ),
        ] {
            trail.cluster.wait_log_since(mark, &line);
        }
        other.close().await;
        session.close().await;
        eventually("nobody is in", PATIENCE, async || {
            trail
                .admin
                .text("SELECT sum(in_use) FROM license_usage")
                .await
                == "0"
        })
        .await;
    }
    eventually("all crossings are notified", PATIENCE, async || {
        listener.notifications().len() >= 2 * NASTY.len()
    })
    .await;
    for (_, payload) in listener.notifications() {
        let json = payload.replace('\'', "''");
        let fields = format!("SELECT '{json}'::jsonb ->> 'event', '{json}'::jsonb ->> 'product'");
        let fields = trail.admin.text(&fields).await;
        let (event, product) = fields.split_once('|').unwrap();
        assert_eq!(event, "warning");
        assert!(NASTY.contains(&&product[2..]), "{payload}");
        for secret in ["127.0.2.1", "\"r ", "\"w ", "anna"] {
            assert!(!payload.contains(secret), "{payload}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_names_are_whole_in_the_trail_and_in_notifications() {
    let product = "\\\"".repeat(31);
    let trail = Trail::of("seats, claimed_at", "9, 'checkout'").await;
    let listener = trail.cluster.login("postgres").open_ok().await;
    listener.run("LISTEN pg_seats").await;
    trail
        .admin
        .run(&format!(
            "INSERT INTO licenses (product, seats, claimed_at) VALUES ('{product}', 1, 'checkout');
             TRUNCATE license_events"
        ))
        .await;
    let user = "\"\\".repeat(255) + "x";
    assert_eq!(user.len(), 511);
    let anna = trail.user("anna").await;
    anna.run(&format!(
        "SELECT license_checkout('{product}', client_user => '{user}')"
    ))
    .await;
    let whole = format!(
        "SELECT string_agg(event, ',' ORDER BY at, ctid) FROM license_events
          WHERE client_user = '{user}' AND product = '{product}'"
    );
    trail.shows(&whole, "checkout").await;
    anna.run(&format!(
        "SELECT license_checkin('{product}', client_user => '{user}')"
    ))
    .await;
    trail.shows(&whole, "checkout,release").await;
    anna.run(&format!("SELECT license_checkout('{product}')"))
        .await;
    let denied = format!("SELECT license_checkout('{product}', client_user => '{user}')");
    anna.fails(&denied).await.assert("53400", "license_full");
    trail.shows(&whole, "checkout,release,denial").await;
    let payloads = notified(&listener, 2).await;
    assert!(payloads[0].len() < 8_000);
    let field = format!("SELECT '{}'::jsonb ->> 'product'", payloads[0]);
    assert_eq!(trail.admin.text(&field).await, product);
}
