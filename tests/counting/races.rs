//! Many logins at the same moment: never one seat too many, never a denial while a seat is free.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use tokio::sync::{Barrier, Semaphore};
use tokio::time::timeout;

use crate::util::*;

/// How long clients come and go at random.
const BUSY: Duration = Duration::from_secs(4);

/// Tells whether that long has not passed yet, or one of these has not happened often enough to show something.
fn is_busy(since: Instant, counts: &[&AtomicI64], often: i64) -> bool {
    let enough = counts.iter().all(|count| count.load(SeqCst) > often);
    since.elapsed() < BUSY || !enough && since.elapsed() < 10 * BUSY
}

/// Returns the computer of the racer with this number.
fn host(i: usize) -> String {
    format!("127.0.1.{}", i + 1)
}

async fn administrator(cluster: &Cluster) -> Session {
    cluster.login("postgres").open_ok().await
}

async fn in_use(admin: &Session) -> i32 {
    admin.val("SELECT in_use FROM license_usage").await
}

async fn all_seats_are_free(admin: &Session) {
    eventually("no seat is in use", PATIENCE, async || {
        in_use(admin).await == 0
    })
    .await;
}

/// Waits until the racer with this number is seen to have no seat. Looks without a pause, for others
/// wait for its permit.
async fn is_seen_gone(admin: &Session, i: usize) {
    let seats = format!(
        "SELECT count(*) FROM license_active_seats WHERE client_host = '{}'",
        host(i)
    );
    let seen_gone = async { while admin.val::<i64>(&seats).await != 0 {} };
    let seen_gone = timeout(PATIENCE, seen_gone).await;
    seen_gone.expect("the seat is given back");
}

/// Fails unless it is the license that denied.
#[track_caller]
fn is_full(denied: &Denied) {
    denied.assert("53300", "license_full");
    assert_eq!(
        denied.message,
        r#"maximum user license count reached for "TOM""#
    );
}

/// Returns those who got in, by number; everybody else was denied by the license.
#[track_caller]
fn admitted(results: Vec<Result<Session, Denied>>) -> Vec<(usize, Session)> {
    let mut sessions = Vec::new();
    for (i, result) in results.into_iter().enumerate() {
        match result {
            Ok(session) => sessions.push((i, session)),
            Err(denied) => is_full(&denied),
        }
    }
    sessions
}

impl Dice {
    /// Works for a random while, then leaves, politely or not.
    async fn work_and_leave(&mut self, session: Session, leaving: impl FnOnce()) {
        for _ in 0..self.below(20) {
            session.run("SELECT 1").await;
        }
        leaving();
        if self.below(2) == 0 {
            session.close().await;
        } else {
            session.abort().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_at_once_for_ten_seats_again_and_again() {
    let cluster = Cluster::builder().roomy().licensed("seats", "10");
    let admin = administrator(&cluster).await;
    for round in 1..=5 {
        let racers = race(200, |i| {
            cluster.login(STAFF[i % STAFF.len()]).from(&host(i))
        });
        let inside = admitted(racers.await);
        assert_eq!(inside.len(), 10, "round {round}");
        assert_eq!(in_use(&admin).await, 10);
        let denied: i64 = admin.val("SELECT denied FROM license_usage").await;
        assert_eq!(denied, 190 * round);
        drop(inside);
        all_seats_are_free(&admin).await;
    }
    let high_water: i32 = admin.val("SELECT high_water FROM license_usage").await;
    assert_eq!(high_water, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_two_hundred_after_a_start_race_for_ten_seats() {
    let cluster = Cluster::builder().roomy().licensed("seats", "10");
    for _ in 0..3 {
        cluster.restart(Stop::Immediate);
        let inside = admitted(race(200, |i| cluster.login("anna").from(&host(i))).await);
        assert_eq!(inside.len(), 10);
    }
}

/// A client counts itself from the moment it knows that it is in until it begins to leave: never
/// longer than the server holds its seat. So eleven of them would be eleven seats.
#[tokio::test(flavor = "multi_thread")]
async fn never_more_than_ten_are_held_at_any_instant() {
    let cluster = Cluster::builder().roomy().licensed("seats", "10");
    let admin = administrator(&cluster).await;
    let [held, admitted, denied] = [0; 3].map(|none| Arc::new(AtomicI64::new(none)));
    let start = Instant::now();
    let clients: Vec<_> = (0..40)
        .map(|i| {
            let login = cluster.login("anna").from(&host(i));
            let [held, admitted, denied] = [&held, &admitted, &denied].map(Arc::clone);
            tokio::spawn(async move {
                let mut dice = Dice::new(i);
                // Only a race with both outcomes shows anything.
                while is_busy(start, &[&admitted, &denied], 40) {
                    match login.open().await {
                        Ok(session) => {
                            admitted.fetch_add(1, SeqCst);
                            let now = held.fetch_add(1, SeqCst) + 1;
                            assert!(now <= 10, "{now} clients are in at once");
                            let leaving = || _ = held.fetch_sub(1, SeqCst);
                            dice.work_and_leave(session, leaving).await;
                        }
                        Err(refusal) => {
                            denied.fetch_add(1, SeqCst);
                            is_full(&refusal);
                        }
                    }
                }
            })
        })
        .collect();
    while is_busy(start, &[&admitted, &denied], 40) {
        let seen: i64 = admin.val("SELECT count(*) FROM license_active_seats").await;
        assert!(seen <= 10 && in_use(&admin).await <= 10, "{seen} seats");
    }
    for client in clients {
        client.await.unwrap();
    }
    let [admitted, denied] = [admitted, denied].map(|count| count.load(SeqCst));
    assert!(
        admitted > 40 && denied > 40,
        "{admitted} admitted, {denied} denied"
    );
    let usage = admin
        .text("SELECT high_water, denied FROM license_usage")
        .await;
    assert_eq!(usage, format!("10|{denied}"));
    all_seats_are_free(&admin).await;
}

/// Whoever holds a seat, is about to, or has not yet been seen to be gone, has one of ten permits:
/// so there is a free seat for every login, and none may be denied. The first ten wait for each other,
/// so that all seats are in use once.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_denied_while_a_seat_is_free() {
    let cluster = Cluster::builder().roomy().licensed("seats", "10");
    let admin = Arc::new(administrator(&cluster).await);
    let permits = Arc::new(Semaphore::new(10));
    let (visits, all_in) = (Arc::new(AtomicI64::new(0)), Arc::new(Barrier::new(10)));
    let start = Instant::now();
    let clients: Vec<_> = (0..30)
        .map(|i| {
            let login = cluster.login("anna").from(&host(i));
            let (admin, permits) = (Arc::clone(&admin), Arc::clone(&permits));
            let (visits, all_in) = (Arc::clone(&visits), Arc::clone(&all_in));
            tokio::spawn(async move {
                let mut dice = Dice::new(i);
                while is_busy(start, &[&visits], 100) {
                    let permit = permits.acquire().await.unwrap();
                    let session = login.open_ok().await;
                    if visits.fetch_add(1, SeqCst) < 10 {
                        all_in.wait().await;
                    }
                    dice.work_and_leave(session, || ()).await;
                    is_seen_gone(&admin, i).await;
                    drop(permit);
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let visits = visits.load(SeqCst);
    let usage = admin
        .text("SELECT in_use, high_water, denied FROM license_usage")
        .await;
    assert_eq!(usage, "0|10|0", "after {visits} logins");
    assert!(visits > 100, "{visits} logins are no crowd");
}

/// Runs `statement` for one value after the other while `racers` log in.
async fn while_changing<R>(
    cluster: &Cluster,
    statements: &[String],
    racers: impl Future<Output = R>,
) -> R {
    let admin = administrator(cluster).await;
    let done = AtomicBool::new(false);
    let change = async {
        for statement in statements.iter().cycle() {
            admin.run(statement).await;
            if done.load(SeqCst) {
                break;
            }
        }
    };
    let racing = async {
        let results = racers.await;
        done.store(true, SeqCst);
        results
    };
    tokio::join!(racing, change).0
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_race_while_seats_go_up_and_down() {
    let cluster = Cluster::builder().roomy().licensed("seats", "5");
    let admin = administrator(&cluster).await;
    let changes: Vec<_> = [10, 6, 9, 5, 8]
        .map(|seats| format!("UPDATE licenses SET seats = {seats}"))
        .into();
    for _ in 0..5 {
        // The racers may be quicker than the first change.
        admin.run("UPDATE licenses SET seats = 5").await;
        // Nobody leaves and there are always at least 5 and at most 10 seats.
        let racers = race(80, |i| cluster.login("anna").from(&host(i)));
        let first = admitted(while_changing(&cluster, &changes, racers).await);
        assert!((5..=10).contains(&first.len()), "{} got in", first.len());
        admin.run("UPDATE licenses SET seats = 12").await;
        let more = admitted(race(40, |i| cluster.login("bert").from(&host(i))).await);
        assert_eq!(first.len() + more.len(), 12);
        admin.run("UPDATE licenses SET seats = 3").await;
        assert_eq!(in_use(&admin).await, 12);
        is_full(&cluster.login("carl").denied().await);
        drop((first, more));
        all_seats_are_free(&admin).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_race_while_the_rule_of_counting_changes() {
    let cluster = Cluster::builder().roomy().licensed("seats", "40");
    let admin = administrator(&cluster).await;
    let rule = |rule: &str| format!("UPDATE licenses SET counted_by = '{rule}'");
    let rules = ["user", "host", "session", "user_workstation", "user_host"];
    let changes = rules.map(rule);
    for _ in 0..5 {
        // Four users on ten computers: at most 40 seats by any rule, so nobody may be denied.
        let racers = race(40, |i| cluster.login(STAFF[i % 4]).from(&host(i / 4)));
        let inside = admitted(while_changing(&cluster, &changes, racers).await);
        assert_eq!(inside.len(), 40);
        for (rule, seats) in changes.iter().zip([4, 10, 40, 40, 40]) {
            admin.run(rule).await;
            assert_eq!(in_use(&admin).await, seats, "{rule}");
        }
        drop(inside);
        all_seats_are_free(&admin).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_connections_of_one_user_race_for_the_last_seat_and_both_get_in() {
    let cluster = Cluster::with_seats(2);
    let admin = administrator(&cluster).await;
    let _other = cluster.login("bert").from(&host(0)).open_ok().await;
    for _ in 0..20 {
        let inside = admitted(race(2, |_| cluster.login("anna").from(&host(1))).await);
        assert_eq!((inside.len(), in_use(&admin).await), (2, 2));
        drop(inside);
        eventually("anna's seat is free", PATIENCE, async || {
            in_use(&admin).await == 1
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_users_race_for_the_last_seat_and_one_gets_it_with_all_connections() {
    let cluster = Cluster::with_seats(1);
    let admin = administrator(&cluster).await;
    for _ in 0..10 {
        let racers = race(20, |i| cluster.login(STAFF[i % 2]).from(&host(0)));
        let inside = admitted(racers.await);
        let users: HashSet<_> = inside.iter().map(|(i, _)| i % 2).collect();
        assert_eq!(
            (inside.len(), users.len(), in_use(&admin).await),
            (10, 1, 1)
        );
        drop(inside);
        all_seats_are_free(&admin).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seat_kept_by_overlapping_connections_is_never_lost_to_others() {
    let cluster = Cluster::with_seats(1);
    let anna = cluster.login("anna").from(&host(0));
    let done = AtomicBool::new(false);
    let mut last = anna.open_ok().await;
    let overlap = async {
        for _ in 0..100 {
            let next = anna.open_ok().await;
            last.close().await;
            last = next;
        }
        done.store(true, SeqCst);
        // Anna stays until the intruder has given up.
        last
    };
    let intruder = async {
        while !done.load(SeqCst) {
            is_full(&cluster.login("bert").from(&host(1)).denied().await);
        }
    };
    let (_last, ()) = tokio::join!(overlap, intruder);
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_race_in_a_pool_of_two_databases() {
    let cluster = Cluster::builder()
        .roomy()
        .licensed("seats, pool", "10, 'firm'");
    cluster.sql("CREATE DATABASE second");
    cluster.license("second", "seats, pool", "10, 'firm'");
    let admin = administrator(&cluster).await;
    let databases = ["postgres", "second"];
    for round in 1..=5 {
        // A hundred users, each in both databases at once: whoever gets a seat has it in both.
        let racers = race(200, |i| {
            let login = cluster.login("anna").from(&host(i / 2));
            login.db(databases[i % 2])
        });
        let inside = admitted(racers.await);
        let users: HashSet<_> = inside.iter().map(|(i, _)| i / 2).collect();
        assert_eq!((inside.len(), users.len()), (20, 10), "round {round}");
        for database in databases {
            assert_eq!(cluster.in_use_in(database), 10, "{database}");
        }
        drop(inside);
        all_seats_are_free(&admin).await;
    }
}

/// Returns a server with accountants, who are Anna and Bert, and interns, who are Carl and Dora.
fn with_roles(seats: u32) -> Cluster {
    let cluster = Cluster::builder()
        .roomy()
        .licensed("seats", &seats.to_string());
    cluster.sql(
        "CREATE ROLE accounting; CREATE ROLE interns; GRANT accounting TO anna, bert;
         GRANT interns TO carl, dora",
    );
    cluster
}

/// Starts a server with ten seats: three kept for accountants, at most two for interns.
fn reserved() -> Cluster {
    let cluster = with_roles(10);
    cluster.sql(
        "INSERT INTO license_reservations VALUES ('TOM', 'accounting', 3, NULL), ('TOM', 'interns', 0, 2)",
    );
    cluster
}

/// Each kind of staff: accountants, interns, others.
const KINDS: [[&str; 2]; 3] = [["anna", "bert"], ["carl", "dora"], ["emil", "fay"]];

#[tokio::test(flavor = "multi_thread")]
async fn kept_and_limited_seats_are_raced_for_and_none_is_left_over() {
    let cluster = reserved();
    let admin = administrator(&cluster).await;
    let race_of = async |kind: usize, hosts: std::ops::Range<usize>| {
        let login = |i| {
            cluster
                .login(KINDS[kind][i % 2])
                .from(&host(hosts.start + i))
        };
        admitted(race(hosts.len(), login).await)
    };
    for _ in 0..3 {
        let racers = race(200, |i| {
            cluster.login(KINDS[i % 3][i / 3 % 2]).from(&host(i))
        });
        let inside = admitted(racers.await);
        let of = |kind| inside.iter().filter(|(i, _)| i % 3 == kind).count();
        assert_eq!(inside.len(), 10);
        assert!(of(0) >= 3 && of(1) <= 2, "{} and {}", of(0), of(1));
        drop(inside);
        all_seats_are_free(&admin).await;
        // One kind after the other: each gets what it may have, to the last seat.
        for (kinds, seats) in [([1, 2, 0], [2, 5, 3]), ([2, 1, 0], [7, 0, 3])] {
            let mut inside = vec![];
            for (n, kind) in kinds.into_iter().enumerate() {
                let more = race_of(kind, 60 * n..60 * n + 60).await;
                assert_eq!(more.len(), seats[n], "of {kind} in {kinds:?}");
                inside.push(more);
            }
            drop(inside);
            all_seats_are_free(&admin).await;
        }
    }
}

/// As above with ten permits: seven for whoever is no accountant, among them two for interns, and
/// three for accountants.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_denied_while_a_seat_is_free_that_it_may_have() {
    let cluster = reserved();
    let admin = Arc::new(administrator(&cluster).await);
    let permits = [3, 2, 7].map(|permits| Arc::new(Semaphore::new(permits)));
    let visits = Arc::new(AtomicI64::new(0));
    let start = Instant::now();
    let clients: Vec<_> = (0..36)
        .map(|i| {
            let kind = i % 3;
            let login = cluster.login(KINDS[kind][i / 3 % 2]).from(&host(i));
            let [own, all] = [kind, 2].map(|kind| Arc::clone(&permits[kind]));
            let (admin, visits) = (Arc::clone(&admin), Arc::clone(&visits));
            tokio::spawn(async move {
                let mut dice = Dice::new(i);
                while is_busy(start, &[&visits], 100) {
                    let own = own.acquire().await.unwrap();
                    let all = match kind {
                        1 => Some(all.acquire().await.unwrap()),
                        _ => None,
                    };
                    let session = login.open_ok().await;
                    visits.fetch_add(1, SeqCst);
                    dice.work_and_leave(session, || ()).await;
                    is_seen_gone(&admin, i).await;
                    drop((own, all));
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let usage = admin.text("SELECT in_use, denied FROM license_usage").await;
    assert_eq!(usage, "0|0");
}

#[tokio::test(flavor = "multi_thread")]
async fn never_more_than_their_seats_are_held_by_any_kind_at_any_instant() {
    let cluster = reserved();
    let [interns, no_accountants, all, admitted, denied] =
        [0; 5].map(|none| Arc::new(AtomicI64::new(none)));
    let start = Instant::now();
    let clients: Vec<_> = (0..45)
        .map(|i| {
            let kind = i % 3;
            let login = cluster.login(KINDS[kind][i / 3 % 2]).from(&host(i));
            let [admitted, denied] = [&admitted, &denied].map(Arc::clone);
            let mut held = vec![(10, Arc::clone(&all))];
            if kind > 0 {
                held.push((7, Arc::clone(&no_accountants)));
            }
            if kind == 1 {
                held.push((2, Arc::clone(&interns)));
            }
            tokio::spawn(async move {
                let mut dice = Dice::new(i);
                while is_busy(start, &[&admitted, &denied], 40) {
                    match login.open().await {
                        Ok(session) => {
                            admitted.fetch_add(1, SeqCst);
                            for (limit, held) in &held {
                                let now = held.fetch_add(1, SeqCst) + 1;
                                assert!(now <= *limit, "{now} of {limit} are in at once");
                            }
                            let leaving = || {
                                for (_, held) in &held {
                                    held.fetch_sub(1, SeqCst);
                                }
                            };
                            dice.work_and_leave(session, leaving).await;
                        }
                        Err(refusal) => {
                            denied.fetch_add(1, SeqCst);
                            is_full(&refusal);
                        }
                    }
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let admin = administrator(&cluster).await;
    all_seats_are_free(&admin).await;
}

/// Whoever comes while other roles are reserved counts for those that are in the end.
#[tokio::test(flavor = "multi_thread")]
async fn logins_race_while_reservations_change() {
    let cluster = with_roles(200);
    let admin = administrator(&cluster).await;
    let insert = |row: &str| format!("INSERT INTO license_reservations VALUES ('TOM', {row})");
    let changes = [
        insert("'accounting', 5, 100"),
        insert("'interns', 1, 100"),
        "DELETE FROM license_reservations WHERE role = 'accounting'".to_owned(),
        insert("'nobody', 1"),
        "TRUNCATE license_reservations".to_owned(),
    ];
    for _ in 0..5 {
        admin.run("TRUNCATE license_reservations").await;
        let racers = race(90, |i| {
            cluster.login(KINDS[i % 3][i / 3 % 2]).from(&host(i))
        });
        let inside = admitted(while_changing(&cluster, &changes, racers).await);
        assert_eq!(inside.len(), 90);
        admin.run("TRUNCATE license_reservations").await;
        for (role, kind) in [("accounting", 0), ("interns", 1)] {
            let login = cluster.login(KINDS[kind][0]).from(&host(200));
            admin.run(&insert(&format!("'{role}', 0, 30"))).await;
            is_full(&login.denied().await);
            admin
                .run("UPDATE license_reservations SET max_seats = 31")
                .await;
            login.open_ok().await.close().await;
            admin.run("TRUNCATE license_reservations").await;
        }
        drop(inside);
        all_seats_are_free(&admin).await;
    }
}

/// Nobody reads them as fast as they change, and nobody need.
#[tokio::test(flavor = "multi_thread")]
async fn while_rules_change_every_moment_no_login_waits_for_them_to_rest() {
    // Longer than the changes go on: who waits for them to end is as late as that.
    let cluster = Cluster::builder()
        .roomy()
        .conf("pg_seats.load_timeout", "60s");
    let cluster = Arc::new(cluster.licensed("seats", "1000"));
    let (changes, logins) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicI64::new(0)));
    let done = Arc::new(AtomicBool::new(false));
    let admin = administrator(&cluster).await;
    let changer = tokio::spawn({
        let (changes, done) = (Arc::clone(&changes), Arc::clone(&done));
        async move {
            while !done.load(SeqCst) {
                admin.run("UPDATE licenses SET seats = 2001 - seats").await;
                changes.fetch_add(1, SeqCst);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    });
    let start = Instant::now();
    let clients: Vec<_> = (0..12)
        .map(|i| {
            let [logins, changes] = [&logins, &changes].map(Arc::clone);
            let cluster = Arc::clone(&cluster);
            tokio::spawn(async move {
                let mut longest = Duration::ZERO;
                while is_busy(start, &[&logins, &changes], 50) {
                    let begun = Instant::now();
                    let login = cluster.login("anna").from(&host(i));
                    login.open_ok().await.close().await;
                    longest = longest.max(begun.elapsed());
                    logins.fetch_add(1, SeqCst);
                }
                longest
            })
        })
        .collect();
    let mut longest = Duration::ZERO;
    for client in clients {
        longest = longest.max(client.await.unwrap());
    }
    done.store(true, SeqCst);
    changer.await.unwrap();
    let (changes, logins) = (changes.load(SeqCst), logins.load(SeqCst));
    println!("{logins} logins amid {changes} changes, the longest {longest:?}");
    assert!(changes > 20, "{changes}");
    assert!(longest < 5 * BUSY, "{longest:?}");
    assert!(!cluster.log().contains("they change too fast"));
}
