//! The counting rules by brute force: lists of sessions, of what applications hold and of those in
//! the queue, and each database's rows, from which every answer is worked out anew. It shares no code with
//! the ledger beyond the words of its questions.

use crate::core::ledger::numbers::{SeatNumber, Ticket};

use std::collections::{BTreeMap, BTreeSet};

use super::server::{MINUTE, is_like, is_member};

pub type Minutes = i64;

/// The groups that reservations are for; the last one is a role that works itself.
pub const GROUPS: [&str; 3] = ["sales", "floor", "r4"];

/// Some of [`GROUPS`], a bit for each.
pub type Groups = u8;

pub fn is_in_group(groups: Groups, group: &str) -> bool {
    GROUPS
        .iter()
        .position(|name| *name == group)
        .is_some_and(|at| groups >> at & 1 == 1)
}

#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub product: &'static str,
    pub pool: Option<&'static str>,
    pub pattern: Option<&'static str>,
    pub seats: Option<i32>,
    pub overdraft: i32,
    pub counted_by: &'static str,
    pub at_login: bool,
    pub enforcement: &'static str,
    pub from: Option<Minutes>,
    pub until: Option<Minutes>,
    pub grace: Minutes,
    /// Seats that one user may have.
    pub max_per_user: Option<i32>,
    /// How many identities may be exempt at once: signed.
    pub exempt: Option<u32>,
}

/// Seats kept for members of a group, and how many they may use.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    pub product: &'static str,
    pub group: &'static str,
    pub reserved: i32,
    pub max_seats: Option<i32>,
    /// Several people share the group's roles.
    pub shared: bool,
}

/// A database's tables.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Company {
    pub rows: Vec<Row>,
    pub exempt_roles: Vec<&'static str>,
    /// "local", an address, or "10.1.0.0/16".
    pub exempt_hosts: Vec<&'static str>,
    pub reservations: Vec<Kept>,
}

/// Whose seat it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct User {
    /// Role 1 is a superuser.
    pub role: u32,
    pub host: &'static str,
    pub workstation: &'static str,
    pub client_user: &'static str,
}

/// A client.
#[derive(Clone, Debug)]
pub struct Person {
    pub database: u32,
    pub user: User,
    pub application: &'static str,
    pub replication: bool,
}

impl Person {
    pub fn superuser(&self) -> bool {
        self.user.role == 1
    }
}

/// What an application asks for, in the session at this place.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    pub place: usize,
    pub database: u32,
    pub product: &'static str,
    pub user: User,
    /// The lease that it is to be, and how long it lasts; else it is a checkout.
    pub lease: Option<(u8, Minutes)>,
    /// The tally where its product counts, or did while it was licensed.
    pub tally: TallyName,
    /// The groups of the session's role.
    pub groups: Groups,
}

impl Claim {
    pub fn holder(&self) -> Holder {
        match self.lease {
            Some((number, _)) => Holder::Lease(number),
            None => Holder::Checkout(self.place, self.product, self.user.client_user),
        }
    }
}

/// What an application holds.
#[derive(Clone, Debug)]
pub struct Hold {
    pub claim: Claim,
    pub times: u32,
    /// The transaction that took the lease goes on.
    pub pending: bool,
    /// Who waited for the lease has not seen it yet.
    pub unseen: bool,
    /// The lease's time was up.
    pub ended: bool,
    pub expires: Minutes,
}

/// Somebody in the queue.
#[derive(Clone, Debug)]
pub struct Wait {
    pub claim: Claim,
    pub ticket: Ticket,
    /// It has its seat: with this verdict.
    pub called: Option<Verdict>,
}

/// Who holds a seat. A checkout: the session's place, the product, the application's user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    Login(usize),
    Checkout(usize, &'static str, &'static str),
    Lease(u8),
    Newcomer,
}

/// Somebody who holds or asks for a seat. Where every connection counts, each run counts.
#[derive(Clone, Debug)]
pub struct Seeker {
    holder: Holder,
    database: u32,
    tally: TallyName,
    user: User,
    run: String,
    groups: Groups,
    is_lease: bool,
}

impl Seeker {
    /// Returns the user for whom it asks for a lease.
    fn leased_to(&self) -> Option<&'static str> {
        self.is_lease.then_some(self.user.client_user)
    }
}

/// A seat, and for whom it counts: for who took it, whoever joined it.
#[derive(Clone, Debug)]
pub struct Seat {
    pub tally: TallyName,
    pub holders: BTreeSet<Holder>,
    pub role: u32,
    pub groups: Groups,
    /// A lease took it, for this user.
    pub leased_to: Option<&'static str>,
    /// Its number in the ledger.
    pub number: SeatNumber,
}

/// The rows in force in a database, with the setting that they were read under.
#[derive(Clone, Debug)]
pub struct InForce {
    pub company: Company,
    pub exempt_superusers: bool,
}

/// What tells tallies apart: database (0 for a pool), pool, product.
pub type TallyName = (u32, &'static str, &'static str);

/// Who shares a seat with whom: for each seat its holders.
pub type Sharing = BTreeSet<BTreeSet<Holder>>;

#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    In,
    Overdraft {
        in_use: i64,
        limit: i64,
    },
    Full {
        in_use: i64,
        limit: i64,
        kept: i64,
    },
    GroupFull {
        group: &'static str,
        in_use: i64,
        limit: i64,
    },
    UserFull {
        in_use: i64,
        limit: i64,
    },
    NotYetValid(Minutes),
    Expired(Minutes),
    TableFull,
}

impl Verdict {
    /// Tells whether it lasts until somebody leaves: so who asks may wait for that.
    pub fn lasts_until_somebody_leaves(&self) -> bool {
        matches!(
            self,
            Verdict::Full { .. } | Verdict::GroupFull { .. } | Verdict::UserFull { .. }
        )
    }
}

/// What is in force, and who is in.
#[derive(Clone, Debug, Default)]
pub struct Naive {
    pub in_force: BTreeMap<u32, InForce>,
    pub people: BTreeMap<usize, Person>,
    /// Their places in the order in which they came.
    pub came: Vec<usize>,
    /// Logins and checkouts that count although the rules exempt them: as many are exempt as may be.
    pub beyond: BTreeSet<Holder>,
    /// Places of those whom no rules have judged.
    pub unjudged: BTreeSet<usize>,
    pub holds: Vec<Hold>,
    pub queue: Vec<Wait>,
    /// Leases that are lent to the transactions of sessions.
    pub lent: BTreeSet<(usize, u8)>,
    pub max_seats: usize,
    /// The catalogs: which role is in which group.
    pub granted: BTreeSet<(u32, &'static str)>,
    /// The groups of those who are in, as they were at login or when rules were last read.
    pub groups: BTreeMap<usize, Groups>,
    /// The seats as they were after the last step.
    pub seats: Vec<Seat>,
}

impl Naive {
    /// Tells whether the session at this place takes no seat by its login.
    pub fn is_exempt(&self, place: usize, person: &Person) -> bool {
        self.exempts(person).is_some() && !self.beyond.contains(&Holder::Login(place))
    }

    /// Tells whether the rules exempt a person, and how.
    fn exempts(&self, person: &Person) -> Option<Exempts> {
        let force = self.in_force.get(&person.database)?;
        if person.superuser() {
            let exempt = force.exempt_superusers || person.replication;
            return exempt.then_some(Exempts::Anyway);
        }
        if person.replication {
            return Some(Exempts::Anyway);
        }
        let User { role, host, .. } = person.user;
        let role = |r: &&str| is_member(role, r) || **r == format!("r{role}");
        let host = |h: &&str| match *h {
            "10.1.0.0/16" => host.starts_with("10.1."),
            one => one == host,
        };
        let exempt = force.company.exempt_roles.iter().any(role)
            || force.company.exempt_hosts.iter().any(host);
        exempt.then_some(Exempts::AsSigned)
    }

    /// Tells whether the session at this place is exempt where not too many are.
    fn is_exempt_as_signed(&self, place: usize) -> bool {
        let person = &self.people[&place];
        self.exempts(person) == Some(Exempts::AsSigned) && self.is_exempt(place, person)
    }

    /// Tells who is exempt in a tally where not too many may be: the identities that would have seats.
    pub fn exempt_in(&self, tally: TallyName) -> BTreeSet<String> {
        let mut exempt = BTreeSet::new();
        let mut people: Vec<usize> = self.people.keys().copied().collect();
        people.retain(|place| self.is_exempt_as_signed(*place));
        for place in people {
            let person = &self.people[&place];
            let claimed = self.claimed(person);
            if claimed.is_some_and(|row| tally_name(person.database, row) == tally) {
                exempt.insert(self.identity_in(tally, place, &person.user));
            }
            for Hold { claim, .. } in &self.holds {
                let row = self.row(claim.database, claim.product);
                if claim.place == place
                    && claim.lease.is_none()
                    && !self.beyond.contains(&claim.holder())
                    && row.is_some_and(|row| tally_name(claim.database, row) == tally)
                {
                    exempt.insert(self.identity_in(tally, place, &claim.user));
                }
            }
        }
        exempt
    }

    fn identity_in(&self, tally: TallyName, place: usize, user: &User) -> String {
        let rule = self.rule(tally).unwrap();
        identity(rule, user, &format!("session {place}"))
    }

    /// Returns the rule of counting in a tally: the one of its licenses, or where they disagree the finest.
    fn rule(&self, tally: TallyName) -> Option<&'static str> {
        let rules = self.tallies().remove(&tally)?;
        let agreed = rules.first().filter(|_| rules.len() == 1);
        let by_session = rules.get("session");
        agreed.or(by_session).copied().or(Some("user_host"))
    }

    /// Tells whether somebody whom the rules exempt is too many by this row.
    fn is_beyond(&self, database: u32, row: &Row, place: usize, user: &User) -> bool {
        let tally = tally_name(database, row);
        let exempt = self.exempt_in(tally);
        row.exempt.is_some_and(|most| {
            exempt.len() >= most as usize && !exempt.contains(&self.identity_in(tally, place, user))
        })
    }

    /// Tells the same for the login of a person.
    pub fn is_login_beyond(&self, place: usize, person: &Person) -> bool {
        self.exempts(person) == Some(Exempts::AsSigned)
            && self
                .claimed(person)
                .is_some_and(|row| self.is_beyond(person.database, row, place, &person.user))
    }

    /// Tells the same for what the session at a place asks for.
    pub fn is_claim_beyond(&self, claim: &Claim) -> bool {
        let row = self.row(claim.database, claim.product);
        claim.lease.is_none()
            && self.is_exempt_as_signed(claim.place)
            && row.is_some_and(|row| self.is_beyond(claim.database, row, claim.place, &claim.user))
    }

    /// Tells whether the rules in force would make something else of somebody whom they have not judged.
    pub fn has_unjudged(&self, database: u32) -> bool {
        let people = self.unjudged.iter().map(|place| &self.people[place]);
        let mut people = people.filter(|person| person.database == database);
        people.any(|p| self.exempts(p).is_some() || self.claimed(p).is_some())
    }

    /// Makes the first who came exempt in a database, and first their logins. Who is in the queue goes on waiting for a
    /// seat.
    pub fn judge_exempt(&mut self, database: u32) {
        let mut places = self.came.clone();
        places.retain(|place| self.people[place].database == database);
        let mut checkouts = vec![];
        for place in &places {
            let claims = self.holds.iter().map(|hold| hold.claim);
            checkouts.extend(claims.filter(|c| c.lease.is_none() && c.place == *place));
        }
        // Nobody is exempt before it is judged.
        let logins = places.iter().map(|place| Holder::Login(*place));
        self.beyond.extend(logins);
        self.beyond.extend(checkouts.iter().map(Claim::holder));
        for place in &places {
            if !self.is_login_beyond(*place, &self.people[place]) {
                self.beyond.remove(&Holder::Login(*place));
            }
        }
        for claim in checkouts {
            if !self.is_claim_beyond(&claim) {
                self.beyond.remove(&claim.holder());
            }
        }
        let waits = self.queue.iter().filter(|wait| wait.called.is_none());
        let waits = waits.map(|wait| wait.claim);
        let waits = waits.filter(|claim| claim.lease.is_none() && places.contains(&claim.place));
        for claim in waits.collect::<Vec<_>>() {
            let row = self.row(claim.database, claim.product);
            if self.is_exempt_as_signed(claim.place) && row.is_some_and(|row| row.exempt.is_some())
            {
                self.beyond.insert(claim.holder());
            } else {
                self.beyond.remove(&claim.holder());
            }
        }
    }

    /// Forgets of whom is beyond those who are gone.
    pub fn tidy(&mut self) {
        let holds = self.holds.iter().map(|hold| &hold.claim);
        let claims = holds.chain(self.queue.iter().map(|wait| &wait.claim));
        let mut here: BTreeSet<Holder> = claims.map(Claim::holder).collect();
        here.extend(self.people.keys().map(|place| Holder::Login(*place)));
        self.beyond.retain(|holder| here.contains(holder));
        self.came.retain(|place| self.people.contains_key(place));
    }

    /// Returns the groups of a role, as the catalogs have them.
    pub fn groups_of(&self, role: u32) -> Groups {
        let is_in = |group: &str| {
            role != 1 && (group == format!("r{role}") || self.granted.contains(&(role, group)))
        };
        let bits = GROUPS.iter().enumerate();
        bits.map(|(at, group)| Groups::from(is_in(group)) << at)
            .sum()
    }

    /// Gives everybody the groups that the catalogs have now.
    pub fn regroup(&mut self) {
        let roles = self
            .people
            .iter()
            .map(|(at, person)| (*at, person.user.role));
        self.groups = roles.map(|(at, role)| (at, self.groups_of(role))).collect();
        let mut holds = std::mem::take(&mut self.holds);
        for hold in &mut holds {
            hold.claim.groups = self.groups_of(hold.claim.user.role);
        }
        self.holds = holds;
        let mut queue = std::mem::take(&mut self.queue);
        for wait in &mut queue {
            wait.claim.groups = self.groups_of(wait.claim.user.role);
        }
        self.queue = queue;
        let mut seats = std::mem::take(&mut self.seats);
        for seat in &mut seats {
            seat.groups = self.groups_of(seat.role);
        }
        self.seats = seats;
    }

    /// Returns the seats that are taken now.
    pub fn settled(&self) -> Vec<Seat> {
        let tallies = self.tallies().into_keys();
        tallies.flat_map(|tally| self.settled_in(tally)).collect()
    }

    /// Returns those of a tally: those that were, as far as somebody still holds them, and new ones.
    fn settled_in(&self, tally: TallyName) -> Vec<Seat> {
        let former: Vec<&Seat> = self.seats.iter().filter(|s| s.tally == tally).collect();
        let sharing = self.sharing(tally, None);
        let seat = |holders: BTreeSet<Holder>| {
            let former = former.iter().find(|s| !s.holders.is_disjoint(&holders));
            if let Some(former) = former {
                let former = Seat::clone(former);
                return Seat { holders, ..former };
            }
            let taker = self
                .seated()
                .into_iter()
                .find(|s| holders.contains(&s.holder));
            let taker = taker.unwrap();
            Seat {
                tally,
                holders,
                role: taker.user.role,
                groups: taker.groups,
                leased_to: taker.leased_to(),
                number: SeatNumber::NONE,
            }
        };
        sharing.into_iter().map(seat).collect()
    }

    /// Tells how many seats of a tally members of a group have taken.
    pub fn used_by(&self, tally: TallyName, group: &str) -> i64 {
        let seats = self.settled_in(tally);
        let of = |seat: &&Seat| is_in_group(seat.groups, group);
        seats.iter().filter(of).count() as i64
    }

    /// Tells how many seats of a tally whoever asks has taken: as a role, or those of leases as their user.
    fn used_by_user(&self, seeker: &Seeker) -> i64 {
        let seats = self.settled_in(seeker.tally);
        let is_its = |seat: &&Seat| match (seeker.leased_to(), seat.leased_to) {
            (None, None) => seat.role == seeker.user.role,
            (asks, has) => asks == has,
        };
        seats.iter().filter(is_its).count() as i64
    }

    /// Returns the denial of a newcomer who has as many seats as one may have by a row.
    fn user_full(&self, row: &Row, newcomer: &Seeker) -> Option<Verdict> {
        let limit = i64::from(row.max_per_user?);
        let reservations = &self.in_force[&newcomer.database].company.reservations;
        let shares = |kept: &Kept| {
            kept.shared && kept.product == row.product && is_in_group(newcomer.groups, kept.group)
        };
        let in_use = self.used_by_user(newcomer);
        let is_bound = newcomer.is_lease || !reservations.iter().any(shares);
        (is_bound && in_use >= limit).then_some(Verdict::UserFull { in_use, limit })
    }

    /// Tells how many seats of a tally each user has, as the ledger should have counted them: only where some row says
    /// how many that may be.
    pub fn takers(&self) -> Vec<(TallyName, Seat, i64)> {
        let mut takers: Vec<(TallyName, Seat, i64)> = vec![];
        let is_limited = |tally: TallyName| {
            self.in_force.iter().any(|(database, force)| {
                let mut rows = force.company.rows.iter();
                rows.any(|row| row.max_per_user.is_some() && tally_name(*database, row) == tally)
            })
        };
        for seat in self.seats.iter().filter(|seat| is_limited(seat.tally)) {
            let role = |seat: &Seat| seat.leased_to.is_none().then_some(seat.role);
            let same = |(tally, other, _): &&mut (TallyName, Seat, i64)| {
                *tally == seat.tally
                    && other.leased_to == seat.leased_to
                    && role(other) == role(seat)
            };
            match takers.iter_mut().find(same) {
                Some((_, _, seats)) => *seats += 1,
                None => takers.push((seat.tally, seat.clone(), 1)),
            }
        }
        takers
    }

    /// Tells how many seats are kept from a newcomer, and what one of its own groups denies.
    fn reserved(&self, newcomer: &Seeker) -> (i64, Option<Verdict>) {
        let (mut kept, mut denied) = (0, None);
        for row in &self.in_force[&newcomer.database].company.reservations {
            if row.product != newcomer.tally.2 {
                continue;
            }
            let in_use = self.used_by(newcomer.tally, row.group);
            if !is_in_group(newcomer.groups, row.group) {
                kept += (i64::from(row.reserved) - in_use).max(0);
            } else if row.max_seats.is_some_and(|most| in_use >= most.into()) {
                denied = denied.or(Some(Verdict::GroupFull {
                    group: row.group,
                    in_use,
                    limit: row.max_seats.unwrap().into(),
                }));
            }
        }
        (kept, denied)
    }

    /// Returns the row that a person claims, exempt or not.
    pub fn claimed(&self, person: &Person) -> Option<&Row> {
        let rows = &self.in_force.get(&person.database)?.company.rows;
        let mut fitting: Vec<&Row> = rows
            .iter()
            .filter(|row| row.at_login)
            .filter(|row| {
                row.pattern
                    .is_none_or(|p| is_like(person.application.as_bytes(), p.as_bytes()))
            })
            .collect();
        fitting.sort_by_key(|row| row.product);
        fitting.sort_by_key(|row| -(row.pattern.map_or(0, str::len) as i64));
        fitting.first().copied()
    }

    /// Returns the tallies, each with the rules of counting that its licenses have.
    pub fn tallies(&self) -> BTreeMap<TallyName, BTreeSet<&'static str>> {
        let mut tallies: BTreeMap<TallyName, BTreeSet<&str>> = BTreeMap::new();
        for (database, force) in &self.in_force {
            for row in &force.company.rows {
                let rules = tallies.entry(tally_name(*database, row)).or_default();
                rules.insert(row.counted_by);
            }
        }
        tallies
    }

    pub fn row(&self, database: u32, product: &str) -> Option<&Row> {
        let rows = &self.in_force.get(&database)?.company.rows;
        rows.iter().find(|row| row.product == product)
    }

    /// Returns the login of the session at this place.
    pub fn login(&self, place: usize, person: &Person) -> Option<Seeker> {
        let row = self
            .claimed(person)
            .filter(|_| !self.is_exempt(place, person))?;
        Some(Seeker {
            holder: Holder::Login(place),
            database: person.database,
            groups: match self.groups.get(&place) {
                Some(groups) => *groups,
                None => self.groups_of(person.user.role),
            },
            tally: tally_name(person.database, row),
            user: person.user,
            run: format!("session {place}"),
            is_lease: false,
        })
    }

    /// Returns a claim that counts: its product is licensed, and its session is not exempt. Leases always count.
    pub fn counted(&self, claim: &Claim) -> Option<Seeker> {
        let row = self.row(claim.database, claim.product)?;
        let run = match claim.lease {
            Some((number, _)) => format!("lease {number}"),
            None if self.is_exempt(claim.place, &self.people[&claim.place])
                && !self.beyond.contains(&claim.holder()) =>
            {
                return None;
            }
            None => format!("session {}", claim.place),
        };
        Some(Seeker {
            holder: claim.holder(),
            database: claim.database,
            groups: claim.groups,
            tally: tally_name(claim.database, row),
            user: claim.user,
            run,
            is_lease: claim.lease.is_some(),
        })
    }

    /// Returns all who hold seats.
    fn seated(&self) -> Vec<Seeker> {
        let judged = |place: &usize| !self.unjudged.contains(place);
        let people = self.people.iter().filter(|(place, _)| judged(place));
        let logins = people.filter_map(|(place, person)| self.login(*place, person));
        let holds = self.holds.iter().filter(|hold| !hold.ended);
        let holds = holds.filter_map(|hold| self.counted(&hold.claim));
        logins.chain(holds).collect()
    }

    /// Returns the sharing of a tally's seats, with a newcomer or without.
    pub fn sharing(&self, tally: TallyName, newcomer: Option<&Seeker>) -> Sharing {
        let newcomer = newcomer.map(|newcomer| Seeker {
            holder: Holder::Newcomer,
            ..newcomer.clone()
        });
        let mut seekers = self.seated();
        seekers.extend(newcomer);
        seekers.retain(|seeker| seeker.tally == tally);
        let mut seats: BTreeMap<String, BTreeSet<Holder>> = BTreeMap::new();
        for seeker in &seekers {
            let rule = self.rule(tally).unwrap();
            let seat = seats.entry(identity(rule, &seeker.user, &seeker.run));
            seat.or_default().insert(seeker.holder);
        }
        seats.into_values().collect()
    }

    pub fn in_use(&self, tally: TallyName) -> usize {
        self.sharing(tally, None).len()
    }

    /// Returns the answer that a newcomer gets for a row. Who is not counted is in.
    pub fn verdict(&self, row: &Row, newcomer: Option<&Seeker>, now: Minutes) -> Verdict {
        let Some(newcomer) = newcomer else {
            return Verdict::In;
        };
        if let Some(verdict) = out_of_dates(row, now) {
            return verdict;
        }
        let sharing = self.sharing(newcomer.tally, Some(newcomer));
        if !sharing.contains(&BTreeSet::from([Holder::Newcomer])) {
            return Verdict::In;
        }
        if let Some(verdict) = self.user_full(row, newcomer) {
            return verdict;
        }
        let (kept, denied) = self.reserved(newcomer);
        let in_use = sharing.len() as i64 - 1;
        let Some(seats) = row.seats.map(i64::from) else {
            return denied.unwrap_or(Verdict::In);
        };
        let limit = seats + i64::from(row.overdraft);
        if in_use + kept + 1 > limit {
            let kept = kept.min(limit - in_use).max(0);
            Verdict::Full {
                in_use,
                limit,
                kept,
            }
        } else if let Some(denied) = denied {
            denied
        } else if in_use + 1 > seats {
            let limit = seats;
            Verdict::Overdraft { in_use, limit }
        } else {
            Verdict::In
        }
    }

    /// Tells whether there is room for one more hold, and for those of everyone in the queue.
    pub fn has_room(&self) -> bool {
        self.holds.len() + self.queue.len() < self.max_seats
    }

    /// Tells whether somebody in the queue would not wait if it asked now.
    pub fn waits_in_vain(&self, wait: &Wait, now: Minutes) -> bool {
        let Claim {
            database, product, ..
        } = wait.claim;
        let row = self.row(database, product);
        self.counted(&wait.claim).is_none()
            || row.is_some_and(|row| row.enforcement != "on" || out_of_dates(row, now).is_some())
    }

    /// Returns the verdict on somebody in the queue, were it called now; none where its product is not licensed.
    pub fn verdict_in_queue(&self, wait: &Wait, now: Minutes) -> Option<Verdict> {
        let row = self.row(wait.claim.database, wait.claim.product)?;
        Some(self.verdict(row, self.counted(&wait.claim).as_ref(), now))
    }

    /// Gives free seats to the first in the queue who may have them.
    pub fn serve(&mut self, now: Minutes) {
        let first = self.queue.iter().position(|wait| {
            wait.called.is_none()
                && !self.waits_in_vain(wait, now)
                && self.verdict_in_queue(wait, now).as_ref().is_none_or(is_in)
        });
        if let Some(first) = first {
            self.call(first, now);
            self.serve(now);
        }
    }

    /// Gives somebody in the queue its seat.
    pub fn call(&mut self, at: usize, now: Minutes) {
        let verdict = self.verdict_in_queue(&self.queue[at], now);
        let wait = &mut self.queue[at];
        wait.called = Some(verdict.unwrap_or(Verdict::In));
        let claim = wait.claim;
        self.hold(claim, now);
        if let Some(hold) = self.holds.last_mut() {
            hold.unseen = true;
        }
    }

    pub fn hold(&mut self, claim: Claim, now: Minutes) {
        self.holds.push(Hold {
            claim,
            times: 1,
            pending: claim.lease.is_some(),
            unseen: false,
            ended: false,
            expires: now + claim.lease.map_or(0, |(_, ttl)| ttl),
        });
    }

    pub fn checkouts_of(&self, place: usize) -> Vec<Claim> {
        let claims = self.holds.iter().map(|hold| hold.claim);
        let is_its = |claim: &Claim| claim.lease.is_none() && claim.place == place;
        claims.filter(is_its).collect()
    }

    /// Takes somebody out of the queue, with what it was given.
    pub fn step_out(&mut self, place: usize) {
        let at = self.queue.iter().position(|wait| wait.claim.place == place);
        if let Some(wait) = at.map(|at| self.queue.remove(at))
            && wait.called.is_some()
        {
            let holder = wait.claim.holder();
            self.holds.retain(|hold| hold.claim.holder() != holder);
        }
    }

    /// Tells whether a session is exempt in this row: it, or another of its identity, would take a seat otherwise.
    fn is_exempt_in(&self, place: usize, row: &Row) -> bool {
        let person = &self.people[&place];
        if row.exempt.is_none() || self.exempts(person) == Some(Exempts::Anyway) {
            return true;
        }
        let claimed = self.claimed(person);
        let checkout = |hold: &Hold| {
            let claim = &hold.claim;
            claim.place == place
                && claim.product == row.product
                && claim.lease.is_none()
                && !self.beyond.contains(&claim.holder())
        };
        let tally = tally_name(person.database, row);
        claimed.is_some_and(|claimed| claimed.product == row.product)
            || self.holds.iter().any(checkout)
            || self
                .exempt_in(tally)
                .contains(&self.identity_in(tally, place, &person.user))
    }

    /// Tells whether a session may use a product: it is a superuser's or exempt, the product is not enforced, or it,
    /// its identity or a lease that it was lent has a seat.
    pub fn may_use(&self, place: usize, product: &'static str) -> bool {
        let person = &self.people[&place];
        let row = self.row(person.database, product).unwrap();
        let tally = tally_name(person.database, row);
        let own = Seeker {
            holder: Holder::Newcomer,
            database: person.database,
            tally,
            user: person.user,
            run: format!("session {place}"),
            groups: 0,
            is_lease: false,
        };
        let has_seat = |seeker: Seeker| {
            seeker.tally == tally
                && match seeker.holder {
                    Holder::Login(at) | Holder::Checkout(at, ..) => at == place,
                    Holder::Lease(number) => self.lent.contains(&(place, number)),
                    Holder::Newcomer => false,
                }
        };
        person.superuser()
            || self.is_exempt(place, person) && self.is_exempt_in(place, row)
            || row.enforcement != "on"
            || self.seated().into_iter().any(has_seat)
            || !self
                .sharing(tally, Some(&own))
                .contains(&BTreeSet::from([Holder::Newcomer]))
    }
}

/// Whom the rules exempt.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Exempts {
    /// However many are.
    Anyway,
    /// As many as may be by the rows.
    AsSigned,
}

pub fn is_in(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::In | Verdict::Overdraft { .. })
}

fn out_of_dates(row: &Row, now: Minutes) -> Option<Verdict> {
    // What was signed may begin two minutes before its time.
    let early = if row.exempt.is_some() { 2 } else { 0 };
    if let Some(from) = row.from.filter(|from| now + early < *from) {
        return Some(Verdict::NotYetValid(from));
    }
    let until = row.until.filter(|until| now >= until + row.grace)?;
    Some(Verdict::Expired(until))
}

pub fn tally_name(database: u32, row: &Row) -> TallyName {
    match row.pool {
        Some(pool) => (0, pool, row.product),
        None => (database, "", row.product),
    }
}

/// Returns the identity by counting rules 1, 2 and 4, as text.
fn identity(rule: &str, user: &User, run: &str) -> String {
    let User {
        role,
        host,
        workstation,
        client_user,
    } = user;
    let of = match rule {
        "session" => run.to_owned(),
        "user_host" => format!("{role} on {host}, {workstation}"),
        "user" => format!("{role}, {workstation}"),
        "host" => format!("{host}, {workstation}"),
        "user_workstation" if workstation.is_empty() => format!("{role} on host {host}"),
        "user_workstation" => format!("{role} on workstation {workstation}"),
        other => panic!("{other}"),
    };
    format!("{of}; {client_user}")
}

pub fn timestamp(minutes: Minutes) -> i64 {
    minutes * MINUTE
}
