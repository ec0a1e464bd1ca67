//! `license_active_seats` and `license_exempt_sessions`: who is in.

use std::collections::HashMap;

use pgrx::Uuid;
use pgrx::prelude::*;

use super::require_preloaded;
use super::usage::timestamp;
use crate::holders::{Holder, Holders, TakenSeat};
use crate::ledger::rules::Rules;
use crate::pg::encoding::ServerText;
use crate::pg::status;
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
        name!(client_user, Option<ServerText>),
        name!(client_host, Option<ServerText>),
        name!(workstation, Option<ServerText>),
        name!(application_name, Option<ServerText>),
        name!(kind, &'static str),
        name!(sessions, i32),
        name!(pids, Vec<i32>),
        name!(opened_at, Option<TimestampWithTimeZone>),
        name!(last_active_at, Option<TimestampWithTimeZone>),
        name!(expires_at, Option<TimestampWithTimeZone>),
    ),
> {
    require_preloaded();
    licenses::refresh();
    let activities = status::activities();
    let now = backend::now();
    let Rules { licenses, .. } = licenses::last_in_force(backend::database()).unwrap_or_default();
    let products: Vec<(u64, String)> = licenses
        .iter()
        .map(|license| (license.tally, license.product.to_string()))
        .collect();
    let holders = Holders::of(|tally| products.iter().any(|(number, _)| *number == tally));
    let sees_all = catalog::sees_all_sessions();
    let mut names = Names::default();
    let mut at = 0;
    // A row at a time: there may be a hundred thousand.
    TableIterator::new(std::iter::from_fn(move || {
        loop {
            let seat = holders.next_seat(&mut at)?;
            let mut visible = seat.holders().map(|holder| holder.role());
            if !sees_all && !visible.any(|role| names.is_ours(role)) {
                continue;
            }
            let (_, product) = products.iter().find(|(number, _)| *number == seat.tally)?;
            let pids = seat.pids();
            return Some((
                Uuid::from_bytes(seat.id),
                product.as_str().into(),
                shared(seat, Holder::database).and_then(|database| given(names.database(database))),
                shared(seat, |holder| names.role(holder)).and_then(given),
                shared(seat, Holder::client_user).and_then(given),
                shared(seat, Holder::client_host).and_then(given),
                shared(seat, Holder::workstation).and_then(given),
                shared(seat, Holder::application_name).and_then(given),
                seat.kind.word(),
                pids.len() as i32,
                pids,
                timestamp(seat.opened_at),
                timestamp(seat.last_active(&activities, now)),
                seat.expires_at().and_then(timestamp),
            ));
        }
    }))
}

/// What the catalogs say of roles and databases, each looked up once.
#[derive(Default)]
struct Names {
    ours: HashMap<u32, bool>,
    roles: HashMap<u32, String>,
    databases: HashMap<u32, String>,
}

impl Names {
    /// The current user has the privileges of a role.
    fn is_ours(&mut self, role: u32) -> bool {
        let ours = self.ours.entry(role);
        *ours.or_insert_with(|| catalog::has_privileges_of(role))
    }

    fn role(&mut self, holder: Holder) -> String {
        match holder.name_at_login() {
            Some(name) => name.to_owned(),
            None => {
                let role = holder.role();
                let name = self.roles.entry(role);
                name.or_insert_with(|| catalog::role_name(role)).clone()
            }
        }
    }

    fn database(&mut self, database: u32) -> String {
        let name = self.databases.entry(database);
        name.or_insert_with(|| catalog::database_name(database))
            .clone()
    }
}

/// A text, or null for none.
fn given(text: impl Into<String> + AsRef<str>) -> Option<ServerText> {
    (!text.as_ref().is_empty()).then(|| text.into().into())
}

/// What all holders of a seat have in common; `None` where they differ.
fn shared<'a, P: PartialEq>(seat: TakenSeat<'a>, part: impl FnMut(Holder<'a>) -> P) -> Option<P> {
    let mut parts = seat.holders().map(part);
    let first = parts.next()?;
    parts.all(|other| other == first).then_some(first)
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
