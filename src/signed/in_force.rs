//! The license of a product that is in force in this database, signed or not.

use crate::core::ledger::license::License;
use crate::core::ledger::numbers::TallyId;
use crate::memory;
use crate::pg::backend;

/// Lets nobody take more seats of a product than these, whatever was read before.
pub fn withdraw(product: &str, left: i64) {
    let tally = in_force(product).map_or(TallyId::NONE, |license| license.tally);
    memory::write(|ledger| ledger.withdraw(tally, left));
    memory::wake_launcher();
}

/// Returns the license of a product that is in force in this database.
pub fn in_force(product: &str) -> Option<License> {
    let rules = memory::rules::last_in_force(backend::database())?;
    let mut licenses = rules.licenses.into_iter();
    licenses.find(|license| license.product.as_str() == product)
}

/// Outdates the rules of all databases, because they were read before the record was changed.
pub fn outdate() {
    memory::write(|ledger| ledger.outdate_all());
    memory::wake_launcher();
}
