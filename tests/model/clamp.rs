//! Rows under a token.

use super::server::license;
use crate::core::ledger::clamp::clamp;
use crate::core::ledger::identity::{Name, Text};
use crate::core::ledger::license::{License, Tampered};
use crate::core::ledger::words::{ClaimedAt, CountedBy, Enforcement};

fn names(tampered: Tampered) -> Vec<&'static str> {
    tampered.names().collect()
}

/// Returns "crm" with ten seats of ten, for a time.
fn signed() -> License {
    License {
        purchased: Some(10),
        valid_from: Some(100),
        valid_until: Some(200),
        admits_until: Some(250),
        max_per_user: Some(3),
        ..license("crm", 10)
    }
}

#[test]
fn a_row_may_ask_for_less() {
    for row in [
        signed(),
        License {
            seats: Some(0),
            purchased: Some(3),
            max_per_user: Some(2),
            ..signed()
        },
        License {
            valid_from: Some(150),
            valid_until: Some(160),
            admits_until: Some(160),
            ..signed()
        },
        License {
            counted_by: CountedBy::Session,
            ..signed()
        },
    ] {
        assert_eq!(names(clamp(&row, &signed()).1), [""; 0]);
        assert_eq!(clamp(&row, &signed()).0.seats, row.seats);
    }
}

#[test]
fn what_asks_for_more_is_named_and_gets_what_was_signed() {
    type Claim = fn(&mut License);
    let claims: [(&str, Claim); 16] = [
        ("seats", |row| row.seats = Some(11)),
        ("seats", |row| row.seats = None),
        ("purchased", |row| row.purchased = None),
        ("max_per_user", |row| row.max_per_user = Some(4)),
        ("max_per_user", |row| row.max_per_user = None),
        ("valid_from", |row| row.valid_from = Some(99)),
        ("valid_from", |row| row.valid_from = None),
        ("valid_until", |row| row.valid_until = None),
        ("grace", |row| row.admits_until = Some(251)),
        ("overdraft", |row| row.overdraft = 1),
        ("enforcement", |row| row.enforcement = Enforcement::Warn),
        ("counted_by", |row| row.counted_by = CountedBy::Host),
        ("claimed_at", |row| row.claimed_at = ClaimedAt::Checkout),
        ("application_name", |row| {
            row.application_name = Text::new("x%").unwrap();
        }),
        ("pool", |row| row.pool = Name::new("x").unwrap()),
        ("counted_by", |row| {
            row.counted_by = CountedBy::UserWorkstation
        }),
    ];
    for (column, claim) in claims {
        let mut row = signed();
        claim(&mut row);
        let (license, tampered) = clamp(&row, &signed());
        assert_eq!(names(tampered), [column]);
        assert_eq!(format!("{license:?}"), format!("{:?}", signed()));
    }
}

#[test]
fn without_limits_everything_is_less() {
    let unlimited = License {
        seats: None,
        purchased: None,
        valid_from: None,
        valid_until: None,
        admits_until: None,
        max_per_user: None,
        ..signed()
    };
    assert!(clamp(&signed(), &unlimited).1.is_empty());
    assert_eq!(names(clamp(&unlimited, &signed()).1).len(), 6);
}
