//! Room in shared memory: what applications hold, however much, keeps no login out.

use crate::util::{Cluster, Desk, PATIENCE, Session, eventually};

/// Takes checkouts for as many client_users, one after the other; how many it got, and why no more.
async fn check_out_for_many(session: &Session, product: &str, users: u32) -> (u32, Option<String>) {
    for n in 0..users {
        let call = format!("SELECT license_checkout('{product}', client_user => 'user {n}')");
        if let Err(denied) = session.try_texts(&call).await {
            assert_eq!(denied.sqlstate, "53400", "{denied:?}");
            return (n, Some(denied.reason.clone()));
        }
    }
    (users, None)
}

/// Three products that only applications claim, of as many seats as one likes.
const PRODUCTS: &str = "INSERT INTO licenses (product, claimed_at, seats, enforcement)
    VALUES ('Many', 'checkout', NULL, 'on'), ('Warn', 'checkout', 0, 'warn'), ('Off', 'checkout', 0, 'off')";

#[tokio::test(flavor = "multi_thread")]
async fn one_session_holds_checkouts_for_so_many_users_and_no_more() {
    let desk = Desk::with_seats(9).await;
    desk.admin.run(PRODUCTS).await;
    let anna = desk.user("anna").await;
    let limit = Some("license_session_limit".to_owned());
    assert_eq!(
        check_out_for_many(&anna, "Many", 20).await,
        (10, limit.clone())
    );
    // The same users with other products, and oneself, are no more of them.
    assert_eq!(
        check_out_for_many(&anna, "Warn", 20).await,
        (10, limit.clone())
    );
    assert_eq!(
        check_out_for_many(&anna, "Off", 20).await,
        (10, limit.clone())
    );
    anna.run("SELECT license_checkout('TOM')").await;
    let call = "SELECT license_checkout('TOM', client_user => 'zoe')";
    for call in [
        call,
        "SELECT license_try_checkout('TOM', client_user => 'zoe')",
    ] {
        let denied = anna.fails(call).await;
        denied.assert("53400", "license_session_limit");
        assert_eq!(
            denied.message,
            "one session can hold seats for at most 10 users"
        );
        assert!(denied.hint.contains("license_lease()"), "{denied:?}");
    }
    // One is gone when it has left all products.
    let back = |product: &str, n| {
        format!("SELECT license_checkin('{product}', client_user => 'user {n}')")
    };
    for product in ["Many", "Warn"] {
        assert!(anna.val::<bool>(&back(product, 3)).await);
        anna.fails(call).await;
    }
    assert!(anna.val::<bool>(&back("Off", 3)).await);
    anna.run(call).await;
    anna.run("DISCARD ALL").await;
    assert_eq!(check_out_for_many(&anna, "Off", 20).await, (10, limit));
    // Another session has as many; so has an exempt one; who may lease may have any number.
    desk.admin
        .run("INSERT INTO license_exemptions VALUES ('role', 'carl')")
        .await;
    for user in ["bert", "carl"] {
        let (got, _) = check_out_for_many(&desk.user(user).await, "Many", 11).await;
        assert_eq!(got, 10, "{user}");
    }
    desk.admin
        .run("GRANT EXECUTE ON FUNCTION license_lease TO dora")
        .await;
    let dora = desk.user("dora").await;
    assert_eq!(check_out_for_many(&dora, "Many", 30).await, (30, None));
    // A higher limit is in force at once.
    desk.admin
        .run("ALTER SYSTEM SET pg_seats.max_users_per_session = 12")
        .await;
    desk.admin.run("SELECT pg_reload_conf()").await;
    eventually("anna may have two more", PATIENCE, async || {
        anna.texts("SHOW pg_seats.max_users_per_session").await == ["12"]
    })
    .await;
    assert_eq!(check_out_for_many(&anna, "Off", 20).await.0, 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_login_of_every_database_gets_in_and_counts_however_many_seats_applications_hold() {
    let cluster = Cluster::builder()
        .conf("pg_seats.max_seats", 60)
        .conf("pg_seats.max_users_per_session", 1000)
        .conf("max_connections", 40)
        .licensed("seats, counted_by, pool", "30, 'user', 'firm'");
    cluster.sql(PRODUCTS);
    cluster.sql("CREATE DATABASE south");
    // They disagree on what a seat is.
    cluster.license("south", "seats, counted_by, pool", "30, 'host', 'firm'");
    cluster.sql("CREATE DATABASE alone");
    cluster.license("alone", "seats, linger", "30, '1 hour'");
    // Seats that linger are in nobody's way.
    for n in 1..=5 {
        let host = format!("127.0.3.{n}");
        cluster
            .login("lena")
            .db("alone")
            .from(&host)
            .open_ok()
            .await
            .close()
            .await;
    }
    let mut greedy = Vec::new();
    let mut held = 0;
    for (user, product) in [("anna", "Many"), ("bert", "Warn"), ("carl", "Off")] {
        let session = cluster.login(user).from("127.0.1.1").open_ok().await;
        let (got, why) = check_out_for_many(&session, product, 30).await;
        held += got;
        if product == "Many" {
            assert_eq!((got, why), (30, None));
        }
        greedy.push(session);
    }
    // Softly or not: nothing is left, and what is admitted beyond that is not held.
    let zoe = greedy[0]
        .fails("SELECT license_checkout('Many', client_user => 'zoe')")
        .await;
    zoe.assert("53400", "license_table_full");
    assert!(zoe.hint.contains("pg_seats.max_seats"), "{zoe:?}");
    assert!(held >= 60);
    assert_eq!(
        cluster.sql("SELECT sum(in_use) FROM license_usage WHERE product <> 'TOM'"),
        "60"
    );
    let mut inside = Vec::new();
    for n in 1..=4 {
        for (user, db) in [("dora", "postgres"), ("emil", "south"), ("fay", "alone")] {
            let host = format!("127.0.2.{n}");
            inside.push(cluster.login(user).db(db).from(&host).open_ok().await);
        }
    }
    // By role and host, as they disagree: three who are greedy, Dora and Emil four times each.
    assert_eq!(cluster.in_use(), 11);
    assert_eq!(cluster.in_use_in("south"), 11);
    assert_eq!(cluster.in_use_in("alone"), 9);
    drop(inside);
    eventually("they have left", PATIENCE, async || cluster.in_use() == 3).await;
    drop(greedy);
    let none = "SELECT sum(in_use) FROM license_usage";
    eventually("all is free", PATIENCE, async || cluster.sql(none) == "0").await;
}
