//! A bar: somebody who can't come back for a time, and whom it binds.

use crate::core::ledger::identity::{Host, Label, Name, Text, Who};
use crate::core::ledger::seat::Kind;
use crate::core::ledger::table::entry;
use crate::core::ledger::time::Timestamp;

/// By what somebody is barred.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum BarBy {
    /// The user, at that host.
    UserHost,
    /// The user, wherever it works.
    User,
    /// The host, whoever works there.
    Host,
}

impl BarBy {
    /// What this word stands for.
    pub fn from_word(word: &str) -> Option<BarBy> {
        match word {
            "user_host" => Some(BarBy::UserHost),
            "user" => Some(BarBy::User),
            "host" => Some(BarBy::Host),
            _ => None,
        }
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            BarBy::UserHost => "user_host",
            BarBy::User => "user",
            BarBy::Host => "host",
        }
    }
}

/// Whom a bar binds: compared byte by byte.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Bound {
    /// The tally of the product.
    pub(super) tally: u64,
    /// The role; 0 where it is the application's own user, or whoever is at the host.
    role: u32,
    by: BarBy,
    /// The host; none where the user is barred wherever it works.
    host: Host,
    /// Which of several bars that bind the same.
    pub(super) nth: u32,
    /// The application's own user, where it is one.
    client_user: Label,
}

impl Bound {
    pub(super) fn role(tally: u64, by: BarBy, role: u32, host: Host) -> Bound {
        Bound {
            tally,
            by,
            role: if by == BarBy::Host { 0 } else { role },
            host: if by == BarBy::User { Host::NONE } else { host },
            nth: 0,
            client_user: Label::EMPTY,
        }
    }

    pub(super) fn client_user(tally: u64, by: BarBy, client_user: Label, host: Host) -> Bound {
        let user = by != BarBy::Host;
        Bound {
            client_user: if user { client_user } else { Label::EMPTY },
            ..Bound::role(tally, by, 0, host)
        }
    }
}

/// Who is barred, with every name whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Barred {
    /// By what.
    pub by: BarBy,
    /// The role's OID; 0 where it is the application's own user, or whoever is at the host.
    pub role: u32,
    /// The host; none where the user is barred wherever it works.
    pub host: Host,
    /// The host's name where it is no address, or empty.
    pub host_name: Name,
    /// The application's own user, or empty.
    pub client_user: Text<512>,
}

impl Barred {
    /// Whom a bar is to bind that is wished of a holder. `None` where not all of its name is known.
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
                0
            },
            host: if at_host { who.host } else { Host::NONE },
            host_name,
            client_user,
        })
    }

    /// What a row of the table says. `None` where a name is too long.
    pub fn of_columns(
        by: BarBy,
        role: u32,
        client_user: &str,
        client_host: &str,
    ) -> Option<Barred> {
        let (host, host_name) = match by {
            BarBy::User => (Host::NONE, Name::EMPTY),
            _ => Host::of_text(client_host)?,
        };
        Some(Barred {
            by,
            role: if by == BarBy::Host { 0 } else { role },
            host,
            host_name,
            client_user: if by == BarBy::Host {
                Text::EMPTY
            } else {
                Text::new(client_user)?
            },
        })
    }

    pub(super) fn bound(&self, tally: u64) -> Bound {
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

    /// The host, as tables have it; none where the user is barred wherever it works.
    pub fn client_host(&self) -> Option<String> {
        match self.by {
            BarBy::User => None,
            _ if !self.host_name.is_empty() => Some(self.host_name.to_string()),
            _ => Some(self.host.to_string()),
        }
    }
}

/// Somebody who can't have a seat for a time.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Bar {
    /// Whom it binds.
    pub(super) key: Bound,
    /// Its id; of two databases, bars may have the same.
    pub id: i64,
    /// The OID of the database that keeps it.
    pub database: u32,
    /// Who is barred.
    pub whom: Barred,
    /// Since when.
    pub since: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// The administrator's role.
    pub barred_by: Name,
    /// Why, or empty.
    pub reason: Text<256>,
    /// It is a row of the database's table, and lasts.
    pub stored: bool,
    /// It binds nobody any more; its row is yet to be deleted.
    pub lifted: bool,
    /// It could not be made a row, or its row deleted, which was told.
    pub(super) complained_of: bool,
}

entry!(Bar, key: Bound);

impl Bar {
    /// The tally of the product.
    pub fn tally(&self) -> u64 {
        self.key.tally
    }

    /// Its row is as it is.
    pub fn is_settled(&self) -> bool {
        self.stored && !self.lifted
    }
}

/// A row of `license_bars`.
#[derive(Clone, Copy, Debug)]
pub struct StoredBar {
    /// Its id.
    pub id: i64,
    /// The product.
    pub product: Name,
    /// Who.
    pub whom: Barred,
    /// Since when.
    pub since: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// The administrator's role.
    pub barred_by: Name,
    /// Why, or empty.
    pub reason: Text<256>,
}
