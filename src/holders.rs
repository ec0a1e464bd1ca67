//! Who holds which seat, as people see it.

use std::collections::HashMap;

use crate::ledger::hold::{Hold, LeaseId};
use crate::ledger::identity::{Label, Text};
use crate::ledger::license::Timestamp;
use crate::ledger::reservation::Roles;
use crate::ledger::session::{Kind, Seat, SeatIds, Session};
use crate::ledger::table::Table;
use crate::memory;
use crate::pg::catalog;
use crate::pg::error::quoted;
use crate::pg::status::{self, Activity};

/// A copy of all that holds seats of some tallies, made at one moment.
pub struct Holders {
    sessions: Vec<Session>,
    holds: Vec<Hold>,
    names: HashMap<Label, Text<512>>,
    /// The place of each session, by its number.
    places: HashMap<u64, usize>,
    ids: SeatIds,
    /// In the order in which they were taken.
    seats: Vec<SeatEntry>,
    /// Those of one seat together, in the order of the seats; the strongest first.
    holders: Vec<HolderEntry>,
    /// Those that nobody holds.
    lingering: Vec<Seat>,
}

/// A seat. There may be a hundred thousand, so what is copied of it is small.
struct SeatEntry {
    number: u64,
    tally: u64,
    opened_at: Timestamp,
    roles: Roles,
}

/// A holder's part of a seat.
struct HolderEntry {
    /// The seat's number.
    seat: u64,
    kind: Kind,
    /// The place among the holds, or of a login among the sessions.
    place: u32,
}

/// A seat that is taken.
#[derive(Clone, Copy)]
pub struct TakenSeat<'a> {
    all: &'a Holders,
    holders: &'a [HolderEntry],
    /// Its id.
    pub id: [u8; 16],
    /// Its number.
    pub number: u64,
    /// The number of the tally that it counts in.
    pub tally: u64,
    /// When it was taken.
    pub opened_at: Timestamp,
    /// The reserved roles that it counts for.
    pub roles: Roles,
    /// The strongest of its holders; `None` where it lingers, and nobody holds it.
    pub kind: Option<Kind>,
    lingering: Option<&'a Seat>,
}

/// Who holds a seat.
#[derive(Clone, Copy)]
pub struct Holder<'a> {
    /// The session, unless it is a lease.
    pub session: Option<&'a Session>,
    /// The session's place, if there is one.
    place: usize,
    /// The checkout or lease, unless it is a login.
    pub hold: Option<&'a Hold>,
    long_name: Option<&'a Text<512>>,
}

impl Holders {
    /// Whoever holds seats of these tallies.
    pub fn of(is_wanted: impl Fn(u64) -> bool) -> Holders {
        let mut all = Holders {
            sessions: Vec::with_capacity(memory::places()),
            holds: Vec::new(),
            names: HashMap::new(),
            places: HashMap::new(),
            ids: SeatIds(0),
            seats: Vec::new(),
            holders: Vec::new(),
            lingering: Vec::new(),
        };
        // Under the lock nothing is allocated: room is made before, until it is enough.
        while let Some((seats, holds, names, lingering)) = memory::read(|ledger| {
            let names = ledger.long_names.len();
            let lingering = ledger.lingering();
            (ledger.seats.len(), ledger.holds.len(), names, lingering)
        }) {
            all.lingering.reserve(lingering);
            all.seats.reserve(seats);
            all.holds.reserve(holds);
            all.names.reserve(names);
            all.holders.reserve(holds + memory::places());
            if memory::read(|ledger| all.copy(ledger, &is_wanted)) != Some(false) {
                break;
            }
        }
        let numbers = all.sessions.iter().map(|session| session.number);
        all.places = numbers.zip(0..).collect();
        all.seats.sort_unstable_by_key(|seat| seat.number);
        all.holders
            .sort_unstable_by_key(|holder| (holder.seat, holder.kind, holder.place));
        all
    }

    /// Copies them out of the ledger. False where there is not enough room.
    fn copy(
        &mut self,
        ledger: &crate::ledger::Ledger<'static, memory::Shared>,
        is_wanted: impl Fn(u64) -> bool,
    ) -> bool {
        if self.seats.capacity() < ledger.seats.len()
            || self.holds.capacity() < ledger.holds.len()
            || self.names.capacity() < ledger.long_names.len()
            || self.lingering.capacity() < ledger.lingering()
            || self.holders.capacity() < ledger.holds.len() + ledger.sessions.len()
        {
            return false;
        }
        self.ids = ledger.head.seat_ids;
        self.sessions.extend_from_slice(ledger.sessions);
        ledger.seats.each(|seat| {
            if is_wanted(seat.key.tally) && !seat.is_held() {
                self.lingering.push(*seat);
            } else if is_wanted(seat.key.tally) {
                self.seats.push(SeatEntry {
                    number: seat.number,
                    tally: seat.key.tally,
                    opened_at: seat.opened_at,
                    roles: seat.roles,
                });
            }
        });
        for (place, session) in (0..).zip(ledger.sessions.iter()) {
            if let Some(key) = session.seat.filter(|key| is_wanted(key.tally))
                && let Some(seat) = ledger.seats.get(&key)
            {
                self.holders.push(HolderEntry {
                    seat: seat.number,
                    kind: Kind::Login,
                    place,
                });
            }
        }
        ledger.holds.each(|hold| {
            if let Some(seat) = hold.seat().filter(|_| is_wanted(hold.tally)) {
                self.holders.push(HolderEntry {
                    seat,
                    kind: hold.kind(),
                    place: self.holds.len() as u32,
                });
                self.holds.push(*hold);
            }
        });
        ledger.long_names.each(|name| {
            self.names.insert(name.label, name.text);
        });
        true
    }

    /// The seats, in the order in which they were taken.
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

    /// The seats that nobody holds any more, and that are taken still.
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

    /// The leases that are lent to transactions.
    pub fn lent(&self) -> impl Iterator<Item = LeaseId> {
        let lent = self.sessions.iter().map(|session| session.lent);
        lent.flatten().flatten()
    }

    fn holder(&self, entry: &HolderEntry) -> Option<Holder<'_>> {
        let place = entry.place as usize;
        if entry.kind == Kind::Login {
            return Some(Holder {
                session: self.sessions.get(place),
                place,
                hold: None,
                long_name: None,
            });
        }
        let hold = self.holds.get(place)?;
        let place = self.places.get(&hold.number).copied();
        let session = match entry.kind {
            Kind::Lease => None,
            _ => self.sessions.get(place?),
        };
        let label = &hold.who.client_user;
        Some(Holder {
            session,
            place: place.unwrap_or_default(),
            hold: Some(hold),
            long_name: label.is_digest().then(|| self.names.get(label)).flatten(),
        })
    }
}

impl<'a> TakenSeat<'a> {
    /// Who holds it, from the strongest kind to the weakest.
    pub fn holders(self) -> impl Iterator<Item = Holder<'a>> {
        self.holders
            .iter()
            .filter_map(move |holder| self.all.holder(holder))
    }

    /// When any of its holders was last active.
    pub fn last_active(self, activities: &HashMap<i32, Activity>, now: Timestamp) -> Timestamp {
        let active = |holder: Holder| holder.last_active(activities, now);
        self.holders().map(active).max().unwrap_or(now)
    }

    /// When its last lease ends, if no session holds it; when it will be free, if nobody does.
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

    /// The role and host of whoever may come back to it, where nobody holds it.
    pub fn lingers_for(self) -> Option<(u32, String)> {
        let identity = self.lingering?.key.identity;
        Some((identity.role, identity.host.to_string()))
    }

    /// The process ids of the sessions that hold it, each once.
    pub fn pids(self) -> Vec<i32> {
        let mut pids = Vec::new();
        for session in self.holders().filter_map(|holder| holder.session) {
            if !pids.contains(&session.pid) {
                pids.push(session.pid);
            }
        }
        pids
    }

    /// The name by which people know who has it, in quotes.
    pub fn name(self) -> String {
        let name = |holder: Holder| match holder.client_user() {
            "" => holder.usename(),
            client_user => client_user.to_owned(),
        };
        quoted(self.holders().next().map(name).unwrap_or_default())
    }
}

impl<'a> Holder<'a> {
    /// The session and its place, unless it is a lease.
    pub fn placed_session(self) -> Option<(usize, &'a Session)> {
        self.session.map(|session| (self.place, session))
    }

    /// The role that holds it.
    pub fn role(self) -> u32 {
        match (self.session, self.hold) {
            (Some(session), _) => session.who.role,
            (None, hold) => hold.map_or(0, |hold| hold.who.role),
        }
    }

    /// The role's name: as it was at login, or now.
    pub fn usename(self) -> String {
        self.name_at_login()
            .map_or_else(|| catalog::role_name(self.role()), str::to_owned)
    }

    /// The role's name as it was at the session's login.
    pub fn name_at_login(self) -> Option<&'a str> {
        self.session.map(|session| session.usename.as_str())
    }

    /// The database's OID.
    pub fn database(self) -> u32 {
        match (self.session, self.hold) {
            (Some(session), _) => session.database,
            (None, hold) => hold.map_or(0, |hold| hold.database),
        }
    }

    /// The application's own user, or empty.
    pub fn client_user(self) -> &'a str {
        match (self.hold, self.long_name) {
            (_, Some(name)) => name.as_str(),
            (hold, None) => hold
                .and_then(|hold| hold.who.client_user.text())
                .unwrap_or_default(),
        }
    }

    /// The host.
    pub fn client_host(self) -> String {
        match (self.session, self.hold) {
            (Some(session), _) => session.who.host.to_string(),
            (None, Some(hold)) if !hold.host_name().is_empty() => hold.host_name().to_owned(),
            (None, hold) => hold.map_or(String::new(), |hold| hold.who.host.to_string()),
        }
    }

    /// The session's workstation, or empty.
    pub fn workstation(self) -> &'a str {
        self.session
            .map_or("", |session| session.who.workstation.as_str())
    }

    /// The session's application name, or empty.
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
