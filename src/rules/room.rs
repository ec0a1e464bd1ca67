//! Warns a transaction that adds rows to the license tables for which there is no room, when it commits. Which rows are
//! in force is decided by the next reading.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use crate::core::ledger::reservation::Reservation;
use crate::core::ledger::roles::ROLES_MAX;
use crate::core::ledger::rules::RuleCounts;
use crate::pg::error::{PgLogLevel, PgSqlErrorCode, Report, quoted};
use crate::pg::table::{ReadError, TableAccess, read_committed};
use crate::pg::{backend, catalog};
use crate::tables::{self, reservations};
use crate::{memory, settings};

/// How long a commit waits for a lock on the tables in order to warn, so that it is not held up.
const PATIENCE: Duration = Duration::from_millis(100);

/// The number of rows that this transaction has added.
static ADDED: AtomicUsize = AtomicUsize::new(0);

/// Notes that a row is added.
pub fn note_added() {
    ADDED.fetch_add(1, Relaxed);
}

/// Forgets which rows a transaction has added.
pub fn forget_added() {
    ADDED.store(0, Relaxed);
}

/// Warns of rows without room when the transaction is about to commit.
pub fn warn() {
    let database = backend::database();
    let added = ADDED.swap(0, Relaxed);
    // Rows are counted only where there may not be enough room.
    if !memory::read(|ledger| ledger.may_lack_room(database, added)) {
        return;
    }
    backend::see_own_changes();
    // If they can't be counted now, the log of the next reading warns.
    let Ok((wanted, roles)) = read_committed(PATIENCE, read) else {
        return;
    };
    let (room, lacking, unnumbered) = memory::read(|ledger| {
        let planned = ledger.plan_roles(database, &roles);
        let numbered = |row: &&Reservation| planned.number(&row.role).is_some();
        let unnumbered = roles.len() - roles.iter().filter(numbered).count();
        (
            ledger.room_for(database, wanted),
            ledger.lacking(database, wanted),
            unnumbered,
        )
    });
    let name = quoted(catalog::database_name(database));
    let max_rules = format!("pg_seats.max_rules is {}.", settings::max_rules());
    let more = "Delete rows that are no longer needed, or increase pg_seats.max_rules and restart the server.";
    match room {
        None => warning(
            format!("the licenses of database {name} do not fit: what was in force stays so"),
            max_rules,
            more,
        ),
        Some(room) if room.all() < wanted.all() => warning(
            format!(
                "{} rows of the license tables of database {name} do not fit, and are not in force",
                wanted.all() - room.all()
            ),
            format!("They are the newest exemptions, then bars and reservations. {max_rules}"),
            more,
        ),
        Some(_) if lacking > 0 => warning(
            format!("the database with most rules loses {lacking} to those of database {name}"),
            format!("They are its newest exemptions, then bars and reservations. {max_rules}"),
            more,
        ),
        Some(_) => {}
    }
    if unnumbered > 0 {
        warning(
            format!(
                "{unnumbered} rows of license_reservations of database {name} are not in force"
            ),
            format!("The reservations of all databases can name {ROLES_MAX} different roles."),
            "Delete rows of license_reservations that are no longer needed.",
        );
    }
}

fn warning(message: String, detail: String, hint: &str) {
    Report::new(
        PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
        message,
    )
    .detail(detail)
    .hint(hint)
    .log(PgLogLevel::WARNING);
}

/// Returns how many rows there are, and the reservations.
fn read(reader: &TableAccess) -> Result<(RuleCounts, Vec<Reservation>), ReadError> {
    let Some(schema) = catalog::schema() else {
        return Ok(Default::default());
    };
    let (licenses, bars, exemptions) = tables::count(reader, &schema)?;
    let reservations = reservations::read(reader, &schema)?;
    let counts = RuleCounts {
        licenses,
        reservations: reservations.len(),
        bars,
        exemptions,
    };
    Ok((counts, reservations))
}
