//! Which license a login claims, who is exempt, and the words for a license's state.

use super::server::{
    MINUTE, ROOM, Rows, Server, exempt_hosts, exempt_role, license, session, superuser,
    with_application,
};
use crate::core::ledger::identity::Text;
use crate::core::ledger::license::License;
use crate::core::ledger::numbers::TallyId;
use crate::core::ledger::rules::Hosts;
use crate::core::ledger::seat::Exempt;
use crate::core::ledger::session::Session;
use crate::core::ledger::table::Table;
use crate::core::ledger::words::{ClaimedAt, Enforcement};

const PC1: &str = "10.1.0.1";

fn patterned(product: &str, pattern: &str) -> License {
    License {
        application_name: Text::new(pattern).unwrap(),
        ..license(product, 5)
    }
}

/// Returns the product that a login with this application name claims.
fn claimed(licenses: &[License], application: &str) -> Option<String> {
    let mut server = Server::new(ROOM);
    server.change(1, |rows| rows.licenses = licenses.to_vec());
    let place = server.enters(with_application(session(2, PC1), application));
    server.ledger.with(|l| {
        let seat = l.sessions[place.0].seat?;
        Some(l.tallies.get(&seat.tally).unwrap().product.to_string())
    })
}

#[test]
fn the_longest_pattern_that_matches_wins() {
    let licenses = [
        license("any", 5),
        patterned("short", "Crm%"),
        patterned("long", "Crm Mob%"),
    ];
    assert_eq!(claimed(&licenses, "Crm Mobile").as_deref(), Some("long"));
    assert_eq!(claimed(&licenses, "Crm Desk").as_deref(), Some("short"));
    assert_eq!(claimed(&licenses, "psql").as_deref(), Some("any"));
}

#[test]
fn patterns_of_one_length_are_claimed_in_the_order_of_the_products() {
    let (b, a) = (patterned("b", "Crm%"), patterned("a", "C_m%"));
    assert_eq!(claimed(&[b, a], "Crm").as_deref(), Some("a"));
    assert_eq!(claimed(&[a, b], "Crm").as_deref(), Some("a"));
}

#[test]
fn without_a_matching_pattern_and_a_row_for_all_no_license_is_claimed() {
    assert_eq!(claimed(&[patterned("crm", "Crm%")], "psql"), None);
    assert_eq!(claimed(&[], "psql"), None);
}

#[test]
fn a_license_claimed_at_checkout_is_never_claimed_by_a_login() {
    let checkout = License {
        claimed_at: ClaimedAt::Checkout,
        ..patterned("crm", "Crm%")
    };
    assert_eq!(claimed(&[checkout], "Crm"), None);
    let licenses = [checkout, license("any", 5)];
    assert_eq!(claimed(&licenses, "Crm").as_deref(), Some("any"));
}

fn exempt(rows: Rows, session: Session) -> Option<Exempt> {
    let mut server = Server::new(ROOM);
    server.change(1, |r| *r = rows);
    let place = server.enters(session);
    let exempt = server.ledger.sessions[place.0].exempt;
    assert_eq!(server.seats_taken(), usize::from(exempt.is_none()));
    exempt
}

#[test]
fn exempt_sessions_take_no_seat() {
    let rows = || Rows {
        licenses: vec![license("crm", 1)],
        exemptions: vec![
            exempt_role("batch"),
            exempt_hosts(Hosts::LOCAL),
            exempt_hosts(Hosts::new([10, 1, 0, 0].into(), 16)),
        ],
        ..Rows::default()
    };
    let far = "10.2.0.1";
    assert_eq!(exempt(rows(), session(3, far)), Some(Exempt::Role));
    assert_eq!(exempt(rows(), session(2, "local")), Some(Exempt::Host));
    assert_eq!(exempt(rows(), session(2, PC1)), Some(Exempt::Host));
    assert_eq!(exempt(rows(), session(2, far)), None);
    assert_eq!(exempt(rows(), superuser(1, far)), Some(Exempt::Superuser));
    let standby = Session {
        replication: true,
        ..session(2, far)
    };
    assert_eq!(exempt(rows(), standby), Some(Exempt::Replication));
}

#[test]
fn an_exempt_session_is_admitted_to_a_full_license_and_knows_which_it_would_claim() {
    let mut server = Server::with_license(license("crm", 0));
    server.change(1, |rows| rows.exemptions.push(exempt_role("batch")));
    let place = server.enters(session(3, PC1));
    assert_ne!(server.ledger.sessions[place.0].tally, TallyId::NONE);
    // It counts as soon as it is exempt no longer.
    server.change(1, |rows| rows.exemptions.clear());
    server.load(1);
    assert_eq!(server.in_use("crm"), 1);
}

/// Returns ten seats, and two of overdraft.
fn ten() -> License {
    License {
        overdraft: 2,
        ..license("crm", 10)
    }
}

#[test]
fn the_status_is_the_first_word_that_holds() {
    use Enforcement::{Off, On, Warn};
    let now = 10 * MINUTE;
    let from = |at| License {
        valid_from: Some(at),
        ..ten()
    };
    let until = |at| License {
        valid_until: Some(at),
        admits_until: Some(at + 2 * MINUTE),
        ..ten()
    };
    let soft = |enforcement| License {
        enforcement,
        ..ten()
    };
    let (past, over) = (until(now - 2 * MINUTE), 13);
    for (license, in_use, server, word) in [
        (soft(Off), over, On, "not enforced"),
        (soft(Warn), over, On, "not enforced"),
        (past, over, Warn, "not enforced"),
        (past, over, On, "expired"),
        (from(now + 1), over, On, "not yet valid"),
        (from(now), over, On, "over"),
        (ten(), over, On, "over"),
        (ten(), 12, On, "overdraft"),
        (ten(), 11, On, "overdraft"),
        (until(now - MINUTE), 11, On, "overdraft"),
        (until(now - MINUTE), 10, On, "full"),
        (ten(), 10, On, "full"),
        (until(now), 9, On, "grace"),
        (until(now + 1), 9, On, "warning"),
        (ten(), 9, On, "warning"),
        (ten(), 8, On, "ok"),
        (
            License {
                seats: None,
                ..ten()
            },
            999,
            On,
            "unlimited",
        ),
        (
            License {
                seats: None,
                ..until(now)
            },
            999,
            On,
            "grace",
        ),
    ] {
        assert_eq!(
            license.status(in_use, server, now),
            word,
            "{in_use} in use, {server:?}, {license:?}"
        );
    }
}
