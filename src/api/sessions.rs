//! `license_active_seats` and `license_exempt_sessions`: who is in.

use std::collections::BTreeMap;
use std::collections::HashMap;

use pgrx::Uuid;
use pgrx::prelude::*;

use super::require_preloaded;
use super::usage::timestamp;
use crate::ledger::license::Timestamp;
use crate::ledger::rules::Rules;
use crate::ledger::session::{Seat, Session};
use crate::ledger::table::Table;
use crate::pg::encoding::ServerText;
use crate::pg::status::{self, Activity};
use crate::pg::{backend, catalog};
use crate::{licenses, memory};

/// The seats in use of the current database's licenses, those of its pools included; under the view
/// `license_active_seats`. Members of pg_monitor see all, others their own. Raises 55000 where
/// pg_seats is not preloaded.
#[pg_extern(volatile, parallel_unsafe)]
#[allow(clippy::type_complexity, reason = "the columns of a view")]
fn license_active_seats() -> TableIterator<
    'static,
    (
        name!(seat_id, Uuid),
        name!(product, ServerText),
        name!(datname, Option<ServerText>),
        name!(usename, Option<ServerText>),
        name!(client_host, Option<ServerText>),
        name!(workstation, Option<ServerText>),
        name!(application_name, Option<ServerText>),
        name!(sessions, i32),
        name!(pids, Vec<i32>),
        name!(opened_at, Option<TimestampWithTimeZone>),
        name!(last_active_at, Option<TimestampWithTimeZone>),
    ),
> {
    require_preloaded();
    licenses::refresh();
    let activities = status::activities();
    let now = backend::now();
    let rows = seats()
        .into_values()
        .filter(TakenSeat::is_visible)
        .map(move |seat| {
            let sessions = &seat.sessions;
            (
                Uuid::from_bytes(seat.seat.id),
                seat.product.clone().into(),
                common(sessions, |session| catalog::database_name(session.database)),
                common(sessions, |session| session.usename.to_string()),
                common(sessions, |session| session.who.host.to_string()),
                common(sessions, |session| session.who.workstation.to_string()),
                common(sessions, |session| session.application_name.to_string()),
                sessions.len() as i32,
                sessions.iter().map(|session| session.pid).collect(),
                timestamp(seat.seat.opened_at),
                timestamp(last_active(sessions, &activities, now)),
            )
        });
    TableIterator::new(rows.collect::<Vec<_>>())
}

struct TakenSeat {
    product: String,
    seat: Seat,
    sessions: Vec<Session>,
}

impl TakenSeat {
    fn is_visible(&self) -> bool {
        catalog::sees_all_sessions()
            || self
                .sessions
                .iter()
                .any(|session| catalog::has_privileges_of(session.who.role))
    }
}

/// The seats of the current database's licenses, in the order in which they were taken.
fn seats() -> BTreeMap<(Timestamp, [u8; 16]), TakenSeat> {
    let Rules { licenses, .. } = licenses::last_in_force(backend::database()).unwrap_or_default();
    let product = |tally| {
        let license = licenses.iter().find(|license| license.tally == tally);
        license.map(|license| license.product.to_string())
    };
    let mut holders: Vec<(Session, Seat)> = Vec::with_capacity(memory::places());
    memory::read(|ledger| {
        for session in ledger.sessions.iter() {
            if let Some(seat) = session.seat.and_then(|key| ledger.seats.get(&key)) {
                holders.push((*session, *seat));
            }
        }
    });
    let mut seats = BTreeMap::new();
    for (session, seat) in holders {
        let Some(product) = product(seat.key.tally) else {
            continue;
        };
        let place = (seat.opened_at, seat.id);
        let taken = seats.entry(place).or_insert(TakenSeat {
            product,
            seat,
            sessions: Vec::new(),
        });
        taken.sessions.push(session);
    }
    seats
}

/// What all sessions of a seat have in common; `None` where they differ or it is not given.
fn common(sessions: &[Session], part: impl Fn(&Session) -> String) -> Option<ServerText> {
    let mut parts = sessions.iter().map(part);
    let first = parts.next().filter(|first| !first.is_empty())?;
    parts.all(|other| other == first).then(|| first.into())
}

/// When any of the sessions last ran a query.
fn last_active(
    sessions: &[Session],
    activities: &HashMap<i32, Activity>,
    now: Timestamp,
) -> Timestamp {
    sessions
        .iter()
        .map(|session| status::inactive_since(activities, session.pid, now))
        .max()
        .unwrap_or(now)
}

/// The sessions of the current database that take no seat, and replication connections without a
/// database; under the view `license_exempt_sessions`. Members of pg_monitor see all, others their
/// own. Raises 55000 where pg_seats is not preloaded.
#[pg_extern(volatile, parallel_unsafe)]
#[allow(clippy::type_complexity, reason = "the columns of a view")]
fn license_exempt_sessions() -> TableIterator<
    'static,
    (
        name!(pid, i32),
        name!(datname, Option<ServerText>),
        name!(usename, Option<ServerText>),
        name!(client_host, Option<ServerText>),
        name!(application_name, Option<ServerText>),
        name!(reason, &'static str),
    ),
> {
    require_preloaded();
    licenses::refresh();
    let database = backend::database();
    let sessions = memory::sessions();
    let given = |text: String| (!text.is_empty()).then(|| text.into());
    let mut rows: Vec<_> = sessions
        .iter()
        .filter(|session| {
            session.number != 0
                && (session.database == database || session.database == 0)
                && session.seat.is_none()
        })
        .filter(|session| {
            catalog::sees_all_sessions() || catalog::has_privileges_of(session.who.role)
        })
        .map(|session| {
            (
                session.pid,
                given(catalog::database_name(session.database)),
                given(session.usename.to_string()),
                given(session.who.host.to_string()),
                given(session.application_name.to_string()),
                session
                    .exempt
                    .map_or("no license claimed", |exempt| exempt.reason()),
            )
        })
        .collect();
    if catalog::sees_all_sessions() {
        let workers = status::activities();
        rows.extend(
            workers
                .into_iter()
                .filter(|(_, worker)| worker.background_worker && worker.database == database)
                .map(|(pid, worker)| {
                    (
                        pid,
                        given(catalog::database_name(worker.database)),
                        given(catalog::role_name(worker.role)),
                        None,
                        given(worker.application_name),
                        "background worker",
                    )
                }),
        );
    }
    rows.sort_by_key(|row| row.0);
    TableIterator::new(rows)
}
