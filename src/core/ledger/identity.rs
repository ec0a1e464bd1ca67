//! What makes two connections the same user: names, hosts, and the identity that each counting rule makes of them.
//!
//! Everything here lives in shared memory and serves as a hash key that is compared byte by byte. So every type is
//! plain data without padding, and unused bytes are zero.

use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::core::ledger::numbers::{RoleOid, SessionNumber};
use crate::core::ledger::words::CountedBy;

/// A lease's id: a random UUID, so that nobody can guess another one.
pub type LeaseId = [u8; 16];

/// The most bytes that a name can have: PostgreSQL's own limit (`NAMEDATALEN - 1`).
pub const NAME_MAX: usize = 63;

/// The most bytes that the name of an application's user can have.
pub const CLIENT_USER_MAX: usize = 511;

/// A text of at most `N - 1` bytes in UTF-8, padded with zeros. It is never cut: what does not fit is refused.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Text<const N: usize>([u8; N]);

/// A name of PostgreSQL's length: of a role, a product, a pool or a workstation.
pub type Name = Text<64>;

impl<const N: usize> Text<N> {
    /// The empty text.
    pub const EMPTY: Self = Self([0; N]);

    /// Returns the text. `None` if it is too long, or has a zero byte, which would make two texts one.
    pub fn new(text: impl AsRef<str>) -> Option<Self> {
        let text = text.as_ref().as_bytes();
        if text.len() >= N || text.contains(&0) {
            return None;
        }
        let mut bytes = [0; N];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        Some(Self(bytes))
    }

    /// Returns the bytes without the padding.
    pub fn as_bytes(&self) -> &[u8] {
        let len = self.0.iter().position(|&b| b == 0).unwrap_or(N);
        self.0.get(..len).unwrap_or_default()
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// Tells whether the text is empty.
    pub fn is_empty(&self) -> bool {
        self.0.first().is_none_or(|&b| b == 0)
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// A text of any length as a key: the text itself if there is room for it, else a digest and its beginning, so that two
/// texts never make one key.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Label([u8; LABEL_MAX + 1]);

/// The most bytes of a text that is its own label: enough for a UUID and nearly every address. More would make every
/// seat larger.
pub const LABEL_MAX: usize = 39;

/// The first byte of a label that is a digest. No text in UTF-8 has this byte.
const DIGEST: u8 = 0xff;

/// The number of bytes that are kept of a SHA-256 digest: as many as a UUID has. The beginning of the text follows.
const DIGEST_LEN: usize = 16;

impl Label {
    /// The label of the empty text.
    pub const EMPTY: Label = Label([0; LABEL_MAX + 1]);

    /// Returns the label of a text without zero bytes.
    pub fn of(text: &str) -> Label {
        let mut label = Label::EMPTY;
        if text.len() <= LABEL_MAX {
            for (to, from) in label.0.iter_mut().zip(text.bytes()) {
                *to = from;
            }
        } else {
            let digest = Sha256::digest(text);
            let digest = digest.iter().take(DIGEST_LEN);
            let beginning = text.floor_char_boundary(LABEL_MAX - DIGEST_LEN);
            let beginning = text.as_bytes().iter().take(beginning);
            let bytes = [DIGEST].iter().chain(digest).chain(beginning);
            for (to, from) in label.0.iter_mut().zip(bytes) {
                *to = *from;
            }
        }
        label
    }

    /// Returns the text, unless it was too long to be kept here.
    pub fn text(&self) -> Option<&str> {
        str::from_utf8(up_to_zero(&self.0))
            .ok()
            .filter(|_| !self.is_digest())
    }

    /// Tells whether it is the label of the empty text.
    pub fn is_empty(&self) -> bool {
        *self == Label::EMPTY
    }

    /// Tells whether it stands for a text that is too long to be kept here.
    pub fn is_digest(&self) -> bool {
        self.0.first() == Some(&DIGEST)
    }

    /// Returns the text as people see it: `whole` if it is given, else the text that is kept here, else the beginning
    /// of the text.
    pub fn shown<'a>(&'a self, whole: Option<&'a Text<512>>) -> Cow<'a, str> {
        match whole.map(Text::as_str).or(self.text()) {
            Some(text) => text.into(),
            None => format!("{}...", String::from_utf8_lossy(self.beginning())).into(),
        }
    }

    /// Returns the beginning of a text that is too long to be kept here.
    fn beginning(&self) -> &[u8] {
        up_to_zero(self.0.get(1 + DIGEST_LEN..).unwrap_or_default())
    }
}

fn up_to_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.shown(None), f)
    }
}

/// The computer at the other end of a connection.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Host {
    /// The family in the highest byte, and below it the interface of a link-local IPv6 address: the same address on two
    /// links is two hosts.
    family_and_zone: u32,
    address: [u8; 16],
}

/// The bits for an interface's number. Linux counts interfaces from 1 on.
const ZONE_BITS: u32 = 24;

const fn in_zone(family: u32, zone: u32) -> u32 {
    family << ZONE_BITS | zone & ((1 << ZONE_BITS) - 1)
}

const FAMILY_LOCAL: u32 = 1;

const FAMILY_NAMED: u32 = 2;

const FAMILY_IPV4: u32 = 4;

const FAMILY_IPV6: u32 = 6;

impl Host {
    /// No host: the part of an identity that a counting rule leaves out.
    pub const NONE: Host = Host {
        family_and_zone: 0,
        address: [0; 16],
    };

    /// The server's own computer, however it is reached.
    pub const LOCAL: Host = Host {
        family_and_zone: in_zone(FAMILY_LOCAL, 0),
        address: [0; 16],
    };

    /// Returns the host of a peer (counting rule 3). `own` is the address of the server's side of the same connection.
    /// A Unix socket has no peer address.
    pub fn of_peer(peer: Option<(IpAddr, u32)>, own: Option<IpAddr>) -> Host {
        let Some((address, zone)) = peer else {
            return Host::LOCAL;
        };
        let address = address.to_canonical();
        let loopback = address == IpAddr::V4(Ipv4Addr::LOCALHOST)
            || address == IpAddr::V6(Ipv6Addr::LOCALHOST);
        if loopback || own.map(|own| own.to_canonical()) == Some(address) {
            return Host::LOCAL;
        }
        Host::of_address(address, zone)
    }

    /// Returns the host at an address, without asking whether it is the server's own.
    pub fn of_address(address: IpAddr, zone: u32) -> Host {
        let mut bytes = [0; 16];
        match address.to_canonical() {
            IpAddr::V4(v4) => {
                for (to, from) in bytes.iter_mut().zip(v4.octets()) {
                    *to = from;
                }
                Host {
                    family_and_zone: in_zone(FAMILY_IPV4, 0),
                    address: bytes,
                }
            }
            IpAddr::V6(v6) => Host {
                family_and_zone: in_zone(FAMILY_IPV6, zone),
                address: v6.octets(),
            },
        }
    }

    /// Returns the host that an application knows by a name that is not an address: a digest of the name.
    pub fn named(name: &str) -> Host {
        let digest = Sha256::digest(name);
        let mut address = [0; 16];
        for (to, from) in address.iter_mut().zip(digest) {
            *to = from;
        }
        Host {
            family_and_zone: in_zone(FAMILY_NAMED, 0),
            address,
        }
    }

    /// Returns the host that an application or a table names: an address as [`Host`] displays it, `local`, none, or a
    /// name of the application's own, which is returned, too. `None` if that name is too long.
    pub fn of_text(text: &str) -> Option<(Host, Name)> {
        let name = Name::EMPTY;
        if text.is_empty() {
            return Some((Host::NONE, name));
        }
        if text == "local" {
            return Some((Host::LOCAL, name));
        }
        if let Some(peer) = address_and_zone(text) {
            return Some((Host::of_peer(Some(peer), None), name));
        }
        Some((Host::named(text), Name::new(text)?))
    }

    /// Tells whether the host is known by a name that is not an address.
    pub(super) fn is_named(&self) -> bool {
        self.family_and_zone >> ZONE_BITS == FAMILY_NAMED
    }

    fn zone(&self) -> u32 {
        self.family_and_zone & ((1 << ZONE_BITS) - 1)
    }

    /// Returns the address, unless the host is `local`, known by a name, or none.
    pub fn address(&self) -> Option<IpAddr> {
        match self.family_and_zone >> ZONE_BITS {
            FAMILY_IPV4 => {
                let [a, b, c, d, ..] = self.address;
                Some(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
            }
            FAMILY_IPV6 => Some(IpAddr::V6(Ipv6Addr::from(self.address))),
            _ => None,
        }
    }
}

/// Parses an address, and the zone that may follow an IPv6 address.
fn address_and_zone(text: &str) -> Option<(IpAddr, u32)> {
    let Some((address, zone)) = text.split_once('%') else {
        return Some((text.parse().ok()?, 0));
    };
    let address: Ipv6Addr = address.parse().ok()?;
    let zone = zone.parse().ok().filter(|zone| zone >> ZONE_BITS == 0)?;
    Some((address.into(), zone))
}

/// Displays the canonical text, as in `client_host`. It is empty for no host, and for a host known by a name.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address() {
            Some(address) => match self.zone() {
                0 => write!(f, "{address}"),
                zone => write!(f, "{address}%{zone}"),
            },
            None if *self == Host::LOCAL => f.write_str("local"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Everything that is known about who uses a connection. Roles are told apart by their OIDs: a rename keeps the OID,
/// and the successor of a dropped role does not inherit it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Who {
    /// The authenticated role's OID.
    pub role: RoleOid,
    /// The computer on which the client runs.
    pub host: Host,
    /// The name of the workstation that the client sent at startup, or empty.
    pub workstation: Name,
    /// The application's user, or empty.
    pub client_user: Label,
}

/// Who somebody is, with all names in full, as tables have them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FullName {
    /// The form in which names are compared.
    pub who: Who,
    /// The host's name if it is not an address; else empty.
    host_name: Name,
    /// The application's user, or empty.
    client_user: Text<{ CLIENT_USER_MAX + 1 }>,
}

impl FullName {
    /// Returns the full name. `long_name` is the name of a user whose label has no room for it. `None` if not every
    /// name is known.
    pub fn of(who: Who, host_name: Name, long_name: Option<Text<512>>) -> Option<FullName> {
        let client_user = match who.client_user.text() {
            Some(text) => Text::new(text)?,
            None => long_name?,
        };
        let is_known = !who.host.is_named() || !host_name.is_empty();
        is_known.then_some(FullName {
            who,
            host_name,
            client_user,
        })
    }

    /// Returns the host's name if it is not an address; else an empty name.
    pub fn host_name(&self) -> Name {
        self.host_name
    }

    /// Returns the name of the application's user if it is too long for a label.
    pub fn long_name(&self) -> Option<Text<512>> {
        self.who.client_user.is_digest().then_some(self.client_user)
    }

    /// Returns the columns of a table: host, workstation and the application's user.
    pub fn columns(&self) -> [String; 3] {
        let host = if self.who.host.is_named() {
            self.host_name.to_string()
        } else {
            self.who.host.to_string()
        };
        [
            host,
            self.who.workstation.to_string(),
            self.client_user.to_string(),
        ]
    }

    /// Returns what a role's OID and these columns say. `None` if one of them is too long.
    pub fn of_columns(role: RoleOid, columns: [&str; 3]) -> Option<FullName> {
        let [host, workstation, client_user] = columns;
        let (host, host_name) = Host::of_text(host)?;
        Some(FullName {
            who: Who {
                role,
                host,
                workstation: Name::new(workstation)?,
                client_user: Label::of(client_user),
            },
            host_name,
            client_user: Text::new(client_user)?,
        })
    }
}

/// An identity under one counting rule: whoever has the same identity shares one seat. It is a hash of all its parts,
/// in 128 bits, made with a secret of this server, so that nobody can choose names that make two users one.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Identity([u8; 16]);

impl Identity {
    /// Returns the identity that `counted_by` makes of a connection (counting rules 2 and 4). `session` is the
    /// connection's own number.
    pub fn of(salt: u128, counted_by: CountedBy, who: &Who, session: SessionNumber) -> Identity {
        let session = if counted_by == CountedBy::Session {
            session
        } else {
            SessionNumber::NONE
        };
        let (role, host) =
            counted_by.role_and_host(who.role, who.host, !who.workstation.is_empty());
        let half = |which: u8| {
            let mut hasher = DefaultHasher::new();
            // The workstation and the application's user only split seats (counting rule 4), except under
            // `user_workstation`, where the workstation stands in for the host.
            let names = (who.workstation, who.client_user);
            (salt, which, session, role, host, names).hash(&mut hasher);
            hasher.finish()
        };
        Identity((u128::from(half(0)) << 64 | u128::from(half(1))).to_be_bytes())
    }
}

impl CountedBy {
    /// Returns what a rule leaves of a role's OID and a host: 0 and none for what it does not count.
    pub(super) fn role_and_host(
        self,
        role: RoleOid,
        host: Host,
        has_workstation: bool,
    ) -> (RoleOid, Host) {
        match self {
            CountedBy::Session | CountedBy::UserHost => (role, host),
            CountedBy::User => (role, Host::NONE),
            CountedBy::Host => (RoleOid::NONE, host),
            CountedBy::UserWorkstation if has_workstation => (role, Host::NONE),
            CountedBy::UserWorkstation => (role, host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Host {
        Host::of_peer(text.parse().ok().map(|a: IpAddr| (a, 0)), None)
    }

    fn who(role: RoleOid, host: Host, workstation: &str) -> Who {
        Who {
            role,
            host,
            workstation: Name::new(workstation).unwrap_or(Name::EMPTY),
            client_user: Label::EMPTY,
        }
    }

    #[test]
    fn a_text_is_never_cut() {
        let longest = "x".repeat(NAME_MAX);
        assert_eq!(
            Name::new(&longest).map(|n| n.to_string()),
            Some(longest.clone())
        );
        assert_eq!(Name::new(longest + "y"), None);
        assert_eq!(Name::new("a\0b"), None);
        assert!(Name::new("").is_some_and(|n| n.is_empty()));
    }

    #[test]
    fn loopback_unix_socket_and_own_address_are_local() {
        assert_eq!(Host::of_peer(None, None), Host::LOCAL);
        for loopback in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(host(loopback), Host::LOCAL, "{loopback}");
        }
        let own: IpAddr = [192, 168, 0, 9].into();
        assert_eq!(Host::of_peer(Some((own, 0)), Some(own)), Host::LOCAL);
        let mapped: Option<IpAddr> = "::ffff:192.168.0.9".parse().ok();
        assert_eq!(Host::of_peer(Some((own, 0)), mapped), Host::LOCAL);
        assert_eq!(Host::LOCAL.to_string(), "local");
    }

    #[test]
    fn other_loopback_addresses_are_hosts_of_their_own() {
        assert_eq!(host("127.0.0.2").to_string(), "127.0.0.2");
        assert_ne!(host("127.0.0.2"), host("127.0.1.2"));
    }

    #[test]
    fn mapped_ipv6_is_ipv4_and_zones_differ() {
        assert_eq!(host("::ffff:10.0.0.7"), host("10.0.0.7"));
        assert_eq!(host("2001:DB8:0:0::1").to_string(), "2001:db8::1");
        let link: IpAddr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1).into();
        assert_ne!(Host::of_address(link, 1), Host::of_address(link, 2));
        assert_eq!(Host::of_address(link, 2).to_string(), "fe80::1%2");
    }

    /// Checks that what is written about somebody is read back the same.
    #[test]
    fn names_come_back_from_a_tables_columns() {
        let link: IpAddr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1).into();
        let named = |text: &str| (Host::named(text), Name::new(text).unwrap_or(Name::EMPTY));
        let last_zone = (1 << ZONE_BITS) - 1;
        let hosts = [
            (Host::LOCAL, Name::EMPTY),
            (Host::NONE, Name::EMPTY),
            (host("10.0.0.1"), Name::EMPTY),
            (host("2001:db8::1"), Name::EMPTY),
            (Host::of_address(link, 0), Name::EMPTY),
            (Host::of_address(link, 2), Name::EMPTY),
            (Host::of_address(link, last_zone), Name::EMPTY),
            named("pc-7"),
            named("fe80::1%eth0"),
            named("fe80::1%16777216"),
            named("10.0.0.1%2"),
            named(&"h".repeat(NAME_MAX)),
        ];
        for (host, host_name) in hosts {
            for workstation in ["", "PC-1"] {
                for client_user in ["", "zoe", &"u".repeat(LABEL_MAX + 1), &"ü".repeat(255)] {
                    let who = Who {
                        client_user: Label::of(client_user),
                        ..who(RoleOid(2), host, workstation)
                    };
                    let full = FullName::of(who, host_name, Text::new(client_user));
                    let long_name = full.and_then(|full| full.long_name());
                    assert_eq!(long_name.is_some(), client_user.len() > LABEL_MAX);
                    let columns = full.map(|full| full.columns()).unwrap_or_default();
                    let again =
                        FullName::of_columns(RoleOid(2), columns.each_ref().map(String::as_str));
                    assert_eq!(again, full, "{columns:?}");
                    assert_ne!(full, None);
                }
            }
        }
    }

    #[test]
    fn a_name_that_is_not_known_whole_is_none() {
        let long = Label::of(&"u".repeat(LABEL_MAX + 1));
        let anna = who(RoleOid(2), host("10.0.0.1"), "");
        let of_long = Who {
            client_user: long,
            ..anna
        };
        assert_eq!(FullName::of(of_long, Name::EMPTY, None), None);
        let of_named = Who {
            host: Host::named("pc-7"),
            ..anna
        };
        assert_eq!(FullName::of(of_named, Name::EMPTY, None), None);
        for too_long in [
            [&*"h".repeat(NAME_MAX + 1), "", ""],
            ["local", &"w".repeat(NAME_MAX + 1), ""],
            ["local", "", &"u".repeat(CLIENT_USER_MAX + 1)],
        ] {
            assert_eq!(FullName::of_columns(RoleOid(2), too_long), None);
        }
    }

    #[test]
    fn each_rule_of_counting_tells_users_apart_by_its_own_parts() {
        use CountedBy::*;
        let (pc1, pc2) = (host("10.0.0.1"), host("10.0.0.2"));
        let same = |rule, a: Who, b: Who| {
            Identity::of(7, rule, &a, SessionNumber(1))
                == Identity::of(7, rule, &b, SessionNumber(2))
        };
        let anna = who(RoleOid(1), pc1, "");
        for (rule, two_hosts, two_roles, again) in [
            (UserHost, false, false, true),
            (User, true, false, true),
            (Host, false, true, true),
            (Session, false, false, false),
            (UserWorkstation, false, false, true),
        ] {
            assert_eq!(
                same(rule, anna, who(RoleOid(1), pc2, "")),
                two_hosts,
                "{rule:?}: two hosts"
            );
            assert_eq!(
                same(rule, anna, who(RoleOid(2), pc1, "")),
                two_roles,
                "{rule:?}: two roles"
            );
            assert_eq!(same(rule, anna, anna), again, "{rule:?}: again");
            assert!(
                !same(rule, who(RoleOid(1), pc1, "A"), who(RoleOid(1), pc1, "B")),
                "{rule:?}: workstations"
            );
        }
        assert!(same(
            UserWorkstation,
            who(RoleOid(1), pc1, "LAPTOP"),
            who(RoleOid(1), pc2, "LAPTOP")
        ));
        assert!(!same(
            UserHost,
            who(RoleOid(1), pc1, "LAPTOP"),
            who(RoleOid(1), pc2, "LAPTOP")
        ));
    }
}
