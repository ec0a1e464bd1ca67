//! A server that a vendor and an accountant have set up: the extension, its licenses, the staff.

use super::wait::{PATIENCE, eventually};
use super::{Builder, Cluster};

/// The staff that every licensed server has as login roles.
pub const STAFF: [&str; 12] = [
    "anna", "bert", "carl", "dora", "emil", "fay", "gus", "hana", "ivan", "judy", "karl", "lena",
];

/// Returns the statement, in one line, that makes the staff login roles.
pub fn staff() -> String {
    let roles = STAFF.map(|role| format!("CREATE ROLE {role} LOGIN PASSWORD '{role}'; "));
    format!("DO $$BEGIN {}END$$", roles.concat())
}

fn license(columns: &str, values: &str) -> String {
    format!("INSERT INTO licenses (product, {columns}) VALUES ('TOM', {values})")
}

impl Builder {
    /// Starts the server with the extension and the staff, and this row of `licenses` in database
    /// `postgres`: columns and values, as in `"seats", "10"`. The product is "TOM".
    pub fn licensed(self, columns: &str, values: &str) -> Cluster {
        let cluster = self.staffed().start();
        cluster.sql(&license(columns, values));
        cluster
    }
}

impl Cluster {
    /// Makes the staff login roles.
    pub fn hire(&self) {
        self.sql(&staff());
    }

    /// Returns a server with the extension, the staff, and so many seats of "TOM" in database `postgres`.
    pub fn with_seats(seats: u32) -> Cluster {
        Cluster::builder().licensed("seats", &seats.to_string())
    }

    /// Creates the extension in a database where it is not there yet, and licenses "TOM".
    pub fn license(&self, datname: &str, columns: &str, values: &str) {
        let row = license(columns, values);
        self.sql_in(
            datname,
            &format!("CREATE EXTENSION IF NOT EXISTS pg_seats; {row}"),
        );
    }

    /// Returns seats of "TOM" in use, as `license_usage` of the database shows it.
    pub fn in_use_in(&self, datname: &str) -> i64 {
        self.sql_in(
            datname,
            "SELECT in_use FROM license_usage WHERE product = 'TOM'",
        )
        .parse()
        .expect("one row of license_usage")
    }

    /// Returns seats of "TOM" in use in database `postgres`.
    pub fn in_use(&self) -> i64 {
        self.in_use_in("postgres")
    }

    /// Returns the process of the extension's worker of this kind, "launcher" or "database worker", if one runs.
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
