//! A server that a vendor and an accountant have set up: the extension, its licenses, the staff.

use super::wait::{PATIENCE, eventually};
use super::{Builder, Cluster};

/// The staff that every licensed server has as login roles.
pub const STAFF: [&str; 12] = [
    "anna", "bert", "carl", "dora", "emil", "fay", "gus", "hana", "ivan", "judy", "karl", "lena",
];

impl Builder {
    /// Starts the server with the extension and the staff, and this row of `licenses` in database
    /// `postgres`: columns and values, as in `"seats", "10"`. The product is "TOM".
    pub fn licensed(self, columns: &str, values: &str) -> Cluster {
        let cluster = self.start();
        cluster.hire();
        cluster.license("postgres", columns, values);
        cluster
    }
}

impl Cluster {
    /// Makes the staff login roles.
    pub fn hire(&self) {
        for role in STAFF {
            self.sql(&format!("CREATE ROLE {role} LOGIN PASSWORD '{role}'"));
        }
    }

    /// A server with the extension, the staff, and so many seats of "TOM" in database `postgres`.
    pub fn with_seats(seats: u32) -> Cluster {
        Cluster::builder().licensed("seats", &seats.to_string())
    }

    /// Creates the extension in a database where it is not there yet, and licenses "TOM".
    pub fn license(&self, datname: &str, columns: &str, values: &str) {
        self.sql_in(datname, "CREATE EXTENSION IF NOT EXISTS pg_seats");
        self.sql_in(
            datname,
            &format!("INSERT INTO licenses (product, {columns}) VALUES ('TOM', {values})"),
        );
    }

    /// Seats of "TOM" in use, as `license_usage` of the database shows it.
    pub fn in_use_in(&self, datname: &str) -> i64 {
        self.sql_in(
            datname,
            "SELECT in_use FROM license_usage WHERE product = 'TOM'",
        )
        .parse()
        .expect("one row of license_usage")
    }

    /// Seats of "TOM" in use in database `postgres`.
    pub fn in_use(&self) -> i64 {
        self.in_use_in("postgres")
    }

    /// The process of the extension's worker of this kind, "launcher" or "visitor", if one runs.
    pub fn worker(&self, kind: &str) -> Option<i32> {
        let pid =
            format!("SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_seats {kind}'");
        self.sql(&pid).parse().ok()
    }

    /// Waits until the launcher runs; its process.
    pub async fn launcher(&self) -> i32 {
        self.launcher_after(0).await
    }

    /// Waits until another launcher runs than this one that has ended; its process.
    pub async fn launcher_after(&self, former: i32) -> i32 {
        let mut found = former;
        eventually("the launcher runs", PATIENCE, async || {
            found = self.worker("launcher").unwrap_or(former);
            found != former
        })
        .await;
        found
    }
}
