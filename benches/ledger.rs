//! What a login costs in the ledger: one more session admitted and released, by how many seats are
//! taken already. The goal is at most a microsecond a pair, however many.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

// The crate is a library for PostgreSQL alone; the ledger needs nothing of it.
#[allow(
    dead_code,
    unused_imports,
    reason = "the benchmark uses a part of the ledger, and none of its tests"
)]
#[path = "../src/core"]
mod core {
    pub mod ledger;
}

use crate::core::ledger::acts::admission::{Answer, Judged};
use crate::core::ledger::acts::publish::{Judgement, Published};
use crate::core::ledger::denial::Remark;
use crate::core::ledger::event::{Event, Leaving};
use crate::core::ledger::identity::{Host, Label, Name, Text, Who};
use crate::core::ledger::license::Level;
use crate::core::ledger::license::{License, RowKey};
use crate::core::ledger::map::{Capacity, MapLedger};
use crate::core::ledger::numbers::{DatabaseOid, RoleOid, SessionNumber, Slot, TallyId};
use crate::core::ledger::roles::Roles;
use crate::core::ledger::rules::Rules;
use crate::core::ledger::seat::Standing;
use crate::core::ledger::session::Session;
use crate::core::ledger::words::{ClaimedAt, CountedBy, Enforcement};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const DATABASE: DatabaseOid = DatabaseOid(16_384);

/// Places for events.
const EVENTS: usize = 400;

fn license() -> License {
    License {
        key: RowKey {
            database: DATABASE,
            place: 0,
        },
        tally: TallyId::NONE,
        product: Name::new("crm").unwrap_or(Name::EMPTY),
        pool: Name::EMPTY,
        application_name: Text::EMPTY,
        seats: Some(i32::MAX),
        purchased: None,
        overdraft: 0,
        warn_at_percent: 90,
        counted_by: CountedBy::UserHost,
        claimed_at: ClaimedAt::Login,
        enforcement: Enforcement::On,
        valid_from: None,
        valid_until: None,
        admits_until: None,
        linger: 0,
        idle_timeout: None,
        reclaim_idle_after: None,
        max_per_user: None,
        interfered: false,
        denied: 0,
        counted_since: 0,
        level: Level::Normal,
        warned_ending: None,
        signed: None,
    }
}

/// Returns a session on the nth computer.
fn session(n: usize) -> Session {
    let address = IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n as u32));
    let host = Host::of_address(address, 0);
    Session {
        database: DATABASE,
        who: Who {
            role: RoleOid(10 + (n % 100) as u32),
            host,
            workstation: Name::EMPTY,
            client_user: Label::EMPTY,
        },
        address: host,
        ..Session::FREE
    }
}

/// Returns a ledger with this many seats taken and place for one more session, and how to judge a login.
fn ledger(seats: usize) -> (MapLedger, Judged) {
    let mut ledger = MapLedger::new(Capacity {
        sessions: seats + 1,
        max_seats: seats + 1,
        databases: 1,
        licenses: 1,
        exemptions: 1,
        events: EVENTS,
        reservations: 0,
        rules: 2,
    });
    let judged = ledger.with(|ledger| {
        let mut rules = Rules {
            generation: ledger.generation(DATABASE).unwrap_or_default(),
            watched: true,
            licenses: vec![license()],
            ..Rules::default()
        };
        let judgement = Judgement {
            by_login: Vec::new(),
            standings: vec![(SessionNumber::NONE, Standing::default()); seats + 1],
            members: Vec::new(),
        };
        let published = ledger.publish(DATABASE, &mut rules, &judgement, 0);
        assert!(matches!(published, Published::InForce { .. }));
        let judged = Judged {
            generation: rules.generation,
            outdated: rules.outdated,
            exempt_superusers: rules.exempt_superusers,
            standing: Standing {
                exempt: None,
                license: Some(0),
            },
            roles: Roles::NONE,
            roles_edition: rules.roles_edition,
            enforcement: Enforcement::On,
            now: 0,
            asked: false,
        };
        for n in 0..seats {
            let answer = ledger.admit(Slot(n), session(n), judged);
            assert_eq!(answer, Answer::Admitted(Remark::None));
        }
        judged
    });
    (ledger, judged)
}

fn admit_and_release(c: &mut Criterion) {
    let mut group = c.benchmark_group("admit and release");
    group.throughput(Throughput::Elements(1));
    for seats in [10, 1_000, 100_000] {
        let (mut ledger, judged) = ledger(seats);
        // Each time another one, so that the seats touched are not always those in the cache.
        let newcomers: Vec<Session> = (0..1024).map(|n| session(seats + n)).collect();
        let holders: Vec<Session> = (0..1024).map(|n| session(n * 97 % seats)).collect();
        for (kind, sessions) in [("a new seat", newcomers), ("a seat already held", holders)] {
            let mut sessions = sessions.iter().cycle();
            let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
            ledger.with(|ledger| {
                group.bench_function(BenchmarkId::new(kind, seats), |b| {
                    b.iter_custom(|pairs| {
                        let mut taken = Duration::ZERO;
                        let mut left = pairs;
                        while left > 0 {
                            // Two events for each login and logout.
                            let batch = left.min(EVENTS as u64 / 2);
                            let begin = Instant::now();
                            for session in sessions.by_ref().take(batch as usize) {
                                let answer = ledger.admit(Slot(seats), *session, judged);
                                assert!(matches!(answer, Answer::Admitted(_)));
                                ledger.release(Slot(seats), Leaving::Logout, 0);
                            }
                            taken += begin.elapsed();
                            left -= batch;
                            // What a database worker does beside logins.
                            events.clear();
                            ledger.take_events(DATABASE, 0, EVENTS, |event, _| events.push(*event));
                            let last = events.last().map_or(0, |event| event.number);
                            ledger.forget_written(DATABASE, last, EVENTS);
                            ledger.note_written(DATABASE, 0, 0, 0);
                        }
                        taken
                    });
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, admit_and_release);
criterion_main!(benches);
