//! The key of an event row: the run, which is new whenever shared memory is created, and a number that is unique in
//! that run. So no two rows collide, whoever writes them, and wherever they come together.

use crate::memory;
use crate::pg::table::Argument;

/// The values of `run` and `number` of a row.
pub struct Key {
    run: Option<String>,
    number: Option<String>,
}

impl Key {
    /// Returns the key of the next row. Without the library nothing counts: then each row is a run of its own, by the
    /// columns' defaults.
    pub fn next() -> Key {
        let next = memory::write(|ledger| (ledger.head.run, ledger.next_number()));
        Key {
            run: next.map(|(run, _)| run_text(run)),
            number: next.map(|(_, number)| number.to_string()),
        }
    }

    /// Returns the key as arguments of a statement.
    pub fn arguments(&self) -> [Argument<'_>; 2] {
        [&self.run, &self.number].map(|text| Argument::Text(text.as_deref()))
    }
}

/// Returns a run as the text of a UUID.
pub fn run_text(run: u128) -> String {
    pgrx::Uuid::from_bytes(run.to_be_bytes()).to_string()
}
