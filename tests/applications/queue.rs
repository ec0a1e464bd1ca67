//! Waiting in the queue for a seat: who is first gets it, whoever leaves the queue loses nothing for the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::util::*;

/// A wait that no test outlasts.
const PATIENTLY: &str = "SELECT seat_id FROM license_checkout('TOM', wait => '10min')";

impl Desk {
    /// Gives Anna the only seat, and has Bert and Carl wait in the queue.
    async fn queue(&self) -> (Session, Waiter, Waiter) {
        let anna = self.user("anna").await;
        anna.checkout().await;
        let bert = self.enqueue(self.user("bert").await).await;
        let carl = self.enqueue(self.user("carl").await).await;
        assert_eq!((self.in_use().await, self.waiting().await), (1, 2));
        (anna, bert, carl)
    }

    /// Asserts that Bert, who is first, gets the seat, that Carl is next, and that nothing is left after him.
    async fn serves(self, bert: Waiter, carl: Waiter) {
        let bert = bert.seated().await;
        assert_eq!(self.waiting().await, 1);
        assert!(carl.waits());
        self.next_is(|| bert.checkin(), carl).await;
    }

    /// Asserts that Carl, the last in the queue, has the seat after this.
    async fn next_is(self, give_back: impl AsyncFnOnce() -> bool, carl: Waiter) {
        assert!(give_back().await);
        let carl = carl.seated().await;
        assert_eq!((self.in_use().await, self.waiting().await), (1, 0));
        assert!(carl.checkin().await);
        assert!(!carl.checkin().await);
        assert_eq!(self.in_use().await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_in_the_queue_gets_the_seat_of_a_checkin() {
    let desk = Desk::with_seats(1).await;
    let (anna, bert, carl) = desk.queue().await;
    assert!(anna.checkin().await);
    desk.serves(bert, carl).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_in_the_queue_gets_the_seat_of_who_leaves() {
    let desk = Desk::with_seats(1).await;
    let (anna, bert, carl) = desk.queue().await;
    anna.close().await;
    desk.serves(bert, carl).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_in_the_queue_gets_the_seat_of_a_dead_client() {
    let desk = Desk::with_seats(1).await;
    let (anna, bert, carl) = desk.queue().await;
    anna.send("SELECT pg_sleep(600)").await;
    anna.abort().await;
    desk.serves(bert, carl).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_in_the_queue_gets_the_seat_of_who_is_terminated() {
    let desk = Desk::with_seats(1).await;
    let (anna, bert, carl) = desk.queue().await;
    let end = format!("SELECT pg_terminate_backend({})", anna.pid().await);
    desk.admin.run(&end).await;
    desk.serves(bert, carl).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_in_the_queue_gets_the_seat_of_discard_all() {
    let desk = Desk::with_seats(1).await;
    let (anna, bert, carl) = desk.queue().await;
    anna.run("DISCARD ALL").await;
    desk.serves(bert, carl).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_in_the_queue_gets_the_seat_of_who_is_exempt_from_now_on() {
    let desk = Desk::with_seats(1).await;
    let (_anna, bert, carl) = desk.queue().await;
    desk.admin
        .run("INSERT INTO license_exemptions VALUES ('role', 'anna')")
        .await;
    desk.serves(bert, carl).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_in_the_queue_gets_the_seat_of_a_logout() {
    let desk = Desk::licensed("seats, application_name", "1, 'tom%'").await;
    let anna = desk.login("anna").app("tom").open_ok().await;
    let bert = desk.enqueue(desk.user("bert").await).await;
    let carl = desk.enqueue(desk.user("carl").await).await;
    anna.close().await;
    let bert = bert.seated().await;
    desk.next_is(
        async || bert.val("SELECT license_checkin('TOM')").await,
        carl,
    )
    .await;
}

/// Asserts that this change of the row lets so many of the queue in, without anybody's leaving.
async fn the_queue_moves(change: &str, seated: i32) {
    let desk = Desk::with_seats(1).await;
    let (_anna, bert, carl) = desk.queue().await;
    let update = format!("UPDATE licenses SET {change}");
    desk.admin.run(&update).await;
    let _bert = bert.seated().await;
    let _carl = if seated > 1 {
        Ok(carl.seated().await)
    } else {
        assert!(carl.waits());
        Err(carl)
    };
    assert_eq!(
        (desk.in_use().await, desk.waiting().await),
        (1 + seated, 2 - seated)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn more_seats_move_the_queue() {
    the_queue_moves("seats = 2", 1).await;
    the_queue_moves("seats = 3", 2).await;
    the_queue_moves("seats = NULL", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overdraft_moves_the_queue() {
    the_queue_moves("overdraft = 1", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_softer_enforcement_moves_the_queue() {
    the_queue_moves("enforcement = 'warn'", 2).await;
    the_queue_moves("enforcement = 'off'", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_softer_enforcement_of_the_server_moves_the_queue() {
    let desk = Desk::with_seats(1).await;
    let (_anna, bert, carl) = desk.queue().await;
    let mark = desk.cluster.log().len();
    desk.cluster.set("pg_seats.enforcement", "warn");
    let (_bert, _carl) = (bert.seated().await, carl.seated().await);
    assert_eq!((desk.in_use().await, desk.denied().await), (3, 2));
    let would = r#"license "TOM" would have denied user "bert""#;
    desk.cluster.wait_log_since(mark, would);
    desk.cluster.set("pg_seats.enforcement", "on");
    let dora = desk.enqueue(desk.user("dora").await).await;
    desk.cluster.set("pg_seats.enforcement", "off");
    let _dora = dora.seated().await;
    assert_eq!((desk.in_use().await, desk.denied().await), (4, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_rule_of_counting_moves_the_queue() {
    let desk = Desk::licensed("claimed_at, seats", "'checkout', 1").await;
    let at = |user: &str| desk.cluster.login(user).from("127.0.1.1");
    let anna = at("anna").open_ok().await;
    anna.checkout().await;
    let bert = desk.enqueue(at("bert").open_ok().await).await;
    let carl = desk.enqueue(desk.user("carl").await).await;
    desk.admin
        .run("UPDATE licenses SET counted_by = 'host'")
        .await;
    bert.seated().await;
    assert!(carl.waits());
    assert_eq!((desk.in_use().await, desk.waiting().await), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_ends_moves_the_queue() {
    let desk = Desk::with_seats(1).await;
    desk.admin
        .run("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO anna")
        .await;
    let app = desk.user("anna").await;
    let lease = async |ttl: &str| -> String {
        app.text(&format!(
            "SELECT lease_id FROM license_lease('x', 'pc', ttl => '{ttl}')"
        ))
        .await
    };
    let id = lease("10min").await;
    let bert = desk.enqueue(desk.user("bert").await).await;
    assert_eq!(
        app.text(&format!("SELECT license_release('{id}')")).await,
        "t"
    );
    let bert = bert.seated().await;
    assert!(bert.checkin().await);
    lease("5s").await;
    let bert = desk.enqueue(bert).await;
    bert.seated().await.close().await;
    desk.in_use_becomes(0).await;
    // Rolled back.
    app.run("BEGIN").await;
    lease("10min").await;
    let carl = desk.enqueue(desk.user("carl").await).await;
    app.run("ROLLBACK").await;
    carl.seated().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_waits_in_the_queue_as_well() {
    let desk = Desk::with_seats(1).await;
    desk.admin
        .run("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO bert")
        .await;
    let (anna, app) = (desk.user("anna").await, desk.user("bert").await);
    anna.checkout().await;
    let lease = "SELECT lease_id FROM license_lease('x', 'pc', wait => '10min')";
    let app = desk.enqueue_with(app, lease).await;
    let carl = desk.enqueue(desk.user("carl").await).await;
    anna.checkin().await;
    let (app, row) = app.answer().await;
    let id = row.unwrap().remove(0);
    assert!(carl.waits());
    assert_eq!(
        app.text(&format!("SELECT license_release('{id}')")).await,
        "t"
    );
    carl.seated().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seat_given_back_in_another_database_of_the_pool_moves_the_queue() {
    let row = "'checkout', 1, 'firm'";
    let desk = Desk::licensed("claimed_at, seats, pool", row).await;
    desk.cluster.sql("CREATE DATABASE second");
    desk.cluster
        .license("second", "claimed_at, seats, pool", row);
    let second = |user| desk.login(user).db("second").open_ok();
    let anna = desk.user("anna").await;
    anna.checkout().await;
    let bert = desk.enqueue(second("bert").await).await;
    let carl = desk.enqueue(desk.user("carl").await).await;
    let dora = desk.enqueue(second("dora").await).await;
    let emil = desk.enqueue(desk.user("emil").await).await;
    anna.checkin().await;
    let bert = bert.seated().await;
    bert.close().await;
    let carl = carl.seated().await;
    // A seat more in one database is for those who wait in it alone.
    assert!(dora.waits() && emil.waits());
    desk.admin.run("UPDATE licenses SET seats = 2").await;
    emil.seated().await;
    assert!(dora.waits());
    desk.in_use_becomes(1).await;
    assert!(carl.checkin().await);
    dora.seated().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_database_of_the_pool_moves_the_queue() {
    let row = "'checkout', 1, 'firm'";
    let desk = Desk::licensed("claimed_at, seats, pool", row).await;
    desk.cluster.sql("CREATE DATABASE second");
    desk.cluster
        .license("second", "claimed_at, seats, pool", row);
    let anna = desk.login("anna").db("second").open_ok().await;
    anna.checkout().await;
    let bert = desk.enqueue(desk.user("bert").await).await;
    desk.cluster.sql("DROP DATABASE second WITH (FORCE)");
    let _bert = bert.seated().await;
    assert_eq!(desk.in_use().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_is_kept() {
    let desk = Desk::with_seats(2).await;
    let (anna, bert) = (desk.user("anna").await, desk.user("bert").await);
    anna.checkout().await;
    bert.checkout().await;
    let mut queue = std::collections::VecDeque::new();
    for user in &STAFF[2..] {
        queue.push_back(desk.enqueue(desk.user(user).await).await);
    }
    let mut seated = vec![anna, bert];
    while let Some(next) = queue.pop_front() {
        assert!(next.waits());
        assert!(seated.remove(0).checkin().await);
        seated.push(next.seated().await);
        assert_eq!(desk.waiting().await, queue.len() as i32);
        assert_eq!(desk.in_use().await, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wakes_up_has_a_whole_row() {
    let desk = Desk::with_seats(1).await;
    let anna = desk.user("anna").await;
    anna.checkout().await;
    let name = "x".repeat(300);
    let statement = format!(
        "SELECT seat_id, lease_id, product, usename, client_user, client_host, seats_in_use, seats, expires_at
           FROM license_checkout(wait => '10min', client_user => '{name}')"
    );
    let bert = desk.enqueue_with(desk.user("bert").await, &statement).await;
    anna.checkin().await;
    let (_bert, row) = bert.answer().await;
    let seat = "SELECT seat_id, NULL, product, usename, client_user, client_host, 1, 1, NULL FROM license_active_seats";
    assert_eq!(row.unwrap(), [desk.admin.text(seat).await]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wakes_up_is_told_of_the_seats_that_there_are_now() {
    let desk = Desk::with_seats(1).await;
    let anna = desk.user("anna").await;
    anna.checkout().await;
    let statement = "SELECT seats_in_use, seats FROM license_checkout(wait => '10min')";
    let bert = desk.enqueue_with(desk.user("bert").await, statement).await;
    desk.admin.run("UPDATE licenses SET seats = 2").await;
    assert_eq!(bert.answer().await.1.unwrap(), ["2|2"]);
}

/// A report to a client looks for interrupts when it has been made.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_cancelled_in_the_midst_of_a_warning_has_left_the_queue() {
    let desk = Desk::licensed("claimed_at, seats, pool", "'checkout', 1, 'firm'").await;
    desk.cluster.sql("CREATE DATABASE second");
    desk.cluster.license(
        "second",
        "claimed_at, seats, pool, counted_by",
        "'checkout', 1, 'firm', 'user'",
    );
    let anna = desk.user("anna").await;
    anna.checkout().await;
    let done = Arc::new(AtomicBool::new(false));
    let changer = desk.cluster.login("postgres").db("second").open_ok().await;
    let changes = tokio::spawn({
        let done = Arc::clone(&done);
        async move {
            for rule in ["session", "user"].iter().cycle() {
                changer
                    .run(&format!("UPDATE licenses SET counted_by = '{rule}'"))
                    .await;
                if done.load(SeqCst) {
                    break;
                }
            }
        }
    });
    let bert = desk.login("bert").db("second").open_ok().await;
    for n in 0..200 {
        let wait = format!(
            "SET statement_timeout = {};
             SELECT license_checkout(wait => '10min', client_user => '{n}')",
            2 + n % 23
        );
        bert.fails(&wait).await.assert("57014", "");
    }
    done.store(true, SeqCst);
    changes.await.unwrap();
    bert.close().await;
    desk.waiting_becomes(0).await;
    anna.checkin().await;
    desk.in_use_becomes(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_free_seat_needs_no_waiting() {
    let desk = Desk::with_seats(1).await;
    let anna = desk.user("anna").await;
    anna.run(PATIENTLY).await;
    anna.run(PATIENTLY).await;
    assert_eq!(desk.in_use().await, 1);
    assert!(anna.checkin().await && anna.checkin().await && !anna.checkin().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_overtakes_by_trying_at_the_right_moment() {
    let desk = Desk::licensed("seats, application_name", "1, 'tom%'").await;
    let (mut holder, mut next) = (desk.user("anna").await, desk.user("bert").await);
    holder.run(PATIENTLY).await;
    let over = Arc::new(AtomicBool::new(false));
    let mut rivals = Vec::new();
    for user in &STAFF[2..5] {
        let (over, session) = (Arc::clone(&over), desk.user(user).await);
        rivals.push(tokio::spawn(async move {
            let mut tries = 0;
            let call = "SELECT seat_id FROM license_try_checkout('TOM')";
            while !over.load(SeqCst) {
                assert_eq!(session.texts(call).await, [""; 0], "overtaken");
                tries += 1;
            }
            tries
        }));
    }
    for user in &STAFF[5..8] {
        let (over, login) = (Arc::clone(&over), desk.login(user).app("tom"));
        rivals.push(tokio::spawn(async move {
            let mut tries = 0;
            while !over.load(SeqCst) {
                login.denied().await.assert("53300", "license_full");
                tries += 1;
            }
            tries
        }));
    }
    for _ in 0..300 {
        let waiter = desk.enqueue(next).await;
        holder.run("SELECT license_checkin('TOM')").await;
        next = holder;
        holder = waiter.seated().await;
    }
    over.store(true, SeqCst);
    for rival in rivals {
        assert!(rival.await.unwrap() > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cancels_leaves_the_queue_at_once() {
    let desk = Desk::with_seats(1).await;
    let (anna, bert, carl) = desk.queue().await;
    let cancel = format!("SELECT pg_cancel_backend({})", bert.pid);
    desk.admin.run(&cancel).await;
    let (bert, denied) = bert.refused().await;
    denied.assert("57014", "");
    assert_eq!(desk.waiting().await, 1);
    assert!(!bert.checkin().await);
    desk.next_is(|| anna.checkin(), carl).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statement_timeout_leaves_the_queue_at_once() {
    let desk = Desk::with_seats(1).await;
    let anna = desk.user("anna").await;
    anna.checkout().await;
    let bert = desk.user("bert").await;
    bert.run("SET statement_timeout = '2s'").await;
    let bert = desk.enqueue(bert).await;
    let carl = desk.enqueue(desk.user("carl").await).await;
    let (_bert, denied) = bert.refused().await;
    denied.assert("57014", "");
    assert_eq!(desk.waiting().await, 1);
    desk.next_is(|| anna.checkin(), carl).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_terminated_leaves_the_queue_at_once() {
    let desk = Desk::with_seats(1).await;
    let (anna, bert, carl) = desk.queue().await;
    let end = format!("SELECT pg_terminate_backend({})", bert.pid);
    desk.admin.run(&end).await;
    desk.waiting_becomes(1).await;
    let (_bert, denied) = bert.refused().await;
    denied.assert("57P01", "");
    desk.next_is(|| anna.checkin(), carl).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_dies_leaves_the_queue_soon() {
    let desk = Desk::with_seats(1).await;
    let anna = desk.user("anna").await;
    anna.checkout().await;
    let bert = desk.user("bert").await;
    bert.send(PATIENTLY).await;
    desk.waiting_becomes(1).await;
    let carl = desk.enqueue(desk.user("carl").await).await;
    bert.abort().await;
    desk.waiting_becomes(1).await;
    desk.next_is(|| anna.checkin(), carl).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_killed_leaves_the_queue_soon() {
    let desk = Desk::with_seats(1).await;
    let anna = desk.user("anna").await;
    anna.checkout().await;
    let mut bert = desk.cluster.login("bert").from("127.0.0.1").process();
    bert.backend_pid();
    bert.send(&format!("{PATIENTLY};"));
    desk.waiting_becomes(1).await;
    let carl = desk.enqueue(desk.user("carl").await).await;
    bert.kill9();
    desk.waiting_becomes(1).await;
    desk.next_is(|| anna.checkin(), carl).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_backend_leaves_nothing() {
    let desk = Desk::with_seats(1).await;
    let (_anna, bert, _carl) = desk.queue().await;
    desk.cluster.crash_backend(bert.pid);
    let desk = Desk::of(desk.cluster).await;
    assert_eq!((desk.in_use().await, desk.waiting().await), (0, 0));
    let (anna, bert, carl) = desk.queue().await;
    anna.checkin().await;
    desk.serves(bert, carl).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fast_shutdown_does_not_wait_for_the_queue() {
    let desk = Desk::with_seats(1).await;
    let (_anna, bert, _carl) = desk.queue().await;
    desk.cluster.stop(Stop::Fast);
    let (_bert, denied) = bert.refused().await;
    denied.assert("57P01", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_was_long_enough_is_one_denial() {
    let desk = Desk::with_seats(1).await;
    let anna = desk.user("anna").await;
    anna.checkout().await;
    let bert = desk.user("bert").await;
    for (round, wait) in [(1, "1 microsecond"), (2, "1ms"), (3, "0.3s")] {
        let start = Instant::now();
        let call = format!("SELECT license_checkout(wait => '{wait}')");
        let denied = bert.fails(&call).await;
        denied.assert("53400", "license_full");
        assert!(
            denied.detail.starts_with("1 of 1 seats are in use."),
            "{denied:?}"
        );
        assert!(round < 3 || start.elapsed() >= Duration::from_millis(300));
        assert_eq!((desk.denied().await, desk.waiting().await), (round, 0));
    }
    // It lost nobody's turn.
    let carl = desk.enqueue(desk.user("carl").await).await;
    desk.next_is(|| anna.checkin(), carl).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_seen_to_wait() {
    let desk = Desk::with_seats(1).await;
    let (_anna, bert, _carl) = desk.queue().await;
    let event = if desk.cluster.programs().major() >= 17 {
        "Extension|LicenseSeat"
    } else {
        "Extension|Extension"
    };
    let shown = format!(
        "SELECT wait_event_type || '|' || wait_event FROM pg_stat_activity WHERE pid = {}",
        bert.pid
    );
    eventually("the wait event is shown", PATIENCE, async || {
        desk.admin.text(&shown).await == event
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_license_that_ends_tells_those_who_wait() {
    for (change, sqlstate, reason) in [
        (
            "UPDATE licenses SET valid_until = now() - interval '1 day'",
            "53400",
            "license_expired",
        ),
        (
            "UPDATE licenses SET valid_from = now() + interval '1 day'",
            "53400",
            "license_not_yet_valid",
        ),
        ("DELETE FROM licenses", "42704", ""),
        ("UPDATE licenses SET product = 'TIM'", "42704", ""),
        ("DROP EXTENSION pg_seats CASCADE", "42704", ""),
    ] {
        let desk = Desk::with_seats(1).await;
        let (_anna, bert, carl) = desk.queue().await;
        desk.admin.run(change).await;
        for waiter in [bert, carl] {
            let (session, denied) = waiter.refused().await;
            denied.assert(sqlstate, reason);
            session.run("SELECT 1").await;
        }
    }
}

/// Keeps a session from looking after its client, so that only its turn wakes it.
fn undisturbed(login: Login) -> Login {
    login.options("-c client_connection_check_interval=0")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_license_that_expires_tells_those_who_wait() {
    let desk = Desk::with_seats(1).await;
    let anna = desk.user("anna").await;
    anna.checkout().await;
    desk.admin
        .run("UPDATE licenses SET valid_until = now(), grace = '3 seconds'")
        .await;
    let bert = undisturbed(desk.login("bert")).open_ok().await;
    let (_bert, denied) = desk.enqueue(bert).await.refused().await;
    denied.assert("53400", "license_expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_exempt_from_now_on_need_not_wait() {
    let desk = Desk::with_seats(1).await;
    let (anna, bert, carl) = desk.queue().await;
    desk.admin
        .run("INSERT INTO license_exemptions VALUES ('host', '127.0.1.2')")
        .await;
    let (bert, row) = bert.answer().await;
    assert_eq!(row.unwrap(), [""]);
    assert!(carl.waits());
    assert_eq!((desk.in_use().await, desk.waiting().await), (1, 1));
    assert!(bert.checkin().await);
    desk.next_is(|| anna.checkin(), carl).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_moves_with_the_product_into_a_pool() {
    let desk = Desk::with_seats(1).await;
    let (anna, bert, carl) = desk.queue().await;
    desk.admin.run("UPDATE licenses SET pool = 'firm'").await;
    assert_eq!((desk.in_use().await, desk.waiting().await), (1, 2));
    anna.close().await;
    desk.serves(bert, carl).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_holds_no_lock_that_others_need() {
    let desk = Desk::with_seats(1).await;
    let anna = desk.user("anna").await;
    anna.checkout().await;
    let bert = desk.user("bert").await;
    bert.run("BEGIN").await;
    let bert = desk.enqueue(bert).await;
    desk.admin.run("SET lock_timeout = '5s'").await;
    for _ in 0..2 {
        desk.admin
            .run("UPDATE licenses SET warn_at_percent = 80")
            .await;
        for statement in [
            "BEGIN; LOCK TABLE licenses, license_exemptions, license_reservations, license_leases IN ACCESS EXCLUSIVE MODE; COMMIT",
            "ALTER TABLE licenses ADD COLUMN note text; ALTER TABLE licenses DROP COLUMN note",
        ] {
            desk.admin.run(statement).await;
        }
        desk.admin.run("VACUUM FULL licenses").await;
        desk.admin.run("VACUUM FULL pg_proc").await;
    }
    assert!(bert.waits());
    let held = format!(
        "SELECT count(*) FROM pg_locks WHERE pid = {} AND locktype <> 'virtualxid'",
        bert.pid
    );
    // Save for the moment in which it reads what has changed.
    eventually("it holds no lock", PATIENCE, async || {
        desk.admin.text(&held).await == "0"
    })
    .await;
    anna.checkin().await;
    bert.seated().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_on_the_licenses_does_not_keep_the_queue_from_moving() {
    let desk = Desk::with_seats(1).await;
    let (anna, bert, carl) = desk.queue().await;
    let locker = desk.cluster.login("postgres").open_ok().await;
    locker
        .run("BEGIN; LOCK TABLE licenses IN ACCESS EXCLUSIVE MODE")
        .await;
    anna.close().await;
    let bert = bert.seated().await;
    bert.close().await;
    carl.seated().await;
}

impl Desk {
    /// Commits a change of the licenses that nobody can read, until the session that is returned
    /// ends its transaction.
    async fn changed_behind_a_lock(&self, change: &str) -> Session {
        let locker = self.cluster.login("postgres").open_ok().await;
        let pid = locker.pid().await;
        self.admin.run(&format!("BEGIN; {change}")).await;
        let locking = tokio::spawn(async move {
            locker
                .run("BEGIN; LOCK TABLE licenses IN ACCESS EXCLUSIVE MODE")
                .await;
            locker
        });
        let queued = format!("SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND pid = {pid}");
        eventually("it is next for the lock", PATIENCE, async || {
            self.admin.val(&queued).await
        })
        .await;
        self.admin.run("COMMIT").await;
        locking.await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_behind_a_lock_reaches_the_queue() {
    let desk = Desk::with_seats(1).await;
    let anna = desk.user("anna").await;
    anna.checkout().await;
    let bert = undisturbed(desk.login("bert")).open_ok().await;
    let bert = desk.enqueue(bert).await;
    // The table is locked when those who wait want to read it, and no login comes after.
    let locker = desk
        .changed_behind_a_lock("UPDATE licenses SET seats = 2")
        .await;
    let locked = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted";
    eventually("somebody wants to read", PATIENCE, async || {
        desk.admin.val(locked).await
    })
    .await;
    locker.run("COMMIT").await;
    bert.seated().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_is_heard_also_while_the_licenses_are_locked() {
    // Longer than all of them take together: whoever comes after one who could not read hardly waits for the lock.
    let patient = Cluster::builder().conf("pg_seats.load_timeout", "60s");
    let desk = Desk::of(patient.licensed("claimed_at, seats", "'checkout', 1")).await;
    let anna = desk.user("anna").await;
    anna.checkout().await;
    let bert = desk.enqueue(desk.user("bert").await).await;
    let (carl, dora) = (desk.user("carl").await, desk.user("dora").await);
    let locker = desk
        .changed_behind_a_lock("UPDATE licenses SET warn_at_percent = 80")
        .await;
    let cancelled = async |pid: i32| {
        let cancel = format!(
            "SELECT pg_cancel_backend(pid) FROM pg_locks WHERE NOT granted AND pid = {pid}"
        );
        eventually("it waits for the lock", PATIENCE, async || {
            !desk.admin.texts(&cancel).await.is_empty()
        })
        .await;
    };
    // In the queue, before it is judged, and in a policy.
    cancelled(bert.pid).await;
    let (_bert, denied) = bert.refused().await;
    denied.assert("57014", "");
    for (session, query) in [
        (carl, "SELECT license_checkout()"),
        (dora, "SELECT license_held('TOM')"),
    ] {
        let pid = session.pid().await;
        let answer = tokio::spawn(async move { session.fails(query).await });
        cancelled(pid).await;
        answer.await.unwrap().assert("57014", "");
    }
    locker.run("COMMIT").await;
    assert_eq!((desk.in_use().await, desk.waiting().await), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_identity_that_waits_twice_gets_in_with_both() {
    let desk = Desk::with_seats(1).await;
    let anna = desk.user("anna").await;
    anna.checkout().await;
    let bert = desk.enqueue(desk.user("bert").await).await;
    let carl = desk.enqueue(desk.user("carl").await).await;
    let twin = desk.enqueue(desk.user("bert").await).await;
    anna.checkin().await;
    let (bert, twin) = (bert.seated().await, twin.seated().await);
    assert!(carl.waits());
    assert_eq!((desk.in_use().await, desk.waiting().await), (1, 1));
    assert!(bert.checkin().await);
    assert!(carl.waits());
    desk.next_is(|| twin.checkin(), carl).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_joins_the_seat_that_the_identity_gets_otherwise() {
    let desk = Desk::licensed("seats, application_name", "1, 'tom%'").await;
    let anna = desk.login("anna").app("tom").open_ok().await;
    let bert = desk.enqueue(desk.user("bert").await).await;
    // An administrator's exception lets Bert's other session in.
    desk.admin
        .run("UPDATE licenses SET application_name = 'other%', seats = 0")
        .await;
    let other = desk.enqueue(desk.user("anna").await).await;
    assert!(bert.waits() && other.waits());
    desk.admin
        .run("UPDATE licenses SET application_name = 'tom%', seats = 1")
        .await;
    other.seated().await;
    assert!(bert.waits());
    anna.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_in_the_queue_keeps_what_it_has() {
    let desk = Desk::with_seats(1).await;
    desk.admin
        .run("INSERT INTO licenses (product, claimed_at, seats) VALUES ('PAY', 'checkout', 1)")
        .await;
    let (anna, bert) = (desk.user("anna").await, desk.user("bert").await);
    anna.run("SELECT license_checkout('TOM')").await;
    bert.run("SELECT license_checkout('PAY')").await;
    let bert = desk.enqueue(bert).await;
    let usage = "SELECT product, in_use, waiting FROM license_usage ORDER BY product";
    assert_eq!(desk.admin.texts(usage).await, ["PAY|1|0", "TOM|1|1"]);
    anna.close().await;
    let bert = bert.seated().await;
    assert_eq!(desk.admin.texts(usage).await, ["PAY|1|0", "TOM|1|0"]);
    bert.close().await;
    eventually("both are free", PATIENCE, async || {
        desk.admin.texts(usage).await == ["PAY|0|0", "TOM|0|0"]
    })
    .await;
}

/// What races with the call of who waits.
enum Race {
    Cancel,
    Terminate,
    Timeout,
}

/// Gives Anna's seat back at the same moment as something befalls Bert, who is first: Carl, who is next, gets it as
/// soon as Bert doesn't have it.
async fn no_wake_up_is_lost(race: Race) {
    let desk = Desk::with_seats(1).await;
    let mut bert = Some(desk.user("bert").await);
    let (mut anna, mut carl) = (desk.user("anna").await, desk.user("carl").await);
    let second = desk.cluster.login("postgres").open_ok().await;
    let mut called = 0;
    for round in 0..150 {
        anna.checkout().await;
        let session = match bert.take() {
            Some(bert) => bert,
            None => desk.user("bert").await,
        };
        let waits = match race {
            // Somewhere around the moment when Carl is in the queue and Anna leaves.
            Race::Timeout => format!("{}ms", 15 + round % 10),
            _ => "10min".to_owned(),
        };
        let statement = format!("SELECT license_checkout(wait => '{waits}')");
        let first = match race {
            Race::Timeout => {
                let turn = tokio::spawn(async move {
                    let answer = session.try_texts(&statement).await;
                    (session, answer)
                });
                Err(turn)
            }
            _ => Ok(desk.enqueue_with(session, &statement).await),
        };
        let (next, function) = match race {
            Race::Timeout => {
                let next = tokio::spawn(async move {
                    carl.run(PATIENTLY).await;
                    carl
                });
                (Err(next), "")
            }
            Race::Cancel => (Ok(desk.enqueue(carl).await), "pg_cancel_backend"),
            Race::Terminate => (Ok(desk.enqueue(carl).await), "pg_terminate_backend"),
        };
        let befall = async {
            if let Ok(first) = &first {
                second
                    .run(&format!("SELECT {function}({})", first.pid))
                    .await;
            } else {
                tokio::time::sleep(Duration::from_millis(15 + round % 7)).await;
            }
        };
        if matches!(race, Race::Timeout) {
            befall.await;
            assert!(anna.checkin().await);
        } else {
            let (_, back) = tokio::join!(befall, anna.checkin());
            assert!(back);
        }
        let (first, answer) = match first {
            Ok(first) => first.answer().await,
            Err(turn) => turn.await.unwrap(),
        };
        called += i32::from(answer.is_ok());
        // It may have been called and cancelled just after: then it has the seat, as with advisory locks.
        if let Ok(rows) = first.try_texts("SELECT license_checkin()").await {
            assert!(answer.is_err() || rows == ["t"], "{round}");
            bert = Some(first);
        }
        carl = match next {
            Ok(next) => next.seated().await,
            Err(next) => next.await.unwrap(),
        };
        assert_eq!(
            (desk.in_use().await, desk.waiting().await),
            (1, 0),
            "{round}"
        );
        assert!(carl.checkin().await);
        assert_eq!(desk.in_use().await, 0, "{round}");
        std::mem::swap(&mut anna, &mut carl);
    }
    println!("{called} of 150 were called before it befell them");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_wake_up_is_lost_by_a_cancel() {
    no_wake_up_is_lost(Race::Cancel).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_wake_up_is_lost_by_a_termination() {
    no_wake_up_is_lost(Race::Terminate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_wake_up_is_lost_by_a_timeout() {
    no_wake_up_is_lost(Race::Timeout).await;
}

/// What becomes of one in the crowd.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// Waits until it has a seat, and gives it back.
    Stays,
    /// Waits too briefly, perhaps.
    GivesUp,
    /// Is cancelled, perhaps while it has the seat.
    Cancelled,
    /// Is terminated, perhaps while it has the seat.
    Terminated,
    /// Its client dies, perhaps while it has the seat.
    Dies,
}

/// What the clients themselves count: those who have a seat and can't lose it.
#[derive(Default)]
struct Count {
    now: AtomicI64,
    most: AtomicI64,
}

impl Count {
    fn up(&self) {
        self.most
            .fetch_max(self.now.fetch_add(1, SeqCst) + 1, SeqCst);
    }

    fn down(&self) {
        self.now.fetch_sub(1, SeqCst);
    }
}

/// Plays one of the crowd: how it waits, what it does with its seat. Returns the seat's number, if it got one.
async fn one_of_the_crowd(
    session: Session,
    fate: Fate,
    mut dice: Dice,
    count: Arc<Count>,
) -> Option<u128> {
    let wait = match fate {
        Fate::GivesUp => format!("{}ms", 1 + dice.below(4000)),
        _ => "10min".to_owned(),
    };
    let checkout = format!("SELECT seat_id FROM license_checkout(wait => '{wait}')");
    let id = |row: &[String]| u128::from_str_radix(&row[0].replace('-', ""), 16).unwrap();
    if fate == Fate::Dies {
        let patience = Duration::from_millis(dice.below(3000));
        let _ = tokio::time::timeout(patience, session.try_texts(&checkout)).await;
        session.abort().await;
        return None;
    }
    let answer = session.try_texts(&checkout).await;
    let seat = match (fate, &answer) {
        (_, Ok(row)) => Some(id(row)),
        (Fate::GivesUp, Err(denied)) => {
            denied.assert("53400", "license_full");
            None
        }
        (Fate::Cancelled, Err(denied)) => {
            denied.assert("57014", "");
            None
        }
        (Fate::Terminated, Err(_)) => return None,
        (_, Err(denied)) => panic!("{fate:?}: {denied:?}"),
    };
    let is_safe = matches!(fate, Fate::Stays | Fate::GivesUp);
    if is_safe && seat.is_some() {
        count.up();
    }
    for _ in 0..dice.below(10) {
        let _ = session.try_texts("SELECT pg_sleep(0.002)").await;
    }
    if is_safe && seat.is_some() {
        count.down();
    }
    match (fate, dice.below(3)) {
        (_, 0) => session.close().await,
        (_, 1) => session.abort().await,
        (Fate::Stays | Fate::GivesUp, _) => {
            assert_eq!(session.checkin().await, seat.is_some(), "{fate:?}");
            assert!(!session.checkin().await);
        }
        // The cancel may come now.
        _ => {
            while let Err(denied) = session.try_texts("DISCARD ALL").await {
                if denied.sqlstate != "57014" {
                    break;
                }
            }
        }
    }
    seat
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_hundred_wait_for_three_seats_whatever_befalls_them() {
    const CROWD: usize = 200;
    let cluster = Cluster::builder().roomy();
    let desk = Desk::of(cluster.licensed("claimed_at, seats", "'checkout', 3")).await;
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    let mut holders = Vec::new();
    for user in &STAFF[..3] {
        let holder = desk.user(user).await;
        holder.checkout().await;
        holders.push(holder);
    }
    let host = |i: usize| format!("127.0.{}.{}", 2 + i / 100, 1 + i % 100);
    let login = |i: usize| desk.cluster.login("lena").from(&host(i));
    let crowd = race(CROWD, login).await;
    let count = Arc::new(Count::default());
    let mut tasks = Vec::new();
    let mut victims = Vec::new();
    for (i, session) in crowd.into_iter().enumerate() {
        let session = session.unwrap();
        let fate = match dice.below(10) {
            0..4 => Fate::Stays,
            4..6 => Fate::GivesUp,
            6..8 => Fate::Cancelled,
            8 => Fate::Terminated,
            _ => Fate::Dies,
        };
        let pid = session.pid().await;
        let task = one_of_the_crowd(session, fate, Dice(i as u64 + 1), Arc::clone(&count));
        tasks.push((fate, tokio::spawn(task)));
        // In the queue one after the other.
        let on_its_way = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}
                AND (query LIKE '%pg_backend_pid%' OR query LIKE '%license_checkout%' AND state = 'active'
                     AND coalesce(wait_event, '') NOT IN ('Extension', 'LicenseSeat'))"
        );
        eventually("it has come to the queue", PATIENCE, async || {
            desk.admin.val::<i64>(&on_its_way).await == 0
        })
        .await;
        match fate {
            Fate::Cancelled => victims.push(format!("pg_cancel_backend({pid})")),
            Fate::Terminated => victims.push(format!("pg_terminate_backend({pid})")),
            _ => {}
        }
    }
    let watcher = desk.cluster.login("postgres").open_ok().await;
    let over = Arc::new(AtomicBool::new(false));
    let watched = tokio::spawn({
        let over = Arc::clone(&over);
        async move {
            let (mut most, mut samples) = (0, 0);
            while !over.load(SeqCst) {
                let look = "SELECT greatest(in_use, (SELECT count(*) FROM license_active_seats)) FROM license_usage";
                most = most.max(watcher.val::<i64>(look).await);
                samples += 1;
            }
            (most, samples)
        }
    });
    for holder in holders {
        assert!(holder.checkin().await);
    }
    while !victims.is_empty() {
        let victim = victims.swap_remove(dice.below(victims.len() as u64) as usize);
        desk.admin.run(&format!("SELECT {victim}")).await;
        for _ in 0..dice.below(4) {
            desk.admin.run("SELECT pg_sleep(0.001)").await;
        }
    }
    let (mut seats, mut served) = (Vec::new(), 0);
    for (fate, task) in tasks {
        let answer = tokio::time::timeout(3 * PATIENCE, task).await;
        let seat = answer.expect("nobody waits for ever").unwrap();
        assert!(seat.is_some() || fate != Fate::Stays, "somebody starved");
        served += usize::from(seat.is_some());
        seats.extend(seat);
    }
    // Seats are numbered in the order in which they are given.
    assert!(seats.is_sorted(), "order was not kept");
    assert!((CROWD / 3..CROWD).contains(&served), "{served} were served");
    over.store(true, SeqCst);
    let (most, samples) = watched.await.unwrap();
    assert_eq!(most, 3, "in {samples} samples");
    assert!(count.most.load(SeqCst) <= 3);
    desk.in_use_becomes(0).await;
    assert_eq!(desk.waiting().await, 0);
    let high_water = "SELECT high_water FROM license_usage";
    assert_eq!(desk.admin.text(high_water).await, "3");
}
