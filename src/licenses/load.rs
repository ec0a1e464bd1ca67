//! Reads a database's tables and puts what they say in force.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::signed::{self, Book};
use crate::ending::bars;
use crate::events::counts;
use crate::lease::rows;
use crate::ledger::event::Level;
use crate::ledger::identity::{Name, Text};
use crate::ledger::license::{ClaimedAt, CountedBy, Enforcement, License, RowKey};
use crate::ledger::reservation::Reservation;
use crate::ledger::rules::{Exemption, Hosts, Rules};
use crate::ledger::session::{NO_TALLY, Session, Standing};
use crate::ledger::table::Table;
use crate::ledger::{Judgement, Published};
use crate::pg::backend;
use crate::pg::catalog::{self, Catalog};
use crate::pg::error::{self, PgLogLevel, PgSqlErrorCode, Report, quoted};
use crate::pg::table::{ReadError, Reader, Row, damaged, read_committed};
use crate::{memory, settings};

/// Why no rules could be put in force.
#[derive(Debug)]
pub enum LoadError {
    /// The tables can't be read now: somebody holds a lock on them, or they are damaged.
    Unreadable(String),
    /// The ledger has no room for them.
    NoRoom,
    /// The reservations of all databases name too many roles.
    TooManyRoles,
}

/// Reads the tables of this backend's database and puts the rules in force, waiting for locks, and
/// for a moment without changes, at most `patience`.
pub fn load(database: u32, patience: Duration) -> Result<Rules, LoadError> {
    let deadline = Instant::now() + patience;
    let mut left = patience;
    loop {
        let generation = memory::write(|ledger| ledger.generation(database)).flatten();
        let mut rules = read_committed(left, read).map_err(|error| {
            LoadError::Unreadable(match error.code {
                PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE => {
                    "somebody holds a lock on the tables".to_owned()
                }
                _ => error.message,
            })
        })?;
        let Some(generation) = generation else {
            // Where there is no room to note the database, it has no license or no users.
            return if rules.licenses.is_empty() {
                Ok(rules)
            } else {
                Err(LoadError::NoRoom)
            };
        };
        rules.generation = generation;
        if !rules.watched && backend::has_written() {
            let cause = "this transaction may have changed them, unnoticed by their triggers";
            return Err(LoadError::Unreadable(cause.to_owned()));
        }
        match publish(database, &mut rules, deadline) {
            Published::InForce { disagreement } => {
                memory::announce_rules_read();
                if let Some(product) = disagreement {
                    warn_of_disagreement(product);
                }
                log_bars_left(database);
                return Ok(rules);
            }
            Published::NoRoom => return Err(LoadError::NoRoom),
            Published::TooManyRoles => return Err(LoadError::TooManyRoles),
            Published::Outdated | Published::Unjudged => {}
        }
        left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(LoadError::Unreadable("they change too fast".to_owned()));
        }
    }
}

/// Judges the sessions of the database by the rules, and puts them in force: again until the deadline
/// where others come meanwhile.
fn publish(database: u32, rules: &mut Rules, deadline: Instant) -> Published {
    loop {
        let planned = memory::read(|ledger| ledger.plan_roles(database, &rules.reservations));
        let Some(reserved_roles) = planned.flatten() else {
            return Published::TooManyRoles;
        };
        rules.reserved_roles = reserved_roles.each().collect();
        let judge = |session: &Session| {
            if session.number != 0 && session.database == database {
                (session.number, rules.judge(session, &mut Catalog))
            } else {
                (0, Standing::default())
            }
        };
        let sessions = memory::sessions();
        let judgement = Judgement {
            standings: sessions.iter().map(judge).collect(),
            by_login: rules.by_login(&sessions),
            members: rules.members(roles(rules), &mut Catalog),
        };
        let now = backend::now();
        let published = memory::write(|ledger| ledger.publish(database, rules, &judgement, now))
            .unwrap_or(Published::NoRoom);
        if published != Published::Unjudged || Instant::now() >= deadline {
            return published;
        }
    }
}

/// The roles of all who are in and of the leases that were read, where anything is reserved.
fn roles(rules: &Rules) -> Vec<u32> {
    let mut roles = Vec::new();
    if rules.reserved_roles.is_empty() {
        return roles;
    }
    // Under the lock nothing is allocated: room is made before, until it is enough.
    while let Some(holders) = memory::read(|ledger| ledger.holders()) {
        roles.reserve(holders);
        let copied = memory::read(|ledger| {
            let enough = roles.capacity() >= ledger.holders();
            if enough {
                ledger.each_role(|role, _| roles.push(role));
            }
            enough
        });
        if copied != Some(false) {
            break;
        }
    }
    roles.extend(rules.leases.iter().map(|lease| lease.who.role));
    roles
}

fn warn_of_disagreement(product: Name) {
    Report::new(
        PgSqlErrorCode::ERRCODE_WARNING,
        format!(
            "databases of one pool count {} by different rules",
            quoted(product)
        ),
    )
    .detail("The rule that gives most seats is in force for all of them.")
    .hint("Set licenses.counted_by to the same value in every database of the pool.")
    .log(PgLogLevel::WARNING);
}

/// Who was stopped is not kept out where the ledger has no room to know of it.
fn log_bars_left(database: u32) {
    let known = memory::read(|ledger| ledger.databases.get(&database).map(|known| known.bars_left));
    if let Some(left) = known.flatten().filter(|&left| left > 0) {
        error::log(format!(
            "pg_seats has no room for {left} rows of license_bars of database {}, which bar nobody: \
             delete those that are no longer needed",
            quoted(catalog::database_name(database))
        ));
    }
}

/// The triggers that notice every change: two for each of six tables in sql/.
const TRIGGERS: i64 = 12;

fn read(reader: &Reader) -> Result<Rules, ReadError> {
    let mut rules = Rules {
        in_recovery: backend::in_recovery(),
        exempt_superusers: settings::exempt_superusers(),
        read_at: backend::now(),
        // Where there is no extension, its coming is noticed.
        watched: true,
        counts: (!backend::in_recovery()).then(Vec::new),
        ..Rules::default()
    };
    let Some(schema) = catalog::schema() else {
        return Ok(rules);
    };
    let count = |triggers: &Row| Ok(triggers.number(1).unwrap_or(0));
    let watching = reader.query(
        &format!(
            "SELECT count(*) FROM pg_trigger WHERE tgenabled = 'A'
                AND tgname IN ('license_change', 'license_truncate')
                AND tgrelid IN ('{0}.licenses'::regclass, '{0}.license_exemptions'::regclass,
                                '{0}.license_reservations'::regclass, '{0}.license_bars'::regclass,
                                '{0}.license_keys'::regclass, '{0}.license_allotments'::regclass)",
            schema.replace('\'', "''")
        ),
        count,
    )?;
    rules.watched = watching == [TRIGGERS];
    rules.licenses = reader.query(
        // ONLY: changes of a table that inherits from it would not be noticed.
        &signed::columns(&format!("ONLY {schema}.licenses")),
        license,
    )?;
    let book = Book::read(reader, &schema)?;
    book.hold(&mut rules.licenses)?;
    rules.change_at = book.changes_at();
    rules.exemptions = reader.query(
        &format!(
            "SELECT kind, value,
                    CASE WHEN kind = 'host' AND value <> 'local' THEN host(value::inet) END,
                    CASE WHEN kind = 'host' AND value <> 'local' THEN masklen(value::inet) END
               FROM ONLY {schema}.license_exemptions"
        ),
        exemption,
    )?;
    rules.reservations = reader.query(
        &format!(
            "SELECT product, role, reserved::int, max_seats::int
               FROM ONLY {schema}.license_reservations ORDER BY role"
        ),
        reservation,
    )?;
    for (place, license) in (0..).zip(&mut rules.licenses) {
        license.key.place = place;
    }
    rules.bars = bars::read(reader, &schema)?;
    if !rules.in_recovery {
        // Another server's counts and leases are no business of a standby.
        rules.counts = counts::read(&schema);
        rules.leases_of = leases_table(reader, &schema)?;
        let known = memory::read(|ledger| ledger.leases_of(backend::database()));
        if known != Some(rules.leases_of) {
            rules.leases = rows::read(reader, &schema)?;
            let long_names = rules
                .leases
                .iter()
                .filter(|lease| lease.long_name.is_some());
            let long_names: HashSet<_> = long_names.map(|lease| lease.who.client_user).collect();
            rules.long_names = long_names.len();
        }
    }
    Ok(rules)
}

fn leases_table(reader: &Reader, schema: &str) -> Result<u32, ReadError> {
    let oid = reader.query(
        &format!(
            "SELECT '{}.license_leases'::regclass::oid::bigint",
            schema.replace('\'', "''")
        ),
        |row| Ok(row.number(1).unwrap_or(0) as u32),
    )?;
    oid.first()
        .copied()
        .ok_or_else(|| damaged("license_leases is missing"))
}

pub fn license(row: &Row) -> Result<License, ReadError> {
    fn fitting<const N: usize>(row: &Row, column: i32) -> Result<Text<N>, ReadError> {
        Text::new(row.text(column)?.unwrap_or_default())
            .ok_or_else(|| damaged("a value of licenses is too long"))
    }
    fn word<W>(row: &Row, column: i32, from: fn(&str) -> Option<W>) -> Result<W, ReadError> {
        let text = row.text(column)?.unwrap_or_default();
        from(&text).ok_or_else(|| damaged("a word of licenses is not known"))
    }
    let count = |column| row.number(column).map(|number| number as i32);
    let pattern: Text<128> = fitting(row, 6)?;
    let escapes = pattern
        .as_bytes()
        .iter()
        .rev()
        .take_while(|&&byte| byte == b'\\');
    if escapes.count() % 2 == 1 {
        // LIKE would raise an error, at whoever logs in.
        return Err(damaged("a pattern of licenses ends in an escape character"));
    }
    Ok(License {
        key: RowKey {
            database: backend::database(),
            place: 0,
        },
        tally: 0,
        product: fitting(row, 1)?,
        seats: count(2),
        purchased: count(3),
        counted_by: word(row, 4, CountedBy::from_word)?,
        claimed_at: word(row, 5, ClaimedAt::from_word)?,
        application_name: pattern,
        pool: fitting(row, 7)?,
        enforcement: word(row, 8, Enforcement::from_word)?,
        overdraft: count(9).unwrap_or(0),
        warn_at_percent: count(10).unwrap_or(100),
        valid_from: row.number(11),
        valid_until: row.number(12),
        admits_until: row.number(13),
        linger: row.number(14).unwrap_or(0),
        idle_timeout: row.number(15),
        reclaim_idle_after: row.number(16),
        denied: 0,
        counted_since: 0,
        level: Level::Normal,
        told_ending: None,
        signed: None,
    })
}

fn reservation(row: &Row) -> Result<Reservation, ReadError> {
    let name = |column| {
        Name::new(row.text(column)?.unwrap_or_default())
            .ok_or_else(|| damaged("a name of license_reservations is too long"))
    };
    let count = |column| row.number(column).map(|number| number as i32);
    Ok(Reservation {
        key: RowKey {
            database: backend::database(),
            place: 0,
        },
        tally: NO_TALLY,
        product: name(1)?,
        role: name(2)?,
        reserved: count(3).unwrap_or(0),
        max_seats: count(4),
        number: 0,
    })
}

fn exemption(row: &Row) -> Result<Exemption, ReadError> {
    let value = row.text(2)?.unwrap_or_default();
    let (role, hosts) = if row.text(1)?.as_deref() == Some("role") {
        let role = Name::new(&value).ok_or_else(|| damaged("a role's name is too long"))?;
        (role, Hosts::NONE)
    } else if value == "local" {
        (Name::EMPTY, Hosts::LOCAL)
    } else {
        let address = row.text(3)?.unwrap_or_default();
        let address = address
            .parse()
            .ok()
            .ok_or_else(|| damaged("an exempt host is not an address"))?;
        let bits = row
            .number(4)
            .and_then(|bits| u8::try_from(bits).ok())
            .unwrap_or(128);
        (Name::EMPTY, Hosts::new(address, bits))
    };
    let key = RowKey {
        database: backend::database(),
        place: 0,
    };
    Ok(Exemption { key, role, hosts })
}
