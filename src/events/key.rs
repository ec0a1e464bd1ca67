//! The key of a row of the audit trail: the run, which is new whenever shared memory is made anew, and a number that
//! nothing else of that run has. So no two rows collide, whoever writes them, and wherever they come together.

use crate::memory;
use crate::pg::table::Argument;

/// What a row has in `run` and `number`.
pub struct Key {
    run: Option<String>,
    number: Option<String>,
}

impl Key {
    /// That of the next row. Where no library counts each row is a run of its own, by the columns' defaults.
    pub fn next() -> Key {
        let next = memory::write(|ledger| (ledger.head.run, ledger.next_number()));
        Key {
            run: next.map(|(run, _)| run_text(run)),
            number: next.map(|(_, number)| number.to_string()),
        }
    }

    /// Returns it as a statement's arguments.
    pub fn arguments(&self) -> [Argument<'_>; 2] {
        [&self.run, &self.number].map(|text| Argument::Text(text.as_deref()))
    }
}

/// A run as a UUID is written.
pub fn run_text(run: u128) -> String {
    pgrx::Uuid::from_bytes(run.to_be_bytes()).to_string()
}
