//! The rules of a database: its licenses, exemptions and reservations, and what they make of a session.

use std::net::IpAddr;

use crate::core::ledger::bar::StoredBar;
use crate::core::ledger::identity::{Host, LeaseId, Name, Text, Who};
use crate::core::ledger::license::{License, RowKey};
use crate::core::ledger::numbers::{DatabaseOid, Generation, RoleOid};
use crate::core::ledger::reservation::Reservation;
use crate::core::ledger::roles::{RoleIn, Roles};
use crate::core::ledger::seat::{Exempt, Standing};
use crate::core::ledger::session::Session;
use crate::core::ledger::table::entry;
use crate::core::ledger::time::Timestamp;
use crate::core::ledger::words::ClaimedAt;

/// The numbers of a database's rows, by table.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct RuleCounts {
    /// Rows of `licenses`.
    pub licenses: usize,
    /// Rows of `license_reservations`.
    pub reservations: usize,
    /// Rows of `license_bars`.
    pub bars: usize,
    /// Rows of `license_exemptions`.
    pub exemptions: usize,
}

impl RuleCounts {
    /// Returns the number of rows in all.
    pub fn all(&self) -> usize {
        self.licenses + self.reservations + self.bars + self.exemptions
    }

    pub(super) fn and(self, other: RuleCounts) -> RuleCounts {
        RuleCounts {
            licenses: self.licenses + other.licenses,
            reservations: self.reservations + other.reservations,
            bars: self.bars + other.bars,
            exemptions: self.exemptions + other.exemptions,
        }
    }

    pub(super) fn without(self, other: RuleCounts) -> RuleCounts {
        RuleCounts {
            licenses: self.licenses.saturating_sub(other.licenses),
            reservations: self.reservations.saturating_sub(other.reservations),
            bars: self.bars.saturating_sub(other.bars),
            exemptions: self.exemptions.saturating_sub(other.exemptions),
        }
    }

    /// Returns the most important rows that fit into `room`. `None` if not even all licenses do.
    pub(super) fn within(self, room: usize) -> Option<RuleCounts> {
        let mut left = room.checked_sub(self.licenses)?;
        let mut part = |rows: usize| {
            let rows = rows.min(left);
            left -= rows;
            rows
        };
        Some(RuleCounts {
            licenses: self.licenses,
            reservations: part(self.reservations),
            bars: part(self.bars),
            exemptions: part(self.exemptions),
        })
    }
}

/// What was read from a database's tables.
#[derive(Debug, Default)]
pub struct Rules {
    /// The database's generation before they were read. They are current as long as it stays the same.
    pub generation: Generation,
    /// Whether a change may have come since they were read or copied; whoever has them is judged by them all the same.
    pub outdated: bool,
    /// Whether every change of the tables is certain to be noticed, so that they need not be read again before one.
    pub watched: bool,
    /// Whether they were read on a standby, where changes arrive unnoticed.
    pub in_recovery: bool,
    /// Whether superusers are exempt.
    pub exempt_superusers: bool,
    /// When they were read.
    pub read_at: Timestamp,
    /// When they will differ although no table changes; `None` for never.
    pub change_at: Option<Timestamp>,
    /// The database's licenses.
    pub licenses: Vec<License>,
    /// The database's exemptions.
    pub exemptions: Vec<Exemption>,
    /// The bars of the database.
    pub bars: Vec<StoredBar>,
    /// What was counted for its licenses before the server's start; `None` if that is not known.
    pub counts: Option<Vec<Counts>>,
    /// The rows that were left out for want of room.
    pub left_out: RuleCounts,
    /// The database's reservations, as they were read. A copy of the rules in force has none.
    pub reservations: Vec<Reservation>,
    /// The roles that the reservations of all databases name, with their numbers.
    pub reserved_roles: Vec<(u8, Name)>,
    /// How many times those have changed.
    pub roles_edition: u64,
    /// The OID of the table of the database's leases; 0 if none count.
    pub leases_of: u32,
    /// The leases that were read from it, those of one product together, unless the ledger has them already.
    pub leases: Vec<StoredLease>,
}

/// A row of `license_counts`.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// The product.
    pub product: Name,
    /// The most seats that were ever taken.
    pub high_water: i64,
    /// When that was.
    pub high_water_at: Timestamp,
    /// The number of requests that were denied, or would have been but for 'warn'.
    pub denied: u64,
    /// When that count began.
    pub counted_since: Timestamp,
}

/// A row of `license_leases`.
#[derive(Clone, Copy, Debug)]
pub struct StoredLease {
    /// The lease's id.
    pub id: LeaseId,
    /// The lease's product.
    pub product: Name,
    /// The user that it is for. If the host is not an address, its name is in the field of the workstation.
    pub who: Who,
    /// The user's name, if the label has no room for it.
    pub long_name: Option<Text<512>>,
    /// How long it lasts after each heartbeat, in microseconds.
    pub ttl: Timestamp,
    /// The role that took it.
    pub taken_by: RoleOid,
}

/// A row of `license_exemptions`: a role, or hosts.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Exemption {
    /// The database, and the row's index among that database's exemptions.
    pub key: RowKey,
    /// The exempt role's name; empty if hosts are exempt.
    pub role: Name,
    /// The exempt hosts; none if a role is exempt.
    pub hosts: Hosts,
}

entry!(Exemption, key: RowKey);

/// One host, or all of a network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hosts {
    base: Host,
    bits: u8,
}

impl Hosts {
    /// No host.
    pub const NONE: Hosts = Hosts {
        base: Host::NONE,
        bits: 0,
    };

    /// The server's own computer.
    pub const LOCAL: Hosts = Hosts {
        base: Host::LOCAL,
        bits: 0,
    };

    /// Returns the addresses that share their first `bits` with this one. Only the loopback addresses are names of
    /// `local`.
    pub fn new(address: IpAddr, bits: u8) -> Hosts {
        let canonical = address.to_canonical();
        let bits = match (address, canonical) {
            (IpAddr::V6(_), IpAddr::V4(_)) => bits.saturating_sub(96),
            _ => bits,
        };
        let base = Host::of_address(canonical, 0);
        let one = bits == if canonical.is_ipv4() { 32 } else { 128 };
        if one && Host::of_peer(Some((canonical, 0)), None) == Host::LOCAL {
            return Hosts::LOCAL;
        }
        Hosts { base, bits }
    }

    /// Tells whether a session comes from one of these hosts.
    pub fn contain(&self, session: &Session) -> bool {
        if self.base == Host::LOCAL {
            return session.who.host == Host::LOCAL;
        }
        let prefix = |address: u128, width: u32| {
            let drop = width.saturating_sub(u32::from(self.bits));
            address.checked_shr(drop).unwrap_or(0)
        };
        match (self.base.address(), session.address.address()) {
            (Some(IpAddr::V4(base)), Some(IpAddr::V4(address))) => {
                let wide = |a| u128::from(u32::from(a));
                prefix(wide(base), 32) == prefix(wide(address), 32)
            }
            (Some(IpAddr::V6(base)), Some(IpAddr::V6(address))) => {
                prefix(base.into(), 128) == prefix(address.into(), 128)
            }
            _ => false,
        }
    }
}

/// What the ledger must ask the server to judge a session: facts that depend on the system catalogs.
pub trait Facts {
    /// Tells whether a role is the named one or a member of it, as seen from this database.
    fn is_member(&mut self, role: RoleOid, database: DatabaseOid, group: &Name) -> bool;
    /// Tells whether a role is a superuser.
    fn is_superuser(&mut self, role: RoleOid) -> bool;
    /// Tells whether the session's application name is LIKE the pattern.
    fn is_like(&mut self, session: &Session, pattern: &str) -> bool;
}

impl Rules {
    /// Sorts what was read by product, so that a product is found among many. It must be called before anybody is
    /// judged.
    pub fn sort(&mut self) {
        self.licenses
            .sort_unstable_by_key(|license| license.product);
        for (place, license) in (0..).zip(&mut self.licenses) {
            license.key.place = place;
        }
        if let Some(counts) = &mut self.counts {
            counts.sort_unstable_by_key(|counts| counts.product);
        }
    }

    /// Returns the license of a product.
    pub(super) fn license(&self, product: &Name) -> Option<&License> {
        find(&self.licenses, product, |license| license.product)
    }

    /// Returns what these rules make of a session (counting rules 6 and 7).
    pub fn judge(&self, session: &Session, facts: &mut impl Facts) -> Standing {
        Standing {
            exempt: self.exempt(session, facts),
            license: self.claimed(session, facts),
        }
    }

    /// Returns the reserved roles that a role is a member of. A superuser counts as a member of none, although
    /// PostgreSQL makes it one of all roles.
    pub fn roles_of(&self, (role, database): RoleIn, facts: &mut impl Facts) -> Roles {
        let mut roles = Roles::NONE;
        if !self.reserved_roles.is_empty() && !facts.is_superuser(role) {
            for (number, name) in &self.reserved_roles {
                if facts.is_member(role, database, name) {
                    roles.add(*number);
                }
            }
        }
        roles
    }

    /// Returns each of these roles with its reserved roles, sorted.
    pub fn members(&self, mut takers: Vec<RoleIn>, facts: &mut impl Facts) -> Vec<(RoleIn, Roles)> {
        takers.sort_unstable();
        takers.dedup();
        let with_its_own = |taker| (taker, self.roles_of(taker, facts));
        takers.into_iter().map(with_its_own).collect()
    }

    fn exempt(&self, session: &Session, facts: &mut impl Facts) -> Option<Exempt> {
        if session.superuser && self.exempt_superusers {
            return Some(Exempt::Superuser);
        }
        if session.replication {
            return Some(Exempt::Replication);
        }
        if session.superuser {
            // Where superusers count, no other exemption applies to them, because they are members of all roles.
            return None;
        }
        self.exemptions.iter().find_map(|exemption| {
            if exemption.role.is_empty() {
                exemption.hosts.contain(session).then_some(Exempt::Host)
            } else {
                facts
                    .is_member(session.who.role, session.database, &exemption.role)
                    .then_some(Exempt::Role)
            }
        })
    }

    /// Returns the license that a login claims (counting rule 7): the one with the longest matching pattern, else the
    /// one without a pattern. Of patterns of one length, the first product in the order of bytes wins.
    fn claimed(&self, session: &Session, facts: &mut impl Facts) -> Option<u32> {
        let mut best: Option<&License> = None;
        for license in &self.licenses {
            let pattern = license.application_name.as_str();
            if license.claimed_at != ClaimedAt::Login
                || !pattern.is_empty() && !facts.is_like(session, pattern)
            {
                continue;
            }
            let rank = |l: &License| {
                let length = l.application_name.as_bytes().len();
                (std::cmp::Reverse(length), l.product)
            };
            if best.is_none_or(|best| rank(license) < rank(best)) {
                best = Some(license);
            }
        }
        best.map(|license| license.key.place)
    }
}

/// Returns a product's row from rows that are sorted by product.
pub(super) fn find<'a, R>(rows: &'a [R], product: &Name, of: impl Fn(&R) -> Name) -> Option<&'a R> {
    let at = rows.binary_search_by_key(product, of).ok()?;
    rows.get(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(address: &str) -> Session {
        let mut session = Session::FREE;
        if let Ok(address) = address.parse() {
            session.address = Host::of_address(address, 0);
            session.who.host = Host::of_peer(Some((address, 0)), None);
        } else {
            session.who.host = Host::LOCAL;
        }
        session
    }

    fn hosts(address: &str, bits: u8) -> Hosts {
        address.parse().map_or(Hosts::NONE, |a| Hosts::new(a, bits))
    }

    #[test]
    fn a_network_contains_its_addresses() {
        for (network, bits, inside, outside) in [
            ("10.1.0.0", 16, "10.1.255.7", "10.2.0.0"),
            ("10.1.2.3", 32, "10.1.2.3", "10.1.2.4"),
            ("0.0.0.0", 0, "203.0.113.9", "2001:db8::1"),
            ("2001:db8::", 32, "2001:db8:7::1", "2001:db9::1"),
            ("::", 0, "2001:db8::1", "10.0.0.1"),
            ("::ffff:10.1.0.0", 112, "10.1.2.3", "10.2.0.0"),
        ] {
            let network = hosts(network, bits);
            assert!(network.contain(&from(inside)), "{network:?} {inside}");
            assert!(!network.contain(&from(outside)), "{network:?} {outside}");
        }
    }

    #[test]
    fn local_has_many_names() {
        for name in [hosts("127.0.0.1", 32), hosts("::1", 128), Hosts::LOCAL] {
            assert!(name.contain(&from("unix")));
            assert!(name.contain(&from("127.0.0.1")));
            assert!(!name.contain(&from("127.0.0.2")));
        }
        assert!(hosts("127.0.0.0", 8).contain(&from("127.0.0.1")));
        assert!(!hosts("127.0.0.0", 8).contain(&from("unix")));
        assert!(!Hosts::NONE.contain(&from("unix")));
    }
}
