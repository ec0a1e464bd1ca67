//! Seats that sessions take themselves: what a checkout holds, who may have one, and every way it is given back.

use crate::util::*;

/// One row a seat.
const SEATS: &str =
    "SELECT kind, usename, client_user, client_host, sessions FROM license_active_seats
      ORDER BY opened_at, seat_id";

impl Desk {
    async fn seats(&self) -> Vec<String> {
        self.admin.texts(SEATS).await
    }
}

fn for_user(user: &str) -> String {
    format!("SELECT seat_id FROM license_checkout(client_user => '{user}')")
}

fn back_of(user: &str) -> String {
    format!("SELECT license_checkin(client_user => '{user}')")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkout_takes_a_seat_until_its_checkin() {
    let desk = Desk::with_seats(5).await;
    let anna = desk.login("anna").workstation("PC1").open_ok().await;
    assert_eq!(desk.in_use().await, 0);
    let row = anna
        .text("SELECT lease_id, product, usename, client_user, client_host, workstation, seats_in_use, seats, expires_at FROM license_checkout()")
        .await;
    assert_eq!(row, "|TOM|anna||127.0.1.1|PC1|1|5|");
    assert_eq!(desk.in_use().await, 1);
    assert_eq!(desk.seats().await, ["checkout|anna||127.0.1.1|1"]);
    assert!(anna.checkin().await);
    assert_eq!(desk.in_use().await, 0);
    assert_eq!(desk.seats().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_row_has_the_seats_id_and_the_applications_user() {
    let desk = Desk::with_seats(5).await;
    let anna = desk.user("anna").await;
    let row = anna
        .text("SELECT seat_id, client_user FROM license_checkout('TOM', '0', 'Ms. Ång')")
        .await;
    let seat = desk
        .admin
        .text("SELECT seat_id, client_user FROM license_active_seats")
        .await;
    assert_eq!(row, seat);
    assert!(row.ends_with("|Ms. Ång"), "{row}");
}

/// What it would read for itself may never be committed.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_changing_licenses_has_seats_by_what_is_committed() {
    let desk = Desk::with_seats(9).await;
    desk.admin
        .run("GRANT INSERT, UPDATE, DELETE ON licenses TO anna")
        .await;
    let (anna, bert) = (desk.user("anna").await, desk.user("bert").await);
    anna.checkout().await;
    for _ in 0..10 {
        // A change that nobody has read yet, and one that is taken back.
        anna.run("UPDATE licenses SET seats = 1").await;
        let more = format!("BEGIN; UPDATE licenses SET seats = 9; {}", for_user("zoe"));
        anna.fails(&more).await.assert("53400", "license_full");
        anna.run("ROLLBACK").await;
        assert!(!bert.try_checkout().await);
    }
    anna.run("BEGIN; INSERT INTO licenses (product, claimed_at) VALUES ('New', 'checkout')")
        .await;
    let new = anna.fails("SELECT license_checkout('New')").await;
    new.assert("42704", "");
    anna.run("ROLLBACK; BEGIN; DELETE FROM licenses").await;
    assert!(!bert.try_checkout().await);
    anna.checkout().await;
    anna.run("ROLLBACK").await;
    assert_eq!(desk.in_use().await, 1);
    // Nor where its change goes unnoticed.
    desk.admin
        .run("ALTER TABLE licenses DISABLE TRIGGER USER")
        .await;
    let more = format!("BEGIN; UPDATE licenses SET seats = 9; {}", for_user("zoe"));
    anna.fails(&more).await.assert("53400", "license_full");
}

/// It needs no license any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_checkin_waits_for_no_lock() {
    let builder = Cluster::builder().conf("pg_seats.load_timeout", "1min");
    let desk = Desk::of(builder.licensed("claimed_at, seats", "'checkout', 1")).await;
    let anna = desk.user("anna").await;
    anna.checkout().await;
    anna.run("SET statement_timeout = '10s'").await;
    let locker = desk.change_and_lock().await;
    anna.run("SELECT license_checkin('TOM')").await;
    locker.close().await;
    desk.in_use_becomes(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkout_of_the_logins_product_joins_the_logins_seat() {
    let desk = Desk::licensed("seats", "1").await;
    let anna = desk.user("anna").await;
    let seat = desk
        .admin
        .text("SELECT seat_id FROM license_active_seats")
        .await;
    assert_eq!(anna.checkout().await, seat);
    assert_eq!(desk.in_use().await, 1);
    assert_eq!(desk.seats().await, ["login|anna||127.0.1.1|1"]);
    let pids = desk.admin.text("SELECT pids FROM license_active_seats");
    assert_eq!(pids.await, format!("{{{}}}", anna.pid().await));
    assert!(anna.checkin().await);
    assert_eq!(desk.seats().await, ["login|anna||127.0.1.1|1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_product_it_is_the_logins_else_the_only_one() {
    let desk = Desk::licensed("seats", "5").await;
    let product = "SELECT product FROM license_checkout()";
    let anna = desk.user("anna").await;
    assert_eq!(anna.text(product).await, "TOM");
    desk.admin
        .run("INSERT INTO licenses (product, seats, claimed_at) VALUES ('PAY', 5, 'checkout')")
        .await;
    assert_eq!(anna.text(product).await, "TOM");
    let bert = desk.user("bert").await;
    assert_eq!(bert.text(product).await, "TOM");
    // Nobody's login claims one now.
    desk.admin
        .run("UPDATE licenses SET claimed_at = 'checkout'")
        .await;
    let carl = desk.user("carl").await;
    for call in [
        "license_checkout()",
        "license_try_checkout()",
        "license_checkin()",
    ] {
        let denied = carl.fails(&format!("SELECT {call}")).await;
        denied.assert("22023", "");
        assert!(denied.hint.contains("license_usage"), "{denied:?}");
    }
    desk.admin
        .run("DELETE FROM licenses WHERE product = 'TOM'")
        .await;
    assert_eq!(carl.text(product).await, "PAY");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_product_is_refused() {
    let desk = Desk::with_seats(1).await;
    let anna = desk.user("anna").await;
    for call in [
        "license_checkout('TIM')",
        "license_checkout('TIM', '1s')",
        "license_checkout('')",
        "license_checkout('tom')",
        "license_try_checkout('TIM')",
        "license_checkin('TIM')",
    ] {
        anna.fails(&format!("SELECT {call}"))
            .await
            .assert("42704", "");
    }
    let long = format!("SELECT license_checkout(repeat('x', {}))", 1 << 20);
    anna.fails(&long).await.assert("42704", "");
    desk.admin.run("DELETE FROM licenses").await;
    for call in [
        "license_checkout()",
        "license_try_checkout()",
        "license_checkin()",
    ] {
        anna.fails(&format!("SELECT {call}"))
            .await
            .assert("42704", "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_checkins_as_checkouts() {
    let desk = Desk::with_seats(1).await;
    let anna = desk.user("anna").await;
    let seat = anna.checkout().await;
    assert_eq!(anna.checkout().await, seat);
    assert!(anna.try_checkout().await);
    for _ in 0..3 {
        assert_eq!(desk.in_use().await, 1);
        assert!(anna.checkin().await);
    }
    assert_eq!(desk.in_use().await, 0);
    assert!(!anna.checkin().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn checkouts_for_several_users_and_products_come_back_in_any_order() {
    let desk = Desk::with_seats(9).await;
    desk.admin
        .run("INSERT INTO licenses (product, claimed_at) VALUES ('PAY', 'checkout')")
        .await;
    let anna = desk.user("anna").await;
    let held = ["'TOM'|x", "'TOM'|y", "'PAY'|x", "'TOM'|z", "'PAY'|y"];
    for first in 0..held.len() {
        for hold in held {
            let (product, user) = hold.split_once('|').unwrap();
            let checkout = format!("SELECT license_checkout({product}, client_user => '{user}')");
            anna.run(&checkout).await;
        }
        let held_now = "SELECT string_agg(product || client_user, ' ' ORDER BY product, client_user) FROM license_active_seats";
        assert_eq!(desk.admin.text(held_now).await, "PAYx PAYy TOMx TOMy TOMz");
        let mut left: Vec<&str> = held.into_iter().cycle().skip(first).take(5).collect();
        left.swap(1, 3);
        while let Some(hold) = left.pop() {
            let (product, user) = hold.split_once('|').unwrap();
            let checkin = format!("SELECT license_checkin({product}, '{user}')");
            assert!(anna.val::<bool>(&checkin).await, "{hold}");
            assert!(!anna.val::<bool>(&checkin).await, "{hold}");
            let mut names: Vec<String> = left
                .iter()
                .map(|hold| hold.replace(['\'', '|'], ""))
                .collect();
            names.sort();
            assert_eq!(desk.admin.text(held_now).await, names.join(" "));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkin_without_a_checkout_gives_nothing_back() {
    let desk = Desk::licensed("seats", "5").await;
    let (anna, twin) = (desk.user("anna").await, desk.user("anna").await);
    let bert = desk.user("bert").await;
    // Not the login's seat, another session's checkout of the same user, or another user's.
    assert!(!anna.checkin().await);
    twin.checkout().await;
    bert.checkout().await;
    assert!(!anna.checkin().await);
    assert!(!bert.val::<bool>(&back_of("carl")).await);
    twin.run(&for_user("carl")).await;
    assert!(!anna.val::<bool>(&back_of("carl")).await);
    assert_eq!(desk.in_use().await, 3);
    assert!(twin.checkin().await && bert.checkin().await);
    assert!(twin.val::<bool>(&back_of("carl")).await);
    assert_eq!(desk.in_use().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_applications_users_are_users_of_their_own() {
    let desk = Desk::licensed("seats", "4").await;
    // Everybody works under one role, from one computer.
    let (one, two) = (desk.user("anna").await, desk.user("anna").await);
    one.run(&for_user("bert")).await;
    two.run(&for_user("bert")).await;
    two.run(&for_user("carl")).await;
    two.run(&for_user("Carl")).await;
    assert_eq!(
        desk.seats().await,
        [
            "login|anna||127.0.1.1|2",
            "checkout|anna|bert|127.0.1.1|2",
            "checkout|anna|carl|127.0.1.1|1",
            "checkout|anna|Carl|127.0.1.1|1"
        ]
    );
    let denied = one.fails(&for_user("dora")).await;
    denied.assert("53400", "license_full");
    assert!(one.val::<bool>(&back_of("bert")).await);
    assert_eq!(desk.in_use().await, 4);
    assert!(two.val::<bool>(&back_of("bert")).await);
    assert_eq!(desk.in_use().await, 3);
    one.run(&for_user("dora")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_name_of_a_user_is_kept_whole() {
    let desk = Desk::with_seats(9).await;
    let anna = desk.user("anna").await;
    let names = "SELECT client_user FROM license_active_seats ORDER BY opened_at";
    for length in [63, 64, 127, 128, 300, 511] {
        let name = |last| format!("{}{last}", "x".repeat(length - 1));
        for last in ['a', 'b', 'a'] {
            let row = anna
                .text(&format!(
                    "SELECT client_user FROM license_checkout(client_user => '{}')",
                    name(last)
                ))
                .await;
            assert_eq!(row, name(last));
        }
        assert_eq!(desk.in_use().await, 2, "{length}");
        assert_eq!(desk.admin.texts(names).await, [name('a'), name('b')]);
        for last in ['a', 'a', 'b'] {
            assert!(anna.val::<bool>(&back_of(&name(last))).await);
        }
        assert_eq!(desk.in_use().await, 0);
    }
    // Names count as bytes, also of letters that have several.
    let name = "é".repeat(255);
    anna.run(&for_user(&name)).await;
    assert_eq!(desk.admin.texts(names).await, [name]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_long_names_come_and_go() {
    let desk = Desk::with_seats(1000).await;
    // Who may lease is not bound by max_users_per_session.
    desk.admin
        .run("GRANT EXECUTE ON FUNCTION license_lease TO anna")
        .await;
    let anna = desk.user("anna").await;
    let many = |function: &str| {
        format!(
            "SELECT count({function}(client_user => repeat('x', 300) || n)) FROM generate_series(1, 200) n"
        )
    };
    for _ in 0..5 {
        assert_eq!(anna.text(&many("license_checkout")).await, "200");
        assert_eq!(desk.in_use().await, 200);
        assert_eq!(anna.text(&many("license_checkin")).await, "200");
        assert_eq!(desk.in_use().await, 0);
        anna.run(&many("license_checkout")).await;
        anna.run("DISCARD ALL").await;
        assert_eq!(desk.in_use().await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_long_name_too_many_is_shown_by_its_beginning() {
    let desk = Desk::with_seats(1000).await;
    // Who may lease is not bound by max_users_per_session.
    desk.admin
        .run("GRANT EXECUTE ON FUNCTION license_lease TO anna")
        .await;
    let anna = desk.user("anna").await;
    let users = "SELECT count(license_checkout(client_user => repeat('x', 40) || n)) FROM generate_series(1, 256) n";
    anna.run(users).await;
    // Whoever uses up the room keeps nobody out.
    let name = format!("{}ü{}", "y".repeat(22), "y".repeat(40));
    let names = "SELECT client_user FROM license_active_seats WHERE client_user LIKE 'y%' ORDER BY opened_at";
    let taken = format!("SELECT client_user FROM license_checkout(client_user => '{name}')");
    assert_eq!(anna.text(&taken).await, name);
    assert_eq!(
        desk.admin.texts(names).await,
        [format!("{}...", "y".repeat(22))]
    );
    let lease = format!("SELECT license_lease('{name}', '10.0.0.1')");
    desk.admin.run(&lease).await;
    assert!(anna.val::<bool>(&back_of(&name)).await);
    anna.run(&back_of(&format!("{}1", "x".repeat(40)))).await;
    anna.run(&taken).await;
    assert_eq!(desk.admin.texts(names).await, [name.clone(), name]);
    assert_eq!(desk.in_use().await, 257);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_name_of_a_user_is_refused() {
    let desk = Desk::with_seats(9).await;
    let anna = desk.user("anna").await;
    for name in [
        "''",
        "repeat('x', 512)",
        "repeat('é', 256)",
        "E'a\\nb'",
        "E'\\x01'",
        "E'a\\x7f'",
        "repeat('x', 1000000)",
    ] {
        for call in [
            format!("license_checkout(client_user => {name})"),
            format!("license_try_checkout(client_user => {name})"),
            format!("license_checkin(client_user => {name})"),
        ] {
            let denied = anna.fails(&format!("SELECT {call}")).await;
            denied.assert("22023", "");
            assert!(!denied.hint.is_empty(), "{denied:?}");
        }
    }
    assert_eq!(desk.in_use().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_wait_is_refused() {
    let desk = Desk::with_seats(1).await;
    let anna = desk.user("anna").await;
    let mut bad = vec![
        "'-1s'",
        "'-1 microsecond'",
        "'1 year'",
        "'25h'",
        "'1 month -40 days'",
        "NULL",
        "'178000000 years'",
        "'-178000000 years'",
    ];
    if desk.cluster.programs().major() >= 17 {
        bad.extend(["'infinity'", "'-infinity'"]);
    }
    for wait in bad {
        let call = format!("SELECT license_checkout(wait => {wait})");
        let denied = anna.fails(&call).await;
        denied.assert("22023", "");
        assert!(denied.message.contains("wait"), "{denied:?}");
    }
    assert_eq!((desk.in_use().await, desk.waiting().await), (0, 0));
    // Waits that are no longer than a day are fine.
    for wait in ["'1 day'", "'24h'", "'1 day -1s'", "'1 microsecond'"] {
        let call = format!("SELECT license_checkout(wait => {wait})");
        anna.run(&call).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_without_a_free_seat_gives_no_row() {
    let desk = Desk::with_seats(1).await;
    let (anna, bert) = (desk.user("anna").await, desk.user("bert").await);
    assert!(anna.try_checkout().await);
    assert!(!bert.try_checkout().await);
    let rows = "SELECT count(*), count(seat_id) FROM license_try_checkout('TOM', 'x')";
    assert_eq!(bert.text(rows).await, "0|0");
    // In the select list too.
    let rows = bert.texts("SELECT license_try_checkout()").await;
    assert_eq!(rows, [""; 0]);
    assert_eq!(desk.in_use().await, 1);
    assert!(!bert.checkin().await);
    anna.checkin().await;
    let row = "SELECT product, usename, seats_in_use, seats FROM license_try_checkout()";
    assert_eq!(bert.text(row).await, "TOM|bert|1|1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_says_what_is_missing_and_leaves_the_session_in_peace() {
    let desk = Desk::with_seats(1).await;
    let (anna, bert) = (desk.user("anna").await, desk.user("bert").await);
    anna.checkout().await;
    let denied = bert.fails("SELECT license_checkout()").await;
    denied.assert("53400", "license_full");
    assert_eq!(denied.severity, "ERROR");
    assert_eq!(
        denied.message,
        r#"maximum user license count reached for "TOM""#
    );
    assert!(
        denied.detail.starts_with("1 of 1 seats are in use."),
        "{denied:?}"
    );
    assert!(denied.detail.contains(r#""anna""#), "{denied:?}");
    assert!(denied.hint.contains("give back"), "{denied:?}");
    assert_eq!(desk.denied().await, 1);
    desk.cluster.set("pg_seats.denial_detail", "count");
    let carl = desk.user("carl").await;
    let denied = carl.fails("SELECT license_checkout()").await;
    assert_eq!(denied.detail, "1 of 1 seats are in use.");
    anna.checkin().await;
    bert.checkout().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_license_out_of_its_dates_gives_no_seat() {
    let desk = Desk::with_seats(1).await;
    let anna = desk.user("anna").await;
    for (change, reason, words) in [
        (
            "valid_until = now() - interval '1 day'",
            "license_expired",
            r#"license for "TOM" expired on "#,
        ),
        (
            "valid_until = NULL, valid_from = now() + interval '1 day'",
            "license_not_yet_valid",
            r#"license for "TOM" is not valid before "#,
        ),
    ] {
        desk.admin
            .run(&format!("UPDATE licenses SET {change}"))
            .await;
        for call in [
            "license_checkout()",
            "license_checkout(wait => '10min')",
            "license_try_checkout()",
        ] {
            let denied = anna.fails(&format!("SELECT {call}")).await;
            denied.assert("53400", reason);
            assert!(denied.message.starts_with(words), "{denied:?}");
        }
    }
    desk.admin
        .run("UPDATE licenses SET valid_from = NULL, valid_until = now() - interval '1 day', grace = '2 days'")
        .await;
    anna.checkout().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_without_room_gives_no_seat() {
    let cluster = Cluster::builder()
        .conf("pg_seats.max_seats", 2)
        .licensed("claimed_at", "'checkout'");
    let desk = Desk::of(cluster).await;
    let anna = desk.user("anna").await;
    anna.run(&for_user("x")).await;
    anna.run(&for_user("y")).await;
    for call in [
        "license_checkout()",
        "license_checkout(wait => '10min')",
        "license_try_checkout()",
    ] {
        let denied = anna.fails(&format!("SELECT {call}")).await;
        denied.assert("53400", "license_table_full");
        assert!(denied.hint.contains("pg_seats.max_seats"), "{denied:?}");
    }
    // Who has a seat keeps it, and nests.
    anna.run(&for_user("x")).await;
    assert!(anna.val::<bool>(&back_of("y")).await);
    anna.checkout().await;
    assert_eq!(desk.in_use().await, 2);
}

/// Asserts that Bert's checkouts beyond Anna's only seat succeed, whichever function he calls.
async fn bert_is_admitted(desk: &Desk, denied: i64, logged: bool) {
    let (mark, before) = (desk.cluster.log().len(), desk.denied().await);
    let (anna, bert) = (desk.user("anna").await, desk.user("bert").await);
    anna.checkout().await;
    assert!(!bert.checkout().await.is_empty());
    assert!(bert.checkin().await);
    assert!(bert.try_checkout().await);
    assert!(bert.checkin().await);
    bert.run("SELECT license_checkout(wait => '10min')").await;
    assert_eq!(desk.in_use().await, 2);
    assert_eq!(desk.denied().await - before, denied);
    let would = r#"license "TOM" would have denied user "bert" at 127.0.1.2"#;
    assert_eq!(desk.cluster.log_since(mark).contains(would), logged);
    anna.close().await;
    bert.close().await;
    desk.in_use_becomes(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_softer_enforcement_denies_nobody() {
    let desk = Desk::with_seats(1).await;
    for (enforcement, denied, logged) in [("warn", 3, true), ("off", 0, false)] {
        let row = format!("UPDATE licenses SET enforcement = '{enforcement}'");
        desk.admin.run(&row).await;
        bert_is_admitted(&desk, denied, logged).await;
        desk.admin
            .run("UPDATE licenses SET enforcement = 'on'")
            .await;
        desk.cluster.set("pg_seats.enforcement", enforcement);
        bert_is_admitted(&desk, denied, logged).await;
        desk.cluster.reset("pg_seats.enforcement");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn seats_of_the_overdraft_are_given_and_logged() {
    let desk = Desk::licensed("claimed_at, seats, overdraft", "'checkout', 1, 1").await;
    let (anna, bert) = (desk.user("anna").await, desk.user("bert").await);
    anna.checkout().await;
    let mark = desk.cluster.log().len();
    bert.checkout().await;
    desk.cluster
        .wait_log_since(mark, r#"overdraft of license "TOM" by user "bert""#);
    let carl = desk.user("carl").await;
    let denied = carl.fails("SELECT license_checkout()").await;
    denied.assert("53400", "license_full");
    assert!(
        denied.detail.starts_with("2 of 2 seats are in use."),
        "{denied:?}"
    );
    let mark = desk.cluster.log().len();
    let user = "SELECT license_try_checkout(client_user => 'x')";
    bert.checkin().await;
    bert.run(user).await;
    let logged = r#"overdraft of license "TOM" by user "x" by role "bert""#;
    desk.cluster.wait_log_since(mark, logged);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exempt_session_takes_no_seat_and_counts_once_it_is_no_longer_exempt() {
    let desk = Desk::with_seats(1).await;
    desk.admin
        .run("INSERT INTO license_exemptions VALUES ('role', 'anna'), ('host', '127.0.1.2')")
        .await;
    let (anna, bert) = (desk.user("anna").await, desk.user("bert").await);
    for session in [&anna, &bert, &desk.admin] {
        assert_eq!(session.checkout().await, "");
        let row = "SELECT seat_id, product, seats_in_use FROM license_try_checkout('TOM', 'x')";
        assert_eq!(session.text(row).await, "|TOM|0");
        session.run("SELECT license_checkout(wait => '1s')").await;
    }
    assert_eq!(desk.in_use().await, 0);
    assert_eq!(desk.seats().await, [""; 0]);
    desk.admin.run("DELETE FROM license_exemptions").await;
    assert_eq!(desk.in_use().await, 4);
    assert_eq!(
        desk.seats().await,
        [
            "checkout|anna||127.0.1.1|1",
            "checkout|anna|x|127.0.1.1|1",
            "checkout|bert||127.0.1.2|1",
            "checkout|bert|x|127.0.1.2|1"
        ]
    );
    // As many checkins as checkouts, whether they took a seat or not.
    for session in [&anna, &bert, &desk.admin] {
        let twice = [session.checkin().await, session.checkin().await];
        assert_eq!(twice, [true, true]);
        assert!(!session.checkin().await);
        assert!(session.val::<bool>(&back_of("x")).await);
    }
    assert_eq!(desk.in_use().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_becomes_exempt_gives_its_seat_to_others() {
    let desk = Desk::with_seats(1).await;
    let (anna, bert) = (desk.user("anna").await, desk.user("bert").await);
    anna.checkout().await;
    desk.admin
        .run("INSERT INTO license_exemptions VALUES ('role', 'anna')")
        .await;
    assert_eq!(desk.in_use().await, 0);
    bert.checkout().await;
    assert_eq!(anna.checkout().await, "");
    assert!(anna.checkin().await && anna.checkin().await);
    assert_eq!(desk.in_use().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn superusers_who_count_are_never_denied() {
    let cluster = Cluster::builder()
        .conf("pg_seats.exempt_superusers", "off")
        .licensed("claimed_at, seats", "'checkout', 0");
    let desk = Desk::of(cluster).await;
    assert!(!desk.admin.checkout().await.is_empty());
    assert_eq!(desk.in_use().await, 1);
    assert!(desk.admin.checkin().await);
    let waited = "SELECT seat_id IS NOT NULL FROM license_checkout(wait => '10min')";
    assert_eq!(desk.admin.text(waited).await, "t");
    assert_eq!((desk.in_use().await, desk.denied().await), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_undoes_neither_a_checkout_nor_a_checkin() {
    let desk = Desk::with_seats(1).await;
    let anna = desk.user("anna").await;
    anna.run("BEGIN; SELECT license_checkout(); ROLLBACK").await;
    assert_eq!(desk.in_use().await, 1);
    anna.run("BEGIN; SAVEPOINT a; SELECT license_checkin(); ROLLBACK TO a; ROLLBACK")
        .await;
    assert_eq!(desk.in_use().await, 0);
    anna.fails("SELECT license_checkout(), 1 / (random() * 0)::int")
        .await
        .assert("22012", "");
    assert_eq!(desk.in_use().await, 1);
    assert!(anna.checkin().await);
    // A transaction with checkouts can be prepared, if the server allows any.
    let denied = anna
        .fails("BEGIN; SELECT license_checkout(); PREPARE TRANSACTION 'x'")
        .await;
    denied.assert("55000", "");
    anna.run("ROLLBACK").await;
    assert_eq!(desk.in_use().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_session_gives_its_checkouts_back() {
    let desk = Desk::with_seats(1).await;
    let anna = async || {
        let anna = desk.user("anna").await;
        anna.checkout().await;
        anna.checkout().await;
        assert_eq!(desk.in_use().await, 1);
        anna
    };
    anna().await.close().await;
    desk.in_use_becomes(0).await;
    anna().await.abort().await;
    desk.in_use_becomes(0).await;
    let busy = anna().await;
    busy.send("SELECT pg_sleep(600)").await;
    busy.abort().await;
    desk.in_use_becomes(0).await;
    for sleep in [false, true] {
        let session = anna().await;
        let end = format!("SELECT pg_terminate_backend({})", session.pid().await);
        if sleep {
            session.send("SELECT pg_sleep(600)").await;
        }
        desk.admin.run(&end).await;
        desk.in_use_becomes(0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_client_gives_its_checkouts_back() {
    let desk = Desk::with_seats(1).await;
    for last in [";", "SELECT pg_sleep(600);"] {
        let mut program = desk.cluster.login("anna").from("127.0.0.1").process();
        assert_eq!(
            program.ask("SELECT product FROM license_checkout();"),
            "TOM"
        );
        program.send(last);
        program.kill9();
        desk.in_use_becomes(0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_gives_all_checkouts_back() {
    let desk = Desk::with_seats(2).await;
    let (anna, bert) = (desk.user("anna").await, desk.user("bert").await);
    anna.checkout().await;
    bert.run(&for_user(&"x".repeat(300))).await;
    desk.cluster.crash_backend(anna.pid().await);
    let desk = Desk::of(desk.cluster).await;
    assert_eq!((desk.in_use().await, desk.waiting().await), (0, 0));
    let (anna, bert) = (desk.user("anna").await, desk.user("bert").await);
    anna.checkout().await;
    bert.checkout().await;
    assert_eq!(desk.in_use().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn discard_all_gives_back_checkouts_and_keeps_the_logins_seat() {
    let desk = Desk::licensed("seats", "5").await;
    let anna = desk.user("anna").await;
    // Nothing to give back.
    anna.run("DISCARD ALL").await;
    for _ in 0..2 {
        anna.checkout().await;
        anna.run(&for_user("x")).await;
        anna.run(&for_user(&"y".repeat(200))).await;
    }
    for kept in ["PLANS", "SEQUENCES", "TEMP"] {
        anna.run(&format!("DISCARD {kept}")).await;
        assert_eq!(desk.in_use().await, 3, "{kept}");
    }
    // Not in a transaction: then it does nothing at all.
    anna.fails("BEGIN; DISCARD ALL").await.assert("25001", "");
    anna.run("ROLLBACK").await;
    assert_eq!(desk.in_use().await, 3);
    anna.run("DISCARD ALL").await;
    assert_eq!(desk.in_use().await, 1);
    assert_eq!(desk.seats().await, ["login|anna||127.0.1.1|1"]);
    assert!(!anna.checkin().await);
    anna.run("DISCARD ALL").await;
    anna.checkout().await;
    // Another's stay.
    let twin = desk.user("anna").await;
    twin.run(&for_user("x")).await;
    anna.run("DISCARD ALL").await;
    assert_eq!(desk.in_use().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn discard_all_of_who_holds_nothing_does_no_harm() {
    let desk = Desk::with_seats(1).await;
    let replica = desk.login("bert");
    desk.admin.run("ALTER ROLE bert REPLICATION").await;
    for session in [desk.user("anna").await, replica.open_ok().await] {
        session.run("DISCARD ALL").await;
        session.checkout().await;
        session.run("DISCARD ALL").await;
    }
    desk.admin.run("DISCARD ALL").await;
    assert_eq!(desk.in_use().await, 0);
    let bare = Cluster::builder().preload(false).start();
    bare.sql("DISCARD ALL");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_of_two_sessions_frees_their_seat_in_every_order() {
    let desk = Desk::licensed("seats, application_name", "1, 'tom%'").await;
    let login = desk.login("anna");
    let checkout = "SELECT license_checkout('TOM')";
    let checkin = "SELECT license_checkin('TOM')";
    // The first has logged in to the product, the second has checked it out, and the third both.
    for order in 0..6 {
        let first = login.clone().app("tom").open_ok().await;
        let second = login.clone().app("other").open_ok().await;
        let third = login.clone().app("tom").open_ok().await;
        second.run(checkout).await;
        third.run(checkout).await;
        let kind = "SELECT kind, sessions FROM license_active_seats";
        assert_eq!(desk.admin.text(kind).await, "login|3");
        let orders = [
            [0, 1, 2],
            [0, 2, 1],
            [1, 0, 2],
            [1, 2, 0],
            [2, 0, 1],
            [2, 1, 0],
        ];
        let mut sessions = [Some(first), Some(second), Some(third)];
        for (gone, who) in orders[order].into_iter().enumerate() {
            assert_eq!(desk.in_use().await, 1, "{order}");
            let session = sessions[who].take().unwrap();
            if who == 1 {
                session.run(checkin).await;
                // It is not the login's.
                let left = sessions.iter().flatten().count();
                let kinds = desk.admin.texts(kind).await;
                let expected = if left == 0 {
                    vec![]
                } else {
                    vec![format!("login|{left}")]
                };
                assert_eq!(kinds, expected, "{order} {gone}");
            }
            session.close().await;
            let left = format!(
                "SELECT count(*) = {} FROM pg_stat_activity WHERE usename = 'anna'",
                2 - gone
            );
            eventually("the session has ended", PATIENCE, async || {
                desk.admin.val(&left).await
            })
            .await;
        }
        assert_eq!(desk.in_use().await, 0, "{order}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_checkouts_of_one_identity_hold_one_seat_until_the_last_checkin() {
    let desk = Desk::with_seats(1).await;
    let (one, two) = (desk.user("anna").await, desk.user("anna").await);
    for first in [&one, &two] {
        let seat = one.checkout().await;
        assert_eq!(two.checkout().await, seat);
        assert_eq!(desk.seats().await, ["checkout|anna||127.0.1.1|2"]);
        assert!(first.checkin().await);
        assert_eq!(desk.seats().await, ["checkout|anna||127.0.1.1|1"]);
        assert!(one.checkin().await != two.checkin().await);
        assert_eq!(desk.in_use().await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rule_of_counting_makes_identities_of_checkouts_also_when_it_changes() {
    let desk = Desk::licensed("claimed_at", "'checkout'").await;
    let at = |user: &str, host: &str| desk.cluster.login(user).from(host);
    let laptop = |host: &str| at("anna", host).workstation("LAPTOP");
    let logins = [
        at("anna", "127.0.1.1"),
        at("anna", "127.0.1.1"),
        at("anna", "127.0.1.2"),
        at("bert", "127.0.1.1"),
        laptop("127.0.1.1"),
        laptop("127.0.1.2"),
    ];
    let mut sessions = Vec::new();
    for login in &logins {
        sessions.push(login.open_ok().await);
    }
    let rules = [
        ("user_host", 5),
        ("user", 3),
        ("host", 4),
        ("session", 6),
        ("user_workstation", 4),
    ];
    let rule = async |rule| {
        let change = format!("UPDATE licenses SET counted_by = '{rule}'");
        desk.admin.run(&change).await;
    };
    for (name, seats) in rules {
        rule(name).await;
        for session in &sessions {
            session.checkout().await;
        }
        assert_eq!(desk.in_use().await, seats, "{name}");
        // An application's user splits each of them.
        for session in &sessions {
            session.run(&for_user("x")).await;
        }
        assert_eq!(desk.in_use().await, 2 * seats, "{name}");
        // Those who are in are counted anew.
        for (other, seats) in rules {
            rule(other).await;
            assert_eq!(desk.in_use().await, 2 * seats, "{name}, then {other}");
            assert_eq!(desk.seats().await.len(), 2 * seats as usize);
        }
        for session in &sessions {
            assert!(session.checkin().await);
            assert!(session.val::<bool>(&back_of("x")).await);
        }
        assert_eq!(desk.in_use().await, 0, "{name}");
    }
}

/// Creates database `second`, of one pool with `postgres`.
async fn pool(seats: [u32; 2]) -> Desk {
    let row = |seats| format!("'checkout', {seats}, 'firm'");
    let desk = Desk::licensed("claimed_at, seats, pool", &row(seats[0])).await;
    desk.cluster.sql("CREATE DATABASE second");
    desk.cluster
        .license("second", "claimed_at, seats, pool", &row(seats[1]));
    desk
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_counts_one_identity_once() {
    let desk = pool([2, 3]).await;
    let second = |user| desk.login(user).db("second").open_ok();
    let (anna, elsewhere) = (desk.user("anna").await, second("anna").await);
    let seat = anna.checkout().await;
    assert_eq!(elsewhere.checkout().await, seat);
    let (bert, carl, dora) = (
        desk.user("bert").await,
        second("carl").await,
        second("dora").await,
    );
    assert!(carl.try_checkout().await);
    // Each database checks the pool against its own seats.
    assert!(!bert.try_checkout().await);
    assert!(dora.try_checkout().await);
    assert!(!second("bert").await.try_checkout().await);
    for db in ["postgres", "second"] {
        assert_eq!(desk.cluster.in_use_in(db), 3);
    }
    let rows = "SELECT datname, usename, sessions FROM license_active_seats ORDER BY usename";
    let expected = ["|anna|2", "second|carl|1", "second|dora|1"];
    assert_eq!(desk.admin.texts(rows).await, expected);
    assert!(anna.checkin().await);
    assert_eq!(desk.in_use().await, 3);
    elsewhere.close().await;
    desk.in_use_becomes(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn checkouts_follow_their_product_into_a_pool_and_out_again() {
    let desk = pool([5, 5]).await;
    let anna = desk.user("anna").await;
    let elsewhere = desk.login("anna").db("second").open_ok().await;
    let bert = desk.login("bert").db("second").open_ok().await;
    for session in [&anna, &elsewhere, &bert] {
        session.checkout().await;
    }
    // A view of another database may lag a change for a moment.
    let both_become = |expected: [i64; 2]| {
        let both = || ["postgres", "second"].map(|db| desk.cluster.in_use_in(db));
        eventually_blocking(&format!("{expected:?} are in use"), PATIENCE, || {
            both() == expected
        });
    };
    both_become([2, 2]);
    desk.cluster
        .sql_in("second", "UPDATE licenses SET pool = NULL");
    both_become([1, 2]);
    // They are the same checkouts.
    assert!(elsewhere.checkin().await);
    both_become([1, 1]);
    elsewhere.checkout().await;
    desk.cluster
        .sql_in("second", "UPDATE licenses SET pool = 'firm'");
    both_become([2, 2]);
    desk.cluster.sql("UPDATE licenses SET pool = 'other'");
    both_become([1, 2]);
    for session in [&anna, &elsewhere, &bert] {
        assert!(session.checkin().await);
    }
    both_become([0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fewer_seats_leave_those_who_hold_one_in_peace() {
    let desk = Desk::with_seats(2).await;
    let (anna, bert) = (desk.user("anna").await, desk.user("bert").await);
    anna.checkout().await;
    bert.checkout().await;
    desk.admin.run("UPDATE licenses SET seats = 1").await;
    assert_eq!(desk.in_use().await, 2);
    // Whoever has a seat may take it again.
    anna.checkout().await;
    let carl = desk.user("carl").await;
    assert!(!carl.try_checkout().await);
    bert.checkin().await;
    assert!(!carl.try_checkout().await && !bert.try_checkout().await);
    anna.close().await;
    desk.in_use_becomes(0).await;
    assert!(carl.try_checkout().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn checkouts_outlast_their_products_row() {
    let desk = Desk::with_seats(2).await;
    let (anna, bert) = (desk.user("anna").await, desk.user("bert").await);
    anna.checkout().await;
    anna.checkout().await;
    bert.checkout().await;
    desk.admin.run("DELETE FROM licenses").await;
    assert_eq!(desk.seats().await, [""; 0]);
    // A row of another product changes nothing.
    desk.admin
        .run("INSERT INTO licenses (product, claimed_at) VALUES ('PAY', 'checkout')")
        .await;
    assert_eq!(desk.seats().await, [""; 0]);
    assert_eq!(bert.text("SELECT license_checkin('TOM')").await, "t");
    bert.fails("SELECT license_checkin('TOM')")
        .await
        .assert("42704", "");
    desk.admin
        .run("DELETE FROM licenses; INSERT INTO licenses (product, claimed_at, seats) VALUES ('TOM', 'checkout', 1)")
        .await;
    assert_eq!(desk.seats().await, ["checkout|anna||127.0.1.1|1"]);
    assert_eq!(desk.in_use().await, 1);
    assert!(!bert.try_checkout().await);
    assert!(anna.checkin().await && anna.checkin().await);
    assert!(bert.try_checkout().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_product_is_another_product() {
    let desk = Desk::with_seats(1).await;
    let (anna, bert) = (desk.user("anna").await, desk.user("bert").await);
    anna.checkout().await;
    desk.admin.run("UPDATE licenses SET product = 'TIM'").await;
    assert!(bert.try_checkout().await);
    assert!(!anna.checkin().await);
    desk.admin.run("UPDATE licenses SET product = 'TOM'").await;
    assert_eq!(desk.seats().await, ["checkout|anna||127.0.1.1|1"]);
    assert!(anna.checkin().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_product_claimed_at_login_from_now_on_counts_once() {
    let desk = Desk::with_seats(5).await;
    let anna = desk.user("anna").await;
    let seat = anna.checkout().await;
    desk.admin
        .run("UPDATE licenses SET claimed_at = 'login'")
        .await;
    assert_eq!(desk.seats().await, ["login|anna||127.0.1.1|1"]);
    assert_eq!(anna.checkout().await, seat);
    desk.admin
        .run("UPDATE licenses SET claimed_at = 'checkout'")
        .await;
    assert_eq!(desk.seats().await, ["checkout|anna||127.0.1.1|1"]);
    anna.run("DISCARD ALL").await;
    assert_eq!(desk.in_use().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_sees_their_own_seats_and_the_monitor_all() {
    let desk = Desk::licensed("seats", "9").await;
    desk.admin.run("GRANT pg_monitor TO carl").await;
    let (anna, bert, carl) = (
        desk.user("anna").await,
        desk.user("bert").await,
        desk.user("carl").await,
    );
    anna.run(&for_user("x")).await;
    bert.checkout().await;
    bert.run(&for_user("x")).await;
    assert_eq!(
        anna.texts(SEATS).await,
        ["login|anna||127.0.1.1|1", "checkout|anna|x|127.0.1.1|1"]
    );
    assert_eq!(
        bert.texts(SEATS).await,
        ["login|bert||127.0.1.2|1", "checkout|bert|x|127.0.1.2|1"]
    );
    assert_eq!(carl.texts(SEATS).await.len(), 5);
    let usage = "SELECT in_use, available, high_water, waiting FROM license_usage";
    assert_eq!(anna.text(usage).await, "5|4|5|0");
    let details =
        "SELECT product, datname, workstation, application_name, expires_at, opened_at <= now(),
                          last_active_at IS NOT NULL, idle IS NOT NULL, pids
                     FROM license_active_seats WHERE kind = 'checkout'";
    let pid = anna.pid().await;
    let row = format!("TOM|postgres||||t|t|t|{{{pid}}}");
    assert_eq!(anna.text(details).await, row);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_common_to_the_holders_of_a_seat_is_shown() {
    let desk = Desk::licensed("claimed_at, counted_by", "'checkout', 'host'").await;
    let at = |user: &str| desk.cluster.login(user).from("127.0.1.1");
    let anna = at("anna").app("tom").open_ok().await;
    let bert = at("bert").app("tom").open_ok().await;
    anna.checkout().await;
    bert.checkout().await;
    let row = "SELECT usename, client_host, application_name, sessions FROM license_active_seats";
    assert_eq!(desk.admin.text(row).await, "|127.0.1.1|tom|2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkout_works_in_a_read_only_transaction() {
    let desk = Desk::with_seats(1).await;
    let (anna, bert) = (desk.user("anna").await, desk.user("bert").await);
    anna.run("BEGIN READ ONLY").await;
    anna.checkout().await;
    assert!(!bert.try_checkout().await);
    assert!(anna.checkin().await);
    assert!(anna.try_checkout().await);
    anna.run("COMMIT").await;
    // Right after a change, which it has to read itself.
    desk.admin.run("UPDATE licenses SET seats = 2").await;
    bert.run("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY")
        .await;
    bert.checkout().await;
    bert.run("COMMIT").await;
    assert_eq!(desk.in_use().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_counts_its_own_checkouts() {
    let primary = Desk::with_seats(1).await;
    let standby = primary.cluster.standby();
    standby.catch_up(&primary.cluster);
    let standby = Desk::of(standby).await;
    let (anna, bert) = (primary.user("anna").await, standby.user("bert").await);
    let carl = standby.user("carl").await;
    anna.checkout().await;
    bert.checkout().await;
    assert!(!carl.try_checkout().await);
    assert_eq!((primary.in_use().await, standby.in_use().await), (1, 1));
    let waiter = standby.enqueue(carl).await;
    assert!(bert.checkin().await);
    let carl = waiter.seated().await;
    assert_eq!(standby.in_use().await, 1);
    standby.cluster.promote();
    assert_eq!(standby.in_use().await, 1);
    assert!(!bert.try_checkout().await);
    carl.close().await;
    standby.in_use_becomes(0).await;
    assert!(bert.try_checkout().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_functions_do_nothing_where_the_library_is_not_preloaded() {
    let bare = Cluster::builder().preload(false).start();
    bare.sql("CREATE ROLE anna LOGIN; CREATE EXTENSION pg_seats");
    let anna = bare.login("anna").open_ok().await;
    for call in [
        "license_checkout()",
        "license_try_checkout()",
        "license_checkin()",
        "license_held('TOM')",
    ] {
        anna.fails(&format!("SELECT {call}"))
            .await
            .assert("55000", "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn set_role_changes_nothing() {
    let desk = Desk::with_seats(5).await;
    desk.admin.run("GRANT bert TO anna").await;
    let anna = desk.user("anna").await;
    let seat = anna.checkout().await;
    anna.run("SET ROLE bert").await;
    assert_eq!(anna.checkout().await, seat);
    assert_eq!(
        anna.text("SELECT usename FROM license_checkout()").await,
        "anna"
    );
    assert!(anna.checkin().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_as_there_are_seats_get_one_when_all_ask_at_once() {
    let cluster = Cluster::builder().roomy();
    let desk = Desk::of(cluster.licensed("claimed_at, seats", "'checkout', 10")).await;
    let host = |i: usize| format!("127.0.2.{}", i + 1);
    let login = |i: usize| desk.cluster.login("anna").from(&host(i));
    let sessions: Vec<Session> = race(100, login).await.into_iter().flatten().collect();
    assert_eq!(sessions.len(), 100);
    let mut sessions: Vec<_> = sessions;
    for round in 1..=5 {
        let asked = sessions.into_iter().map(|session| {
            tokio::spawn(async move {
                let got = session.try_checkout().await;
                (session, got)
            })
        });
        let asked: Vec<_> = asked.collect();
        let (mut in_use, mut all) = (0, Vec::new());
        for one in asked {
            let (session, got) = one.await.unwrap();
            in_use += i32::from(got);
            all.push(session);
        }
        assert_eq!((in_use, desk.in_use().await), (10, 10), "{round}");
        sessions = all;
        for session in &sessions {
            session.checkin().await;
        }
        assert_eq!(desk.in_use().await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn superusers_count_as_soon_as_they_are_no_longer_exempt() {
    let desk = Desk::with_seats(1).await;
    let boss = desk.cluster.login("postgres").from("127.0.1.99");
    let boss = boss.open_ok().await;
    assert_eq!(boss.checkout().await, "");
    desk.cluster.set("pg_seats.exempt_superusers", "off");
    desk.in_use_becomes(1).await;
    let anna = desk.user("anna").await;
    assert!(!anna.try_checkout().await);
    desk.cluster.reset("pg_seats.exempt_superusers");
    desk.in_use_becomes(0).await;
    assert!(anna.try_checkout().await);
    assert!(boss.checkin().await && !boss.checkin().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn users_of_an_old_encoding_are_told_apart_by_their_letters() {
    let desk = Desk::with_seats(9).await;
    for encoding in ["LATIN1", "SQL_ASCII"] {
        let create = format!(
            "CREATE DATABASE {encoding} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"
        );
        desk.cluster.sql(&create);
        let db = encoding.to_lowercase();
        desk.cluster
            .license(&db, "claimed_at, seats", "'checkout', 9");
        let anna = desk.login("anna").db(&db).open_ok().await;
        anna.run(&for_user("Änne")).await;
        anna.run(&for_user("Ånne")).await;
        assert_eq!(desk.cluster.in_use_in(&db), 2);
        let shown = "SELECT client_user FROM license_active_seats ORDER BY opened_at";
        assert_eq!(anna.texts(shown).await, ["Änne", "Ånne"]);
        assert!(anna.val::<bool>(&back_of("Ånne")).await);
        assert_eq!(anna.texts(shown).await, ["Änne"]);
        if encoding == "SQL_ASCII" {
            // What is no letter is not taken for another.
            anna.fails("SELECT license_checkout(client_user => E'\\xff')")
                .await
                .assert("22023", "");
        }
    }
}
