//! `license_active_seats`, `license_exempt_sessions` and `license_bars_in_force`: who is in, and who is barred.

use std::collections::HashMap;

use pgrx::prelude::*;
use pgrx::{IntoDatum, Uuid, pg_sys};

use super::require_preloaded;
use super::times::timestamp;
use crate::core::ledger::bar::Bar;
use crate::core::ledger::numbers::{DatabaseOid, RoleOid, SessionNumber};
use crate::core::ledger::rules::Rules;
use crate::core::ledger::seat::Kind;
use crate::holders::{Holder, Holders, TakenSeat, in_time};
use crate::pg::rows::Rows;
use crate::pg::text::{ServerText, given_text, text_datum};
use crate::pg::{backend, catalog, status};
use crate::{memory, rules};

/// Returns the seats in use of the current database's licenses, including those of its pools, for the view
/// `license_active_seats`. Members of pg_monitor, and those who may stop sessions, see all; others see their own.
/// Raises 55000 if pg_seats is not preloaded.
#[pg_extern(sql = false)]
fn license_active_seats(fcinfo: pg_sys::FunctionCallInfo) {
    require_preloaded();
    rules::refresh();
    let (activities, now) = in_time(status::activities());
    let Rules { licenses, .. } =
        memory::rules::last_in_force(backend::database()).unwrap_or_default();
    // There may be a hundred thousand rows, so values that many have in common are made once.
    let products: Vec<_> = licenses
        .iter()
        .map(|license| (license.tally, text_datum(license.product.as_str())))
        .collect();
    let product_of = |tally| products.iter().find(|(number, _)| *number == tally);
    let kinds = [Kind::Login, Kind::Checkout, Kind::Lease].map(|kind| text_datum(kind.word()));
    let no_pids = Vec::<i32>::new().into_datum();
    let seen_at = timestamp(now).into_datum();
    let holders = Holders::of(|tally| product_of(tally).is_some());
    let sees_all = catalog::sees_all_sessions();
    let mut names = Names::default();
    let mut rows = Rows::of(fcinfo);
    for seat in holders.seats().chain(holders.lingering()) {
        let (former_role, former_host) = seat.lingers_for().unzip();
        let mut roles = seat.holders().map(Holder::role).chain(former_role);
        let Some((_, product)) =
            product_of(seat.tally).filter(|_| sees_all || roles.any(|role| names.is_ours(role)))
        else {
            continue;
        };
        let datname = shared(seat, Holder::database).and_then(|it| names.database(it));
        let role = shared(seat, Holder::role).or(former_role);
        let name_at_login = seat.holders().find_map(Holder::name_at_login);
        let name_now = role
            .filter(|_| name_at_login.is_none())
            .and_then(|role| names.role(role));
        rows.put(|| {
            let pids = seat.pids();
            [
                Uuid::from_bytes(seat.id).into_datum(),
                *product,
                datname,
                role.and(name_at_login).map_or(name_now, given_text),
                shared(seat, Holder::client_user).and_then(|user| given_text(&user)),
                shared(seat, Holder::client_host)
                    .or(former_host)
                    .and_then(|host| given_text(&host)),
                shared(seat, Holder::workstation).and_then(given_text),
                shared(seat, Holder::application_name).and_then(given_text),
                seat.kind
                    .and_then(|kind| kinds.get(kind as usize).copied())
                    .flatten(),
                (pids.len() as i32).into_datum(),
                if pids.is_empty() {
                    no_pids
                } else {
                    pids.into_datum()
                },
                timestamp(seat.opened_at).into_datum(),
                timestamp(seat.last_active(&activities, now)).into_datum(),
                seat.expires_at().and_then(timestamp).into_datum(),
                seen_at,
            ]
        });
    }
}

/// The names of roles and databases, each looked up once in the catalogs.
#[derive(Default)]
struct Names {
    ours: HashMap<RoleOid, bool>,
    roles: HashMap<RoleOid, Option<pg_sys::Datum>>,
    databases: HashMap<DatabaseOid, Option<pg_sys::Datum>>,
}

impl Names {
    /// Tells whether the current user has the privileges of a role.
    fn is_ours(&mut self, role: RoleOid) -> bool {
        let ours = self.ours.entry(role);
        *ours.or_insert_with(|| catalog::has_privileges_of(role))
    }

    fn role(&mut self, role: RoleOid) -> Option<pg_sys::Datum> {
        let name = self.roles.entry(role);
        *name.or_insert_with(|| given_text(&catalog::role_name(role)))
    }

    fn database(&mut self, database: DatabaseOid) -> Option<pg_sys::Datum> {
        let name = self.databases.entry(database);
        *name.or_insert_with(|| given_text(&catalog::database_name(database)))
    }
}

/// Returns a text, or null if it is empty.
fn given(text: impl Into<String> + AsRef<str>) -> Option<ServerText> {
    (!text.as_ref().is_empty()).then(|| text.into().into())
}

/// Returns what all holders of a seat have in common; `None` if they differ.
fn shared<'a, P: PartialEq>(seat: TakenSeat<'a>, part: impl FnMut(Holder<'a>) -> P) -> Option<P> {
    let mut parts = seat.holders().map(part);
    let first = parts.next()?;
    parts.all(|other| other == first).then_some(first)
}

/// Returns the sessions of the current database that take no seat, and replication connections without a database, for
/// the view `license_exempt_sessions`. Members of pg_monitor, and those who may stop sessions, see all; others see
/// their own. Raises 55000 if pg_seats is not preloaded.
#[pg_extern(sql = false)]
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
    rules::refresh();
    let database = backend::database();
    let sessions = memory::sessions();
    let sees_all = catalog::sees_all_sessions();
    let mut rows: Vec<_> = sessions
        .iter()
        .filter(|session| {
            session.number != SessionNumber::NONE
                && (session.database == database || session.database == DatabaseOid::NONE)
                && session.seat.is_none()
        })
        .filter(|session| sees_all || catalog::has_privileges_of(session.who.role))
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
    if sees_all {
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

/// Returns the bars in force of the current database's products, including those of its pools, for the view
/// `license_bars_in_force`. Only those who may stop sessions see any. Raises 55000 if pg_seats is not preloaded.
#[pg_extern(sql = false)]
fn license_bars_in_force(fcinfo: pg_sys::FunctionCallInfo) {
    require_preloaded();
    let mut rows = Rows::of(fcinfo);
    if !catalog::may_terminate() {
        return;
    }
    rules::refresh();
    let Rules { licenses, .. } =
        memory::rules::last_in_force(backend::database()).unwrap_or_default();
    let product_of = |tally| licenses.iter().find(|license| license.tally == tally);
    let is_ours = |tally| product_of(tally).is_some();
    let now = backend::now();
    let mut bars: Vec<Bar> = memory::collect(
        |_| 0,
        |ledger, find| ledger.each_bar(is_ours, now, |bar| find(*bar)),
    );
    bars.sort_unstable_by_key(|bar| (bar.since, bar.id));
    let mut names = Names::default();
    for bar in &bars {
        let text = |text: &str| (!text.is_empty()).then(|| text_datum(text)).flatten();
        let usename = (bar.whom.role != RoleOid::NONE)
            .then(|| names.role(bar.whom.role))
            .flatten();
        rows.put(|| {
            [
                bar.id.into_datum(),
                product_of(bar.tally()).and_then(|license| text_datum(license.product.as_str())),
                text_datum(bar.whom.by.word()),
                usename,
                text(bar.whom.client_user.as_str()),
                bar.whom.client_host().and_then(|host| text_datum(&host)),
                timestamp(bar.until).into_datum(),
                timestamp(bar.since).into_datum(),
                text(bar.barred_by.as_str()),
                text(bar.reason.as_str()),
            ]
        });
    }
}
