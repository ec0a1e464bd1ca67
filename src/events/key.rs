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
    /// Leaves the key to the columns' defaults, by which each row is a run of its own: without the library preloaded
    /// nothing counts.
    pub const DEFAULT: Key = Key {
        run: None,
        number: None,
    };

    /// Returns the key of the next row.
    pub fn next() -> Key {
        let (run, number) = memory::write(|ledger| (ledger.head.run, ledger.next_number()));
        Key {
            run: Some(run_text(run)),
            number: Some(number.to_string()),
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
