//! Who holds much, reads much or gives back much: everything is shown and given back, and others go on beside it.

use std::time::{Duration, Instant};

use crate::util::*;

/// So many seats does one session hold.
const MANY: i64 = 10_000;

/// Returns a desk where anna holds so many, each for another user.
async fn with_many() -> (Desk, Session) {
    let cluster = Cluster::builder().conf("pg_seats.max_seats", 30_000);
    let desk = Desk::of(cluster.licensed("claimed_at, seats", "'checkout', 30000")).await;
    // Whoever may lease may hold seats for as many users as there are.
    desk.admin
        .run("GRANT EXECUTE ON FUNCTION license_lease TO anna, bert")
        .await;
    let anna = desk.user("anna").await;
    anna.run(&checkouts("stable", MANY)).await;
    desk.in_use_becomes(MANY as i32).await;
    (desk, anna)
}

fn checkouts(name: &str, times: i64) -> String {
    format!(
        "DO $$BEGIN FOR i IN 1 .. {times} LOOP
             PERFORM license_checkout(client_user => '{name}' || i);
         END LOOP; END$$"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn who_ends_with_ten_thousand_seats_gives_all_back_while_others_log_in() {
    let (desk, anna) = with_many().await;
    anna.close().await;
    let (mut logins, mut longest) = (0, Duration::ZERO);
    let start = Instant::now();
    while desk.cluster.in_use() > 0 {
        let begun = Instant::now();
        desk.user("carl").await.close().await;
        longest = longest.max(begun.elapsed());
        logins += 1;
        assert!(start.elapsed() < PATIENCE, "they are not given back");
    }
    println!(
        "{logins} logins within {:?}, the longest {longest:?}",
        start.elapsed()
    );
    // All are in the trail, though not one by one.
    let told = format!(
        "SELECT sum(coalesce((detail ->> 'count')::int, 1)) = 2 * {MANY}, count(*) < 1000
           FROM license_events WHERE event IN ('checkout', 'release') AND usename = 'anna'"
    );
    eventually("the trail has them", PATIENCE, async || {
        desk.admin.text(&told).await == "t|t"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_ten_thousand_seats_each_is_found_and_discard_all_gives_back_the_others() {
    let (desk, anna) = with_many().await;
    let start = Instant::now();
    for user in [1, MANY / 2, MANY] {
        let checkin = format!("SELECT license_checkin(client_user => 'stable{user}')");
        assert_eq!(anna.text(&checkin).await, "t");
        assert_eq!(anna.text(&checkin).await, "f");
    }
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(desk.cluster.in_use(), MANY - 3);
    anna.run("DISCARD ALL").await;
    assert_eq!(desk.cluster.in_use(), 0);
}

/// The view is read in slices, while others come and go and tables grow.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_in_all_the_while_is_shown_once_in_every_look() {
    let (desk, _anna) = with_many().await;
    let bert = desk.login("bert");
    let churn = tokio::spawn(async move {
        let bert = bert.open_ok().await;
        for round in 0..6 {
            bert.run(&checkouts(&format!("passing{round}"), 1_500))
                .await;
            bert.run("DISCARD ALL").await;
        }
    });
    let looks = "SELECT count(*), count(DISTINCT seat_id), count(DISTINCT client_user), bool_and(sessions = 1)
                   FROM license_active_seats WHERE client_user LIKE 'stable%'";
    let mut number = 0;
    while !churn.is_finished() || number < 5 {
        assert_eq!(desk.admin.text(looks).await, "10000|10000|10000|t");
        number += 1;
    }
    churn.await.unwrap();
}

/// One seat that many connections hold, which come and go all the time.
#[tokio::test(flavor = "multi_thread")]
async fn a_seat_that_somebody_holds_all_the_while_is_always_shown() {
    let desk = Desk::of(Cluster::builder().licensed("seats", "9")).await;
    let stays = desk.user("anna").await;
    let pid = stays.pid().await;
    let start = Instant::now();
    let churn: Vec<_> = (0..4)
        .map(|_| {
            let login = desk.login("anna");
            tokio::spawn(async move {
                while start.elapsed() < Duration::from_secs(4) {
                    login.open_ok().await.close().await;
                }
            })
        })
        .collect();
    let look = format!(
        "SELECT count(*), bool_and(sessions = cardinality(pids) AND {pid} = ANY (pids) AND kind = 'login')
           FROM license_active_seats"
    );
    while churn.iter().any(|task| !task.is_finished()) {
        assert_eq!(desk.admin.text(&look).await, "1|t");
    }
    for task in churn {
        task.await.unwrap();
    }
}
