//! The triggers that take note of changes: they tell of our own tables alone, and run nobody's code for it.

use crate::util::*;

const TOLD: &str = "SELECT string_agg(event, ' ' ORDER BY number) FROM license_events
     WHERE event NOT IN ('exempt login', 'denial', 'login', 'release', 'interference')";

/// A table like ours, and a trigger like ours, in a schema of Emil's.
const FORGERY: &str = "
    CREATE TABLE emils.licenses (product text, seats int);
    CREATE TRIGGER license_change AFTER INSERT OR UPDATE OR DELETE ON emils.licenses
        FOR EACH ROW EXECUTE FUNCTION public.license_tables_changed();
    CREATE TRIGGER license_truncate AFTER TRUNCATE ON emils.licenses
        FOR EACH STATEMENT EXECUTE FUNCTION public.license_tables_changed()";

#[tokio::test(flavor = "multi_thread")]
async fn nobody_forges_what_the_trail_tells() {
    let cluster = Cluster::with_seats(2);
    cluster.sql(
        "CREATE SCHEMA emils AUTHORIZATION emil;
         GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO emil;
         GRANT SELECT, TRIGGER ON ALL TABLES IN SCHEMA public TO emil",
    );
    let emil = cluster.login("emil").open_ok().await;
    emil.run(FORGERY).await;
    for forged in [
        "INSERT INTO emils.licenses VALUES ('TOM', 99)",
        "TRUNCATE emils.licenses",
    ] {
        emil.fails(forged).await.assert("39P01", "");
    }
    emil.fails("SELECT license_tables_changed()")
        .await
        .assert("39P01", "");
    // Another one of our own tables is no obstacle, and tells nothing.
    emil.run(
        "CREATE TRIGGER another AFTER INSERT OR UPDATE ON public.licenses
             FOR EACH ROW EXECUTE FUNCTION public.license_tables_changed();
         CREATE TRIGGER before BEFORE INSERT OR UPDATE ON public.licenses
             FOR EACH ROW EXECUTE FUNCTION public.license_tables_changed();
         CREATE TRIGGER statement AFTER INSERT OR UPDATE ON public.licenses
             FOR EACH STATEMENT EXECUTE FUNCTION public.license_tables_changed()",
    )
    .await;
    cluster.sql("UPDATE licenses SET seats = 3");
    assert_eq!(cluster.sql(TOLD), "license added raise");
    assert_eq!(cluster.sql("SELECT seats FROM license_usage"), "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_of_a_row_runs_nobodys_cast() {
    let cluster = Cluster::with_seats(2);
    cluster.sql("CREATE SCHEMA emils AUTHORIZATION emil; CREATE TABLE trap (who name); GRANT INSERT ON trap TO PUBLIC");
    let emils = "
        CREATE TYPE emils.mood AS ENUM ('good', 'bad');
        CREATE TYPE emils.place AS (x int, mood emils.mood);
        CREATE DOMAIN emils.word AS text;
        CREATE FUNCTION emils.to_json(emils.mood) RETURNS json LANGUAGE plpgsql AS $$BEGIN
            INSERT INTO public.trap VALUES (current_user);
            RETURN '1';
        END$$;
        CREATE CAST (emils.mood AS json) WITH FUNCTION emils.to_json";
    cluster.psql_as("emil", "postgres", emils).ok();
    cluster.sql(
        "ALTER TABLE licenses ADD COLUMN mood emils.mood DEFAULT 'good', ADD COLUMN place emils.place DEFAULT '(1,bad)',
                              ADD COLUMN moods emils.mood[] DEFAULT '{good}', ADD COLUMN word emils.word DEFAULT 'w',
                              ADD COLUMN note text, ADD COLUMN big bigint, ADD COLUMN yes boolean, ADD COLUMN gone int;
         ALTER TABLE licenses DROP COLUMN gone;
         UPDATE licenses SET seats = 1, mood = 'bad', note = 'é\"', big = -5000000000, yes = true, linger = '1 min',
                             valid_until = '2100-01-01 00:00:00+00'",
    );
    assert_eq!(cluster.sql("SELECT * FROM trap"), "");
    let detail = "SELECT detail FROM license_events WHERE event = 'reduction'";
    assert_eq!(
        cluster.sql(detail),
        r#"{"big": {"to": -5000000000}, "yes": {"to": true}, "note": {"to": "é\""}, "seats": {"to": 1, "from": 2}, "linger": {"to": "00:01:00", "from": "00:00:00"}, "valid_until": {"to": "2100-01-01T00:00:00+00:00"}}"#
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_in_force_also_where_the_trigger_function_was_replaced() {
    for (before, told) in [
        (
            "SELECT",
            r#"{"kind": "function", "name": "license_tables_changed", "table": null}"#,
        ),
        (
            "ALTER EXTENSION pg_seats DROP FUNCTION license_tables_changed()",
            r#"{"kind": "trigger", "name": "license_truncate", "table": "licenses"}"#,
        ),
    ] {
        let cluster = Cluster::with_seats(2);
        assert_eq!(cluster.sql("SELECT seats FROM license_usage"), "2");
        cluster.sql(before);
        cluster.sql("SELECT FROM license_usage");
        cluster.sql(
            "CREATE OR REPLACE FUNCTION license_tables_changed() RETURNS trigger LANGUAGE plpgsql
             AS 'BEGIN RETURN NULL; END'",
        );
        let status = "SELECT status FROM license_usage";
        assert_eq!(cluster.sql(status), "interfered with", "{before}");
        cluster.sql("UPDATE licenses SET seats = 0");
        let denied = cluster.login("anna").denied().await;
        denied.assert("53300", "license_full");
        let things = "SELECT detail - 'oid' FROM license_events WHERE event = 'interference'";
        eventually(told, PATIENCE, async || {
            cluster.sql(things).lines().any(|thing| thing == told)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_long_hides_no_change() {
    let cluster = Cluster::with_seats(2);
    let length = 20_000_000;
    cluster.sql(&format!(
        "INSERT INTO license_exemptions SELECT 'role', 'carl', repeat('ß', {})",
        length / 2
    ));
    cluster.sql("UPDATE license_exemptions SET note = note || 'x'");
    let notes = cluster.sql(
        "SELECT detail -> 'note' ->> 'to' FROM license_events WHERE event LIKE 'exemption %' ORDER BY number",
    );
    let told = |length| format!("{}... ({length} bytes)", "ß".repeat(500));
    assert_eq!(
        notes.lines().collect::<Vec<_>>(),
        [told(length), told(length + 1)]
    );
}
