//! Random histories: after each step the ledger and the naive model must agree on everything that
//! people can see, and the promises must hold.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use proptest::test_runner::Config;

use super::naive::{Company, GROUPS, Kept, Minutes, Person, Row, User};
use super::world::{PLACES, PRODUCTS, USERS, World};

#[derive(Clone, Debug)]
pub enum Step {
    Login(Person),
    /// A superuser's, while the rules can't be read.
    BlindLogin(Person),
    /// Of one of those who are in.
    Logout(Index),
    Change(u32, Company),
    /// A change that was read and published while it was not yet visible.
    ChangeReadTooSoon(u32, Company),
    Rollback(u32),
    Read(u32),
    /// DROP DATABASE, once everybody has left it.
    Drop(u32),
    Crash,
    ExemptSuperusers(bool),
    Enforcement(&'static str),
    /// A role becomes a member of a group, or no longer.
    Grant(u32, &'static str, bool),
    TimePasses(Minutes),
    /// The claim of one of those who are in.
    Claim(Index, Wish),
    CheckIn(Index, &'static str, &'static str),
    Discard(Index),
    /// One of those in the queue looks whether it was called.
    Collect(Index),
    /// Cancel, or a timeout, of one of those in the queue.
    GiveUp(Index),
    /// One of the transactions that have taken a lease commits, or rolls back.
    EndTransaction(Index, bool),
    /// Somebody sends the heartbeat of a lease.
    Heartbeat(Index, Index),
    /// The transaction to which leases were lent ends.
    EndLent(Index),
    ReleaseLease(Index),
    EndDueLeases,
    Bury(u32),
}

/// What an application asks for.
#[derive(Clone, Debug)]
pub struct Wish {
    pub product: &'static str,
    pub client_user: &'static str,
    /// A lease for a user at this host, that lasts so long.
    pub lease: Option<(&'static str, Minutes)>,
    pub patient: bool,
}

fn word(words: &[&'static str]) -> impl Strategy<Value = &'static str> + use<> {
    select(words.to_vec())
}

fn database() -> impl Strategy<Value = u32> {
    1..=3u32
}

fn person() -> impl Strategy<Value = Person> {
    (
        database(),
        1..=6u32,
        word(&["local", "127.0.0.2", "10.1.0.1", "10.1.0.2", "10.2.0.1"]),
        word(&["", "", "LAPTOP", "DESK"]),
        word(&["", "Crm", "Crm Mobile", "Pay"]),
        prop::bool::weighted(0.05),
    )
        .prop_map(
            |(database, role, host, workstation, application, replication)| Person {
                database,
                user: User {
                    role,
                    host,
                    workstation,
                    client_user: "",
                },
                application,
                replication,
            },
        )
}

fn wish() -> impl Strategy<Value = Wish> {
    let host = word(&["local", "127.0.0.2", "10.1.0.1"]);
    (
        word(&PRODUCTS),
        word(&USERS),
        prop::option::weighted(0.3, (host, select(vec![3, 10]))),
        prop::bool::weighted(0.7),
    )
        .prop_map(|(product, client_user, lease, patient)| Wish {
            product,
            client_user,
            lease,
            patient,
        })
}

/// Generates what applications do.
fn call() -> impl Strategy<Value = Step> {
    let index = any::<Index>;
    prop_oneof![
        16 => (index(), wish()).prop_map(|(i, w)| Step::Claim(i, w)),
        6 => (index(), word(&PRODUCTS), word(&USERS)).prop_map(|(i, p, u)| Step::CheckIn(i, p, u)),
        1 => index().prop_map(Step::Discard),
        3 => index().prop_map(Step::Collect),
        1 => index().prop_map(Step::GiveUp),
        4 => (index(), prop::bool::weighted(0.8)).prop_map(|(i, c)| Step::EndTransaction(i, c)),
        3 => (index(), index()).prop_map(|(i, j)| Step::Heartbeat(i, j)),
        1 => index().prop_map(Step::EndLent),
        2 => index().prop_map(Step::ReleaseLease),
        2 => Just(Step::EndDueLeases),
        1 => database().prop_map(Step::Bury),
    ]
}

/// What a history is about.
#[derive(Clone, Copy)]
struct About {
    /// The rules of counting.
    rules: &'static [&'static str],
    /// There is one product, and one pool.
    pooled: bool,
    /// There are reservations.
    reserved: bool,
    /// Many are exempt, but not more than a number.
    limited: bool,
    /// One user may have so many seats.
    by_user: bool,
}

const EVERYTHING: About = About {
    rules: &["user_host", "user", "host", "session", "user_workstation"],
    pooled: false,
    reserved: false,
    limited: false,
    by_user: false,
};

const DISAGREEING: About = About {
    rules: &["host", "user", "user_workstation"],
    pooled: true,
    reserved: false,
    limited: false,
    by_user: false,
};

const RESERVED: About = About {
    reserved: true,
    ..EVERYTHING
};

const RESERVED_BY_HOST: About = About {
    rules: &["host"],
    pooled: true,
    reserved: true,
    limited: false,
    by_user: false,
};

const BY_USER: About = About {
    reserved: true,
    by_user: true,
    ..EVERYTHING
};

const BY_USER_IN_POOL: About = About {
    by_user: true,
    ..DISAGREEING
};

const LIMITED: About = About {
    limited: true,
    ..EVERYTHING
};

const LIMITED_BY_HOST: About = About {
    limited: true,
    reserved: false,
    ..RESERVED_BY_HOST
};

fn row(about: About) -> impl Strategy<Value = Row> {
    let About { rules, pooled, .. } = about;
    let date = || prop::option::weighted(0.2, 0..60 as Minutes);
    (
        prop::bool::weighted(if pooled { 1.0 } else { 0.4 }),
        prop::option::weighted(0.4, word(&["Crm%", "C%", "Crm Mobile", "%", "C_m%"])),
        prop::option::weighted(0.9, 0..5i32),
        select(vec![0, 0, 0, 1, 2]),
        word(rules),
        prop::bool::weighted(0.8),
        word(&["on", "on", "on", "on", "warn", "off"]),
        (date(), date(), select(vec![0, 0, 10])),
        prop::option::weighted(0.8, 0..4u32),
        prop::option::weighted(if about.by_user { 0.7 } else { 0.1 }, 1..4i32),
    )
        .prop_map(
            move |(
                pool,
                pattern,
                seats,
                overdraft,
                counted_by,
                at_login,
                enforcement,
                dates,
                exempt,
                max_per_user,
            )| Row {
                product: "",
                pool: pool.then_some("group"),
                pattern,
                seats,
                overdraft,
                counted_by,
                at_login,
                enforcement,
                from: dates.0,
                until: dates.1,
                grace: dates.2,
                exempt: exempt.filter(|_| about.limited),
                max_per_user,
            },
        )
}

fn kept() -> impl Strategy<Value = Kept> {
    let most = prop::option::weighted(0.6, 0..4i32);
    let shared = prop::bool::weighted(0.3);
    (word(&PRODUCTS), word(&GROUPS), 0..4i32, most, shared).prop_map(
        |(product, group, reserved, max_seats, shared)| Kept {
            product,
            group,
            reserved: max_seats.map_or(reserved, |most| reserved.min(most)),
            max_seats,
            shared,
        },
    )
}

/// Generates at most one row for each product and group.
fn reservations(about: About) -> impl Strategy<Value = Vec<Kept>> {
    let rows = vec(kept(), if about.reserved { 0..6 } else { 0..1 });
    rows.prop_map(move |mut rows| {
        if about.pooled {
            rows.iter_mut().for_each(|row| row.product = "Books");
        }
        rows.sort_by_key(|row| (row.product, row.group));
        rows.dedup_by_key(|row| (row.product, row.group));
        rows
    })
}

fn company(about: About) -> impl Strategy<Value = Company> {
    let pooled = about.pooled;
    let products = if pooled {
        subsequence(vec!["Books"], 0..=1)
    } else {
        subsequence(PRODUCTS.to_vec(), 0..=3)
    };
    (
        (products, vec(row(about), 3)),
        subsequence(vec!["staff", "batch", "r4"], 0..=2),
        subsequence(vec!["local", "127.0.0.2", "10.1.0.0/16"], 0..=1),
        prop::bool::weighted(if about.limited { 0.9 } else { 0.3 }),
        reservations(about),
    )
        .prop_map(
            |((products, rows), roles, hosts, exempts, reservations)| Company {
                rows: products
                    .into_iter()
                    .zip(rows)
                    .map(|(product, row)| Row { product, ..row })
                    .collect(),
                exempt_roles: if exempts { roles } else { vec![] },
                exempt_hosts: if exempts { hosts } else { vec![] },
                reservations,
            },
        )
}

fn superuser(person: Person) -> Person {
    let user = User {
        role: 1,
        ..person.user
    };
    Person { user, ..person }
}

fn step(about: About) -> impl Strategy<Value = Step> {
    prop_oneof![
        24 => person().prop_map(Step::Login),
        1 => person().prop_map(|p| Step::BlindLogin(superuser(p))),
        10 => any::<prop::sample::Index>().prop_map(Step::Logout),
        5 => (database(), company(about)).prop_map(|(d, c)| Step::Change(d, c)),
        1 => (database(), company(about)).prop_map(|(d, c)| Step::ChangeReadTooSoon(d, c)),
        1 => database().prop_map(Step::Rollback),
        3 => database().prop_map(Step::Read),
        1 => database().prop_map(Step::Drop),
        1 => Just(Step::Crash),
        1 => any::<bool>().prop_map(Step::ExemptSuperusers),
        1 => word(&["on", "on", "warn", "off"]).prop_map(Step::Enforcement),
        2 => (0..20 as Minutes).prop_map(Step::TimePasses),
        if about.reserved { 6 } else { 1 } => (1..=6u32, word(&GROUPS[..2]), prop::bool::weighted(0.7))
            .prop_map(|(r, g, is)| Step::Grant(r, g, is)),
        40 => call(),
    ]
}

#[derive(Clone, Debug)]
pub struct History {
    pub max_seats: usize,
    pub first: Vec<Company>,
    steps: Vec<Step>,
}

fn history(about: About) -> impl Strategy<Value = History> {
    (
        select(vec![PLACES, PLACES, 4]),
        vec(company(about), 3),
        vec(step(about), 1..80),
    )
        .prop_map(|(max_seats, first, steps)| History {
            max_seats,
            first,
            steps,
        })
}

fn run(history: &History) {
    let mut world = World::new(history);
    for step in &history.steps {
        world.step(step);
    }
    // Promise 3.
    world.everybody_leaves();
}

fn cases(cases: u32) -> Config {
    Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    }
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn the_ledger_counts_as_the_naive_model(history in history(EVERYTHING)) {
        run(&history);
    }

    #[test]
    fn in_a_disagreeing_pool_the_finest_rule_rules(history in history(DISAGREEING)) {
        run(&history);
    }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn seats_are_kept_for_members_and_limited_to_them(history in history(RESERVED)) {
        run(&history);
    }

    #[test]
    fn a_seat_counts_for_the_groups_of_who_took_it(history in history(RESERVED_BY_HOST)) {
        run(&history);
    }

    #[test]
    fn one_user_has_no_more_seats_than_one_may(history in history(BY_USER)) {
        run(&history);
    }

    #[test]
    fn one_user_has_no_more_seats_of_a_pool_than_one_may(history in history(BY_USER_IN_POOL)) {
        run(&history);
    }

    #[test]
    fn no_more_are_exempt_than_may_be(history in history(LIMITED)) {
        run(&history);
    }

    #[test]
    fn no_more_hosts_are_exempt_than_may_be_in_a_pool(history in history(LIMITED_BY_HOST)) {
        run(&history);
    }
}
