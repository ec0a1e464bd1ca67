//! The rules in force, copied out of the ledger.

use super::access::read;
use super::shared::Shared;
use crate::core::ledger::Ledger;
use crate::core::ledger::database::{Database, Viewpoint};
use crate::core::ledger::numbers::{DatabaseOid, Generation};
use crate::core::ledger::rules::Rules;
use crate::core::ledger::table::Table;
use crate::pg::backend;
use crate::settings;

/// Returns what this process must know to judge whether rules are current.
pub fn viewpoint() -> Viewpoint {
    let in_recovery = backend::in_recovery();
    Viewpoint {
        // Only on a standby do rules age.
        now: if in_recovery { backend::now() } else { 0 },
        in_recovery,
        exempt_superusers: settings::exempt_superusers(),
    }
}

/// Tells whether the rules in force for a database are current.
pub fn are_current(database: DatabaseOid) -> bool {
    let view = viewpoint();
    read(|ledger| ledger.is_current(database, view))
}

/// Returns the rules in force for a database, if they are current.
pub fn current(database: DatabaseOid) -> Option<Rules> {
    let view = viewpoint();
    copy(database, |ledger| ledger.is_current(database, view))
}

/// Returns the rules in force for a database, current or not; `None` if none were ever read.
pub fn last_in_force(database: DatabaseOid) -> Option<Rules> {
    copy(database, |_| true)
}

/// Returns the rules in force for a database, if they were read after this generation was noted. A session that noted
/// it, or read it in others, may be judged by these even if a change has come since: where changes come faster than
/// rules are read, nobody would ever be judged by current ones.
pub fn at_least(database: DatabaseOid, generation: Generation) -> Option<Rules> {
    let view = viewpoint();
    let rules = copy(database, |ledger| {
        ledger.is_as_new_as(database, generation, view)
    })?;
    Some(Rules {
        outdated: true,
        ..rules
    })
}

fn copy(database: DatabaseOid, may: impl Fn(&Ledger<'static, Shared>) -> bool) -> Option<Rules> {
    let mut rules = Rules::default();
    rules.licenses.reserve(4);
    rules.exemptions.reserve(8);
    loop {
        let (copied, rows) = read(|ledger| {
            if !may(ledger) {
                return (None, None);
            }
            let copied = ledger.copy_rules(database, &mut rules);
            (copied, Some(ledger.rows(database)))
        });
        if copied.is_some() {
            return Some(rules);
        }
        let (licenses, exemptions, roles) = rows?;
        if rules.licenses.capacity() >= licenses
            && rules.exemptions.capacity() >= exemptions
            && rules.reserved_roles.capacity() >= roles
        {
            return None;
        }
        rules.licenses.reserve(licenses);
        rules.exemptions.reserve(exemptions);
        rules.reserved_roles.reserve(roles);
    }
}

/// Returns what is known of a database.
pub fn known(database: DatabaseOid) -> Option<Database> {
    read(|ledger| ledger.databases.get(&database).copied())
}
