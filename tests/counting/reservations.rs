//! Seats that are kept for members of a role, and how many they may use.

use crate::util::*;

const FULL: &str = r#"maximum user license count reached for "TOM""#;

/// Returns a server with this row of "TOM", where Anna is an accountant, Bert one by way of his desk, and Carl and Dora
/// are interns; nobody is told who is idle.
fn firm(columns: &str, values: &str) -> Cluster {
    let cluster = Cluster::builder()
        .conf("pg_seats.denial_detail", "count")
        .licensed(columns, values);
    cluster.sql(
        "CREATE ROLE accounting; CREATE ROLE desk; CREATE ROLE interns;
         GRANT accounting TO anna, desk; ALTER ROLE bert NOINHERIT; GRANT desk TO bert;
         GRANT interns TO carl, dora",
    );
    cluster
}

fn seats(seats: u32) -> Cluster {
    firm("seats", &seats.to_string())
}

/// Adds a row: product, role, reserved, max_seats.
fn reserve(cluster: &Cluster, row: &str) {
    cluster.sql(&format!("INSERT INTO license_reservations VALUES ({row})"));
}

/// Returns one of the staff at the computer of this number.
fn at(cluster: &Cluster, user: &str, computer: usize) -> Login {
    cluster.login(user).from(&format!("127.0.1.{computer}"))
}

async fn open(cluster: &Cluster, user: &str, computer: usize) -> Session {
    at(cluster, user, computer).open_ok().await
}

/// Returns the DETAIL of a login's denial.
async fn denied(cluster: &Cluster, user: &str, computer: usize) -> String {
    let denied = at(cluster, user, computer).denied().await;
    denied.assert("53300", "license_full");
    assert_eq!(denied.message, FULL);
    denied.detail.clone()
}

/// Waits until so many seats are in use.
async fn in_use_becomes(cluster: &Cluster, seats: i64) {
    let what = format!("{seats} seats are in use");
    eventually(&what, PATIENCE, async || cluster.in_use() == seats).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_denied_accountant_gets_in_by_a_reservation_and_raises_the_count() {
    let cluster = seats(3);
    cluster.sql("GRANT EXECUTE ON FUNCTION license_raise_seats TO accounting");
    reserve(&cluster, "'TOM', 'accounting', 1");
    let _two = (
        open(&cluster, "emil", 1).await,
        open(&cluster, "fay", 2).await,
    );
    let gus = at(&cluster, "gus", 3).denied().await;
    gus.assert("53300", "license_full");
    assert_eq!(
        (&*gus.severity, &*gus.message, &*gus.detail, &*gus.hint),
        (
            "FATAL",
            FULL,
            "2 of 3 seats are in use, and 1 is reserved.",
            "Someone whose seat is not reserved must log out before another user can log in, \
             or an administrator must raise the number of seats or reserve fewer."
        )
    );
    let anna = open(&cluster, "anna", 4).await;
    // Now it is full for everybody, and said as ever.
    let full = "3 of 3 seats are in use.";
    assert_eq!(denied(&cluster, "anna", 5).await, full);
    assert_eq!(denied(&cluster, "gus", 3).await, full);
    anna.run("SELECT license_raise_seats('TOM', 4)").await;
    let _gus = open(&cluster, "gus", 3).await;
    assert_eq!(cluster.in_use(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_member_gives_back_is_kept_again() {
    let cluster = seats(3);
    reserve(&cluster, "'TOM', 'accounting', 2");
    let anna = open(&cluster, "anna", 1).await;
    let _emil = open(&cluster, "emil", 2).await;
    let kept = "2 of 3 seats are in use, and 1 is reserved.";
    assert_eq!(denied(&cluster, "fay", 3).await, kept);
    anna.close().await;
    in_use_becomes(&cluster, 1).await;
    let kept = "1 of 3 seats are in use, and 2 are reserved.";
    assert_eq!(denied(&cluster, "fay", 3).await, kept);
    // Emil has a seat, and joins it as often as he likes.
    open(&cluster, "emil", 2).await;
    let _two = (
        open(&cluster, "anna", 1).await,
        open(&cluster, "bert", 4).await,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_a_role_use_at_most_so_many_seats() {
    let cluster = seats(9);
    reserve(&cluster, "'TOM', 'interns', 0, 1");
    let carl = open(&cluster, "carl", 1).await;
    open(&cluster, "carl", 1).await;
    let dora = at(&cluster, "dora", 2).denied().await;
    dora.assert("53300", "license_full");
    assert_eq!(
        (&*dora.severity, &*dora.message, &*dora.detail, &*dora.hint),
        (
            "FATAL",
            FULL,
            r#"1 of 1 seats for members of role "interns" are in use."#,
            "A member of the role must log out before another can log in, \
             or an administrator must raise the role's max_seats."
        )
    );
    let _emil = open(&cluster, "emil", 2).await;
    carl.close().await;
    in_use_becomes(&cluster, 1).await;
    let _dora = open(&cluster, "dora", 2).await;
    cluster.sql("UPDATE license_reservations SET max_seats = 0");
    // Who is in stays in, and joins.
    open(&cluster, "dora", 2).await;
    let full = r#"1 of 0 seats for members of role "interns" are in use."#;
    assert_eq!(denied(&cluster, "carl", 1).await, full);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_those_who_are_idle_only_members_make_room_in_their_role() {
    let cluster = seats(9);
    cluster.set("pg_seats.denial_detail", "holders");
    reserve(&cluster, "'TOM', 'interns', 0, 1");
    let _two = (
        open(&cluster, "emil", 1).await,
        open(&cluster, "carl", 2).await,
    );
    let full = r#"1 of 1 seats for members of role "interns" are in use. Idle longest: "carl"."#;
    eventually("Carl is idle", PATIENCE, async || {
        denied(&cluster, "dora", 3).await == full
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_the_role_itself_and_whoever_belongs_to_it_in_whatever_way() {
    let cluster = seats(1);
    cluster.sql("CREATE ROLE root SUPERUSER LOGIN; GRANT root TO gus; GRANT emil TO accounting");
    reserve(&cluster, "'TOM', 'accounting', 1");
    for (user, computer) in [("anna", 1), ("bert", 2)] {
        open(&cluster, user, computer).await.close().await;
        in_use_becomes(&cluster, 0).await;
    }
    let kept = "0 of 1 seats are in use, and 1 is reserved.";
    // Neither who has members in it, nor who could become a superuser.
    for user in ["emil", "gus"] {
        assert_eq!(denied(&cluster, user, 3).await, kept, "{user}");
    }
    // SET ROLE changes nothing.
    let options = "-c role=gus";
    let anna = at(&cluster, "anna", 1).options(options);
    cluster.sql("GRANT gus TO anna");
    anna.open_ok().await.close().await;
    in_use_becomes(&cluster, 0).await;
    // It is the next login that counts.
    cluster.sql("GRANT accounting TO hana; REVOKE desk FROM bert");
    assert_eq!(denied(&cluster, "bert", 2).await, kept);
    let _hana = open(&cluster, "hana", 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_for_a_role_that_comes_later_is_for_it() {
    let cluster = seats(1);
    let name = r#"Süd "Büro" 7"#;
    reserve(&cluster, &format!("'TOM', '{name}', 1"));
    assert!(denied(&cluster, "emil", 1).await.contains("1 is reserved"));
    let quoted = format!("\"{}\"", name.replace('"', "\"\""));
    cluster.sql(&format!(
        "CREATE ROLE {quoted} LOGIN; GRANT {quoted} TO emil"
    ));
    let emil = open(&cluster, "emil", 1).await;
    emil.close().await;
    in_use_becomes(&cluster, 0).await;
    let _itself = cluster.login(name).from("127.0.1.2").open_ok().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn superusers_are_members_of_no_role() {
    let cluster = Cluster::builder()
        .conf("pg_seats.exempt_superusers", "off")
        .licensed("seats", "3");
    cluster.sql("CREATE ROLE accounting; GRANT accounting TO postgres, anna");
    reserve(&cluster, "'TOM', 'accounting', 1, 1");
    // Counted, and never denied.
    let root = cluster.login("postgres");
    let _two = (
        root.clone().from("127.0.1.1").open_ok().await,
        root.clone().from("127.0.1.2").open_ok().await,
    );
    let _anna = open(&cluster, "anna", 3).await;
    let _third = root.from("127.0.1.4").open_ok().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_takes_effect_for_the_next_login_once_it_is_committed() {
    let cluster = seats(1);
    let admits = async || at(&cluster, "emil", 1).open().await.is_ok();
    assert!(admits().await);
    for (change, admitted) in [
        (
            "INSERT INTO license_reservations VALUES ('TOM', 'accounting', 1)",
            false,
        ),
        ("BEGIN; DELETE FROM license_reservations; ROLLBACK", false),
        ("UPDATE license_reservations SET reserved = 0", true),
        ("UPDATE license_reservations SET reserved = 1", false),
        ("UPDATE license_reservations SET role = 'emil'", true),
        ("UPDATE license_reservations SET role = 'nobody'", false),
        ("UPDATE license_reservations SET product = 'Other'", true),
        ("UPDATE license_reservations SET product = 'TOM'", false),
        ("TRUNCATE license_reservations", true),
        (
            "INSERT INTO license_reservations VALUES ('TOM', 'emil', 0, 0)",
            false,
        ),
        ("UPDATE licenses SET seats = NULL", false),
        ("DELETE FROM license_reservations", true),
    ] {
        cluster.sql(change);
        eventually(change, PATIENCE, async || cluster.in_use() == 0).await;
        assert_eq!(admits().await, admitted, "{change}");
    }
    let admin = cluster.login("postgres").open_ok().await;
    admin.run("BEGIN; TRUNCATE license_reservations").await;
    admin
        .fails("PREPARE TRANSACTION 'x'")
        .await
        .assert("0A000", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_in_before_the_reservation_counts() {
    let cluster = seats(3);
    let _three = (
        open(&cluster, "anna", 1).await,
        open(&cluster, "emil", 2).await,
        open(&cluster, "carl", 3).await,
    );
    reserve(&cluster, "'TOM', 'accounting', 1, 1");
    reserve(&cluster, "'TOM', 'interns', 0, 1");
    cluster.sql("UPDATE licenses SET seats = 4");
    let full = r#"1 of 1 seats for members of role "accounting" are in use."#;
    assert_eq!(denied(&cluster, "bert", 4).await, full);
    let full = r#"1 of 1 seats for members of role "interns" are in use."#;
    assert_eq!(denied(&cluster, "dora", 4).await, full);
    let _fay = open(&cluster, "fay", 4).await;
    // What a role belongs to is looked at again with every change.
    cluster.sql("GRANT interns TO emil; UPDATE license_reservations SET max_seats = 2 WHERE role = 'interns'; UPDATE licenses SET seats = 9");
    let full = r#"2 of 2 seats for members of role "interns" are in use."#;
    assert_eq!(denied(&cluster, "dora", 5).await, full);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_pool_seats_count_whatever_company_file_they_were_taken_in() {
    let cluster = firm("seats, pool", "3, 'firm'");
    cluster.sql("CREATE DATABASE south");
    cluster.license("south", "seats, pool", "3, 'firm'");
    reserve(&cluster, "'TOM', 'accounting', 1, 2");
    let in_south = |user, computer| at(&cluster, user, computer).db("south");
    let anna = in_south("anna", 1).open_ok().await;
    let _emil = open(&cluster, "emil", 2).await;
    let _fay = open(&cluster, "fay", 3).await;
    assert_eq!(denied(&cluster, "gus", 4).await, "3 of 3 seats are in use.");
    anna.close().await;
    in_use_becomes(&cluster, 2).await;
    let kept = "2 of 3 seats are in use, and 1 is reserved.";
    assert_eq!(denied(&cluster, "gus", 4).await, kept);
    // The other file's rows know of no reservation.
    let _gus = in_south("gus", 4).open_ok().await;
    cluster.sql("UPDATE licenses SET seats = 9");
    cluster.sql_in("south", "UPDATE licenses SET seats = 9");
    let _both = (
        in_south("anna", 1).open_ok().await,
        in_south("bert", 5).open_ok().await,
    );
    let full = r#"2 of 2 seats for members of role "accounting" are in use."#;
    assert_eq!(denied(&cluster, "anna", 6).await, full);
    let _third = in_south("anna", 6).open_ok().await;
}

/// Returns a server whose product applications claim.
async fn desk(seats: u32) -> Desk {
    Desk::of(firm("claimed_at, seats", &format!("'checkout', {seats}"))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkout_is_kept_and_limited_as_a_login_is() {
    let desk = desk(2).await;
    reserve(&desk.cluster, "'TOM', 'accounting', 1");
    reserve(&desk.cluster, "'TOM', 'interns', 0, 0");
    let [anna, carl, emil, fay] = [
        desk.user("anna").await,
        desk.user("carl").await,
        desk.user("emil").await,
        desk.user("fay").await,
    ];
    emil.checkout().await;
    let denied = fay.fails("SELECT license_checkout()").await;
    denied.assert("53400", "license_full");
    assert_eq!(
        (&*denied.message, &*denied.detail, &*denied.hint),
        (
            FULL,
            "1 of 2 seats are in use, and 1 is reserved.",
            "Someone whose seat is not reserved must log out or give back a seat, \
             or an administrator must raise the number of seats or reserve fewer."
        )
    );
    assert!(!fay.try_checkout().await);
    emil.checkin().await;
    let denied = carl.fails("SELECT license_checkout()").await;
    denied.assert("53400", "license_full");
    assert_eq!(
        (&*denied.detail, &*denied.hint),
        (
            r#"0 of 0 seats for members of role "interns" are in use."#,
            "A member of the role must log out or give back a seat, \
             or an administrator must raise the role's max_seats."
        )
    );
    assert!(!carl.try_checkout().await);
    emil.checkout().await;
    // Whoever the session acts as.
    anna.run("SET ROLE accounting").await;
    anna.checkout().await;
    assert_eq!(desk.in_use().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seat_goes_to_the_first_in_the_queue_who_may_have_it() {
    let desk = desk(2).await;
    reserve(&desk.cluster, "'TOM', 'accounting', 1");
    let (anna, emil) = (desk.user("anna").await, desk.user("emil").await);
    anna.checkout().await;
    emil.checkout().await;
    let fay = desk.enqueue(desk.user("fay").await).await;
    let bert = desk.enqueue(desk.user("bert").await).await;
    anna.checkin().await;
    let _bert = bert.seated().await;
    assert!(fay.waits());
    emil.checkin().await;
    let fay = fay.seated().await;
    // Once nothing is kept any more, the next ones are called.
    let _gus = desk.enqueue(desk.user("gus").await).await;
    fay.checkin().await;
    desk.waiting_becomes(0).await;
    let hana = desk.enqueue(desk.user("hana").await).await;
    desk.admin
        .run("UPDATE licenses SET seats = 3; DELETE FROM license_reservations")
        .await;
    hana.seated().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_counts_for_the_role_that_takes_it() {
    let desk = desk(3).await;
    reserve(&desk.cluster, "'TOM', 'interns', 0, 1");
    desk.admin
        .run("GRANT EXECUTE ON FUNCTION license_lease, license_release TO carl, emil")
        .await;
    let (carl, emil) = (desk.user("carl").await, desk.user("emil").await);
    let id = lease(&carl, "ann").await;
    let full = r#"1 of 1 seats for members of role "interns" are in use."#;
    for session in [&carl, &desk.user("dora").await] {
        let denied = session.fails("SELECT license_checkout()").await;
        denied.assert("53400", "license_full");
        assert_eq!(denied.detail, full);
    }
    lease(&emil, "bob").await;
    // A lease outlives its session, and a crash.
    carl.close().await;
    desk.cluster.restart(Stop::Immediate);
    let dora = desk.user("dora").await;
    assert_eq!(dora.fails("SELECT license_checkout()").await.detail, full);
    let carl = desk.user("carl").await;
    assert!(release(&carl, &id).await);
    dora.checkout().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn softened_denials_are_logged_with_what_is_reserved() {
    let cluster = firm("seats, enforcement", "2, 'warn'");
    reserve(&cluster, "'TOM', 'accounting', 1");
    reserve(&cluster, "'TOM', 'interns', 0, 0");
    let _three = (
        open(&cluster, "emil", 1).await,
        open(&cluster, "fay", 2).await,
    );
    cluster.sql("UPDATE licenses SET seats = 9");
    let _carl = open(&cluster, "carl", 3).await;
    for line in [
        r#"license "TOM" would have denied user "fay" at 127.0.1.2: 1 of 2 seats were in use, and 1 was reserved"#,
        r#"license "TOM" would have denied user "carl" at 127.0.1.3: 0 of 0 seats for members of role "interns" were in use"#,
    ] {
        assert!(cluster.log().contains(line), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_views_show_the_license_as_a_whole() {
    let cluster = seats(4);
    reserve(&cluster, "'TOM', 'accounting', 3, 3");
    let _emil = open(&cluster, "emil", 1).await;
    denied(&cluster, "fay", 2).await;
    let usage = "SELECT seats, in_use, available, denied, status FROM license_usage";
    assert_eq!(cluster.sql(usage), "4|1|3|1|ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_make_no_sense_are_refused() {
    let cluster = seats(1);
    let admin = cluster.login("postgres").open_ok().await;
    let refused = async |values: &str| {
        let insert = format!("INSERT INTO license_reservations VALUES ({values})");
        admin.fails(&insert).await
    };
    for (values, constraint) in [
        ("'', 'anna', 1", "product_is_a_name"),
        ("repeat('ä', 32), 'anna', 1", "product_is_a_name"),
        ("E'a\\nb', 'anna', 1", "product_is_a_name"),
        ("'TOM', '', 1", "role_is_a_name"),
        ("'TOM', repeat('ä', 32), 1", "role_is_a_name"),
        ("'TOM', 'anna', -1", "reserved_not_negative"),
        ("'TOM', 'anna', 0, -1", "max_seats_not_negative"),
        ("'TOM', 'anna', 2, 1", "reserved_within_max_seats"),
    ] {
        let constraint = format!("license_reservations_{constraint}");
        refused(values).await.assert("23514", &constraint);
    }
    let twice = refused("'TOM', 'anna', 0), ('TOM', 'anna', 1").await;
    twice.assert("23505", "license_reservations_pkey");
    for values in ["'TOM', 'anna', NULL", "'TOM', NULL, 1", "NULL, 'anna', 1"] {
        assert_eq!(refused(values).await.sqlstate, "23502", "{values}");
    }
    // What has no license yet is none of them, nor a role that is not there.
    reserve(&cluster, "repeat('ä', 31), repeat('ö', 31), 1, 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_keeps_seats_and_limits_them() {
    let cluster = seats(2);
    reserve(&cluster, "'TOM', 'accounting', 1");
    let standby = cluster.standby();
    let _emil = open(&standby, "emil", 1).await;
    assert!(denied(&standby, "fay", 2).await.contains("1 is reserved"));
    let _anna = open(&standby, "anna", 2).await;
    cluster.sql("UPDATE license_reservations SET max_seats = 1; UPDATE licenses SET seats = 9");
    standby.catch_up(&cluster);
    let full = r#"1 of 1 seats for members of role "accounting" are in use."#;
    eventually("the standby has read it", PATIENCE, async || {
        match at(&standby, "bert", 3).open().await {
            Ok(_) => false,
            Err(denied) => denied.detail == full,
        }
    })
    .await;
    cluster.stop(Stop::Fast);
    standby.promote();
    assert_eq!(denied(&standby, "bert", 3).await, full);
    let _fay = open(&standby, "fay", 3).await;
}
