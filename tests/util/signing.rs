//! Servers with a signed license.

use super::*;
use serde_json::json;

/// Returns a server with a license of so many seats.
pub fn licensed(seats: i32) -> (Vendor, Cluster) {
    let vendor = Vendor::aptora();
    let cluster = Cluster::builder().with_key_of(&vendor);
    cluster.install(&vendor.license(seats));
    (vendor, cluster)
}

/// Returns what it shows of its licenses.
pub fn state(cluster: &Cluster) -> String {
    cluster.sql("SELECT state FROM license_keys_status")
}
