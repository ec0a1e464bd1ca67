//! Pauses: nothing that was alive ends by one, and all ends in the end, with or without a launcher.

use proptest::prelude::*;
use proptest::test_runner::Config;

use super::server::{ROOM, Server, TTL, id, lease, license, session};
use crate::core::ledger::event::Happened;
use crate::core::ledger::license::License;
use crate::core::ledger::numbers::Slot;
use crate::core::ledger::time::{Clocks, Pause, Time, Timestamp, Watch};
use crate::core::ledger::words::ClaimedAt;

const SECOND: Timestamp = 1_000_000;
const HOUR: Timestamp = 3_600 * SECOND;
const LINGER: Timestamp = 90 * SECOND;

/// A server with clocks, and the application's session that takes leases.
struct Machine {
    server: Server,
    clocks: Clocks,
    app: Slot,
    launcher: bool,
}

impl Machine {
    fn new() -> Machine {
        let mut server = Server::new(ROOM);
        server.change(1, |rows| {
            rows.licenses = vec![License {
                claimed_at: ClaimedAt::Checkout,
                linger: LINGER,
                ..license("web", 3)
            }];
            rows.leases_of = 7;
        });
        let app = server.enters(session(2, "local"));
        let clocks = Clocks {
            since_start: HOUR,
            wall: server.now,
        };
        server.ledger.head.time.ahead = clocks.wall - clocks.since_start;
        let mut machine = Machine {
            server,
            clocks,
            app,
            launcher: true,
        };
        machine.looks();
        machine
    }

    fn leases(&mut self, number: u8) {
        self.keeps_time();
        self.server
            .leases(self.app, "web", lease(number, "ann", "10.0.0.1"));
        self.server.commit_lease(id(number));
    }

    /// Begins as every change of the ledger does.
    fn keeps_time(&mut self) {
        let clocks = self.clocks;
        self.server.ledger.with(|l| {
            l.look_at(clocks);
            if l.needs_watch() {
                l.watch(clocks);
            }
        });
        self.server.now = self.server.ledger.head.time.now(clocks);
    }

    /// Plays the launcher, which looks, and ends what is due.
    fn looks(&mut self) {
        let clocks = self.clocks;
        self.server.ledger.with(|l| l.launcher_looks(clocks));
        self.ends_due();
    }

    /// Ends what is due, as somebody does who would be denied.
    fn ends_due(&mut self) {
        self.keeps_time();
        self.server.end_due_leases();
    }

    fn passes(&mut self, since_start: Timestamp, wall: Timestamp) {
        self.clocks.since_start += since_start;
        self.clocks.wall += wall;
    }

    /// Lets all run for so many seconds; the launcher looks when it means to.
    fn runs(&mut self, seconds: i64) {
        for second in 1..=seconds {
            self.passes(SECOND, SECOND);
            if self.launcher && (second % 3 == 0 || second == seconds) {
                self.looks();
            }
        }
    }

    fn jumps(&mut self) -> Vec<(i64, i64)> {
        let events = self.server.tell_all();
        let jumps = events.iter().filter_map(|event| match event.happened {
            Happened::ClockJump { moved, late } => Some((moved / SECOND, late / SECOND)),
            _ => None,
        });
        jumps.collect()
    }
}

#[test]
fn leases_and_lingering_seats_begin_anew_after_a_suspension_once() {
    let mut machine = Machine::new();
    machine.leases(1);
    machine
        .server
        .leases(machine.app, "web", lease(2, "bob", "10.0.0.2"));
    machine.server.commit_lease(id(2));
    machine.server.drop_lease(id(2));
    machine.runs(80);
    machine.passes(HOUR, HOUR);
    // Who is first, of whatever kind, knows before it ends anything.
    machine.ends_due();
    assert_eq!(machine.server.in_use("web"), 2);
    machine.looks();
    machine.ends_due();
    assert_eq!(machine.jumps(), [(0, 3_595)]);
    machine.runs(LINGER / SECOND - 1);
    assert_eq!(machine.server.in_use("web"), 2);
    machine.runs(1);
    assert_eq!(machine.server.in_use("web"), 1, "it lingers no more");
    machine.runs(TTL / SECOND);
    assert_eq!(machine.server.in_use("web"), 0);
    assert_eq!(machine.jumps(), []);
}

#[test]
fn a_clock_that_is_set_moves_what_was_planned_with_it() {
    for step in [HOUR, -HOUR, 2 * SECOND, -2 * SECOND] {
        let mut machine = Machine::new();
        machine.leases(1);
        machine.runs(10);
        let planned = machine.server.ledger.head.next_write - machine.server.now;
        machine.passes(0, step);
        machine.keeps_time();
        assert_eq!(
            machine.server.now, machine.clocks.wall,
            "the time is the wall clock's"
        );
        assert!(machine.server.ledger.head.next_write - machine.server.now <= planned.max(SECOND));
        assert_eq!(
            machine.server.lease(id(1)).unwrap().expires_at,
            machine.server.now + TTL
        );
        assert_eq!(machine.jumps(), [(step / SECOND, 0)]);
    }
    // What a clock is slewed by is none, however much it adds up to.
    let mut machine = Machine::new();
    for _ in 0..100 {
        machine.passes(SECOND, SECOND + SECOND / 2);
        machine.looks();
    }
    assert_eq!(machine.jumps(), []);
}

#[test]
fn without_a_launcher_a_pause_is_noticed_once_and_all_ends_in_the_end() {
    let mut machine = Machine::new();
    machine.leases(1);
    machine.launcher = false;
    let mut seconds = 0;
    while machine.server.lease(id(1)).is_some() && seconds < 10_000 {
        machine.runs(1);
        machine.ends_due();
        seconds += 1;
    }
    assert!(seconds <= TTL / SECOND + 12, "{seconds}");
    assert_eq!(machine.jumps().len(), 1);
}

#[test]
fn nothing_is_deleted_for_a_day_after_a_clock_was_set_far_ahead() {
    let mut machine = Machine::new();
    let may_delete = |machine: &mut Machine| {
        machine.keeps_time();
        let now = machine.server.now;
        machine.server.ledger.with(|l| l.may_delete(now))
    };
    assert!(may_delete(&mut machine));
    machine.passes(0, HOUR);
    assert!(may_delete(&mut machine), "an hour");
    machine.passes(0, 1_000 * 24 * HOUR);
    assert!(!may_delete(&mut machine), "a thousand days");
    machine.passes(23 * HOUR, 23 * HOUR);
    assert!(!may_delete(&mut machine));
    machine.passes(HOUR, HOUR);
    assert!(may_delete(&mut machine));
}

#[test]
fn who_was_inactive_before_a_pause_is_so_since_the_pause() {
    let now = 100 * HOUR;
    let mut time = Time::UNKNOWN;
    assert_eq!(time.inactive_since(now - HOUR, now), now - HOUR);
    // Just now, or a moment after the look.
    assert_eq!(time.inactive_since(now + SECOND, now), now);
    let at = now - 60 * SECOND;
    time.last = Some(Pause {
        at,
        moved: -HOUR,
        late: 0,
    });
    for (status, since) in [
        (at - SECOND, at),
        (at + SECOND, at + SECOND),
        (now, now),
        (now + SECOND, now),
        // Of the clock that was set back.
        (now + HOUR / 2, at),
    ] {
        assert_eq!(time.inactive_since(status, now), since, "{status}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Runs(i64),
    Suspended(i64),
    Set(i64),
    Beats,
    SomebodyLooks,
    Launcher(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..40_i64).prop_map(Step::Runs),
        1 => (12..5_000_i64).prop_map(Step::Suspended),
        1 => (-5_000..5_000_i64).prop_map(Step::Set),
        2 => Just(Step::Beats),
        2 => Just(Step::SomebodyLooks),
        1 => any::<bool>().prop_map(Step::Launcher),
    ]
}

proptest! {
    #![proptest_config(Config { cases: 300, failure_persistence: None, ..Config::default() })]

    #[test]
    fn a_lease_lives_as_long_as_what_ran_since_its_last_sign_of_life(
        steps in proptest::collection::vec(step(), 1..40)
    ) {
        let mut machine = Machine::new();
        machine.leases(1);
        // How long the machine has run since the lease had all of its time.
        let mut ran = 0;
        for step in &steps {
            if machine.server.lease(id(1)).is_none() {
                break;
            }
            match step {
                Step::Runs(seconds) => {
                    machine.runs(*seconds);
                    ran += seconds;
                }
                Step::Suspended(seconds) => {
                    let watched = matches!(machine.server.ledger.head.time.watch, Watch::By(_));
                    machine.passes(seconds * SECOND, seconds * SECOND);
                    if watched {
                        machine.ends_due();
                        ran = 0;
                    } else {
                        ran += seconds;
                    }
                }
                Step::Set(seconds) => machine.passes(0, seconds * SECOND),
                Step::Beats => {
                    machine.keeps_time();
                    let (app, alive) = (machine.app, ran < TTL / SECOND);
                    let beat = machine.server.heartbeat(app, id(1));
                    prop_assert!(beat.is_some() || !alive, "{ran}");
                    if beat.is_none() {
                        break;
                    }
                    ran = 0;
                }
                Step::SomebodyLooks => machine.ends_due(),
                Step::Launcher(runs) => {
                    machine.launcher = *runs;
                    if *runs {
                        machine.looks();
                    }
                }
            }
            if ran < TTL / SECOND {
                prop_assert!(machine.server.lease(id(1)).is_some(), "{step:?} after {ran}");
            }
        }
        // Whatever has happened: with or without a launcher it ends.
        for _ in 0..2 * TTL / SECOND + 20 {
            machine.runs(1);
            machine.ends_due();
        }
        prop_assert!(machine.server.lease(id(1)).is_none());
    }
}
