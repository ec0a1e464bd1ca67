//! Signed licenses: what was signed is in force, whatever the tables claim.

use serde_json::json;

use crate::util::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_license_is_in_force_once_it_is_installed() {
    let (_, cluster) = licensed(1);
    assert_eq!(
        cluster.sql("SELECT product, seats, purchased, valid_until > now() + interval '364 days' FROM licenses"),
        "TOM|1|1|t"
    );
    let anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
    assert!(!admits(&cluster).await);
    assert_eq!(usage(&cluster), "1|1|full");
    assert_eq!(
        anna.text("SELECT license_id, issuer, customer, products, days_left, state, token IS NOT NULL FROM license_keys_status")
            .await,
        r#"TOM-4711|https://aptora.example|Miller Plumbing|[{"seats": 1, "product": "TOM"}]|364|valid|t"#
    );
    anna.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_that_is_rolled_back_has_no_effect() {
    let vendor = Vendor::aptora();
    let cluster = Cluster::builder().with_key_of(&vendor);
    let admin = cluster.login("postgres").open_ok().await;
    let install = format!("SELECT license_install('{}')", vendor.license(0));
    admin.run(&format!("BEGIN; {install}")).await;
    assert!(admits(&cluster).await);
    admin.run("ROLLBACK").await;
    assert!(admits(&cluster).await);
    assert_eq!(cluster.sql("SELECT * FROM license_keys_status"), "");
    admin.run(&install).await;
    assert!(!admits(&cluster).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_license_writes_what_it_says_and_leaves_the_rest() {
    let vendor = Vendor::aptora();
    let cluster = Cluster::builder().with_key_of(&vendor);
    cluster.sql(
        "INSERT INTO licenses (product, seats, linger, warn_at_percent, overdraft, counted_by, claimed_at)
         VALUES ('TOM', 4, '1 min', 50, 3, 'user', 'login'), ('Report', 50, '0', 90, 0, 'user_host', 'checkout')",
    );
    let mut claims = vendor.claims(json!(null));
    claims["products"] = json!([
        {"product": "TOM", "seats": 10, "counted_by": "host", "grace": "3 days", "idle_timeout": "1 h"},
        {"product": "Report", "seats": 5, "claimed_at": "checkout"},
        {"product": "Scan", "seats": null, "claimed_at": "checkout", "valid_until": "2126-01-01 00:00+00"},
    ]);
    cluster.install(&vendor.sign(&claims));
    // An assignment stays, cut to what was bought; what widens use is what was signed, or the default.
    assert_eq!(
        cluster.sql(
            "SELECT product, seats, purchased, counted_by, claimed_at, overdraft, grace, linger, idle_timeout, warn_at_percent
               FROM licenses ORDER BY product"
        ),
        "Report|5|5|user_host|checkout|0|00:00:00|00:00:00||90\n\
         Scan|||user_host|checkout|0|00:00:00|00:00:00||90\n\
         TOM|4|10|host|login|0|3 days|00:01:00|01:00:00|50"
    );
    assert_eq!(
        cluster.sql("SELECT count(*) FROM license_usage WHERE status = 'tampered'"),
        "0"
    );
    // The end is the earlier one.
    assert_eq!(
        cluster.sql(
            "SELECT count(DISTINCT l.valid_until) FROM licenses l, license_keys_status k
              WHERE l.valid_until = k.valid_until"
        ),
        "1"
    );
    cluster.sql("SELECT license_raise_seats('TOM', 10)");
    let refused = cluster.login("postgres").open_ok().await;
    refused
        .fails("SELECT license_raise_seats('TOM', 11)")
        .await
        .assert("22023", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_claims_more_gains_nothing_and_shows() {
    let (_, cluster) = licensed(1);
    let anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
    let claim = |claim: &str| cluster.sql(&format!("UPDATE licenses SET {claim}"));
    let (seats, until) = (
        "seats = 1, purchased = 1",
        "valid_until = valid_until - interval '9 years'",
    );
    for (more, back) in [
        ("seats = 99, purchased = 99", seats),
        ("seats = NULL, purchased = NULL", seats),
        ("purchased = NULL", seats),
        ("overdraft = 5", "overdraft = 0"),
        ("enforcement = 'off'", "enforcement = 'on'"),
        ("enforcement = 'warn'", "enforcement = 'on'"),
        ("claimed_at = 'checkout'", "claimed_at = 'login'"),
        ("application_name = 'x%'", "application_name = NULL"),
        ("pool = 'x'", "pool = NULL"),
        ("valid_until = valid_until + interval '9 years'", until),
        (
            "valid_from = NULL",
            "valid_from = to_timestamp(trunc(extract(epoch FROM now())))",
        ),
        ("grace = '1 day'", "grace = '0'"),
        ("counted_by = 'user'", "counted_by = 'user_host'"),
        ("counted_by = 'host'", "counted_by = 'user_host'"),
    ] {
        claim(more);
        assert!(!admits(&cluster).await, "{more}");
        assert_eq!(usage(&cluster), "1|1|tampered", "{more}");
        claim(back);
        assert!(!admits(&cluster).await, "{back}");
        assert_eq!(usage(&cluster), "1|1|full", "{back}");
    }
    // It may be less.
    for less in ["seats = 0", "counted_by = 'session'", "valid_from = now()"] {
        claim(less);
        assert!(
            !cluster
                .sql("SELECT status FROM license_usage")
                .contains("tampered"),
            "{less}"
        );
    }
    drop(anna);
}

#[tokio::test(flavor = "multi_thread")]
async fn tampering_is_told_once_in_the_trail_the_log_and_to_who_listens() {
    let (_, cluster) = licensed(5);
    let trail = Trail::at(cluster).await;
    let listener = trail.cluster.login("postgres").open_ok().await;
    listener.run("LISTEN pg_seats").await;
    let tampered = "SELECT product || ' ' || (detail ->> 'claimed') FROM license_events WHERE event = 'tampering'";
    trail
        .admin
        .run("UPDATE licenses SET seats = 99, purchased = 99, overdraft = 1")
        .await;
    assert!(admits(&trail.cluster).await);
    assert!(admits(&trail.cluster).await);
    trail
        .shows(tampered, r#"TOM ["seats", "purchased", "overdraft"]"#)
        .await;
    trail
        .cluster
        .wait_log("claims more than was signed", PATIENCE);
    assert_eq!(
        notified(&listener, 1).await,
        [r#"{"event":"tampering","product":"TOM"}"#]
    );
    // In force is what was signed.
    let seats = trail
        .admin
        .text("SELECT seats, purchased FROM license_usage")
        .await;
    assert_eq!(seats, "5|5");
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_rows_gains_nothing_and_an_application_can_tell() {
    let (_, cluster) = licensed(1);
    let checkout = "SELECT * FROM license_checkout('TOM')";
    let anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
    anna.run(checkout).await;
    // Once the installation knows of it.
    cluster
        .until_recorded(|record| record["licenses"][0]["is_verified"] == true)
        .await;
    for delete in ["DELETE FROM licenses", "TRUNCATE licenses"] {
        cluster.sql(delete);
        assert!(!admits(&cluster).await, "{delete}");
        assert_eq!(usage(&cluster), "1|1|tampered", "{delete}");
        anna.fails(checkout).await.assert("42704", "");
        anna.fails("SELECT * FROM license_checkout()")
            .await
            .assert("42704", "");
        cluster.sql(
            "INSERT INTO licenses (product, seats, purchased, valid_from, valid_until)
                     SELECT 'TOM', 1, 1, valid_from, valid_until FROM license_keys_status",
        );
        anna.run(checkout).await;
        assert_eq!(usage(&cluster), "1|1|full", "{delete}");
    }
    let mut anna = Some(anna);
    for delete in [
        "DELETE FROM license_keys",
        "TRUNCATE license_keys",
        "UPDATE license_keys SET token = 'nonsense'",
        "UPDATE license_keys SET license_id = 'another', token = 'nonsense'",
    ] {
        cluster.sql(&format!(
            "{delete}; UPDATE licenses SET seats = 9, purchased = 9"
        ));
        assert!(!admits(&cluster).await, "{delete}");
        assert_eq!(usage(&cluster), "1|1|tampered", "{delete}");
        assert!(state(&cluster).contains("tampered"), "{delete}");
        cluster.restart(Stop::Fast);
        anna.replace(cluster.login("anna").from("127.0.1.1").open_ok().await);
        assert!(!admits(&cluster).await, "{delete}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_token_is_refused_and_a_newer_one_replaces_it() {
    let (vendor, cluster) = licensed(1);
    let admin = cluster.login("postgres").open_ok().await;
    let with = |iat: i64, seats: i32| {
        let mut claims = vendor.claims(seats);
        claims["iat"] = (unix_now() + iat).into();
        vendor.sign(&claims)
    };
    let older = admin
        .fails(&format!("SELECT license_install('{}')", with(-3600, 99)))
        .await;
    older.assert("28000", "license_not_verified");
    assert_ne!(older.hint, "");
    cluster.install(&with(0, 3));
    assert_eq!(
        cluster.sql("SELECT seats, purchased FROM license_usage"),
        "1|3"
    );
    // Whoever writes an older one into the table gains nothing.
    let newer = cluster.sql("SELECT token FROM license_keys");
    cluster
        .until_recorded(|record| record["licenses"][0]["token"] == *newer)
        .await;
    cluster.sql(&format!(
        "UPDATE license_keys SET token = '{}'; UPDATE licenses SET seats = 99, purchased = 99",
        with(-3600, 99)
    ));
    assert_eq!(
        cluster.sql("SELECT seats, purchased FROM license_usage"),
        "3|3"
    );
    cluster.sql("UPDATE licenses SET seats = 1, purchased = 3");
    // The same one again changes nothing.
    let same = with(10, 2);
    cluster.install(&same);
    cluster.install(&same);
    assert_eq!(
        cluster.sql("SELECT seats, purchased FROM license_usage"),
        "1|2"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_uninstalled_is_in_force_no_longer() {
    let (vendor, cluster) = licensed(0);
    assert!(!admits(&cluster).await);
    assert_eq!(cluster.sql("SELECT license_uninstall('nothing')"), "f");
    assert_eq!(cluster.sql("SELECT license_uninstall('TOM-4711')"), "t");
    assert_eq!(cluster.sql("SELECT license_uninstall('TOM-4711')"), "f");
    assert!(admits(&cluster).await);
    assert_eq!(cluster.sql("SELECT * FROM licenses"), "");
    assert_eq!(cluster.sql("SELECT * FROM license_keys_status"), "");
    cluster.restart(Stop::Fast);
    assert!(admits(&cluster).await);
    cluster.install(&vendor.license(0));
    assert!(!admits(&cluster).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_product_stays_with_its_first_issuer_and_a_key_speaks_for_its_own() {
    let (aptora, rival) = (Vendor::aptora(), Vendor::new("https://rival.example", 2));
    let cluster = Cluster::builder().with_folder_of_keys();
    cluster.hire();
    cluster.sql("CREATE EXTENSION pg_seats");
    for vendor in [&aptora, &rival] {
        cluster.write(
            &format!("vendors/{}.json", vendor.host()),
            &vendor.key_file_of_its_own(),
        );
    }
    cluster.install(&aptora.license(1));
    let admin = cluster.login("postgres").open_ok().await;
    let mut claims = rival.claims(99);
    claims["jti"] = json!("RIVAL-1");
    let taken = admin
        .fails(&format!(
            "SELECT license_install('{}')",
            rival.sign(&claims)
        ))
        .await;
    taken.assert("22023", "");
    assert!(taken.message.contains("TOM-4711"), "{taken:?}");
    // In the name of another vendor.
    let forged = rival.sign(&aptora.claims(99));
    let forged = admin
        .fails(&format!("SELECT license_install('{forged}')"))
        .await;
    forged.assert("28000", "license_not_verified");
    claims["products"] = json!([{"product": "Rival", "seats": 2, "claimed_at": "checkout"}]);
    cluster.install(&rival.sign(&claims));
    assert_eq!(
        cluster.sql("SELECT product, seats FROM license_usage ORDER BY product"),
        "Rival|2\nTOM|1"
    );
    // Written past the function, it gains nothing either.
    claims["products"] = json!([{"product": "TOM", "seats": 99}]);
    claims["iat"] = (unix_now() + 60).into();
    cluster.sql(&format!(
        "UPDATE license_keys SET token = '{}' WHERE license_id = 'RIVAL-1'",
        rival.sign(&claims)
    ));
    let _anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
    assert!(!admits(&cluster).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_products_are_not_claimed_by_the_same_logins() {
    let vendor = Vendor::aptora();
    let cluster = Cluster::builder().with_key_of(&vendor);
    cluster.sql("INSERT INTO licenses (product, seats) VALUES ('Another', 7)");
    let admin = cluster.login("postgres").open_ok().await;
    let install = format!("SELECT license_install('{}')", vendor.license(0));
    let refused = admin.fails(&install).await;
    refused.assert("22023", "");
    assert!(refused.hint.contains("vendor"), "{refused:?}");
    assert_eq!(cluster.sql("SELECT product FROM licenses"), "Another");
    assert_eq!(cluster.sql("SELECT count(*) FROM license_keys"), "0");
    assert!(admits(&cluster).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn vendors_change_their_keys_without_a_restart() {
    let (old, new) = (Vendor::aptora(), Vendor::new("https://aptora.example", 9));
    let cluster = Cluster::builder().with_key_of(&old);
    cluster.install(&old.license(1));
    let mut claims = new.claims(2);
    claims["iat"] = unix_now().into();
    let renewed = new.sign(&claims);
    let admin = cluster.login("postgres").open_ok().await;
    let install = format!("SELECT license_install('{renewed}')");
    admin
        .fails(&install)
        .await
        .assert("28000", "license_not_verified");
    let both = json!({"keys": [old.jwk(), new.jwk()]});
    cluster.write("vendor.json", &both.to_string());
    admin.run(&install).await;
    cluster.write("vendor.json", &new.key_file());
    cluster.sql("SELECT pg_reload_conf()");
    assert_eq!(state(&cluster), "valid");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_restored_on_the_same_server_counts_with_the_original() {
    let (_, cluster) = licensed(2);
    let dump = cluster.program("pg_dump", &[]).ok();
    cluster.restore("restored", &dump);
    cluster.copy("restored", "copy");
    let mut users = Vec::new();
    for (db, host) in [
        ("postgres", "127.0.1.1"),
        ("restored", "127.0.1.1"),
        ("copy", "127.0.1.2"),
    ] {
        users.push(cluster.login("anna").db(db).from(host).open_ok().await);
    }
    for db in ["postgres", "restored", "copy"] {
        assert!(!admits_to(&cluster, db).await, "{db}");
        let usage = cluster.sql_in(db, "SELECT seats, in_use, status FROM license_usage");
        assert_eq!(usage, "2|2|full", "{db}");
    }
    // Each keeps to its own seats.
    cluster.sql_in("copy", "SELECT license_reduce_seats('TOM', 1)");
    users.remove(0).close().await;
    users.remove(0).close().await;
    eventually("they are out", PATIENCE, async || cluster.in_use() == 1).await;
    assert!(!admits_to(&cluster, "copy").await);
    assert!(admits_to(&cluster, "restored").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_in_at_the_end_stay_and_new_ones_are_refused() {
    let vendor = Vendor::aptora();
    let cluster = Cluster::builder().with_key_of(&vendor);
    let mut claims = vendor.claims(5);
    claims["exp"] = (unix_now() + 15).into();
    cluster.install(&vendor.sign(&claims));
    let anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
    eventually("it has ended", 2 * PATIENCE, async || {
        cluster.sql("SELECT status FROM license_usage") == "expired"
    })
    .await;
    let denied = cluster.login("bert").from(&new_host()).denied().await;
    denied.assert("28000", "license_expired");
    assert_eq!(anna.val::<i32>("SELECT 1").await, 1);
    assert_eq!(state(&cluster), "expired");
    let admin = cluster.login("postgres").open_ok().await;
    let ended = format!("SELECT license_install('{}')", vendor.sign(&claims));
    admin
        .fails(&ended)
        .await
        .assert("28000", "license_not_verified");
    // A grace that was signed is granted.
    let mut renewed = vendor.claims(5);
    renewed["iat"] = unix_now().into();
    renewed["exp"] = (unix_now() + 15).into();
    renewed["products"][0]["grace"] = json!("1 day");
    cluster.install(&vendor.sign(&renewed));
    eventually("it is in its grace", 2 * PATIENCE, async || {
        cluster.sql("SELECT status FROM license_usage") == "grace"
    })
    .await;
    assert!(admits(&cluster).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_signed_license_is_warned_of() {
    let vendor = Vendor::aptora();
    let trail = Trail::at(Cluster::builder().with_key_of(&vendor)).await;
    let warned = "SELECT string_agg(detail ->> 'days', ' ' ORDER BY at) FROM license_events
                   WHERE event = 'warning' AND detail ->> 'level' = 'ending'";
    let mut expected = Vec::new();
    for (iat, days) in (0..).zip([30, 14, 7, 1]) {
        let mut claims = vendor.claims(5);
        claims["iat"] = (unix_now() - 3600 + iat * 60).into();
        claims["exp"] = (unix_now() + days * DAY - 60).into();
        trail.cluster.install(&vendor.sign(&claims));
        expected.push(days.to_string());
        trail.shows(warned, &expected.join(" ")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_token_comes_back_by_no_way() {
    let (vendor, cluster) = licensed(1);
    let mut claims = vendor.claims(99);
    claims["iat"] = (unix_now() - 3600).into();
    let older = vendor.sign(&claims);
    let _anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
    // Under another key than the newest one, which is gone.
    let new = Vendor::new("https://aptora.example", 9);
    cluster.write(
        "vendor.json",
        &json!({"keys": [vendor.jwk(), new.jwk()]}).to_string(),
    );
    claims["iat"] = unix_now().into();
    claims["products"][0]["seats"] = json!(1);
    cluster.install(&new.sign(&claims));
    let newest = cluster.sql("SELECT token FROM license_keys");
    cluster
        .until_recorded(|record| record["licenses"][0]["token"] == *newest)
        .await;
    cluster.write("vendor.json", &vendor.key_file());
    cluster.sql(&format!("UPDATE license_keys SET token = '{older}'"));
    cluster.sql("UPDATE licenses SET seats = 99, purchased = 99");
    assert!(!admits(&cluster).await);
    assert_eq!(cluster.sql("SELECT seats FROM license_usage"), "1");
    // Under another name, beside the license or once that is uninstalled.
    let alias =
        format!("INSERT INTO license_keys (license_id, token) VALUES ('another', '{older}')");
    cluster.sql(&alias);
    assert!(!admits(&cluster).await);
    assert!(state(&cluster).contains("invalid"));
    cluster.sql("SELECT license_uninstall('TOM-4711')");
    assert_eq!(state(&cluster), "invalid");
    assert_eq!(cluster.sql("SELECT count(*) FROM license_usage"), "0");
}
