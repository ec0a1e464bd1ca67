//! An office whose sessions are stopped.

use super::*;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// How long `license_terminate` waits for those whom it ends.
pub const TEN_SECONDS: Duration = Duration::from_secs(10);

/// A desk, and Lena of the support, who may stop sessions and nothing else.
pub struct Office {
    desk: Desk,
    pub lena: Session,
}

impl Deref for Office {
    type Target = Desk;

    fn deref(&self) -> &Desk {
        &self.desk
    }
}

impl Office {
    pub async fn with_seats(seats: u32) -> Self {
        Self::of(Cluster::with_seats(seats)).await
    }

    /// Opens an office with so many seats that only applications claim; Anna and Bert may take leases.
    pub async fn with_checkouts(seats: u32) -> Self {
        let cluster = with_leases(Cluster::builder(), seats);
        Self::of(cluster).await
    }

    /// Waits until the audit trail has one stop for this reason, as it stands between quotes in SQL.
    pub async fn trail_tells(&self, reason: &str) {
        let told = format!(
            "SELECT count(*) FROM license_events
              WHERE event = 'termination' AND detail ->> 'reason' = '{reason}'"
        );
        eventually("the audit trail tells why", PATIENCE, async || {
            self.admin.val::<i64>(&told).await == 1
        })
        .await;
    }

    pub async fn of(cluster: Cluster) -> Self {
        let desk = Desk::of(cluster).await;
        desk.admin
            .run("GRANT EXECUTE ON FUNCTION license_terminate TO lena")
            .await;
        let lena = desk.at("lena", "127.0.2.1").open_ok().await;
        Self { desk, lena }
    }

    pub fn anna(&self) -> Login {
        self.login("anna")
    }

    /// Returns Anna's only seat, as Lena sees it.
    pub async fn annas_seat(&self) -> String {
        self.lena.text(&seats_of("anna")).await
    }

    /// Stops Anna's seat with these other arguments; how many have ended.
    pub async fn stop_anna(&self, more: &str) -> i32 {
        stop(&self.lena, "anna", more).await
    }

    pub async fn stop(&self, seat: &str, more: &str) -> i32 {
        self.lena.val(&stopping(seat, more)).await
    }

    /// Makes another administrator stop Anna's seat while the test goes on.
    pub async fn begin_to_stop_anna(&self, more: &str) -> Stopping {
        let session = self.at("lena", "127.0.2.2").open_ok().await;
        let pid = session.pid().await;
        let statement = stopping(&self.annas_seat().await, more);
        let ended = tokio::spawn(async move {
            let ended = session.try_texts(&statement).await;
            (session, ended)
        });
        Stopping { pid, ended }
    }

    /// Tells how many seats Anna has.
    pub async fn annas_seats(&self) -> i64 {
        let seats = "SELECT count(*) FROM license_active_seats WHERE usename = 'anna'";
        self.admin.val(seats).await
    }

    /// Waits until Anna has no seat.
    pub async fn anna_is_out(&self) {
        eventually("anna has no seat", PATIENCE, async || {
            self.annas_seats().await == 0
        })
        .await;
    }

    /// Asserts that Anna is kept out.
    pub async fn anna_is_barred(&self) {
        let denied = self.anna().denied().await;
        denied.assert("28000", "license_barred");
    }

    pub async fn bars(&self) -> Vec<String> {
        let bars = "SELECT product, bar_by, usesysid::regrole, client_user, client_host, barred_by,
                           reason, barred_until > now() FROM license_bars ORDER BY barred_at";
        self.admin.texts(bars).await
    }

    /// Waits until Anna's seat is being stopped, and asserts that nobody joins it.
    pub async fn is_ending(&self, stopping: &Stopping) {
        let waits = format!(
            "SELECT wait_event IN ('Extension', 'LicenseSeat') FROM pg_stat_activity WHERE pid = {}",
            stopping.pid
        );
        eventually("the seat is being stopped", PATIENCE, async || {
            self.desk.admin.text(&waits).await == "t"
        })
        .await;
        self.anna_is_barred().await;
    }
}

/// An administrator waits for those who are stopped.
pub struct Stopping {
    pub pid: i32,
    ended: JoinHandle<(Session, Result<Vec<String>, Denied>)>,
}

impl Stopping {
    pub async fn answer(self) -> (Session, Result<Vec<String>, Denied>) {
        self.ended.await.unwrap()
    }

    pub async fn ended(self) -> (Session, String) {
        let (session, ended) = self.answer().await;
        (session, ended.unwrap().remove(0))
    }
}

/// Returns the warnings that a session was given.
pub fn warnings(session: &Session) -> Vec<String> {
    let warnings = session.notices().into_iter();
    let warnings = warnings.filter(|notice| notice.severity == "WARNING");
    warnings.map(|notice| notice.message).collect()
}

/// Stops the only seat of this user with these other arguments, and returns how many have ended.
pub async fn stop(session: &Session, user: &str, more: &str) -> i32 {
    let seat = session.text(&seats_of(user)).await;
    session.val(&stopping(&seat, more)).await
}

/// Asks for the seats of this user.
pub fn seats_of(user: &str) -> String {
    format!("SELECT seat_id FROM license_active_seats WHERE usename = '{user}'")
}

pub fn stopping(seat: &str, more: &str) -> String {
    format!("SELECT license_terminate('{seat}'{more})")
}
