//! Signed licenses: what was signed is in force, whatever the tables claim.


use crate::changes::{admits, usage};
use crate::util::*;

fn licensed(seats: i32) -> (Vendor, Cluster) {
    let vendor = Vendor::aptora();
    let cluster = Cluster::builder().with_key_of(&vendor);
    cluster.install(&vendor.license(seats));
    (vendor, cluster)
}

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
    anna.close().await;
    assert_eq!(
        cluster
            .sql("SELECT license_id, issuer, customer, days_left, state FROM license_keys_status"),
        "TOM-4711|https://aptora.example|Miller Plumbing|364|valid"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_claims_more_gains_nothing_and_shows() {
    let (_, cluster) = licensed(1);
    let anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
    let claim = |claim: &str| cluster.sql(&format!("UPDATE licenses SET {claim}"));
    for (more, back) in [
        ("seats = 99, purchased = 99", "seats = 1, purchased = 1"),
        ("overdraft = 5", "overdraft = 0"),
        ("enforcement = 'off'", "enforcement = 'on'"),
        ("claimed_at = 'checkout'", "claimed_at = 'login'"),
        ("application_name = 'x%'", "application_name = NULL"),
        ("pool = 'x'", "pool = NULL"),
    ] {
        claim(more);
        assert!(!admits(&cluster).await, "{more}");
        assert_eq!(usage(&cluster), "1|1|tampered", "{more}");
        claim(back);
        assert!(!admits(&cluster).await, "{back}");
        assert_eq!(usage(&cluster), "1|1|full", "{back}");
    }
    cluster.sql("DELETE FROM licenses");
    assert!(!admits(&cluster).await);
    assert_eq!(usage(&cluster), "1|1|tampered");
    drop(anna);
}
