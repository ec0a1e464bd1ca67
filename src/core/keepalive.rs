//! How soon the kernel gives up a silent client, so that the server notices a pulled cable.
//!
//! What the server has sent and nobody acknowledges is given up after the *user timeout*. While nothing is under way,
//! *keepalive* probes ask whether the client is still there. If there is a user timeout, Linux does not count
//! unanswered probes: it gives up when one is due and the client has been silent for the user timeout. So the probes
//! and the user timeout must agree.

/// The longest time until a running query checks its connection, in milliseconds.
pub const CHECK_INTERVAL: i32 = 500;

/// The probes of an idle connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Keepalives {
    /// The seconds of silence before the first probe.
    pub idle: i32,
    /// The seconds between one probe and the next.
    pub interval: i32,
    /// The number of probes.
    pub count: i32,
}

impl Keepalives {
    /// Returns up to three probes, evenly spread, by which the server knows within this many milliseconds, even in the
    /// middle of a query. The kernel counts in seconds, and its timers may be late by an eighth of their time, so it
    /// takes up to 3 seconds however short the timeout is.
    pub fn within(timeout: i32) -> Keepalives {
        let on_time = (timeout - CHECK_INTERVAL) / 9 * 8;
        let seconds = (on_time / 1000).max(2);
        let count = (seconds - 1).min(3);
        let interval = seconds / (count + 1);
        Keepalives {
            idle: seconds - count * interval,
            interval,
            count,
        }
    }

    /// Returns the user timeout, in milliseconds, that goes with these probes. The probes in force may be the client's
    /// or the administrator's own. If they give up sooner, so does the user timeout.
    pub fn user_timeout(self, in_force: Keepalives) -> i32 {
        let Keepalives {
            idle,
            interval,
            count,
        } = in_force;
        if idle > 0 && interval > 0 && count > 0 {
            self.patience().min(in_force.patience())
        } else {
            // The kernel did not say.
            self.patience()
        }
    }

    /// Returns the milliseconds after which a silent client is given up.
    fn patience(self) -> i32 {
        let probes = self.count.saturating_mul(self.interval);
        self.idle.saturating_add(probes).saturating_mul(1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: i32 = 3_600_000;

    fn timeouts() -> impl Iterator<Item = i32> {
        (1..60_000)
            .chain((60_000..=LONGEST).step_by(777))
            .chain([LONGEST])
    }

    #[test]
    fn a_silent_client_is_given_up_in_time_though_timers_are_late() {
        for timeout in timeouts() {
            let patience = Keepalives::within(timeout).patience();
            let late = patience + patience / 8 + CHECK_INTERVAL;
            assert!(late <= timeout.max(2_750), "{timeout}: {late}");
        }
    }

    #[test]
    fn no_time_is_given_away() {
        for timeout in timeouts() {
            let patience = Keepalives::within(timeout).patience();
            assert!(patience > timeout / 10 * 8 - 1_500, "{timeout}: {patience}");
        }
    }

    #[test]
    fn the_probes_are_valid_and_evenly_spread() {
        for timeout in timeouts() {
            let Keepalives {
                idle,
                interval,
                count,
            } = Keepalives::within(timeout);
            // Linux allows no more than 32,767 seconds and 127 probes.
            assert!((1..=32_767).contains(&idle), "{timeout}: {idle}");
            assert!((1..=idle).contains(&interval), "{timeout}: {interval}");
            assert!((1..=3).contains(&count), "{timeout}: {count}");
            assert!(idle - interval <= count, "{timeout}: {idle}, {interval}");
        }
    }

    #[test]
    fn what_they_are_by_default() {
        let probes = Keepalives {
            idle: 8,
            interval: 6,
            count: 3,
        };
        assert_eq!(Keepalives::within(30_000), probes);
        assert_eq!(probes.user_timeout(probes), 26_000);
    }

    #[test]
    fn stricter_probes_of_the_clients_own_make_the_user_timeout_stricter() {
        let ours = Keepalives::within(30_000);
        let of_system = Keepalives {
            idle: 7200,
            interval: 75,
            count: 9,
        };
        assert_eq!(ours.user_timeout(of_system), 26_000);
        for (idle, interval, count, milliseconds) in [
            (1, 1, 1, 2_000),
            (5, 6, 3, 23_000),
            (8, 6, 1, 14_000),
            (8, 6, 4, 26_000),
            (i32::MAX, i32::MAX, i32::MAX, 26_000),
            (-1, 1, 1, 26_000),
            (1, 1, 0, 26_000),
        ] {
            let in_force = Keepalives {
                idle,
                interval,
                count,
            };
            assert_eq!(ours.user_timeout(in_force), milliseconds, "{in_force:?}");
        }
    }
}
