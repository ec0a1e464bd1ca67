//! Leases: seats for an application's users, whatever session asks for them.

use crate::util::*;

async fn denied(app: &Session, user: &str) -> Denied {
    app.fails(&format!("SELECT license_lease('{user}', '10.0.0.1')"))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_returns_its_row() {
    let cluster = with_leases(Cluster::builder(), 3);
    let app = app(&cluster, "anna").await;
    let row =
        "SELECT lease_id IS NOT NULL, product, usename, client_user, client_host, workstation,
        seats_in_use, seats, expires_at - clock_timestamp() BETWEEN '9 minutes' AND '10.01 minutes',
        seat_id = (SELECT seat_id FROM license_active_seats WHERE client_user = 'zoe')
        FROM license_lease('zoe', '10.0.0.1', 'TOM', '10 minutes')";
    assert_eq!(app.text(row).await, "t|TOM|anna|zoe|10.0.0.1||1|3|t|t");
    let seat = "SELECT product, datname, usename, client_user, client_host, workstation,
        application_name, kind, sessions, pids, opened_at <= now(), last_active_at <= now(),
        idle >= '0', expires_at > now() + '9 minutes' FROM license_active_seats";
    let shown = "TOM|postgres|anna|zoe|10.0.0.1|||lease|0|{}|t|t|t|t";
    assert_eq!(cluster.sql(seat), shown);
    assert_eq!(left(&cluster), "1|1|1");
    // It outlives the session.
    app.close().await;
    assert_eq!(cluster.sql(seat), shown);
}

#[tokio::test(flavor = "multi_thread")]
async fn role_user_and_host_make_the_identity_of_a_lease() {
    let cluster = with_leases(Cluster::builder(), 99);
    let (anna, bert) = (app(&cluster, "anna").await, app(&cluster, "bert").await);
    let in_use = async |app: &Session, user: &str, host: &str| {
        app.text(&format!(
            "SELECT seats_in_use, client_host FROM license_lease('{user}', '{host}')"
        ))
        .await
    };
    for (app, user, host, expected) in [
        (&anna, "zoe", "10.0.0.1", "1|10.0.0.1"),
        (&anna, "zoe", "10.0.0.1", "1|10.0.0.1"),
        (&anna, "zoe", "::ffff:10.0.0.1", "1|10.0.0.1"),
        (&anna, "zoe", "10.0.0.2", "2|10.0.0.2"),
        (&anna, "yan", "10.0.0.1", "3|10.0.0.1"),
        (&bert, "zoe", "10.0.0.1", "4|10.0.0.1"),
        (&anna, "zoe", "local", "5|local"),
        (&anna, "zoe", "127.0.0.1", "5|local"),
        (&anna, "zoe", "::1", "5|local"),
        (&anna, "zoe", "::ffff:127.0.0.1", "5|local"),
        (&anna, "zoe", "127.0.0.2", "6|127.0.0.2"),
        (&anna, "zoe", "2001:DB8:0:0::1", "7|2001:db8::1"),
        (&anna, "zoe", "2001:db8::1", "7|2001:db8::1"),
        (&anna, "zoe", "pc-7.example", "8|pc-7.example"),
        (&anna, "zoe", "pc-7.example", "8|pc-7.example"),
        (&anna, "zoe", "pc-8.example", "9|pc-8.example"),
    ] {
        assert_eq!(in_use(app, user, host).await, expected, "{user}@{host}");
    }
    let hosts = "SELECT string_agg(client_host, ' ' ORDER BY opened_at) FROM license_active_seats";
    let shown = "10.0.0.1 10.0.0.2 10.0.0.1 10.0.0.1 local 127.0.0.2 2001:db8::1 pc-7.example \
                 pc-8.example";
    assert_eq!(cluster.sql(hosts), shown);
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_of_one_identity_share_a_seat_that_the_last_frees() {
    let cluster = with_leases(Cluster::builder(), 1);
    let app = app(&cluster, "anna").await;
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let ids = [
            lease(&app, "zoe").await,
            lease(&app, "zoe").await,
            lease(&app, "zoe").await,
        ];
        denied(&app, "yan").await.assert("53400", "license_full");
        for (gone, at) in order.into_iter().enumerate() {
            assert_eq!(left(&cluster), format!("1|1|{}", 3 - gone));
            assert!(release(&app, &ids[at]).await);
            assert!(!release(&app, &ids[at]).await);
            assert!(!beats(&app, &ids[at]).await);
        }
        assert_eq!(left(&cluster), "0|0|0");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkout_and_a_lease_of_one_identity_share_a_seat_that_the_last_frees() {
    let cluster = with_leases(Cluster::builder(), 1);
    let other = cluster.login("bert").from("127.0.1.2").open_ok().await;
    for (lease_first, release_first) in [(true, true), (true, false), (false, true), (false, false)]
    {
        let app = app(&cluster, "anna").await;
        let checkout = "SELECT seats_in_use, seat_id FROM license_checkout(client_user => 'zoe')";
        let lease = "SELECT seats_in_use, seat_id, lease_id FROM license_lease('zoe', '127.0.1.1')";
        let (first, second) = if lease_first {
            (lease, checkout)
        } else {
            (checkout, lease)
        };
        let (first, second) = (app.text(first).await, app.text(second).await);
        let fields: Vec<_> = [first.as_str(), second.as_str()]
            .map(|row| row.split('|').collect::<Vec<_>>())
            .into();
        assert_eq!(fields[0][..2], fields[1][..2], "one seat");
        let id = fields.iter().find_map(|row| row.get(2)).unwrap();
        let kind = "SELECT kind, sessions, expires_at IS NULL FROM license_active_seats";
        assert_eq!(cluster.sql(kind), "checkout|1|t");
        let checkin = "SELECT license_checkin(client_user => 'zoe')";
        let release = format!("SELECT license_release('{id}')");
        let (former, latter) = if release_first {
            (release.as_str(), checkin)
        } else {
            (checkin, release.as_str())
        };
        assert_eq!(app.text(former).await, "t");
        denied(&other, "yan").await.assert("53400", "license_full");
        if !release_first {
            assert_eq!(cluster.sql(kind), "lease|0|f");
        }
        assert_eq!(app.text(latter).await, "t");
        assert_eq!(left(&cluster), "0|0|0");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_and_a_lease_do_not_share_a_seat() {
    let cluster = Cluster::with_seats(2);
    cluster.sql(&format!("{GRANT} anna"));
    let app = app(&cluster, "anna").await;
    lease(&app, "zoe").await;
    assert_eq!(left(&cluster), "2|2|1");
    let latecomer = cluster.login("bert").from("127.0.1.2");
    latecomer.denied().await.assert("53300", "license_full");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_rule_of_counting_counts_leases_too() {
    for (counted_by, expected) in [
        ("user_host", "1 1 2 3 4"),
        ("user", "1 1 1 2 3"),
        ("host", "1 1 2 3 3"),
        ("session", "1 2 3 4 5"),
        ("user_workstation", "1 1 2 3 4"),
    ] {
        let cluster = with_leases(Cluster::builder(), 99);
        cluster.sql(&format!("UPDATE licenses SET counted_by = '{counted_by}'"));
        let (anna, bert) = (app(&cluster, "anna").await, app(&cluster, "bert").await);
        let mut counts = Vec::new();
        for (app, user, host) in [
            (&anna, "zoe", "10.0.0.1"),
            (&anna, "zoe", "10.0.0.1"),
            (&anna, "zoe", "10.0.0.2"),
            (&anna, "yan", "10.0.0.1"),
            (&bert, "yan", "10.0.0.1"),
        ] {
            let lease = format!("SELECT seats_in_use FROM license_lease('{user}', '{host}')");
            counts.push(app.text(&lease).await);
        }
        assert_eq!(counts.join(" "), expected, "{counted_by}");
        // A change of the rule counts them anew.
        cluster.sql("UPDATE licenses SET counted_by = 'session'");
        assert_eq!(cluster.in_use(), 5, "{counted_by}");
        cluster.sql(&format!("UPDATE licenses SET counted_by = '{counted_by}'"));
        let last = expected.rsplit(' ').next().unwrap();
        assert_eq!(cluster.in_use().to_string(), last, "{counted_by}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_counts_the_leases_of_all_its_databases() {
    let cluster = Cluster::builder().licensed("seats, claimed_at, pool", "2, 'checkout', 'firm'");
    cluster.sql("CREATE DATABASE second TEMPLATE postgres");
    for db in ["postgres", "second"] {
        cluster.sql_in(db, &format!("{GRANT} anna"));
    }
    let here = app(&cluster, "anna").await;
    let there = cluster
        .login("anna")
        .db("second")
        .from("127.0.1.1")
        .open_ok()
        .await;
    let zoe = lease(&here, "zoe").await;
    let again = lease(&there, "zoe").await;
    assert_eq!(cluster.in_use_in("second"), 1);
    lease(&there, "yan").await;
    for app in [&here, &there] {
        denied(app, "xia").await.assert("53400", "license_full");
    }
    let seats = "SELECT datname, client_user FROM license_active_seats ORDER BY opened_at";
    for db in ["postgres", "second"] {
        let shown = cluster.sql_in(db, seats);
        assert!(shown.ends_with("\nsecond|yan"), "{db}: {shown}");
    }
    // A lease is known in its own database alone.
    assert!(!beats(&there, &zoe).await);
    assert!(!release(&there, &zoe).await);
    assert!(release(&here, &zoe).await);
    assert_eq!(cluster.in_use(), 2);
    assert!(release(&there, &again).await);
    assert_eq!(cluster.in_use(), 1);
    lease(&here, "xia").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_are_counted_and_denied_whoever_asks() {
    let cluster = with_leases(Cluster::builder(), 2);
    cluster.sql(
        "INSERT INTO license_exemptions VALUES ('role', 'anna', ''), ('host', '127.0.1.9', '')",
    );
    let (superuser, role) = (
        cluster.login("postgres").open_ok().await,
        app(&cluster, "anna").await,
    );
    let host = cluster.login("bert").from("127.0.1.9").open_ok().await;
    let replicator = cluster.login("carl").from("127.0.1.8");
    cluster.sql(&format!("ALTER ROLE carl REPLICATION; {GRANT} carl"));
    let replicator = replicator.open_ok().await;
    for app in [&superuser, &role, &host, &replicator] {
        let ids = [lease(app, "zoe").await, lease(app, "yan").await];
        assert_eq!(left(&cluster), "2|2|2");
        for app in [&superuser, &role, &host, &replicator] {
            denied(app, "xia").await.assert("53400", "license_full");
        }
        for id in ids {
            assert!(release(app, &id).await);
        }
        assert_eq!(left(&cluster), "0|0|0");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_lease_says_why_and_leaves_nothing() {
    let cluster = with_leases(Cluster::builder(), 1);
    let app = app(&cluster, "anna").await;
    lease(&app, "zoe").await;
    let error = denied(&app, "yan").await;
    error.assert("53400", "license_full");
    assert_eq!(
        (error.severity.as_str(), error.message.as_str()),
        ("ERROR", "maximum user license count reached for \"TOM\"")
    );
    assert!(
        error.detail.starts_with("1 of 1 seats are in use."),
        "{error:?}"
    );
    assert!(error.detail.contains("\"zoe\""), "{error:?}");
    assert!(
        error.hint.contains("raise the number of seats"),
        "{error:?}"
    );
    assert_eq!(left(&cluster), "1|1|1");
    assert_eq!(cluster.sql("SELECT denied FROM license_usage"), "1");
    for (change, reason) in [
        ("valid_until = now() - interval '1 day'", "license_expired"),
        (
            "valid_until = NULL, valid_from = now() + interval '1 day'",
            "license_not_yet_valid",
        ),
    ] {
        cluster.sql(&format!("UPDATE licenses SET seats = 9, {change}"));
        denied(&app, "yan").await.assert("53400", reason);
        denied(&app, "zoe").await.assert("53400", reason);
        assert_eq!(left(&cluster), "1|1|1");
    }
    let error = app.fails("SELECT license_lease('yan', '10.0.0.1', 'NIL')");
    error.await.assert("42704", "");
    cluster.sql("INSERT INTO licenses (product, claimed_at) VALUES ('ANN', 'checkout')");
    denied(&app, "yan").await.assert("22023", "");
    assert_eq!(left(&cluster), "1|1|1");
}

#[tokio::test(flavor = "multi_thread")]
async fn softer_enforcement_admits_leases_beyond_the_seats() {
    let cluster = with_leases(Cluster::builder(), 1);
    let app = app(&cluster, "anna").await;
    for (enforcement, denied) in [("warn", "2"), ("off", "2")] {
        cluster.sql(&format!(
            "UPDATE licenses SET enforcement = '{enforcement}'"
        ));
        let mut ids = Vec::new();
        for user in ["zoe", "yan", "xia"] {
            ids.push(lease(&app, user).await);
        }
        assert_eq!(left(&cluster), "3|3|3", "{enforcement}");
        assert_eq!(cluster.sql("SELECT denied FROM license_usage"), denied);
        for id in &ids {
            assert!(beats(&app, id).await);
            assert!(release(&app, id).await);
        }
    }
    assert_eq!(left(&cluster), "0|0|0");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_server_has_no_room_no_lease_is_left_behind() {
    let cluster = with_leases(Cluster::builder().conf("pg_seats.max_seats", 10), 99);
    let app = app(&cluster, "anna").await;
    let mut ids = Vec::new();
    for i in 0..10 {
        ids.push(lease(&app, &format!("user{i}")).await);
    }
    for asks in [&app, &cluster.login("postgres").open_ok().await] {
        let error = denied(asks, "zoe").await;
        error.assert("53400", "license_table_full");
        assert!(error.hint.contains("pg_seats.max_seats"), "{error:?}");
    }
    assert_eq!(left(&cluster), "10|10|10");
    // Where nothing is enforced there is still an end of room, and nothing is promised beyond it.
    cluster.sql("UPDATE licenses SET enforcement = 'off'");
    let superuser = cluster.login("postgres").open_ok().await;
    denied(&superuser, "zoe")
        .await
        .assert("53400", "license_table_full");
    assert_eq!(left(&cluster), "10|10|10");
    assert!(release(&app, &ids[0]).await);
    assert!(beats(&superuser, &lease(&superuser, "zoe").await).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_waits_in_the_queue_and_is_served() {
    let cluster = with_leases(Cluster::builder(), 1);
    let (anna, bert) = (app(&cluster, "anna").await, app(&cluster, "bert").await);
    let zoe = lease(&anna, "zoe").await;
    let waiting = "SELECT waiting FROM license_usage";
    let wait = "SELECT lease_id, seats_in_use, expires_at > clock_timestamp() + '4 minutes'
                  FROM license_lease('yan', '10.0.0.1', wait => '1 minute')";
    let waiter = tokio::spawn(async move {
        let row = bert.text(wait).await;
        (bert, row)
    });
    eventually("bert waits", PATIENCE, async || cluster.sql(waiting) == "1").await;
    denied(&anna, "xia").await.assert("53400", "license_full");
    assert!(release(&anna, &zoe).await);
    let (bert, row) = waiter.await.unwrap();
    assert!(row.ends_with("|1|t"), "{row}");
    assert_eq!(left(&cluster), "1|1|1");
    assert!(release(&bert, row.split('|').next().unwrap()).await);
    assert_eq!(left(&cluster), "0|0|0");
    assert_eq!(cluster.sql(waiting), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_gives_up_waiting_for_a_lease_leaves_nothing() {
    let cluster = with_leases(Cluster::builder(), 1);
    let app = app(&cluster, "anna").await;
    let zoe = lease(&app, "zoe").await;
    let wait = "SELECT license_lease('yan', '10.0.0.1', wait => '1 minute')";
    let error = app.fails("SELECT license_lease('yan', '10.0.0.1', wait => '50 ms')");
    error.await.assert("53400", "license_full");
    app.run("SET statement_timeout = 50").await;
    app.fails(wait).await.assert("57014", "");
    app.run("RESET statement_timeout").await;
    let bert = cluster.login("bert").from("127.0.1.2").open_ok().await;
    let pid = bert.pid().await;
    let waiter = tokio::spawn(async move { bert.fails(wait).await });
    let waiting = "SELECT waiting FROM license_usage";
    eventually("bert waits", PATIENCE, async || cluster.sql(waiting) == "1").await;
    cluster.sql(&format!("SELECT pg_terminate_backend({pid})"));
    waiter.await.unwrap().assert("57P01", "");
    eventually("the queue is empty", PATIENCE, async || {
        cluster.sql(waiting) == "0"
    })
    .await;
    assert_eq!(left(&cluster), "1|1|1");
    assert!(release(&app, &zoe).await);
    assert_eq!(left(&cluster), "0|0|0");
}

/// Of whoever is served while the transaction that waits is about to roll back, nothing stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_was_waited_for_goes_with_its_transaction() {
    let cluster = with_leases(Cluster::builder(), 1);
    let (anna, bert) = (app(&cluster, "anna").await, app(&cluster, "bert").await);
    let zoe = lease(&anna, "zoe").await;
    bert.run("BEGIN").await;
    let waiter = tokio::spawn(async move {
        let id = bert
            .text("SELECT lease_id FROM license_lease('yan', '10.0.0.1', wait => '1 minute')")
            .await;
        (bert, id)
    });
    let waiting = "SELECT waiting FROM license_usage";
    eventually("bert waits", PATIENCE, async || cluster.sql(waiting) == "1").await;
    assert!(release(&anna, &zoe).await);
    let (bert, id) = waiter.await.unwrap();
    assert_eq!(left(&cluster), "1|1|0");
    bert.run("ROLLBACK").await;
    assert_eq!(left(&cluster), "0|0|0");
    assert!(!beats(&bert, &id).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn others_leases_are_hidden() {
    let cluster = with_leases(Cluster::builder(), 9);
    cluster.sql("GRANT pg_monitor TO carl; GRANT anna TO dora");
    let (anna, bert) = (app(&cluster, "anna").await, app(&cluster, "bert").await);
    lease(&anna, "zoe").await;
    lease(&bert, "yan").await;
    for (role, users) in [
        ("anna", "zoe"),
        ("bert", "yan"),
        ("carl", "yan zoe"),
        ("emil", ""),
        ("postgres", "yan zoe"),
    ] {
        let session = cluster.login(role).from("127.0.1.7").open_ok().await;
        let seen = "SELECT string_agg(client_user, ' ' ORDER BY client_user)
                      FROM license_active_seats";
        assert_eq!(session.text(seen).await, users, "{role}");
    }
    for role in ["anna", "emil", "carl"] {
        let session = cluster.login(role).from("127.0.1.7").open_ok().await;
        for statement in [
            "SELECT lease_id FROM license_leases",
            "DELETE FROM license_leases",
            "UPDATE license_leases SET ttl = '1 day'",
            "INSERT INTO license_leases SELECT * FROM license_leases",
            "TRUNCATE license_leases",
        ] {
            session.fails(statement).await.assert("42501", "");
        }
    }
    // The ids, which are secrets, are in no view but that of whoever took them.
    let ids = "SELECT count(*) FROM information_schema.columns
                WHERE column_name = 'lease_id' AND table_name LIKE 'license%'
                  AND table_name NOT IN ('license_leases', 'license_own_leases')";
    assert_eq!(cluster.sql(ids), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_extends_or_ends_leases_without_the_grant() {
    let cluster = with_leases(Cluster::builder(), 9);
    let id = lease(&app(&cluster, "anna").await, "zoe").await;
    let emil = cluster.login("emil").from("127.0.1.7").open_ok().await;
    for statement in [
        "SELECT license_lease('zoe', '10.0.0.1')".to_owned(),
        format!("SELECT license_heartbeat('{id}')"),
        format!("SELECT license_release('{id}')"),
    ] {
        emil.fails(&statement).await.assert("42501", "");
    }
    assert_eq!(left(&cluster), "1|1|1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_cannot_touch_anothers_lease() {
    let cluster = with_leases(Cluster::builder(), 9);
    cluster.sql(&format!("GRANT anna TO dora; {GRANT} dora"));
    let (anna, bert) = (app(&cluster, "anna").await, app(&cluster, "bert").await);
    let id = lease_for(&anna, "zoe", "1 hour").await;
    let expiry = "SELECT expires_at FROM license_active_seats";
    let before = cluster.sql(expiry);
    for function in ["license_heartbeat", "license_release"] {
        let call = format!("SELECT {function}('{id}')");
        bert.fails(&call).await.assert("42501", "");
    }
    assert_eq!(cluster.sql(expiry), before);
    assert_eq!(left(&cluster), "1|1|1");
    // SET ROLE makes nobody else of a session; membership does.
    bert.fails("SET ROLE anna").await.assert("42501", "");
    let dora = app(&cluster, "dora").await;
    assert!(beats(&dora, &id).await);
    assert_ne!(cluster.sql(expiry), before);
    dora.run("SET ROLE anna").await;
    let by_role = dora.text("SELECT usename FROM license_lease('yan', '10.0.0.1')");
    assert_eq!(by_role.await, "dora");
    assert!(release(&dora, &id).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_of_no_lease_is_gone() {
    let cluster = with_leases(Cluster::builder(), 9);
    let app = app(&cluster, "anna").await;
    lease(&app, "zoe").await;
    for id in [
        "gen_random_uuid()",
        "'00000000-0000-0000-0000-000000000000'",
        "(SELECT seat_id FROM license_active_seats)",
        // A session's checkout is no lease.
        "(SELECT seat_id FROM license_checkout())",
        "'00000000-0000-0001-0000-000000000000'",
    ] {
        let heartbeat = format!("SELECT license_heartbeat({id}) IS NULL");
        assert_eq!(app.text(&heartbeat).await, "t", "{id}");
        let release = format!("SELECT license_release({id})");
        assert_eq!(app.text(&release).await, "f", "{id}");
    }
    let of_null = "SELECT license_heartbeat(NULL) IS NULL, license_release(NULL) IS NULL";
    assert_eq!(app.text(of_null).await, "t|t");
    assert_eq!(left(&cluster), "2|2|1");
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_of_leases_are_random() {
    let cluster = with_leases(Cluster::builder(), 999);
    let app = app(&cluster, "anna").await;
    let many = "SELECT (license_lease('user' || i, '10.0.0.1')).lease_id
                  FROM generate_series(1, 200) i";
    let ids = app.texts(many).await;
    for id in &ids {
        assert_eq!(&id[14..15], "4", "{id}");
        assert!("89ab".contains(&id[19..20]), "{id}");
    }
    let mut beginnings: Vec<_> = ids.iter().map(|id| &id[..8]).collect();
    assert!(!beginnings.is_sorted());
    beginnings.sort_unstable();
    beginnings.dedup();
    assert_eq!(beginnings.len(), ids.len());
}

/// Everything out of range is refused, and changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn bad_arguments_of_leases_change_nothing() {
    let cluster = with_leases(Cluster::builder(), 9);
    let app = app(&cluster, "anna").await;
    let long = "x".repeat(512);
    let bad = [
        "NULL, '10.0.0.1'",
        "'', '10.0.0.1'",
        "'zoe', NULL",
        "'zoe', ''",
        "E'zo\\ne', '10.0.0.1'",
        "E'zo\\x7fe', '10.0.0.1'",
        "'zoe', E'10.0.0.1\\t'",
        &format!("'{long}', '10.0.0.1'"),
        &format!("'zoe', '{long}'"),
        &format!("'zoe', '{}'", &long[..64]),
        "'zoe', '10.0.0.1', ttl => '0'",
        "'zoe', '10.0.0.1', ttl => '-1 second'",
        "'zoe', '10.0.0.1', ttl => '2 years'",
        "'zoe', '10.0.0.1', ttl => '178000000 years'",
        "'zoe', '10.0.0.1', ttl => NULL",
        "'zoe', '10.0.0.1', wait => '-1 second'",
        "'zoe', '10.0.0.1', wait => '2 days'",
        "'zoe', '10.0.0.1', wait => '178000000 years'",
        "'zoe', '10.0.0.1', wait => '-178000000 years'",
        "'zoe', '10.0.0.1', wait => NULL",
        "'zoe', '10.0.0.1', ttl => '1 month -40 days'",
    ];
    for arguments in bad {
        let error = app
            .fails(&format!("SELECT license_lease({arguments})"))
            .await;
        error.assert("22023", "");
        assert!(!error.hint.is_empty(), "{error:?}");
    }
    if cluster.programs().major() >= 17 {
        for argument in [
            "ttl => 'infinity'",
            "wait => 'infinity'",
            "ttl => '-infinity'",
        ] {
            let lease = format!("SELECT license_lease('zoe', '10.0.0.1', {argument})");
            app.fails(&lease).await.assert("22023", "");
        }
    }
    assert_eq!(left(&cluster), "0|0|0");
    for good in [
        format!("'{}', '10.0.0.1'", &long[..511]),
        format!("'zoe', '{}'", &long[..63]),
        "'zoe', 'x', ttl => '1 year'".to_owned(),
        "'zoe', 'y', ttl => '366 days'".to_owned(),
        "'Zoë 李', 'Büro', wait => '1 day'".to_owned(),
        "'zoe', 'no address: 10.0.0.999'".to_owned(),
    ] {
        app.run(&format!("SELECT license_lease({good})")).await;
    }
    assert_eq!(left(&cluster), "6|6|6");
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_beyond_ascii_are_one_identity_in_every_encoding() {
    let cluster = Cluster::builder().licensed("seats, claimed_at, pool", "9, 'checkout', 'firm'");
    cluster.sql("CREATE DATABASE old ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
    cluster.license("old", "seats, claimed_at, pool", "9, 'checkout', 'firm'");
    let lease = "SET client_encoding = 'UTF8';
        SELECT seats_in_use, client_user, client_host FROM license_lease('Zoë', 'Büro')";
    for db in ["postgres", "old"] {
        assert_eq!(cluster.sql_in(db, lease), "1|Zoë|Büro", "{db}");
    }
    let rows = "SET client_encoding = 'UTF8'; SELECT client_user, client_host FROM license_leases";
    assert_eq!(cluster.sql_in("old", rows), "Zoë|Büro");
    let other = "SET client_encoding = 'UTF8'; SELECT license_lease('李', '10.0.0.1')";
    let refused = cluster.psql_as("postgres", "old", other).failed();
    assert!(
        refused.contains("has no equivalent in encoding"),
        "{refused}"
    );
    cluster.restart(Stop::Immediate);
    for db in ["postgres", "old"] {
        assert_eq!(cluster.in_use_in(db), 1, "{db}");
    }
    let seen = "SET client_encoding = 'UTF8';
                SELECT client_user, client_host FROM license_active_seats";
    assert_eq!(cluster.sql_in("old", seen), "Zoë|Büro");
}

/// The extension's schema may have letters that the server's own encoding writes differently.
#[tokio::test(flavor = "multi_thread")]
async fn leases_end_in_any_schema_and_encoding() {
    let cluster = Cluster::with_seats(9);
    cluster.sql("CREATE DATABASE old ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
    let utf8 = |sql: &str| cluster.sql_in("old", &format!("SET client_encoding = 'UTF8'; {sql}"));
    utf8(
        "CREATE SCHEMA \"Größe 2\"; CREATE EXTENSION pg_seats SCHEMA \"Größe 2\";
         INSERT INTO \"Größe 2\".licenses (product, seats) VALUES ('TOM', 1)",
    );
    utf8("SELECT \"Größe 2\".license_lease('zoe', '10.0.0.1', ttl => '1 ms')");
    eventually("its row is gone", PATIENCE, async || {
        utf8("SELECT count(*) FROM \"Größe 2\".license_leases") == "0"
    })
    .await;
    let id = utf8("SELECT lease_id FROM \"Größe 2\".license_lease('zoe', '10.0.0.1')");
    let ends = format!("SELECT \"Größe 2\".license_release('{id}')");
    assert_eq!(utf8(&ends), "t");
}
