//! Whether somebody gets in, and how seats are used.

use super::*;
use std::sync::atomic::{AtomicU32, Ordering};

/// Returns a computer that no login came from before.
pub fn new_host() -> String {
    static USED: AtomicU32 = AtomicU32::new(0);
    let number = USED.fetch_add(1, Ordering::Relaxed);
    format!("127.7.{}.{}", number / 250, number % 250 + 1)
}

pub fn usage(cluster: &Cluster) -> String {
    cluster.sql("SELECT seats, in_use, status FROM license_usage")
}

/// Tells whether a newcomer from a new computer gets in; nothing but the lack of a seat may stop them.
pub async fn admits_to(cluster: &Cluster, db: &str) -> bool {
    let login = cluster.login("lena").db(db).from(&new_host());
    let Err(denied) = login.open().await else {
        return true;
    };
    denied.assert("53300", "license_full");
    false
}

pub async fn admits(cluster: &Cluster) -> bool {
    admits_to(cluster, "postgres").await
}

/// Runs each statement in turn as the superuser, and checks after each whether newcomers get in.
pub async fn expect_after_each(cluster: &Cluster, steps: &[(&str, bool)]) {
    for (sql, admitted) in steps {
        cluster.sql(sql);
        assert_eq!(admits(cluster).await, *admitted, "after {sql}");
    }
}
