//! Leases of an application.

use super::*;

/// Lets these roles take, extend and end leases.
pub const GRANT: &str =
    "GRANT EXECUTE ON FUNCTION license_lease, license_heartbeat, license_release TO ";

/// What is left of leases: seats in use, rows of the view, rows of the table.
const LEFT: &str = "SELECT (SELECT in_use FROM license_usage WHERE product = 'TOM'),
    (SELECT count(*) FROM license_active_seats), (SELECT count(*) FROM license_leases)";

/// Returns a server where only applications claim "TOM", and anna and bert may take leases.
pub fn with_leases(builder: Builder, seats: u32) -> Cluster {
    let cluster = builder.licensed("seats, claimed_at", &format!("{seats}, 'checkout'"));
    cluster.sql(&format!("{GRANT} anna, bert"));
    cluster
}

/// Returns seats in use, rows of `license_active_seats` and of `license_leases`.
pub fn left(cluster: &Cluster) -> String {
    cluster.sql(LEFT)
}

/// Returns an application's connection.
pub async fn app(cluster: &Cluster, role: &str) -> Session {
    cluster.login(role).from("127.0.1.1").open_ok().await
}

/// Takes a lease of five minutes for this user at 10.0.0.1; its id.
pub async fn lease(app: &Session, user: &str) -> String {
    lease_for(app, user, "5 minutes").await
}

/// Takes a lease for this user at 10.0.0.1 that lives so long; its id.
pub async fn lease_for(app: &Session, user: &str, ttl: &str) -> String {
    let lease = format!("SELECT lease_id FROM license_lease('{user}', '10.0.0.1', ttl => '{ttl}')");
    app.text(&lease).await
}

/// Sends a lease's heartbeat; whether it is still there.
pub async fn beats(app: &Session, id: &str) -> bool {
    let heartbeat = format!("SELECT license_heartbeat('{id}') IS NOT NULL");
    app.text(&heartbeat).await == "t"
}

/// Ends a lease; whether it was still there.
pub async fn release(app: &Session, id: &str) -> bool {
    app.text(&format!("SELECT license_release('{id}')")).await == "t"
}

/// Waits until the server has come to a standstill of so many seats and rows.
pub async fn settles(cluster: &Cluster, what: &str, expected: &str) {
    eventually(what, PATIENCE, async || left(cluster) == expected).await;
}
