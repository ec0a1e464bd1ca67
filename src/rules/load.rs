//! Reads a database's tables and puts their rules in force.

use std::time::{Duration, Instant};

use crate::core::ledger::acts::publish::{Judgement, Published};
use crate::core::ledger::denial::LoadError;
use crate::core::ledger::identity::Name;
use crate::core::ledger::numbers::{DatabaseOid, Generation, SessionNumber};
use crate::core::ledger::roles::{ROLES_MAX, RoleIn, Roles};
use crate::core::ledger::rules::{Rules, StoredLease};
use crate::core::ledger::seat::Standing;
use crate::core::ledger::session::Session;
use crate::core::ledger::table::Table;
use crate::events::counts;
use crate::pg::backend;
use crate::pg::catalog::{self, Catalog};
use crate::pg::error::{self, PgLogLevel, PgSqlErrorCode, Report, quoted};
use crate::pg::table::{Patience, ReadError, TableAccess, read_committed};
use crate::signed::signed_licenses::SignedLicenses;
use crate::tables::{bars, exemptions, interference, leases, licenses, reservations};
use crate::{memory, settings};

/// The least number of times that the tables are read if they change meanwhile: a machine may be so busy that one
/// reading takes longer than the patience for locks.
const TRIES: u32 = 3;

/// Reads the tables of this backend's database and puts the rules in force. It waits for locks, and for a moment
/// without changes, at most `patience`.
pub fn load(database: DatabaseOid, patience: impl Into<Patience>) -> Result<Rules, LoadError> {
    let patience = patience.into();
    let start = Instant::now();
    let deadline = start + patience.locks;
    let mut tries = 0;
    loop {
        tries += 1;
        let noted = memory::write(|ledger| {
            let generation = ledger.generation(database)?;
            let known = ledger.databases.get(&database);
            Some((
                generation,
                known.map_or(Generation::NONE, |known| known.in_force.loaded),
            ))
        });
        let mut rules = read_committed(patience.after(start.elapsed()), read).map_err(|error| {
            LoadError::Unreadable(match error.code {
                PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE => {
                    "somebody holds a lock on the tables".to_owned()
                }
                _ => error.message,
            })
        })?;
        let Some((generation, loaded_before)) = noted else {
            // If there is no room to note the database, it has no license or no users.
            return if rules.licenses.is_empty() {
                Ok(rules)
            } else {
                Err(LoadError::TooManyRules)
            };
        };
        rules.generation = generation;
        if !rules.watched && backend::has_written() {
            let cause = "this transaction may have changed them, unnoticed by their triggers";
            return Err(LoadError::Unreadable(cause.to_owned()));
        }
        match publish(database, &mut rules, loaded_before, deadline) {
            Published::InForce { disagreement } => {
                rules.outdated = true;
                memory::announce_rules_read();
                if rules.licenses.iter().any(|license| license.interfered) {
                    // A database worker writes it to the audit trail.
                    memory::write(|ledger| ledger.write_soon(database, backend::now()));
                }
                if let Some(product) = disagreement {
                    warn_of_disagreement(product);
                }
                log_left_out();
                if !rules.leases.is_empty() {
                    log_leases_left(database);
                }
                return Ok(rules);
            }
            Published::NoRoom => return Err(LoadError::NoRoom),
            Published::TooManyRules => return Err(LoadError::TooManyRules),
            Published::Superseded => {
                if let Some(newer) = memory::rules::at_least(database, generation) {
                    return Ok(newer);
                }
            }
            Published::Outdated | Published::Unjudged => {}
        }
        if tries >= TRIES && Instant::now() >= deadline {
            return Err(LoadError::Changing);
        }
    }
}

/// Judges the sessions of the database by the rules, and puts them in force. If sessions arrive meanwhile it repeats
/// that until the deadline, with fewer new ones each time. `loaded_before` is the generation that was in force when the
/// reading began.
fn publish(
    database: DatabaseOid,
    rules: &mut Rules,
    loaded_before: Generation,
    deadline: Instant,
) -> Published {
    let mut judgement = Judgement::default();
    let mut judged_for: Vec<(u8, Name)> = Vec::new();
    loop {
        let quicker = memory::read(|ledger| ledger.was_quicker(database, loaded_before, rules));
        if quicker {
            // This happens when many in the queue learn of one change.
            return Published::Superseded;
        }
        let room = memory::read(|ledger| ledger.room_for(database, rules.wanted()));
        let Some(room) = room else {
            return Published::TooManyRules;
        };
        if room != rules.counts_of_rows() {
            rules.fit(room);
            // A session that was exempt by a row that is left out is no longer exempt.
            judgement = Judgement::default();
        }
        let reserved_roles =
            memory::read(|ledger| ledger.plan_roles(database, &rules.reservations));
        rules.reserved_roles = reserved_roles.each().collect();
        if judged_for != rules.reserved_roles {
            judged_for.clone_from(&rules.reserved_roles);
            judgement.members.clear();
        }
        let former = std::mem::take(&mut judgement);
        let judge = |(at, session): (usize, &Session)| {
            if session.number == SessionNumber::NONE || session.database != database {
                return (SessionNumber::NONE, Standing::default());
            }
            let known = former.standings.get(at);
            known
                .filter(|(number, _)| *number == session.number)
                .copied()
                .unwrap_or_else(|| {
                    (
                        session.number,
                        rules.judge(session, &mut Catalog::default()),
                    )
                })
        };
        let sessions = memory::sessions();
        judgement = Judgement {
            standings: sessions.iter().enumerate().map(judge).collect(),
            by_login: rules.by_login(&sessions),
            members: members(rules, former.members),
        };
        let now = backend::now();
        let published = memory::write(|ledger| ledger.publish(database, rules, &judgement, now));
        if published != Published::Unjudged || Instant::now() >= deadline {
            return published;
        }
    }
}

/// Returns the roles of all holders and of the leases that were read, if anything is reserved.
fn roles(rules: &Rules) -> Vec<RoleIn> {
    if rules.reserved_roles.is_empty() {
        return Vec::new();
    }
    let mut roles = memory::collect(
        |ledger| ledger.holders(),
        |ledger, find| ledger.each_role(|taker, _| find(taker)),
    );
    let taker = |lease: &StoredLease| (lease.who.role, backend::database());
    roles.extend(rules.leases.iter().map(taker));
    roles
}

/// Returns the reserved roles of everybody whom [`roles`] returns; some of them are already known.
fn members(rules: &Rules, known: Vec<(RoleIn, Roles)>) -> Vec<(RoleIn, Roles)> {
    let is_known = |taker: &RoleIn| {
        known
            .binary_search_by_key(taker, |(taker, _)| *taker)
            .is_ok()
    };
    let mut unknown = roles(rules);
    unknown.retain(|taker| !is_known(taker));
    let mut members = rules.members(unknown, &mut Catalog::default());
    members.extend(known);
    members.sort_unstable_by_key(|(taker, _)| *taker);
    members
}

fn warn_of_disagreement(product: Name) {
    Report::new(
        PgSqlErrorCode::ERRCODE_WARNING,
        format!(
            "databases of one pool count {} by different rules",
            quoted(product)
        ),
    )
    .detail(
        "The finest rule is in force for all of them: session where a row says so, else user_host.",
    )
    .hint("Set licenses.counted_by to the same value in every database of the pool.")
    .log(PgLogLevel::WARNING);
}

/// Logs which databases have rows that don't all fit, or do again.
fn log_left_out() {
    if !memory::read(|ledger| ledger.has_left_out()) {
        return;
    }
    while let Some((database, rows, unnumbered)) = memory::write(|ledger| ledger.log_left_out()) {
        let name = quoted(catalog::database_name(database));
        error::log(match (rows, unnumbered) {
            (0, 0) => format!("all rules of database {name} are in force again"),
            (0, many) => format!(
                "pg_seats has no room for {many} rows of license_reservations of database {name}, which \
                 keep no seats: the reservations of all databases can name {ROLES_MAX} different roles"
            ),
            (many, _) => format!(
                "pg_seats has no room for {many} rows of the license tables of database {name}, which are \
                 not in force: its newest exemptions, then bars and reservations; the tables of all \
                 databases share pg_seats.max_rules ({})",
                settings::max_rules()
            ),
        });
    }
}

/// Logs leases that found no room when they were read. They have ended: nobody is kept out because of them.
fn log_leases_left(database: DatabaseOid) {
    let known = memory::read(|ledger| {
        let known = ledger.databases.get(&database);
        known.map(|known| known.leases.left_out)
    });
    if let Some(left) = known.filter(|&left| left > 0) {
        error::log(format!(
            "pg_seats has no room for {left} rows of license_leases of database {}, which count no longer: \
             increase pg_seats.max_seats and restart the server",
            quoted(catalog::database_name(database))
        ));
    }
}

fn read(reader: &TableAccess) -> Result<Rules, ReadError> {
    let mut rules = Rules {
        in_recovery: backend::in_recovery(),
        exempt_superusers: settings::exempt_superusers(),
        read_at: backend::now(),
        // Where there is no extension, its creation is noticed.
        watched: true,
        counts: (!backend::in_recovery()).then(Vec::new),
        ..Rules::default()
    };
    let Some(schema) = catalog::schema() else {
        return Ok(rules);
    };
    rules.watched = interference::is_watched(reader, &schema)?;
    rules.licenses = licenses::read(reader, &schema)?;
    let signed_licenses = SignedLicenses::read(reader, &schema)?;
    signed_licenses.clamp(&mut rules.licenses)?;
    rules.change_at = signed_licenses.changes_at();
    rules.exemptions = exemptions::read(reader, &schema)?;
    rules.reservations = reservations::read(reader, &schema)?;
    let interfered = !rules.licenses.is_empty() && !interference::find(reader)?.is_empty();
    for license in &mut rules.licenses {
        license.interfered = interfered;
    }
    rules.bars = bars::read(reader, &schema)?;
    if !rules.in_recovery {
        // A standby must not use another server's counts and leases.
        rules.counts = counts::read(&schema);
        rules.leases_of = leases::oid(reader, &schema)?;
        let known = memory::read(|ledger| ledger.leases_of(backend::database()));
        if known != rules.leases_of {
            rules.leases = leases::read(reader, &schema)?;
        }
    }
    rules.sort();
    Ok(rules)
}

/// Tells whether this backend's database certainly has no leases, even if the rest of its tables can't be read.
pub fn has_no_leases(patience: Duration) -> bool {
    let leases = read_committed(patience, |reader| match catalog::schema() {
        Some(schema) => leases::read(reader, &schema),
        None => Ok(Vec::new()),
    });
    leases.is_ok_and(|leases| leases.is_empty())
}
