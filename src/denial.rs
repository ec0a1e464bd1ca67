//! The reports of denials to users, and to the server log: at login, and when an application asks.

use crate::core::ledger::denial::{Cause, Denial, LoadError, Remark};
use crate::core::ledger::identity::Name;
use crate::core::ledger::license::OutOfDates;
use crate::core::ledger::numbers::DatabaseOid;
use crate::holders::{Holders, in_time};
use crate::pg::error::{self, PgSqlErrorCode, Report, quoted};
use crate::pg::{backend, catalog, status};
use crate::{memory, settings};

/// How many holders of seats a denied user is told.
const NAMED_HOLDERS: usize = 3;

/// The occasion of a denial, on which the SQLSTATE depends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// At login, which it ends.
    Login,
    /// When an application asks for a checkout or a lease.
    Call,
}

impl Denied {
    fn code(self, at_login: PgSqlErrorCode) -> PgSqlErrorCode {
        match self {
            Denied::Login => at_login,
            Denied::Call => PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
        }
    }

    /// Returns the report to a user who gets no seat.
    pub fn report(self, denial: &Denial) -> Report {
        use PgSqlErrorCode::{
            ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION, ERRCODE_TOO_MANY_CONNECTIONS,
        };
        // As its owner wrote it, which is safe because it has no control characters.
        let product = format!("\"{}\"", denial.product);
        match denial.cause {
            Cause::Full { .. } | Cause::RoleFull { .. } => Report::new(
                self.code(ERRCODE_TOO_MANY_CONNECTIONS),
                format!("maximum user license count reached for {product}"),
            )
            .detail(full(denial))
            .hint(self.way_out(denial.cause))
            .reason(c"license_full"),
            Cause::UserFull { .. } => Report::new(
                self.code(ERRCODE_TOO_MANY_CONNECTIONS),
                format!("maximum seats of one user reached for {product}"),
            )
            .detail(format!("{}.", figures(denial.cause, ["is", "are"])))
            .hint(self.way_out(denial.cause))
            .reason(c"license_user_limit"),
            Cause::OutOfDates(OutOfDates::Expired(until)) => Report::new(
                self.code(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
                format!(
                    "license for {product} expired on {}",
                    catalog::timestamp_text(until)
                ),
            )
            .hint("An administrator must renew the license.")
            .reason(c"license_expired"),
            Cause::OutOfDates(OutOfDates::NotYetValid(from)) => Report::new(
                self.code(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
                format!(
                    "license for {product} is not valid before {}",
                    catalog::timestamp_text(from)
                ),
            )
            .hint("Come back when the license is valid, or ask an administrator for another one.")
            .reason(c"license_not_yet_valid"),
            Cause::OutOfDates(OutOfDates::NotVerified(until)) => Report::new(
                self.code(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
                format!("license for {product} could not be verified"),
            )
            .detail(format!(
                "What was signed was believed until {}.",
                catalog::timestamp_text(until)
            ))
            .hint("An administrator must look at license_keys_status, and restore the vendor's key or install a license for this server.")
            .reason(c"license_not_verified"),
            Cause::Barred { until } => Report::new(
                self.code(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
                match until {
                    Some(until) => format!(
                        "an administrator has barred you from {product} until {}",
                        catalog::timestamp_text(until)
                    ),
                    None => format!("an administrator is stopping your sessions of {product}"),
                },
            )
            .hint(match until {
                Some(_) => "Ask the administrator, or come back then.",
                None => "Try again in a moment.",
            })
            .reason(c"license_barred"),
            Cause::TableFull => self.table_full(),
            Cause::TooManyUsers { most } => Report::new(
                PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
                format!("one session can hold seats for at most {most} users"),
            )
            .hint(
                "Give back what you hold for others, or take leases for the users of an application: \
                 license_lease(). An administrator may raise pg_seats.max_users_per_session.",
            )
            .reason(c"license_session_limit"),
        }
    }

    /// Returns the hint that says what would make room.
    fn way_out(self, cause: Cause) -> &'static str {
        match (cause, self) {
            (Cause::RoleFull { .. }, Denied::Login) => {
                "A member of the role must log out before another can log in, \
                 or an administrator must raise the role's max_seats."
            }
            (Cause::RoleFull { .. }, Denied::Call) => {
                "A member of the role must log out or give back a seat, \
                 or an administrator must raise the role's max_seats."
            }
            (Cause::UserFull { .. }, Denied::Login) => {
                "Log out where you work no longer, \
                 or have an administrator raise the license's max_per_user."
            }
            (Cause::UserFull { .. }, Denied::Call) => {
                "Log out where you work no longer, or give back a seat there, \
                 or have an administrator raise the license's max_per_user."
            }
            (Cause::Full { kept: 1.., .. }, Denied::Login) => {
                "Someone whose seat is not reserved must log out before another user can log in, \
                 or an administrator must raise the number of seats or reserve fewer."
            }
            (Cause::Full { kept: 1.., .. }, Denied::Call) => {
                "Someone whose seat is not reserved must log out or give back a seat, \
                 or an administrator must raise the number of seats or reserve fewer."
            }
            (_, Denied::Login) => {
                "Someone must log out before another user can log in, \
                 or an administrator must raise the number of seats."
            }
            (_, Denied::Call) => {
                "Someone must log out or give back a seat, \
                 or an administrator must raise the number of seats."
            }
        }
    }

    fn table_full(self) -> Report {
        Report::new(
            self.code(PgSqlErrorCode::ERRCODE_TOO_MANY_CONNECTIONS),
            "the server has no room for more license seats",
        )
        .detail(format!("pg_seats.max_seats is {}.", settings::max_seats()))
        .hint("An administrator must increase pg_seats.max_seats and restart the server.")
        .reason(c"license_table_full")
    }

    /// Returns the report to a user whose database's licenses could not be loaded.
    pub fn not_loaded(self, database: DatabaseOid, error: LoadError) -> Report {
        match error {
            LoadError::NoRoom => self.table_full(),
            _ => Report::new(
                PgSqlErrorCode::ERRCODE_CANNOT_CONNECT_NOW,
                format!(
                    "could not load licenses of database {}",
                    quoted(catalog::database_name(database))
                ),
            )
            .detail(format!("The cause: {}.", error.cause()))
            .hint(match error {
                LoadError::TooManyRules => {
                    "An administrator must delete rows of the license tables, \
                     or increase pg_seats.max_rules and restart the server."
                }
                _ => {
                    "Try again in a moment; if it persists, \
                     an administrator must look at the license tables."
                }
            })
            .reason(c"license_not_loaded"),
        }
    }
}

/// Returns the report to a user whose workstation's name is invalid, worded as PostgreSQL refuses a setting.
pub fn bad_workstation(bad: &BadWorkstation) -> Report {
    Report::new(
        PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        format!(
            "invalid value for parameter \"pg_seats.workstation\": {}",
            quoted(bad.shown)
        ),
    )
    .detail(bad.cause.as_str())
    .hint(
        "Have the client send a shorter name, in the database's encoding; \
         in UTF-8 where that is SQL_ASCII.",
    )
}

/// Writes to the server log what an administrator should know of somebody who got a seat.
pub fn log(who: impl FnOnce() -> String, remark: Remark) {
    match remark {
        Remark::None => {}
        Remark::Overdraft(Denial { product, cause, .. }) => {
            error::log(format!(
                "overdraft of license {} by {}: {}",
                quoted(product),
                who(),
                figures(cause, ["was", "were"])
            ));
        }
        Remark::WouldBeDenied(Denial { product, cause, .. }) => error::log(format!(
            "license {} would have denied {}: {}",
            quoted(product),
            who(),
            figures(cause, ["was", "were"])
        )),
    }
}

/// Writes to the server log that somebody was denied who got no error.
pub fn log_denial(who: &str, denial: &Denial) {
    error::log(format!(
        "license {} denied {who}: {}",
        quoted(denial.product),
        figures(denial.cause, ["was", "were"])
    ));
}

/// Returns the figures of a denial, in the present tense or in the past.
fn figures(cause: Cause, [is, are]: [&str; 2]) -> String {
    match cause {
        Cause::Full {
            in_use,
            limit,
            kept,
        } => {
            let count = format!("{in_use} of {limit} seats {are} in use");
            match kept {
                0 => count,
                1 => format!("{count}, and 1 {is} reserved"),
                _ => format!("{count}, and {kept} {are} reserved"),
            }
        }
        Cause::RoleFull {
            number,
            in_use,
            limit,
        } => {
            let role = memory::read(|ledger| ledger.head.reserved_roles.name(number));
            let role = quoted(role.unwrap_or(Name::EMPTY));
            format!("{in_use} of {limit} seats for members of role {role} {are} in use")
        }
        Cause::UserFull { in_use, limit } => {
            format!("{in_use} of {limit} seats of one user {are} in use")
        }
        Cause::OutOfDates(OutOfDates::Expired(until)) => {
            format!("it expired on {}", catalog::timestamp_text(until))
        }
        Cause::OutOfDates(OutOfDates::NotYetValid(from)) => {
            format!("it is not valid before {}", catalog::timestamp_text(from))
        }
        Cause::OutOfDates(OutOfDates::NotVerified(until)) => {
            format!(
                "it can't be verified, and was believed until {}",
                catalog::timestamp_text(until)
            )
        }
        Cause::Barred { .. } => "an administrator has barred them".to_owned(),
        Cause::TableFull => "the server has no room for more seats".to_owned(),
        Cause::TooManyUsers { most } => {
            format!("the session holds seats for {most} users")
        }
    }
}

fn full(denial: &Denial) -> String {
    let count = format!("{}.", figures(denial.cause, ["is", "are"]));
    if !settings::denial_names_holders() {
        return count;
    }
    match idle_holders(denial).as_slice() {
        [] => count,
        [holder] => format!("{count} Idle longest: {holder}."),
        holders => format!("{count} Idle longest: {}.", holders.join(", ")),
    }
}

/// Returns the names of those whose seats have been idle longest, one name for all holders of a seat. If a role's seats
/// are all in use, only its members are named.
fn idle_holders(denial: &Denial) -> Vec<String> {
    let (activities, now) = in_time(status::activities());
    let only = match denial.cause {
        Cause::RoleFull { number, .. } => Some(number),
        _ => None,
    };
    let holders = Holders::of(|tally| tally == denial.tally);
    let mut idle: Vec<_> = holders
        .seats()
        .filter(|seat| only.is_none_or(|number| seat.roles.contain(number)))
        .map(|seat| (seat.last_active(&activities, now), seat))
        .filter(|(since, _)| *since < now)
        .collect();
    idle.sort_by_key(|(since, _)| *since);
    let mut names = Vec::with_capacity(NAMED_HOLDERS);
    for (_, seat) in idle {
        if names.len() == NAMED_HOLDERS {
            break;
        }
        let name = seat.name();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// A workstation's name that is invalid, because another one could look the same.
pub struct BadWorkstation {
    /// The cause, as a sentence.
    pub cause: String,
    /// The part of it that can be shown.
    pub shown: Name,
}

/// Returns the error for a product that is not licensed in this database.
pub fn unlicensed_report(product: &str) -> Report {
    unknown_product(&format!("product {} is not licensed", quoted(product)))
}

/// Returns an error, in these words, for a product that is not known in this database.
pub fn unknown_product(message: &str) -> Report {
    Report::new(
        PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
        format!("{message} in database {}", quoted(catalog::database_name(backend::database()))),
    )
    .hint("The view license_usage has the products; an administrator adds them to the table licenses.")
}
