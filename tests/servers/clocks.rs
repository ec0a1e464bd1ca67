//! Machines that are suspended and clocks that are set: nothing that was alive ends by that, and all ends in the end.

use std::time::{Duration, Instant};

use crate::util::*;

/// How long leases, idle sessions and lingering seats last in these tests.
const LASTS: Duration = Duration::from_secs(8);

/// Three seats, of which Anna has one by her login, Zoe's lease another, and Bert has just left the third.
struct Office {
    cluster: Cluster,
    anna: Session,
    zoe: String,
}

impl Office {
    async fn open() -> Self {
        let cluster = Cluster::builder()
            .own_clock()
            .licensed("seats, idle_timeout, linger", "3, '8 s', '8 s'");
        let bert = cluster.login("bert").from("127.0.1.2").open_ok().await;
        let anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
        let admin = cluster.login("postgres").open_ok().await;
        let zoe = lease_for(&admin, "zoe", "8 s").await;
        bert.close().await;
        let office = Self { cluster, anna, zoe };
        eventually("Bert's seat lingers", PATIENCE, async || {
            office
                .cluster
                .sql("SELECT count(*) FROM license_active_seats WHERE sessions = 0")
                == "2"
        })
        .await;
        office
    }

    /// Asserts that nothing has ended: whoever comes first after that finds every seat taken.
    async fn is_full(&self) {
        let denied = self.cluster.login("carl").from("127.0.1.3").denied().await;
        denied.assert("53300", "license_full");
        assert_eq!(self.cluster.in_use(), 3);
        assert!(!self.anna.is_ended());
    }

    /// Asserts that what people see is true by the wall clock.
    async fn shows_sensible_times(&self) {
        let shown = "SELECT bool_and(idle BETWEEN '0' AND '10 s'),
                 bool_and(coalesce(expires_at, clock_timestamp() + '5 s')
                          BETWEEN clock_timestamp() AND clock_timestamp() + '9 s')
            FROM license_active_seats";
        assert_eq!(self.cluster.sql(shown), "t|t");
    }

    /// Asserts that the audit trail says so once.
    async fn is_told(&self, expected: &str) {
        let told = "SELECT detail ->> 'clock_set_by_s', (detail ->> 'paused_s')::int / 60
                      FROM license_events WHERE event = 'clock jump'";
        eventually("the audit trail tells", PATIENCE, async || {
            self.cluster.sql(told) == expected
        })
        .await;
    }

    /// Asserts that all of them end by themselves, by no more time than they have.
    async fn ends_in_the_end(self) {
        let start = Instant::now();
        self.anna.ended().await.assert("57P05", "license_idle");
        eventually("every seat is free", PATIENCE, async || {
            self.cluster.in_use() == 0
        })
        .await;
        // Zoe's seat lingers once her lease is over.
        let waited = start.elapsed();
        assert!(waited < 2 * LASTS + Duration::from_secs(6), "{waited:?}");
        let admin = self.cluster.login("postgres").open_ok().await;
        assert!(!beats(&admin, &self.zoe).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_machine_ends_nothing_that_was_alive() {
    let office = Office::open().await;
    let suspended = Shift {
        wall: 600,
        since_start: 600,
    };
    office.cluster.shift_clocks(suspended);
    office.is_full().await;
    office.shows_sensible_times().await;
    office.is_told("0|9").await;
    office.ends_in_the_end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_that_comes_first_after_a_pause_is_in_time() {
    let office = Office::open().await;
    let admin = office.cluster.login("postgres").open_ok().await;
    office.cluster.shift_clocks(Shift {
        wall: 600,
        since_start: 600,
    });
    assert!(beats(&admin, &office.zoe).await);
    office.is_full().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_ends_nothing_that_was_alive() {
    for by in [3_600, -7_200] {
        let office = Office::open().await;
        office.cluster.shift_clocks(Shift {
            wall: by,
            since_start: 0,
        });
        office.is_full().await;
        office.shows_sensible_times().await;
        office.is_told(&format!("{by}|0")).await;
        // The audit trail goes on.
        let denials = "SELECT count(*) FROM license_events WHERE event = 'denial'";
        eventually("the denial is told", PATIENCE, async || {
            office.cluster.sql(denials) == "1"
        })
        .await;
        office.ends_in_the_end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_works_while_the_clock_is_set_to_and_fro_is_never_idle() {
    let desk = Desk::of(
        Cluster::builder()
            .own_clock()
            .licensed("seats, idle_timeout", "9, '4 s'"),
    )
    .await;
    let anna = desk.user("anna").await;
    for wall in [86_400, 0, -3_600, 0] {
        desk.cluster.shift_clocks(Shift {
            wall,
            since_start: 0,
        });
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(5) {
            anna.run("SELECT pg_sleep(0.2)").await;
        }
    }
    let jumps = "SELECT count(*) FROM license_events WHERE event = 'clock jump'";
    eventually("every step is told", PATIENCE, async || {
        desk.admin.val::<i64>(jumps).await == 4
    })
    .await;
    anna.ended().await.assert("57P05", "license_idle");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "heavy: make test-heavy"]
async fn a_server_that_stood_still_ends_nothing_that_was_alive() {
    let office = Office::open().await;
    let frozen = office.cluster.freeze();
    tokio::time::sleep(Duration::from_secs(14)).await;
    drop(frozen);
    office.is_full().await;
    office.is_told("0|0").await;
    office.ends_in_the_end().await;
}
