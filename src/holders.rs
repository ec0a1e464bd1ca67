//! The holders of seats, as people see them.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use crate::core::ledger::Ledger;
use crate::core::ledger::hold::{Hold, HoldKey};
use crate::core::ledger::identity::{Label, LeaseId, Text};
use crate::core::ledger::numbers::{
    DatabaseOid, RoleOid, SeatNumber, SessionNumber, Slot, TallyId,
};
use crate::core::ledger::roles::Roles;
use crate::core::ledger::seat::{Kind, Seat, SeatIds};
use crate::core::ledger::session::Session;
use crate::core::ledger::table::Table;
use crate::core::ledger::time::Timestamp;
use crate::memory::{self, Shared};
use crate::pg::error::quoted;
use crate::pg::status::{self, Activity};
use crate::pg::{backend, catalog};

/// How often seats are looked at again whose holders changed meanwhile.
const LOOKS: usize = 3;

/// A copy of all that holds seats of some tallies. It is made in slices, so that nobody waits long for the lock: each
/// seat is as it was at one moment, but not all at the same moment.
pub struct Holders {
    /// The sessions, with their slots.
    sessions: Vec<(Slot, Session)>,
    holds: Vec<Hold>,
    names: HashMap<Label, Text<512>>,
    /// The index of each session among them, by its number.
    session_at: HashMap<SessionNumber, usize>,
    ids: SeatIds,
    /// The seats, in the order in which they were taken.
    seats: Vec<SeatEntry>,
    /// The holders, by seat in the order of the seats; those of one seat from the strongest.
    holders: Vec<HolderEntry>,
    /// The seats that nobody holds.
    lingering: Vec<Seat>,
}

/// A seat. There may be a hundred thousand, so the copy is small.
#[derive(Clone, Copy)]
struct SeatEntry {
    number: SeatNumber,
    tally: TallyId,
    opened_at: Timestamp,
    roles: Roles,
}

/// A holder of a seat.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct HolderEntry {
    /// The seat's number.
    seat: SeatNumber,
    kind: Kind,
    /// The holder's index among the holds, or among the sessions if it is a login.
    at: u32,
}

/// A seat that is taken.
#[derive(Clone, Copy)]
pub struct TakenSeat<'a> {
    all: &'a Holders,
    holders: &'a [HolderEntry],
    /// Its id.
    pub id: [u8; 16],
    /// Its number.
    pub number: SeatNumber,
    /// The number of the tally that it counts in.
    pub tally: TallyId,
    /// When it was taken.
    pub opened_at: Timestamp,
    /// The reserved roles that it counts for.
    pub roles: Roles,
    /// The strongest of its holders; `None` if it lingers, and nobody holds it.
    pub kind: Option<Kind>,
    lingering: Option<&'a Seat>,
}

/// A holder of a seat.
#[derive(Clone, Copy)]
pub struct Holder<'a> {
    /// The session, unless it is a lease.
    pub session: Option<&'a Session>,
    /// The session's slot, if there is a session.
    slot: Option<Slot>,
    /// The checkout or lease, unless it is a login.
    pub hold: Option<&'a Hold>,
    long_name: Option<&'a Text<512>>,
}

/// Returns what backends do, with the start of their inactivity in the ledger's time, and the present moment. A pause
/// is noticed first, because nobody who could do nothing counts as inactive.
pub fn in_time(mut activities: HashMap<i32, Activity>) -> (HashMap<i32, Activity>, Timestamp) {
    let (time, now) = memory::write(|ledger| (ledger.head.time, backend::now()));
    for activity in activities.values_mut() {
        if let Some(since) = &mut activity.inactive_since {
            *since = time.inactive_since(*since, now);
        }
    }
    (activities, now)
}

impl Holders {
    /// Returns the holders of seats of these tallies.
    pub fn of(is_wanted: impl Fn(TallyId) -> bool) -> Holders {
        let mut all = Holders {
            sessions: Vec::new(),
            holds: Vec::new(),
            names: HashMap::new(),
            session_at: HashMap::new(),
            ids: memory::read(|ledger| ledger.head.seat_ids),
            seats: Vec::new(),
            holders: Vec::new(),
            lingering: Vec::new(),
        };
        let _lock = memory::readers_lock();
        let mut changed = all.look(&is_wanted, None, false);
        for look in 2..=LOOKS {
            if changed.is_empty() {
                break;
            }
            memory::let_others_by();
            changed = all.look(&is_wanted, Some(&changed), look == LOOKS);
        }
        all.copy_names();
        // Entries that are seen while a table grows may be seen twice.
        all.seats.sort_unstable_by_key(|seat| seat.number);
        all.seats.dedup_by_key(|seat| seat.number);
        all.lingering.sort_unstable_by_key(|seat| seat.number);
        all.lingering.dedup_by_key(|seat| seat.number);
        all.holders.sort_unstable();
        all.holders.dedup();
        all
    }

    /// Looks at all who hold seats of these tallies, or only at those of these seats; then at the seats themselves, and
    /// whether each holder still holds its seat. Returns the numbers of the seats of which not all holders were seen:
    /// what was seen of them is kept only if it is the `last` look.
    fn look(
        &mut self,
        is_wanted: &impl Fn(TallyId) -> bool,
        only: Option<&HashSet<SeatNumber>>,
        last: bool,
    ) -> HashSet<SeatNumber> {
        let is_looked_at = |seat: &SeatNumber| only.is_none_or(|only| only.contains(seat));
        let mut seen = self.copy_sessions(|ledger, session| {
            let key = session.seat.filter(|key| is_wanted(key.tally))?;
            let seat = ledger.seats.get(&key)?.number;
            Some(seat).filter(is_looked_at)
        });
        self.copy_holds(&mut seen, |hold| {
            hold.seat()
                .filter(|_| is_wanted(hold.tally))
                .filter(is_looked_at)
        });
        seen.sort_unstable();
        seen.dedup_by(|a, b| {
            a == b
                || a.kind != Kind::Login
                    && (a.seat, a.kind, self.key(a)) == (b.seat, b.kind, self.key(b))
        });
        let Holders {
            sessions,
            holds,
            seats,
            lingering,
            holders,
            ..
        } = self;
        let mut missing = HashSet::new();
        // Nothing may be allocated under the lock.
        holders.reserve(seen.len());
        let check = |ledger: &Ledger<'static, Shared>, seat: &Seat| {
            if !is_wanted(seat.key.tally) || !is_looked_at(&seat.number) {
                return None;
            }
            let before = holders.len();
            let first = seen.partition_point(|holder| holder.seat < seat.number);
            let of_seat = seen.iter().skip(first);
            for holder in of_seat.take_while(|holder| holder.seat == seat.number) {
                if holder.still_holds(ledger, sessions, holds, seat) {
                    memory::push(holders, *holder);
                }
            }
            let held = holders.len() - before;
            let is_whole = held as u64 == seat.count();
            let is_kept = is_whole || last && held > 0;
            if !is_kept {
                holders.truncate(before);
            }
            Some((*seat, is_whole, is_kept))
        };
        memory::each_entry(
            |ledger| ledger.seats,
            check,
            |(seat, is_whole, is_kept)| {
                if !seat.is_held() {
                    lingering.push(seat);
                    return;
                }
                if !is_whole {
                    missing.insert(seat.number);
                }
                if is_kept {
                    seats.push(SeatEntry {
                        number: seat.number,
                        tally: seat.key.tally,
                        opened_at: seat.opened_at,
                        roles: seat.roles,
                    });
                }
            },
        );
        missing
    }

    /// Copies all sessions, and returns the seats that their logins hold.
    fn copy_sessions(
        &mut self,
        seat_of: impl Fn(&Ledger<'static, Shared>, &Session) -> Option<SeatNumber>,
    ) -> Vec<HolderEntry> {
        let mut seen = Vec::new();
        memory::each_session(
            |ledger, slot, session| {
                (session.number != SessionNumber::NONE)
                    .then(|| (slot, *session, seat_of(ledger, session)))
            },
            |(slot, session, seat)| {
                if let Some(seat) = seat {
                    let (kind, at) = (Kind::Login, self.sessions.len() as u32);
                    seen.push(HolderEntry { seat, kind, at });
                }
                self.sessions.push((slot, session));
            },
        );
        let numbers = self.sessions.iter().map(|(_, session)| session.number);
        self.session_at = numbers.zip(0..).collect();
        seen
    }

    /// Copies the holds that have seats.
    fn copy_holds(
        &mut self,
        seen: &mut Vec<HolderEntry>,
        seat_of: impl Fn(&Hold) -> Option<SeatNumber>,
    ) {
        memory::each_entry(
            |ledger| ledger.holds,
            |_, hold| Some((seat_of(hold)?, *hold)),
            |(seat, hold)| {
                // A session that has arrived since is not known.
                if hold.kind() == Kind::Lease || self.session_at.contains_key(&hold.number) {
                    let (kind, at) = (hold.kind(), self.holds.len() as u32);
                    seen.push(HolderEntry { seat, kind, at });
                    self.holds.push(hold);
                }
            },
        );
    }

    fn copy_names(&mut self) {
        memory::each_entry(
            |ledger| ledger.long_names,
            |_, name| Some((name.label, name.text)),
            |(label, text)| {
                self.names.insert(label, text);
            },
        );
    }

    fn key(&self, holder: &HolderEntry) -> Option<HoldKey> {
        self.holds.get(holder.at as usize).map(|hold| hold.key)
    }

    /// Returns the seats, in the order in which they were taken.
    pub fn seats(&self) -> impl Iterator<Item = TakenSeat<'_>> {
        let mut seats = self.seats.iter().peekable();
        self.holders
            .chunk_by(|one, other| one.seat == other.seat)
            .filter_map(move |holders| {
                // Both are in the order of the seats.
                let number = holders.first()?.seat;
                while seats.next_if(|seat| seat.number < number).is_some() {}
                Some((seats.next_if(|seat| seat.number == number)?, holders))
            })
            .filter_map(|(seat, holders)| {
                Some(TakenSeat {
                    all: self,
                    holders,
                    id: self.ids.of(seat.number),
                    number: seat.number,
                    tally: seat.tally,
                    opened_at: seat.opened_at,
                    roles: seat.roles,
                    kind: Some(holders.first()?.kind),
                    lingering: None,
                })
            })
    }

    /// Returns the seats that nobody holds any more but that are still taken.
    pub fn lingering(&self) -> impl Iterator<Item = TakenSeat<'_>> {
        self.lingering.iter().map(|seat| TakenSeat {
            all: self,
            holders: &[],
            id: self.ids.of(seat.number),
            number: seat.number,
            tally: seat.key.tally,
            opened_at: seat.opened_at,
            roles: seat.roles,
            kind: None,
            lingering: Some(seat),
        })
    }

    /// Returns the leases that are lent to transactions.
    pub fn lent(&self) -> impl Iterator<Item = LeaseId> {
        let lent = self.sessions.iter().map(|(_, session)| session.lent);
        lent.flatten().flatten()
    }

    fn holder(&self, entry: &HolderEntry) -> Option<Holder<'_>> {
        let at = entry.at as usize;
        if entry.kind == Kind::Login {
            let (slot, session) = self.sessions.get(at)?;
            return Some(Holder {
                session: Some(session),
                slot: Some(*slot),
                hold: None,
                long_name: None,
            });
        }
        let hold = self.holds.get(at)?;
        let session = match entry.kind {
            Kind::Lease => None,
            _ => Some(self.sessions.get(*self.session_at.get(&hold.number)?)?),
        };
        let label = &hold.who.client_user;
        Some(Holder {
            session: session.map(|(_, session)| session),
            slot: session.map(|(slot, _)| *slot),
            hold: Some(hold),
            long_name: label.is_digest().then(|| self.names.get(label)).flatten(),
        })
    }
}

impl HolderEntry {
    /// Tells whether a holder that was seen still holds its seat.
    fn still_holds(
        &self,
        ledger: &Ledger<'static, Shared>,
        sessions: &[(Slot, Session)],
        holds: &[Hold],
        seat: &Seat,
    ) -> bool {
        let at = self.at as usize;
        if self.kind == Kind::Login {
            return sessions.get(at).is_some_and(|(slot, session)| {
                let now = ledger.sessions.get(*slot);
                now.is_some_and(|now| now.number == session.number && now.seat == Some(seat.key))
            });
        }
        holds.get(at).is_some_and(|hold| {
            let now = ledger.holds.get(&hold.key);
            now.is_some_and(|now| now.number == hold.number && now.seat() == Some(seat.number))
        })
    }
}

impl<'a> TakenSeat<'a> {
    /// Returns the seat's holders, from the strongest kind to the weakest.
    pub fn holders(self) -> impl Iterator<Item = Holder<'a>> {
        self.holders
            .iter()
            .filter_map(move |holder| self.all.holder(holder))
    }

    /// Returns when any of its holders was last active.
    pub fn last_active(self, activities: &HashMap<i32, Activity>, now: Timestamp) -> Timestamp {
        let active = |holder: Holder| holder.last_active(activities, now);
        self.holders().map(active).max().unwrap_or(now)
    }

    /// Returns when its last lease ends, if no session holds it; when it will be free, if nobody does.
    pub fn expires_at(self) -> Option<Timestamp> {
        if let Some(seat) = self.lingering {
            return Some(seat.lingers_until);
        }
        if self.kind != Some(Kind::Lease) {
            return None;
        }
        let ends = self.holders().filter_map(|holder| holder.hold);
        ends.map(|hold| hold.expires_at).max()
    }

    /// Returns the role and host of those who may come back to it, if nobody holds it.
    pub fn lingers_for(self) -> Option<(RoleOid, String)> {
        let (role, host) = self.lingering?.role_and_host();
        Some((role, host.to_string()))
    }

    /// Returns the process ids of the sessions that hold it, each once.
    pub fn pids(self) -> Vec<i32> {
        let mut pids = Vec::new();
        for session in self.holders().filter_map(|holder| holder.session) {
            if !pids.contains(&session.pid) {
                pids.push(session.pid);
            }
        }
        pids
    }

    /// Returns the name by which people know who has it, in quotes.
    pub fn name(self) -> String {
        let name = |holder: Holder| match holder.client_user() {
            client_user if client_user.is_empty() => holder.usename(),
            client_user => client_user.into_owned(),
        };
        quoted(self.holders().next().map(name).unwrap_or_default())
    }
}

impl<'a> Holder<'a> {
    /// Returns the session and its slot, unless it is a lease.
    pub fn session_and_slot(self) -> Option<(Slot, &'a Session)> {
        Some((self.slot?, self.session?))
    }

    /// Returns the role that holds it.
    pub fn role(self) -> RoleOid {
        match (self.session, self.hold) {
            (Some(session), _) => session.who.role,
            (None, hold) => hold.map_or(RoleOid::NONE, |hold| hold.who.role),
        }
    }

    /// Returns the role's name: as it was at login, or for a lease as it is now.
    pub fn usename(self) -> String {
        self.name_at_login()
            .map_or_else(|| catalog::role_name(self.role()), str::to_owned)
    }

    /// Returns the role's name as it was at the session's login.
    pub fn name_at_login(self) -> Option<&'a str> {
        self.session.map(|session| session.usename.as_str())
    }

    /// Returns the database's OID.
    pub fn database(self) -> DatabaseOid {
        match (self.session, self.hold) {
            (Some(session), _) => session.database,
            (None, hold) => hold.map_or(DatabaseOid::NONE, |hold| hold.database),
        }
    }

    /// Returns the application's own user, or an empty text.
    pub fn client_user(self) -> Cow<'a, str> {
        self.hold.map_or(Cow::default(), |hold| {
            hold.who.client_user.shown(self.long_name)
        })
    }

    /// Returns the host.
    pub fn client_host(self) -> String {
        match (self.session, self.hold) {
            (Some(session), _) => session.who.host.to_string(),
            (None, Some(hold)) if !hold.host_name().is_empty() => hold.host_name().to_owned(),
            (None, hold) => hold.map_or(String::new(), |hold| hold.who.host.to_string()),
        }
    }

    /// Returns the session's workstation, or an empty text.
    pub fn workstation(self) -> &'a str {
        self.session
            .map_or("", |session| session.who.workstation.as_str())
    }

    /// Returns the session's application name, or an empty text.
    pub fn application_name(self) -> &'a str {
        self.session
            .map_or("", |session| session.application_name.as_str())
    }

    fn last_active(self, activities: &HashMap<i32, Activity>, now: Timestamp) -> Timestamp {
        match (self.session, self.hold) {
            (Some(session), _) => status::inactive_since(activities, session.pid, now),
            // Its last heartbeat.
            (None, hold) => hold.map_or(now, Hold::since),
        }
    }
}
