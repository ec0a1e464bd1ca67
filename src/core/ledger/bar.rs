//! A bar, which keeps somebody out for a time, and whom it binds.

use crate::core::ledger::identity::{Host, Label, Name, Text, Who};
use crate::core::ledger::numbers::{DatabaseOid, RoleOid, TallyId};
use crate::core::ledger::seat::Kind;
use crate::core::ledger::table::entry;
use crate::core::ledger::time::Timestamp;

/// What identifies those who are barred.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum BarBy {
    /// The user at one host.
    UserHost,
    /// The user at any host.
    User,
    /// The host, whoever works there.
    Host,
}

impl BarBy {
    /// Returns the value that this word stands for.
    pub fn from_word(word: &str) -> Option<BarBy> {
        match word {
            "user_host" => Some(BarBy::UserHost),
            "user" => Some(BarBy::User),
            "host" => Some(BarBy::Host),
            _ => None,
        }
    }

    /// Returns the word for it.
    pub fn word(self) -> &'static str {
        match self {
            BarBy::UserHost => "user_host",
            BarBy::User => "user",
            BarBy::Host => "host",
        }
    }
}

/// Whom a bar binds, as its key: compared byte by byte.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Bound {
    /// The product's tally.
    pub(super) tally: TallyId,
    /// The role; 0 if an application's user is barred, or everybody at the host.
    role: RoleOid,
    by: BarBy,
    /// The host; none if the user is barred at any host.
    host: Host,
    /// The number that tells apart bars which bind the same user or host.
    pub(super) nth: u32,
    /// The application's user, or empty.
    client_user: Label,
}

impl Bound {
    pub(super) fn role(tally: TallyId, by: BarBy, role: RoleOid, host: Host) -> Bound {
        Bound {
            tally,
            by,
            role: if by == BarBy::Host {
                RoleOid::NONE
            } else {
                role
            },
            host: if by == BarBy::User { Host::NONE } else { host },
            nth: 0,
            client_user: Label::EMPTY,
        }
    }

    pub(super) fn client_user(tally: TallyId, by: BarBy, client_user: Label, host: Host) -> Bound {
        let user = by != BarBy::Host;
        Bound {
            client_user: if user { client_user } else { Label::EMPTY },
            ..Bound::role(tally, by, RoleOid::NONE, host)
        }
    }
}

/// Who is barred, with all names in full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Barred {
    /// What identifies them.
    pub by: BarBy,
    /// The role's OID; 0 if an application's user is barred, or everybody at the host.
    pub role: RoleOid,
    /// The host; none if the user is barred at any host.
    pub host: Host,
    /// The host's name if it is not an address; else empty.
    pub host_name: Name,
    /// The application's user, or empty.
    pub client_user: Text<512>,
}

impl Barred {
    /// Returns whom a bar against this holder must bind. `None` if not all of their names are known in full.
    pub(super) fn of(
        by: BarBy,
        kind: Kind,
        who: &Who,
        host_name: Name,
        long_name: Option<Text<512>>,
    ) -> Option<Barred> {
        let user = by != BarBy::Host;
        let at_host = by != BarBy::User;
        let client_user = match who.client_user.text() {
            _ if !user || kind != Kind::Lease => Text::EMPTY,
            Some(text) => Text::new(text)?,
            None => long_name?,
        };
        let host_name = if at_host { host_name } else { Name::EMPTY };
        if at_host && who.host.is_named() && host_name.is_empty() {
            return None;
        }
        Some(Barred {
            by,
            role: if user && kind != Kind::Lease {
                who.role
            } else {
                RoleOid::NONE
            },
            host: if at_host { who.host } else { Host::NONE },
            host_name,
            client_user,
        })
    }

    /// Returns what the columns of a row say. `None` if a name is too long.
    pub fn of_columns(
        by: BarBy,
        role: RoleOid,
        client_user: &str,
        client_host: &str,
    ) -> Option<Barred> {
        let (host, host_name) = match by {
            BarBy::User => (Host::NONE, Name::EMPTY),
            _ => Host::of_text(client_host)?,
        };
        Some(Barred {
            by,
            role: if by == BarBy::Host {
                RoleOid::NONE
            } else {
                role
            },
            host,
            host_name,
            client_user: if by == BarBy::Host {
                Text::EMPTY
            } else {
                Text::new(client_user)?
            },
        })
    }

    pub(super) fn bound(&self, tally: TallyId) -> Bound {
        Bound {
            role: self.role,
            ..Bound::client_user(
                tally,
                self.by,
                Label::of(self.client_user.as_str()),
                self.host,
            )
        }
    }

    /// Returns the host as the tables show it. `None` if the user is barred at any host.
    pub fn client_host(&self) -> Option<String> {
        match self.by {
            BarBy::User => None,
            _ if !self.host_name.is_empty() => Some(self.host_name.to_string()),
            _ => Some(self.host.to_string()),
        }
    }
}

/// A bar: somebody who can't have a seat of a product for a time.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Bar {
    /// Whom it binds.
    pub(super) key: Bound,
    /// The bar's id. Bars of different databases may have the same one.
    pub id: i64,
    /// The OID of the database that stores it.
    pub database: DatabaseOid,
    /// Who is barred.
    pub whom: Barred,
    /// When it began.
    pub since: Timestamp,
    /// When it ends.
    pub until: Timestamp,
    /// The administrator's role.
    pub barred_by: Name,
    /// Why, or empty.
    pub reason: Text<256>,
    /// Whether it is a row of the database's table, and so survives a restart.
    pub stored: bool,
    /// Whether it was lifted: it binds nobody any more, and its row is yet to be deleted.
    pub lifted: bool,
    /// Whether it has been reported that its row could not be written or deleted.
    pub(super) complained_of: bool,
}

entry!(Bar, key: Bound);

impl Bar {
    /// Returns the product's tally.
    pub fn tally(&self) -> TallyId {
        self.key.tally
    }

    /// Tells whether its row is up to date, so that there is nothing to write or delete.
    pub fn is_settled(&self) -> bool {
        self.stored && !self.lifted
    }
}

/// A row of `license_bars`.
#[derive(Clone, Copy, Debug)]
pub struct StoredBar {
    /// The bar's id.
    pub id: i64,
    /// The product.
    pub product: Name,
    /// Who is barred.
    pub whom: Barred,
    /// When it began.
    pub since: Timestamp,
    /// When it ends.
    pub until: Timestamp,
    /// The administrator's role.
    pub barred_by: Name,
    /// Why, or empty.
    pub reason: Text<256>,
}
