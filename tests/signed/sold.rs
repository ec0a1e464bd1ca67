//! Seats used anywhere never exceed what was sold: ten allotments, seats that are lent, clocks that are set, tokens of
//! days to come, rival issuers, records that are damaged or gone.

use std::fs;

use serde_json::{Value, json};

use crate::util::*;

const HOUR: i64 = 3_600;

fn installation(builder: Builder) -> Cluster {
    builder.with_key_of(&Vendor::aptora())
}

/// Returns a license of ten seats and two beyond, with two weeks of grace, or other numbers, for this server alone.
fn license(centre: &Cluster, change: impl FnOnce(&mut Value)) -> String {
    let mut claims = Vendor::aptora().claims(10);
    claims["cnf"] = json!({"jkt": centre.installation()});
    claims["products"][0]["overdraft"] = json!(2);
    claims["products"][0]["grace"] = json!("14 days");
    change(&mut claims);
    Vendor::aptora().sign(&claims)
}

/// Logs users in, each from a computer of their own, until one is denied for want of a seat or of a license: those who
/// are in, and the reason.
async fn fill(cluster: &Cluster, db: &str) -> (Vec<Session>, String) {
    let mut users = Vec::new();
    loop {
        assert!(users.len() < 30, "nobody is denied in {db}");
        let login = cluster.login("anna").db(db).from(&new_host());
        match login.open().await {
            Ok(user) => users.push(user),
            Err(denied) => return (users, denied.reason.clone()),
        }
    }
}

/// Tells how many get in at once, and for what reason no more do.
async fn admitted(cluster: &Cluster) -> (usize, String) {
    let (users, reason) = fill(cluster, "postgres").await;
    let number = users.len();
    for user in users {
        user.close().await;
    }
    eventually("all are out", PATIENCE, async || cluster.in_use() == 0).await;
    (number, reason)
}

async fn becomes(cluster: &Cluster, number: usize, reason: &str) {
    let what = format!("{number} get in, then {reason}");
    let mut last = (0, String::new());
    eventually(&what, 3 * PATIENCE, async || {
        last = admitted(cluster).await;
        last == (number, reason.to_owned())
    })
    .await;
}

fn lend(centre: &Cluster, laptop: &Cluster, seats: i32, until: i64) -> String {
    let key = laptop.sql("SELECT license_installation()");
    centre.sql(&format!(
        "SELECT license_allot('TOM', '{key}', {seats}, to_timestamp({until}))"
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_allotments_of_ten_and_two_admit_twelve_in_all() {
    let [centre, branch] = [(); 2].map(|()| installation(Cluster::builder()));
    centre.install(&license(&centre, |_| ()));
    let databases: Vec<String> = (0..10).map(|n| format!("branch{n}")).collect();
    for db in &databases {
        branch.copy("postgres", db);
        let token = centre.sql(&branch.allotting(1));
        branch.sql_in(db, &format!("SELECT license_install('{token}')"));
    }
    let (at_centre, reason) = fill(&centre, "postgres").await;
    assert_eq!((at_centre.len(), reason.as_str()), (2, "license_full"));
    let mut users = Vec::new();
    for db in &databases {
        let (here, reason) = fill(&branch, db).await;
        assert_eq!((here.len(), reason.as_str()), (1, "license_full"), "{db}");
        users.extend(here);
    }
    assert_eq!(at_centre.len() + users.len(), 12);
    // What is given back is used at the centre, and nowhere else: not by the overdraft either.
    let receipt = branch.sql_in("branch0", "SELECT license_give_back('TOM')");
    branch.sql_in(
        "branch0",
        "UPDATE licenses SET seats = 9, purchased = 9, overdraft = 9, enforcement = 'warn'",
    );
    assert_eq!(fill(&branch, "branch0").await.0.len(), 0);
    centre.sql(&format!("SELECT license_accept_return('{receipt}')"));
    let (more, reason) = fill(&centre, "postgres").await;
    assert_eq!((more.len(), reason.as_str()), (1, "license_full"));
    assert_eq!(fill(&branch, "branch0").await.0.len(), 0);
    // A renewal with fewer seats renews no more allotments than it has: others end with the former license.
    let renewed = license(&centre, |claims| {
        claims["iat"] = json!(unix_now());
        claims["products"][0]["seats"] = json!(4);
    });
    centre.install(&renewed);
    let renewed = "SELECT count(*) FILTER (WHERE token <> ALL ($$TOKENS$$::text[])) FROM license_allotments WHERE returned_at IS NULL";
    let former = databases
        .iter()
        .map(|db| branch.sql_in(db, "SELECT token FROM license_keys"))
        .collect::<Vec<_>>()
        .join(",");
    let renewed = renewed.replace("TOKENS", &format!("{{{former}}}"));
    eventually("four are renewed", PATIENCE, async || {
        centre.sql(&renewed) == "4"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lent_seat_is_used_in_one_place_at_a_time_whatever_the_clocks_show() {
    let clock = Clock::new();
    let [centre, laptop] = [(); 2].map(|()| installation(Cluster::builder().clock(&clock)));
    let set = |ahead: i64| {
        clock.set_ahead(ahead);
        for cluster in [&centre, &laptop] {
            cluster.sql("SELECT pg_reload_conf()");
        }
    };
    centre.install(&license(&centre, |claims| {
        claims["products"][0] = json!({"product": "TOM", "seats": 2, "grace": "14 days"});
    }));
    let until = clock.now() + HOUR;
    laptop.install(&lend(&centre, &laptop, 1, until));
    let (mut users, reason) = fill(&laptop, "postgres").await;
    assert_eq!((users.len(), reason.as_str()), (1, "license_full"));
    becomes(&centre, 1, "license_full").await;
    // Who uses it when its time is over is logged off, before it is used at the centre.
    set(HOUR + 30);
    users
        .pop()
        .unwrap()
        .ended()
        .await
        .assert("57P01", "license_stopped");
    becomes(&laptop, 0, "license_expired").await;
    becomes(&centre, 1, "license_full").await;
    set(HOUR + 150);
    becomes(&centre, 2, "license_full").await;
    let returned = "SELECT count(*) FROM license_allotments WHERE returned_at IS NOT NULL";
    eventually("the table follows", PATIENCE, async || {
        centre.sql(returned) == "1"
    })
    .await;
    // A clock that was ahead has brought nothing back, to nobody.
    set(0);
    becomes(&centre, 1, "license_full").await;
    becomes(&laptop, 0, "license_expired").await;
    eventually("the table follows", PATIENCE, async || {
        centre.sql("SELECT seats, status FROM license_usage") == "1|ok"
            && centre.sql(returned) == "0"
    })
    .await;
    set(HOUR + 150);
    becomes(&centre, 2, "license_full").await;
    // Beyond the vendor's end there is the vendor's grace, for those seats that nobody has lent.
    set(366 * DAY);
    becomes(&centre, 2, "license_full").await;
    becomes(&laptop, 0, "license_expired").await;
    set(380 * DAY);
    becomes(&centre, 0, "license_expired").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn seats_lent_by_clocks_that_are_ahead_are_nobodys_before() {
    let (right, ahead) = (Clock::new(), Clock::new());
    let centre = installation(Cluster::builder().clock(&ahead));
    let laptops = [(); 2].map(|()| installation(Cluster::builder().clock(&right)));
    centre.install(&license(&centre, |claims| {
        claims["products"][0] = json!({"product": "TOM", "seats": 1});
    }));
    let first = lend(&centre, &laptops[0], 1, ahead.now() + HOUR);
    laptops[0].install(&first);
    ahead.set_ahead(2 * HOUR);
    centre.sql("SELECT pg_reload_conf()");
    becomes(&centre, 1, "license_full").await;
    let second = lend(&centre, &laptops[1], 1, ahead.now() + HOUR);
    let admin = laptops[1].login("postgres").open_ok().await;
    let refused = admin
        .fails(&format!("SELECT license_install('{second}')"))
        .await;
    refused.assert("28000", "license_not_verified");
    assert_eq!(refused.detail, "It is not valid yet.");
    becomes(&laptops[0], 1, "license_full").await;
    // Back where it should be the centre knows of both.
    ahead.set_ahead(0);
    centre.sql("SELECT pg_reload_conf()");
    becomes(&centre, 0, "license_full").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dates_that_are_ahead_keep_out_no_renewal() {
    let cluster = installation(Cluster::builder());
    let admin = cluster.login("postgres").open_ok().await;
    let now = unix_now();
    let token = |iat: i64, nbf: i64| {
        let mut claims = Vendor::aptora().claims(5);
        (claims["iat"], claims["nbf"]) = (json!(iat), json!(nbf));
        Vendor::aptora().sign(&claims)
    };
    let install = |token: &str| format!("SELECT license_install('{token}')");
    for (iat, nbf, detail) in [
        (
            now + 2 * DAY,
            now,
            "It was issued more than a day ahead of this server's clock.",
        ),
        (now, now + 600, "It is not valid yet."),
    ] {
        let refused = admin.fails(&install(&token(iat, nbf))).await;
        refused.assert("28000", "license_not_verified");
        assert_eq!(refused.detail, detail);
        assert_ne!(refused.hint, "");
    }
    // Whose clock is a little behind admits at once.
    admin.run(&install(&token(now, now + 60))).await;
    assert!(admits(&cluster).await);
    assert_eq!(
        cluster.sql("SELECT state FROM license_keys_status"),
        "valid"
    );
    // Nor does a row that was written past the function, once the installation knows of the license.
    cluster
        .until_recorded(|record| record["licenses"][0]["iat"] == now)
        .await;
    cluster.sql(&format!(
        "UPDATE license_keys SET token = '{}'",
        token(now + 400 * DAY, now)
    ));
    cluster.reload();
    assert!(admits(&cluster).await);
    admin.run(&install(&token(now + 5, now))).await;
    assert_eq!(
        cluster.sql("SELECT state, (SELECT status FROM license_usage) FROM license_keys_status"),
        "valid|ok"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_verified_is_remembered_by_the_statement_that_verified_it() {
    let cluster = installation(Cluster::builder());
    let token = |age: i64, seats: i32| {
        let mut claims = Vendor::aptora().claims(seats);
        claims["iat"] = json!(unix_now() - age);
        Vendor::aptora().sign(&claims)
    };
    let (older, newer) = (token(HOUR, 9), token(60, 1));
    let install = |token: &str| format!("SELECT license_install('{token}')");
    cluster.install(&older);
    let admin = cluster.login("postgres").open_ok().await;
    // Nobody reads the licenses in between.
    admin
        .run(&format!(
            "BEGIN; {}; SELECT license_uninstall('TOM-4711'); COMMIT",
            install(&newer)
        ))
        .await;
    admin
        .fails(&install(&older))
        .await
        .assert("28000", "license_not_verified");
    admin.run(&install(&newer)).await;
    // At once, in two sessions, again and again.
    let other = cluster.login("postgres").open_ok().await;
    for age in (10..30).rev() {
        let newest = token(age, 1);
        let (first, second) = (install(&newest), "SELECT license_uninstall('TOM-4711')");
        let (installed, uninstalled) =
            tokio::join!(admin.try_texts(&first), other.try_texts(second));
        assert!(installed.is_ok() && uninstalled.is_ok());
        let refused = admin.fails(&install(&newer)).await;
        refused.assert("28000", "license_not_verified");
        admin.run(&install(&newest)).await;
    }
    // A rollback takes nothing out of force.
    admin
        .run(&format!("BEGIN; {}; ROLLBACK", install(&token(5, 3))))
        .await;
    assert_eq!(
        cluster.sql("SELECT seats, status FROM license_usage"),
        "1|ok"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_lost_gives_no_seat_back() {
    let [centre, laptop] = [(); 2].map(|()| installation(Cluster::builder()));
    centre.install(&license(&centre, |_| ()));
    laptop.copy("postgres", "other");
    let token = centre.sql(&laptop.allotting(1));
    laptop.install(&token);
    let kept = centre.sql(&laptop.allotting(1));
    laptop.sql_in("other", &format!("SELECT license_install('{kept}')"));
    let receipt = laptop.sql("SELECT license_give_back('TOM')");
    centre.sql(&format!("SELECT license_accept_return('{receipt}')"));
    laptop
        .until_recorded(|record| record["licenses"].as_array().map(Vec::len) == Some(2))
        .await;
    let files = [RECORD, RECORD_COPY].map(|name| laptop.data_dir().join(name));
    let given_back =
        |record: Option<Value>| record.unwrap()["given_back"].as_object().unwrap().len();
    // One file of two is enough, and is mended.
    let mark = laptop.log().len();
    laptop.with_record_locked(|| fs::write(&files[0], "{").unwrap());
    laptop.reload();
    laptop.wait_log_since(mark, "its copy counts");
    eventually("it is whole", PATIENCE, async || laptop.record().is_some()).await;
    assert_eq!(given_back(laptop.record()), 1);
    for (db, seats) in [("other", "1"), ("postgres", "0")] {
        assert_eq!(laptop.sql_in(db, "SELECT seats FROM license_usage"), seats);
    }
    // Without both what was in force stays so, and no more is.
    let mark = laptop.log().len();
    laptop.with_record_locked(|| {
        for file in &files {
            fs::remove_file(file).unwrap();
        }
    });
    laptop.reload();
    laptop.wait_log_since(mark, "could not read what was recorded beside pg_seats.key");
    let alive = |db: &'static str| fill(&laptop, db);
    assert_eq!(alive("other").await.0.len(), 1);
    assert_eq!(alive("postgres").await.0.len(), 0);
    laptop.sql("UPDATE licenses SET seats = 1, purchased = 1");
    assert_eq!(alive("postgres").await.0.len(), 0);
    // After a start nobody knows.
    laptop.restart(Stop::Fast);
    for db in ["other", "postgres"] {
        let (users, reason) = fill(&laptop, db).await;
        assert_eq!(
            (users.len(), reason.as_str()),
            (0, "license_not_verified"),
            "{db}"
        );
        let admin = laptop.login("postgres").db(db).open_ok().await;
        admin
            .run("SELECT license_uninstall(license_id) FROM license_keys")
            .await;
        for token in [&token, &kept] {
            let refused = admin
                .fails(&format!("SELECT license_install('{token}')"))
                .await;
            refused.assert("58030", "");
        }
    }
    // At the centre, too, no seat comes back that is away.
    for file in [RECORD, RECORD_COPY] {
        fs::write(centre.data_dir().join(file), "").unwrap();
    }
    centre.restart(Stop::Fast);
    assert_eq!(admitted(&centre).await, (11, "license_full".to_owned()));
    let admin = centre.login("postgres").open_ok().await;
    admin.fails(&laptop.allotting(1)).await.assert("58030", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn seats_are_raised_to_what_is_left_here() {
    let [centre, laptop] = [(); 2].map(|()| installation(Cluster::builder()));
    centre.install(&license(&centre, |_| ()));
    let token = centre.sql(&laptop.allotting(3));
    centre.sql("UPDATE licenses SET seats = 5");
    let admin = centre.login("postgres").open_ok().await;
    for seats in [8, 10] {
        let refused = admin
            .fails(&format!("SELECT license_raise_seats('TOM', {seats})"))
            .await;
        refused.assert("22023", "");
        assert_eq!(
            (refused.message.as_str(), refused.detail.as_str()),
            (
                &*format!("cannot raise \"TOM\" to {seats} seats: 7 are left here"),
                "Of 10 seats 3 are with other installations."
            )
        );
    }
    admin
        .fails("SELECT license_raise_seats('TOM', 11)")
        .await
        .assert("22023", "");
    admin.run("SELECT license_raise_seats('TOM', 7)").await;
    assert_eq!(
        centre.sql("SELECT seats, status FROM license_usage"),
        "7|ok"
    );
    laptop.install(&token);
    let receipt = laptop.sql("SELECT license_give_back('TOM')");
    admin
        .run(&format!("SELECT license_accept_return('{receipt}')"))
        .await;
    assert_eq!(
        centre.sql("SELECT seats, status FROM license_usage"),
        "10|ok"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_joins_or_speaks_for_a_license() {
    let (aptora, rival) = (Vendor::aptora(), Vendor::new("https://rival.example", 2));
    let cluster = Cluster::builder().with_folder_of_keys();
    cluster.hire();
    cluster.write("vendors/aptora.example.json", &aptora.key_file_of_its_own());
    // The rival's file says that it is Aptora's.
    let mut file: Value = serde_json::from_str(&rival.key_file()).unwrap();
    file["iss"] = json!("https://aptora.example");
    cluster.write("vendors/rival.example.json", &file.to_string());
    for db in ["other", "group"] {
        cluster.sql(&format!("CREATE DATABASE \"{db}\""));
    }
    for db in ["postgres", "other", "group"] {
        cluster.sql_in(db, "CREATE EXTENSION pg_seats");
    }
    let in_aptoras_name = Vendor::new("https://aptora.example", 2).license(99);
    let admin = cluster.login("postgres").open_ok().await;
    let refused = admin
        .fails(&format!("SELECT license_install('{in_aptoras_name}')"))
        .await;
    refused.assert("28000", "license_not_verified");
    cluster.wait_log("rename it", PATIENCE);
    // A pool of this name is the license's own.
    let mut claims = aptora.claims(1);
    claims["products"][0]["pool"] = json!("group");
    let token = aptora.sign(&claims);
    cluster.install(&token);
    cluster.sql_in("other", &format!("SELECT license_install('{token}')"));
    cluster.sql_in(
        "group",
        "INSERT INTO licenses (product, seats, pool) VALUES ('TOM', 5, 'group')",
    );
    let (strangers, _) = fill(&cluster, "group").await;
    assert_eq!(strangers.len(), 5);
    let (own, _) = fill(&cluster, "postgres").await;
    assert_eq!((own.len(), fill(&cluster, "other").await.0.len()), (1, 0));
    drop((strangers, own));
    // Another issuer's license that is written past the function has no product of it.
    cluster.write("vendors/rival.example.json", &rival.key_file_of_its_own());
    let mut claims = rival.claims(99);
    claims["jti"] = json!("RIVAL-1");
    cluster.sql(&format!(
        "INSERT INTO license_keys (license_id, token) VALUES ('RIVAL-1', '{}')",
        rival.sign(&claims)
    ));
    cluster.reload();
    eventually("its products are Aptora's", PATIENCE, async || {
        cluster.sql("SELECT license_id, state, products FROM license_keys_status ORDER BY 1")
            == "RIVAL-1|superseded|[]\nTOM-4711|valid|[{\"pool\": \"group\", \"seats\": 1, \"product\": \"TOM\"}]"
    })
    .await;
    let ruling = "SELECT product, license_id FROM license_usage";
    assert_eq!(cluster.sql(ruling), "TOM|TOM-4711");
    assert_eq!(cluster.sql_in("group", ruling), "TOM|");
}
