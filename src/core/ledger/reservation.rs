//! A row of `license_reservations`.

use crate::core::ledger::identity::Name;
use crate::core::ledger::license::RowKey;
use crate::core::ledger::numbers::TallyId;
use crate::core::ledger::table::entry;

/// A row of `license_reservations`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Reservation {
    /// The database, and the row's index among that database's reservations.
    pub key: RowKey,
    /// The tally of its product; 0 if the product is not licensed.
    pub tally: TallyId,
    /// The product's name.
    pub product: Name,
    /// The role's name.
    pub role: Name,
    /// The number of seats kept for the role's members.
    pub reserved: i32,
    /// The most seats that its members may use; `None` if they have no limit of their own.
    pub max_seats: Option<i32>,
    /// The role's number.
    pub number: u8,
    /// Whether several people share the role.
    pub shared: bool,
}

entry!(Reservation, key: RowKey);
