//! Seats that were allotted to other installations: together they are never more than what was bought.

use serde_json::json;

use crate::util::*;

/// Returns a server that knows Aptora's key.
fn installation() -> Cluster {
    Cluster::builder().with_key_of(&Vendor::aptora())
}

/// Returns the same with a license of so many seats for itself.
fn centre(seats: i32) -> Cluster {
    let centre = installation();
    centre.install(&Vendor::aptora().license_for(&centre, seats));
    centre
}

/// Logs so many users in, each from a computer of their own.
async fn users(cluster: &Cluster, number: usize) -> Vec<Session> {
    let mut users = Vec::new();
    for _ in 0..number {
        users.push(cluster.login("anna").from(&new_host()).open_ok().await);
    }
    users
}

/// Asserts that nobody else gets in, for want of a seat.
async fn assert_full(cluster: &Cluster) {
    let denied = cluster.login("bert").from(&new_host()).denied().await;
    denied.assert("53300", "license_full");
}

/// Starts a centre with one seat left, and a laptop with two; who has one of those there does not answer.
async fn with_stuck_user() -> (Cluster, Cluster, (Session, i32)) {
    let (centre, laptop) = (centre(3), installation());
    laptop.install(&centre.sql(&laptop.allotting(2)));
    let stuck = users(&laptop, 1).await.pop().unwrap();
    let pid = stuck.pid().await;
    laptop.signal(pid, Signal::SIGSTOP);
    (centre, laptop, (stuck, pid))
}

async fn admin(cluster: &Cluster) -> Session {
    cluster.login("postgres").open_ok().await
}

/// Returns what is left here of how many that were bought, and how many allotments are away.
fn seats(cluster: &Cluster) -> String {
    cluster.sql(
        "SELECT seats, purchased, (SELECT count(*) FROM license_allotments WHERE returned_at IS NULL)
           FROM license_usage",
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_owned_are_eight_at_the_centre_and_one_on_each_laptop() {
    let centre = centre(10);
    let laptops = [installation(), installation()];
    for laptop in &laptops {
        let token = centre.sql(&laptop.allotting(1));
        laptop.install(&token);
        assert_eq!(seats(laptop), "1|1|0");
    }
    assert_eq!(seats(&centre), "8|10|2");
    let at_centre = users(&centre, 8).await;
    assert_full(&centre).await;
    for laptop in &laptops {
        let user = users(laptop, 1).await;
        assert_full(laptop).await;
        for user in user {
            user.close().await;
        }
        let receipt = laptop.sql("SELECT license_give_back('TOM')");
        assert_full(laptop).await;
        assert_eq!(
            centre.sql(&format!("SELECT license_accept_return('{receipt}')")),
            "1"
        );
    }
    assert_eq!(seats(&centre), "10|10|0");
    let others = users(&centre, 2).await;
    assert_full(&centre).await;
    assert_eq!(usage(&centre), "10|10|full");
    drop((at_centre, others));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_allotted_is_not_undone_by_rollback() {
    let (centre, laptop) = (centre(2), installation());
    let admin = admin(&centre).await;
    admin.run("BEGIN").await;
    let token = admin.text(&laptop.allotting(1)).await;
    admin.run("ROLLBACK").await;
    let _anna = users(&centre, 1).await;
    assert_full(&centre).await;
    eventually("the row is there again", PATIENCE, async || {
        seats(&centre) == "1|2|1"
    })
    .await;
    assert_eq!(centre.sql("SELECT token FROM license_allotments"), token);
    assert_eq!(usage(&centre), "1|1|full");
    laptop.install(&token);
    let receipt = laptop.sql("SELECT license_give_back('TOM')");
    // Nor is its return.
    admin
        .run(&format!(
            "BEGIN; SELECT license_accept_return('{receipt}'); ROLLBACK"
        ))
        .await;
    eventually("the seat is back", PATIENCE, async || {
        seats(&centre) == "2|2|0"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn seats_that_are_in_use_are_not_allotted() {
    let (centre, laptop) = (centre(2), installation());
    let mut users = users(&centre, 2).await;
    let admin = admin(&centre).await;
    let denied = admin.fails(&laptop.allotting(1)).await;
    denied.assert("53400", "license_full");
    assert!(
        denied.detail.starts_with("2 of 2 seats are in use."),
        "{denied:?}"
    );
    assert_eq!(seats(&centre), "2|2|0");
    users.pop().unwrap().close().await;
    eventually("the seat is free", PATIENCE, async || centre.in_use() == 1).await;
    admin.run(&laptop.allotting(1)).await;
    assert_eq!(seats(&centre), "1|2|1");
    let denied = admin.fails(&laptop.allotting(1)).await;
    denied.assert("53400", "license_full");
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_that_race_with_an_allotment_never_use_a_seat_twice() {
    let (centre, laptop) = (centre(4), installation());
    let admin = admin(&centre).await;
    let mut given = 0;
    for _ in 0..8 {
        let allot = laptop.allotting(1);
        let (logins, allotted) = tokio::join!(
            race(4, |_| centre.login("anna").from(&new_host())),
            admin.try_texts(&allot),
        );
        given += usize::from(allotted.is_ok());
        if let Err(denied) = allotted {
            let expected = if given < 4 { "53400" } else { "22023" };
            assert_eq!(denied.sqlstate, expected, "{denied:?}");
        }
        let mut users = Vec::new();
        for login in logins {
            match login {
                Ok(session) => users.push(session),
                Err(denied) => drop(denied.assert("53300", "license_full")),
            }
        }
        assert!(users.len() + given <= 4, "{} and {given}", users.len());
        for user in users {
            user.close().await;
        }
        eventually("all are out", PATIENCE, async || centre.in_use() == 0).await;
    }
    if given < 4 {
        admin.run(&laptop.allotting(1)).await;
        given += 1;
    }
    assert_eq!(seats(&centre), format!("{}|4|{given}", 4 - given));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_allotted_that_would_come_back_before_it_begins() {
    let (centre, laptop) = (installation(), installation());
    let mut claims = Vendor::aptora().claims(3);
    claims["cnf"] = json!({"jkt": centre.installation()});
    // The vendor's clock is a little ahead.
    claims["nbf"] = json!(unix_now() + 100);
    centre.install(&Vendor::aptora().sign(&claims));
    let key = laptop.sql("SELECT license_installation()");
    let allot = |until: &str| format!("SELECT license_allot('TOM', '{key}', 1, {until})");
    let admin = admin(&centre).await;
    let denied = admin.fails(&allot("now() + interval '50 s'")).await;
    denied.assert("55000", "");
    assert!(denied.hint.contains("valid_until"), "{denied:?}");
    assert_eq!(seats(&centre), "3|3|0");
    laptop.install(&centre.sql(&allot("now() + interval '1 day'")));
    assert_eq!(seats(&centre), "2|3|1");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_allotted_is_refused() {
    let (centre, laptop) = (centre(3), installation());
    let admin_here = admin(&centre).await;
    let key = laptop.sql("SELECT license_installation()");
    let own = centre.sql("SELECT license_installation()");
    for (arguments, sqlstate) in [
        (format!("NULL, '{key}', 1"), "22023"),
        (format!("'TOM', '{key}', NULL"), "22023"),
        (format!("'TOM', '{key}', 0"), "22023"),
        (format!("'TOM', '{key}', -1"), "22023"),
        (format!("'TOM', '{key}', 4"), "22023"),
        (format!("'TOM', '{own}', 1"), "22023"),
        ("'TOM', NULL, 1".to_owned(), "22023"),
        ("'TOM', '{}', 1".to_owned(), "22023"),
        (
            r#"'TOM', '{"kty": "OKP", "crv": "Ed25519", "x": "short"}', 1"#.to_owned(),
            "22023",
        ),
        (format!("'TOM', '{key}', 1, now()"), "22023"),
        (format!("'TOM', '{key}', 1, 'infinity'"), "22023"),
        (format!("'Nothing', '{key}', 1"), "42704"),
        (format!("'plain', '{key}', 1"), "55000"),
    ] {
        centre.sql("INSERT INTO licenses (product, seats, claimed_at) VALUES ('plain', 5, 'checkout') ON CONFLICT DO NOTHING");
        let denied = admin_here
            .fails(&format!("SELECT license_allot({arguments})"))
            .await;
        denied.assert(sqlstate, "");
        assert_ne!(denied.hint, "", "{denied:?}");
    }
    admin_here
        .fails(&format!(
            "BEGIN READ ONLY; SELECT license_allot('TOM', '{key}', 1)"
        ))
        .await
        .assert("25006", "");
    admin_here.run("ROLLBACK").await;
    assert_eq!(
        centre.sql("SELECT seats FROM licenses WHERE product = 'TOM'"),
        "3"
    );
    assert_eq!(centre.sql("SELECT count(*) FROM license_allotments"), "0");
    // Not by whom it was allotted to.
    laptop.install(&centre.sql(&laptop.allotting(2)));
    let third = installation();
    let admin_there = admin(&laptop).await;
    admin_there
        .fails(&third.allotting(1))
        .await
        .assert("55000", "");
    // Nor where the license is anybody's.
    third.install(&Vendor::aptora().license(5));
    admin(&third)
        .await
        .fails(&laptop.allotting(1))
        .await
        .assert("55000", "");
    // The vendor's own license is not given back.
    let give_back = "SELECT license_give_back('TOM')";
    admin_here.fails(give_back).await.assert("55000", "");
    // Nobody may, unless it is granted.
    let anna = centre.login("anna").from("127.0.1.1").open_ok().await;
    for call in [
        laptop.allotting(1),
        give_back.to_owned(),
        "SELECT license_accept_return('x')".to_owned(),
        "SELECT license_install('x')".to_owned(),
        "SELECT license_uninstall('x')".to_owned(),
    ] {
        anna.fails(&call).await.assert("42501", "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_for_the_installation_that_it_names() {
    let (centre, laptop, other) = (centre(3), installation(), installation());
    let token = centre.sql(&laptop.allotting(1));
    let install = format!("SELECT license_install('{token}')");
    let denied = admin(&other).await.fails(&install).await;
    denied.assert("28000", "license_not_verified");
    assert!(admits(&other).await);
    laptop.install(&token);
    // With a vendor that it does not know it is none.
    let stranger = Cluster::builder().with_key_of(&Vendor::new("https://rival.example", 7));
    let token = centre.sql(&stranger.allotting(1));
    let denied = admin(&stranger)
        .await
        .fails(&format!("SELECT license_install('{token}')"))
        .await;
    denied.assert("28000", "license_not_verified");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_counts_once_and_of_the_right_installation_alone() {
    let (centre, laptop, other) = (centre(5), installation(), installation());
    let token = centre.sql(&laptop.allotting(1));
    laptop.install(&token);
    other.install(&centre.sql(&other.allotting(1)));
    let receipt = laptop.sql("SELECT license_give_back('TOM')");
    // One that was lost can be had again.
    assert_eq!(laptop.sql("SELECT license_give_back('TOM')"), receipt);
    let admin = admin(&centre).await;
    let accept = |receipt: &str| format!("SELECT license_accept_return('{receipt}')");
    let mut changed = receipt.clone();
    changed.replace_range(receipt.len() - 4.., "AAAA");
    for wrong in [changed.as_str(), &token, "x", "", "a.b.c"] {
        let denied = admin.fails(&accept(wrong)).await;
        denied.assert("28000", "license_not_verified");
    }
    let elsewhere = laptop.login("postgres").open_ok().await;
    elsewhere
        .fails(&accept(&receipt))
        .await
        .assert("28000", "license_not_verified");
    assert_eq!(seats(&centre), "3|5|2");
    assert_eq!(admin.val::<i32>(&accept(&receipt)).await, 1);
    assert_eq!(seats(&centre), "4|5|1");
    let again = admin.fails(&accept(&receipt)).await;
    again.assert("28000", "license_not_verified");
    assert_eq!(again.detail, "These seats have come back already.");
    assert_eq!(seats(&centre), "4|5|1");
    // Nor can the laptop use them again.
    let denied = elsewhere
        .fails(&format!("SELECT license_install('{token}')"))
        .await;
    denied.assert("28000", "license_not_verified");
    laptop.sql("UPDATE licenses SET seats = 9, purchased = 9; DELETE FROM license_keys");
    assert_full(&laptop).await;
    laptop.restart(Stop::Fast);
    laptop.sql(&format!(
        "INSERT INTO license_keys (license_id, token) VALUES ('x', '{token}')"
    ));
    assert_full(&laptop).await;
    // Others that it is given it can.
    laptop.install(&centre.sql(&laptop.allotting(2)));
    let _users = users(&laptop, 2).await;
    assert_full(&laptop).await;
    assert_eq!(seats(&centre), "2|5|2");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_uses_seats_that_are_given_back_is_logged_off() {
    let (centre, laptop) = (centre(3), installation());
    laptop.install(&centre.sql(&laptop.allotting(2)));
    let users = users(&laptop, 2).await;
    let own = users[0].pid().await;
    laptop.sql("GRANT EXECUTE ON FUNCTION license_give_back TO anna");
    let refused = users[0].fails("SELECT license_give_back('TOM')").await;
    refused.assert("22023", "");
    assert_eq!(laptop.in_use(), 2);
    let receipt = laptop.sql("SELECT license_give_back('TOM')");
    assert_eq!(laptop.in_use(), 0);
    for user in users {
        user.ended().await.assert("57P01", "license_stopped");
    }
    eventually("its process is gone", PATIENCE, async || !is_alive(own)).await;
    assert_full(&laptop).await;
    assert_eq!(
        laptop.sql("SELECT state FROM license_keys_status"),
        "given back"
    );
    assert_eq!(
        centre.sql(&format!("SELECT license_accept_return('{receipt}')")),
        "2"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_passes_nothing_on_twice() {
    let (centre, laptop) = (centre(2), installation());
    let dump = centre.program("pg_dump", &["--create", "--clean"]).ok();
    centre.sql(&laptop.allotting(2));
    assert_full(&centre).await;
    let restored = centre.program("pg_dump", &[]).ok();
    for (text, db) in [(&dump, "older"), (&restored, "same")] {
        let text = text
            .replace("DROP DATABASE postgres;", "")
            .replace("DATABASE postgres", &format!("DATABASE {db}"))
            .replace("\\connect postgres", &format!("\\connect {db}"));
        if db == "same" {
            centre.sql("CREATE DATABASE same");
        }
        centre
            .program_with(
                "psql",
                &["-Xq", "-d", if db == "same" { db } else { "postgres" }],
                &[],
                &text,
            )
            .ok();
        let admin = centre.login("postgres").db(db).open_ok().await;
        let refused = admin.fails(&laptop.allotting(1)).await;
        refused.assert("22023", "");
        assert!(!admits_to(&centre, db).await, "{db}");
    }
    assert!(!admits(&centre).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_of_one_server_share_a_license() {
    let (centre, laptop) = (centre(3), installation());
    centre.copy("postgres", "branch");
    let anna = centre.login("anna").from("127.0.1.1").open_ok().await;
    let bert = centre
        .login("bert")
        .db("branch")
        .from("127.0.1.2")
        .open_ok()
        .await;
    // One who is in both has one seat.
    let too = centre
        .login("anna")
        .db("branch")
        .from("127.0.1.1")
        .open_ok()
        .await;
    assert_eq!(usage(&centre), "3|2|ok");
    let branch = centre.login("postgres").db("branch").open_ok().await;
    let token = branch.text(&laptop.allotting(1)).await;
    for db in ["postgres", "branch"] {
        assert!(!admits_to(&centre, db).await, "{db}");
        // Its own row says three still, and that is no tampering.
        assert_eq!(
            centre.sql_in(
                db,
                "SELECT seats, purchased, in_use, status FROM license_usage"
            ),
            "2|3|2|full"
        );
    }
    // What one allots the other one can't allot, too.
    bert.close().await;
    eventually("bert is out", PATIENCE, async || centre.in_use() == 1).await;
    let admin = admin(&centre).await;
    let (here, there) = (laptop.allotting(1), laptop.allotting(1));
    let (here, there) = tokio::join!(admin.try_texts(&here), branch.try_texts(&there));
    assert!(here.is_ok() != there.is_ok(), "{here:?} {there:?}");
    laptop.install(&token);
    let receipt = laptop.sql("SELECT license_give_back('TOM')");
    let accept = format!("SELECT license_accept_return('{receipt}')");
    let denied = admin.fails(&accept).await;
    denied.assert("28000", "license_not_verified");
    branch.run(&accept).await;
    for db in ["postgres", "branch"] {
        eventually("the seat is back", PATIENCE, async || {
            admits_to(&centre, db).await
        })
        .await;
    }
    drop((anna, too));
}

#[tokio::test(flavor = "multi_thread")]
async fn changing_the_table_of_allotments_gains_nothing() {
    let (centre, laptop) = (centre(2), installation());
    centre.sql(&laptop.allotting(1));
    let _anna = users(&centre, 1).await;
    for change in [
        "UPDATE license_allotments SET returned_at = now()",
        "UPDATE license_allotments SET valid_until = now() - interval '1 day'",
        "UPDATE license_allotments SET seats = 0",
        "DELETE FROM license_allotments",
        "TRUNCATE license_allotments",
    ] {
        centre.sql(&format!("{change}; UPDATE licenses SET seats = 2"));
        assert!(!admits(&centre).await, "{change}");
        eventually("the row is as it was", PATIENCE, async || {
            centre.sql("SELECT count(*) FROM license_allotments WHERE returned_at IS NULL") == "1"
        })
        .await;
        assert!(!admits(&centre).await, "{change}");
    }
    // Nor does it cost a seat.
    centre.sql("DELETE FROM license_allotments");
    eventually("all is as it was", PATIENCE, async || {
        seats(&centre) == "1|2|1"
    })
    .await;
    centre.restart(Stop::Immediate);
    centre.sql("DELETE FROM license_allotments; UPDATE licenses SET seats = 2");
    let _anna = users(&centre, 1).await;
    assert!(!admits(&centre).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_reaches_who_has_seats_of_it() {
    let (centre, laptop) = (centre(2), installation());
    let first = centre.sql(&laptop.allotting(1));
    laptop.install(&first);
    let mut claims = Vendor::aptora().claims(5);
    claims["cnf"] = serde_json::json!({"jkt": centre.installation()});
    claims["iat"] = unix_now().into();
    claims["exp"] = (unix_now() + 700 * DAY).into();
    centre.install(&Vendor::aptora().sign(&claims));
    assert_eq!(seats(&centre), "1|5|1");
    eventually("there is a new token", PATIENCE, async || {
        centre.sql("SELECT token FROM license_allotments") != first
    })
    .await;
    laptop.install(&centre.sql("SELECT token FROM license_allotments"));
    assert_eq!(
        laptop.sql("SELECT seats, purchased, days_left > 600 FROM license_usage"),
        "1|1|t"
    );
    centre.sql("SELECT license_raise_seats('TOM', 4)");
    let _users = users(&centre, 4).await;
    assert_full(&centre).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_back_stays_so_after_a_crash_in_the_midst() {
    let (centre, laptop, _stuck) = with_stuck_user().await;
    let admin = admin(&laptop).await;
    let admin_pid = admin.pid().await;
    let waiting =
        tokio::spawn(async move { admin.try_texts("SELECT license_give_back('TOM')").await });
    laptop
        .until_recorded(|record| record.to_string().contains("receipt"))
        .await;
    // The postmaster kills who does not end within five seconds.
    laptop.crash_backend(admin_pid);
    assert!(waiting.await.unwrap().is_err());
    assert_full(&laptop).await;
    assert_eq!(seats(&centre), "1|3|1");
    let receipt = laptop.sql("SELECT license_give_back('TOM')");
    assert_eq!(
        centre.sql(&format!("SELECT license_accept_return('{receipt}')")),
        "2"
    );
    // A crash of the centre takes nothing back.
    let token = centre.sql(&laptop.allotting(2));
    let victim = centre.login("postgres").open_ok().await;
    centre.crash_backend(victim.pid().await);
    assert_eq!(seats(&centre), "1|3|1");
    laptop.install(&token);
    let _users = users(&laptop, 2).await;
    assert_full(&laptop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_receipt_is_given_while_anybody_is_in() {
    let (_centre, laptop, (stuck, stuck_pid)) = with_stuck_user().await;
    let admin = admin(&laptop).await;
    let refused = admin.fails("SELECT license_give_back('TOM')").await;
    refused.assert("55006", "");
    assert_ne!(refused.hint, "");
    // But nobody else gets in.
    assert_full(&laptop).await;
    laptop.signal(stuck_pid, Signal::SIGCONT);
    stuck.ended().await.assert("57P01", "license_stopped");
    admin.run("SELECT license_give_back('TOM')").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_writes_rows_of_allotments_passes_nothing_on() {
    let (centre, laptop) = (centre(2), installation());
    centre.sql(&format!(
        "INSERT INTO license_allotments (allotment_id, license_id, product, seats, installation, token)
         SELECT n, 'TOM-4711', 'TOM', 2147483647, '{}', '' FROM generate_series(1, 3) n",
        laptop.installation()
    ));
    // What was signed is in force all the same.
    centre.sql("UPDATE licenses SET seats = 9, purchased = NULL, enforcement = 'off'");
    assert_eq!(usage(&centre), "2|0|tampered");
    centre.sql("UPDATE licenses SET seats = 2, purchased = 2, enforcement = 'on'");
    let token = centre.sql(&laptop.allotting(1));
    assert_eq!(
        centre.sql("SELECT DISTINCT token FROM license_allotments WHERE token <> ''"),
        token
    );
    // Nor is an allotment allotted under another name.
    centre.sql("UPDATE license_allotments SET allotment_id = 'another' WHERE token <> ''");
    eventually("the row is there again", PATIENCE, async || {
        centre.sql("SELECT count(*) FROM license_allotments WHERE token <> ''") == "2"
    })
    .await;
    let _user = users(&centre, 1).await;
    assert_full(&centre).await;
    assert_eq!(
        centre.sql("SELECT count(DISTINCT token) FROM license_allotments WHERE token <> ''"),
        "1"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_on_the_tables_lets_nobody_use_a_seat_that_was_allotted() {
    let centre = centre(2);
    let laptop = installation();
    let _user = users(&centre, 1).await;
    centre.set("pg_seats.load_timeout", "1s");
    let (locker, admin) = (admin(&centre).await, admin(&centre).await);
    locker
        .run("BEGIN; LOCK TABLE license_exemptions IN ACCESS EXCLUSIVE MODE")
        .await;
    admin.run(&laptop.allotting(1)).await;
    assert_full(&centre).await;
    locker.run("ROLLBACK").await;
    assert_full(&centre).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_asks_for_less_takes_back_no_more() {
    let (centre, laptop) = (centre(10), installation());
    laptop.install(&centre.sql(&laptop.allotting(2)));
    centre.sql("UPDATE licenses SET seats = 5, purchased = 6");
    let receipt = laptop.sql("SELECT license_give_back('TOM')");
    centre.sql(&format!("SELECT license_accept_return('{receipt}')"));
    assert_eq!(seats(&centre), "6|6|0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_database_takes_back_what_the_former_one_has_allotted() {
    let (centre, laptop) = (centre(3), installation());
    centre.copy("postgres", "company");
    centre.sql("SELECT license_uninstall('TOM-4711')");
    let dump = centre.program("pg_dump", &["-d", "company"]).ok();
    let token = centre.sql_in("company", &laptop.allotting(1));
    laptop.install(&token);
    centre.sql("DROP DATABASE company WITH (FORCE)");
    centre.restore("company", &dump);
    let left = "SELECT seats, (SELECT token FROM license_allotments) FROM license_usage";
    eventually("the row is there again", PATIENCE, async || {
        centre.sql_in("company", left) == format!("2|{token}")
    })
    .await;
    let receipt = laptop.sql("SELECT license_give_back('TOM')");
    centre.sql_in(
        "company",
        &format!("SELECT license_accept_return('{receipt}')"),
    );
    assert_eq!(
        centre.sql_in("company", "SELECT seats, status FROM license_usage"),
        "3|ok"
    );
}
