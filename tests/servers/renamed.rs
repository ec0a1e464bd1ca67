//! Schemas that are renamed or dropped while a call waits, with tables of the same names in their place: what was
//! meant for ours is never written into them.

use crate::util::*;

/// What Emil, who owns the database and so its schema `public`, puts in the place of ours.
const IMPOSTORS: &str = "
    CREATE SCHEMA public;
    GRANT USAGE, CREATE ON SCHEMA public TO PUBLIC;
    CREATE TABLE public.trap (who name);
    GRANT ALL ON public.trap TO PUBLIC;
    CREATE FUNCTION public.spring() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
        INSERT INTO public.trap VALUES (current_user);
        RETURN NEW;
    END$$;
    CREATE TABLE public.licenses (product text, seats int, purchased int, overdraft int, enforcement text);
    CREATE TABLE public.license_keys (license_id text, token text);
    CREATE TABLE public.license_leases (
        origin uuid, datid oid, lease_id uuid, usesysid oid, product text, client_user text, client_host text,
        ttl interval, granted_at timestamptz, PRIMARY KEY (origin, datid, lease_id));
    CREATE TRIGGER spring BEFORE INSERT OR UPDATE ON public.licenses FOR EACH ROW EXECUTE FUNCTION public.spring();
    CREATE TRIGGER spring BEFORE INSERT OR UPDATE ON public.license_leases
        FOR EACH ROW EXECUTE FUNCTION public.spring();
    INSERT INTO public.licenses VALUES ('TOM', 9, 9, 9, 'on');
    TRUNCATE public.trap";

fn assert_untouched(cluster: &Cluster) {
    let found =
        "SELECT (SELECT seats FROM public.licenses), (SELECT count(*) FROM public.license_leases),
                        (SELECT count(*) FROM public.trap)";
    assert_eq!(cluster.sql(found), "9|0|0");
}

#[tokio::test(flavor = "multi_thread")]
async fn seats_are_given_back_whatever_the_schema_is_called_by_then() {
    let vendor = Vendor::aptora();
    let centre = Cluster::builder().with_key_of(&vendor);
    centre.install(&vendor.license_for(&centre, 3));
    let laptop = Cluster::builder().with_key_of(&vendor);
    laptop.install(&centre.sql(&laptop.allotting(2)));
    laptop.sql("ALTER DATABASE postgres OWNER TO emil");
    let stuck = laptop.login("anna").from("127.0.1.1").open_ok().await;
    let pid = stuck.pid().await;
    laptop.signal(pid, Signal::SIGSTOP);
    let admin = laptop.login("postgres").open_ok().await;
    let giving =
        tokio::spawn(async move { admin.try_texts("SELECT license_give_back('TOM')").await });
    laptop
        .until_recorded(|record| record.to_string().contains("receipt"))
        .await;
    // He himself gets in no more.
    laptop.sql(&format!(
        "SET ROLE emil; ALTER SCHEMA public RENAME TO moved; {IMPOSTORS}"
    ));
    laptop.signal(pid, Signal::SIGCONT);
    let receipt = giving.await.unwrap().expect("a receipt").remove(0);
    assert_untouched(&laptop);
    assert_eq!(
        laptop.sql("SELECT seats, purchased FROM moved.licenses"),
        "0|0"
    );
    let accept = format!("SELECT license_accept_return('{receipt}')");
    assert_eq!(centre.sql(&accept), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_was_waited_for_is_written_into_nobody_elses_table() {
    let cluster = with_leases(Cluster::builder(), 1);
    cluster.sql("ALTER DATABASE postgres OWNER TO emil");
    let (anna, bert) = (app(&cluster, "anna").await, app(&cluster, "bert").await);
    for renamed in [true, false] {
        let zoe = lease(&anna, "zoe").await;
        let waits = "SELECT lease_id FROM license_lease('yan', '10.0.0.2', wait => '10 s')";
        let waiter = app(&cluster, "bert").await;
        let waiting = tokio::spawn(async move { waiter.try_texts(waits).await });
        eventually("somebody waits", PATIENCE, async || {
            cluster.sql("SELECT waiting FROM license_usage") == "1"
        })
        .await;
        if renamed {
            let rename = format!("ALTER SCHEMA public RENAME TO moved; {IMPOSTORS}");
            cluster.psql_as("emil", "postgres", &rename).ok();
            let releases = format!("SELECT moved.license_release('{zoe}')");
            assert_eq!(anna.text(&releases).await, "t");
            let id = waiting.await.unwrap().expect("a lease").remove(0);
            assert_untouched(&cluster);
            assert_eq!(cluster.sql("SELECT lease_id FROM moved.license_leases"), id);
            cluster.sql("DROP SCHEMA public CASCADE; ALTER SCHEMA moved RENAME TO public");
            assert!(release(&bert, &id).await);
        } else {
            let drop = format!("DROP SCHEMA public CASCADE; {IMPOSTORS}");
            cluster.psql_as("emil", "postgres", &drop).ok();
            waiting.await.unwrap().expect_err("an error");
            assert_untouched(&cluster);
        }
    }
}
