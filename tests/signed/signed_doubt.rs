//! Signed licenses that can't be verified, or are made for another server: they are believed for a time, once
//! and loudly.

use std::fs;

use serde_json::{Value, json};

use crate::util::*;

/// Returns so many days ago, as the record has it.
fn days_ago(days: i64) -> i64 {
    (unix_now() - days * DAY - 946_684_800) * 1_000_000
}

async fn assert_not_verified(cluster: &Cluster) {
    let host = new_host();
    eventually("nobody gets in", PATIENCE, async || {
        match cluster.login("bert").from(&host).open().await {
            Ok(session) => {
                session.close().await;
                false
            }
            Err(denied) => {
                denied.assert("28000", "license_not_verified");
                assert_ne!(denied.hint, "");
                true
            }
        }
    })
    .await;
    // Administrators always do.
    cluster.login("postgres").open_ok().await;
    assert_eq!(cluster.sql("SELECT status FROM license_usage"), "tampered");
}

async fn becomes(cluster: &Cluster, expected: &str) {
    let what = format!("it is {expected}");
    eventually(&what, PATIENCE, async || state(cluster) == expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_license_whose_key_is_gone_is_believed_for_the_key_grace_and_no_longer() {
    let (vendor, cluster) = licensed(5);
    let trail = Trail::at(cluster).await;
    let cluster = &trail.cluster;
    for gone in [
        json!({"keys": []}).to_string(),
        "{".to_owned(),
        Vendor::new("https://aptora.example", 3).key_file(),
    ] {
        cluster.write("vendor.json", &gone);
        cluster.sql("SELECT pg_reload_conf()");
        becomes(cluster, "unverified").await;
        let since = |record: &Value| record["licenses"][0]["unverified_since"].clone();
        cluster
            .until_recorded(|record| since(record).is_number())
            .await;
        assert!(admits(cluster).await);
        assert_eq!(
            cluster.sql("SELECT believed_until - clock_timestamp() BETWEEN '6 days 23 h' AND '7 days' FROM license_keys_status"),
            "t"
        );
        cluster.write("vendor.json", &vendor.key_file());
        cluster.sql("SELECT pg_reload_conf()");
        becomes(cluster, "valid").await;
        cluster
            .until_recorded(|record| since(record).is_null())
            .await;
    }
    trail
        .shows(
            "SELECT count(*) > 0 FROM license_events WHERE event = 'license in doubt'
                AND detail ->> 'license_id' = 'TOM-4711' AND detail ->> 'state' = 'unverified'",
            "t",
        )
        .await;
    cluster.wait_log(
        "license \"TOM-4711\" can't be verified: it is believed until",
        PATIENCE,
    );
    let mark = cluster.log().len();
    fs::remove_file(cluster.data_dir().join("vendor.json")).unwrap();
    cluster.sql("SELECT pg_reload_conf()");
    becomes(cluster, "unverified").await;
    cluster.wait_log_since(mark, "could not read vendor keys from vendor.json");
    cluster.edit_record(|record| {
        record["licenses"][0]["unverified_since"] = json!(days_ago(8));
    });
    assert_not_verified(cluster).await;
    // A restart, a deletion or the same token again begins no second grace.
    cluster.restart(Stop::Fast);
    assert_not_verified(cluster).await;
    cluster.sql("UPDATE license_keys SET installed_at = now()");
    assert_not_verified(cluster).await;
    cluster.write("vendor.json", &vendor.key_file());
    cluster.sql("SELECT pg_reload_conf()");
    eventually("it is verified", PATIENCE, async || {
        cluster.login("bert").from(&new_host()).open().await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_grace_a_license_whose_key_is_gone_counts_no_more() {
    let vendor = Vendor::aptora();
    let cluster = Cluster::builder()
        .conf("pg_seats.key_grace", 0)
        .with_key_of(&vendor);
    cluster.install(&vendor.license(5));
    assert!(admits(&cluster).await);
    cluster.write("vendor.json", "");
    cluster.sql("SELECT pg_reload_conf()");
    assert_not_verified(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_license_copied_to_another_server_lasts_the_key_grace_once() {
    let vendor = Vendor::aptora();
    let own = Cluster::builder().with_key_of(&vendor);
    own.install(&vendor.license_for(&own, 2));
    let dump = own.program("pg_dump", &[]).ok();
    let other = Cluster::builder().with_key_of(&vendor);
    other.sql("DROP EXTENSION pg_seats");
    other.load("postgres", &dump);
    assert_eq!(state(&other), "other installation");
    let anna = other.login("anna").from("127.0.1.1").open_ok().await;
    let bert = other.login("bert").from("127.0.1.2").open_ok().await;
    assert!(!admits(&other).await);
    other.wait_log(
        "license \"TOM-4711\" is made for another installation: it is believed until",
        PATIENCE,
    );
    // Once, however often it is looked at.
    other.reload();
    other
        .until_recorded(|record| record["licenses"][0]["elsewhere_since"].is_number())
        .await;
    anna.close().await;
    bert.close().await;
    eventually("they are out", PATIENCE, async || other.in_use() == 0).await;
    other.edit_record(|record| {
        record["licenses"][0]["elsewhere_since"] = json!(days_ago(8));
    });
    assert_not_verified(&other).await;
    // Nor has a younger token for the first server a grace of its own.
    let mut claims = vendor.claims(9);
    claims["iat"] = unix_now().into();
    claims["cnf"] = json!({"jkt": own.installation()});
    let younger = vendor.sign(&claims);
    other.sql(&format!("UPDATE license_keys SET token = '{younger}'"));
    assert_not_verified(&other).await;
    let admin = other.login("postgres").open_ok().await;
    let install = |token: &str| format!("SELECT license_install('{token}')");
    admin
        .fails(&install(&younger))
        .await
        .assert("28000", "license_not_verified");
    claims["iat"] = (unix_now() + 1).into();
    claims["cnf"] = json!({"jkt": other.installation()});
    admin.run(&install(&vendor.sign(&claims))).await;
    assert!(admits(&other).await);
    assert_eq!(state(&other), "valid");
    let log = other.log();
    assert_eq!(
        log.matches("is made for another installation").count(),
        1,
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sets_the_clock_back_gains_no_time() {
    let (_, cluster) = licensed(5);
    cluster
        .until_recorded(|record| record["licenses"][0]["is_verified"] == true)
        .await;
    // As if the server had seen a time after the license's end.
    cluster.edit_record(|record| {
        assert!(record["latest"].as_i64() > Some(days_ago(1)), "{record}");
        record["latest"] = json!(days_ago(-400));
    });
    // Nobody notices what is written by hand, until the licenses are read again.
    cluster.sql("SELECT pg_reload_conf()");
    eventually("it has expired", PATIENCE, async || {
        cluster.sql("SELECT status FROM license_usage") == "expired"
    })
    .await;
    let denied = cluster.login("bert").from(&new_host()).denied().await;
    denied.assert("28000", "license_expired");
    assert_eq!(state(&cluster), "expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_installation_key_is_made_once_and_never_leaves_the_server() {
    let cluster = Cluster::builder().with_key_of(&Vendor::aptora());
    let path = cluster.data_dir().join("pg_seats.key");
    let key: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let public: Value =
        serde_json::from_str(&cluster.sql("SELECT license_installation()")).unwrap();
    assert_eq!(public["x"], key["x"]);
    assert_eq!(public["d"], Value::Null);
    let id = cluster.installation();
    for stop in [Stop::Fast, Stop::Immediate] {
        cluster.restart(stop);
        assert_eq!(cluster.installation(), id);
    }
    cluster.install(&Vendor::aptora().license_for(&cluster, 5));
    let dump = cluster.program("pg_dump", &[]).ok();
    assert!(!dump.contains(key["d"].as_str().unwrap()));
    // A key of one's own place.
    cluster.append_conf("pg_seats.installation_key = 'elsewhere.key'\n");
    cluster.restart(Stop::Fast);
    assert_ne!(cluster.installation(), id);
    becomes(&cluster, "other installation").await;
    // One that is damaged is not replaced, and what depends on it says so.
    fs::write(cluster.data_dir().join("elsewhere.key"), "{}").unwrap();
    cluster.restart(Stop::Fast);
    let admin = cluster.login("postgres").open_ok().await;
    let failed = admin.fails("SELECT license_installation()").await;
    failed.assert("55000", "");
    assert!(admits(&cluster).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_damaged_locks_nobody_out() {
    let vendor = Vendor::aptora();
    let cluster = Cluster::builder().with_key_of(&vendor);
    cluster.install(&vendor.license_for(&cluster, 2));
    cluster
        .until_recorded(|record| record["licenses"][0]["is_verified"] == true)
        .await;
    cluster.stop(Stop::Fast);
    for file in [RECORD, RECORD_COPY] {
        fs::write(cluster.data_dir().join(file), "{").unwrap();
    }
    cluster.start_again();
    let _anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
    let laptop = Cluster::builder().with_key_of(&vendor);
    cluster.wait_log(
        "could not read what was recorded beside pg_seats.key",
        PATIENCE,
    );
    let admin = cluster.login("postgres").open_ok().await;
    let refused = admin.fails(&laptop.allotting(1)).await;
    refused.assert("58030", "");
    assert!(refused.message.contains("record"), "{refused:?}");
    let _bert = cluster.login("bert").from("127.0.1.2").open_ok().await;
    assert!(!admits(&cluster).await);
}
