//! Who is barred is seen, and let in again, by those who may bar.

use crate::util::*;

const LIFT: &str = "SELECT license_lift_bar(bar_id) FROM license_bars_in_force";

/// Creates an administrator who may lift bars, too.
async fn with_lifter(office: &Office) {
    office
        .admin
        .run("GRANT EXECUTE ON FUNCTION license_lift_bar TO lena")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_bar_sees_and_lifts_bars() {
    let office = Office::with_seats(9).await;
    with_lifter(&office).await;
    for restarted in [false, true] {
        let anna = office.user("anna").await;
        let lena = office.at("lena", "127.0.2.1").open_ok().await;
        assert_eq!(stop(&lena, "anna", ", 'out', '1 hour'").await, 1);
        anna.ended().await;
        if restarted {
            office.cluster.restart(Stop::Immediate);
        }
        office.anna_is_barred().await;
        let lena = office.at("lena", "127.0.2.1").open_ok().await;
        let view = "SELECT product, bar_by, usename, client_user, client_host, barred_by, reason,
                           barred_until > now(), barred_at <= now()
                      FROM license_bars_in_force";
        assert_eq!(
            lena.texts(view).await,
            ["TOM|user_host|anna||127.0.1.1|lena|out|t|t"]
        );
        // Others see nobody, and may not.
        let bert = office.user("bert").await;
        assert_eq!(bert.texts(view).await, [""; 0]);
        let id = lena.text("SELECT bar_id FROM license_bars_in_force").await;
        let lift = format!("SELECT license_lift_bar({id})");
        bert.fails(&lift).await.assert("42501", "");
        lena.run("BEGIN").await;
        assert_eq!(lena.text(&lift).await, "t");
        // ROLLBACK undoes nothing.
        lena.run("ROLLBACK").await;
        assert_eq!(warnings(&lena), [""; 0]);
        office.user("anna").await;
        assert_eq!(office.cluster.sql("SELECT count(*) FROM license_bars"), "0");
        assert_eq!(lena.text(&lift).await, "f");
        office.cluster.restart(Stop::Immediate);
        office.user("anna").await;
    }
    office.cluster.sql("SELECT license_lift_bar(1)");
    let null = office.cluster.login("postgres").open_ok().await;
    null.fails("SELECT license_lift_bar(NULL)")
        .await
        .assert("22023", "");
}

/// From any database of the pool, whichever keeps the bar.
#[tokio::test(flavor = "multi_thread")]
async fn a_pools_bars_are_lifted_in_each_of_its_databases() {
    let cluster = Cluster::builder().licensed("seats, pool", "9, 'firm'");
    cluster.sql("CREATE DATABASE second");
    cluster.license("second", "seats, pool", "9, 'firm'");
    let office = Office::of(cluster).await;
    let _anna = office.user("anna").await;
    assert_eq!(office.stop_anna(", 'x', '1h'").await, 1);
    for database in ["postgres", "second"] {
        let denied = office.anna().db(database).denied().await;
        denied.assert("28000", "license_barred");
    }
    assert_eq!(office.cluster.sql_in("second", LIFT), "t");
    for database in ["postgres", "second"] {
        office.anna().db(database).open_ok().await;
    }
    assert_eq!(office.cluster.sql("SELECT count(*) FROM license_bars"), "0");
}

/// Of one who waits in the queue, too.
#[tokio::test(flavor = "multi_thread")]
async fn lifting_a_bar_lets_in_who_was_kept_out_of_checkouts() {
    let office = Office::with_checkouts(1).await;
    let anna = office.user("anna").await;
    let seat = anna.checkout().await;
    assert_eq!(office.stop(&seat, ", 'x', '1h', 'user'").await, 1);
    anna.ended().await;
    let anna = office.at("anna", "127.0.1.7").open_ok().await;
    let refused = anna.fails("SELECT license_checkout(wait => '1min')").await;
    refused.assert("53400", "license_barred");
    assert_eq!(office.cluster.sql(LIFT), "t");
    anna.checkout().await;
}
