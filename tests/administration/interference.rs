//! What others add to our tables is told, whatever it is named, and what the script makes never is.

use crate::util::*;

/// Makes all constraints and defaults anew from what PostgreSQL says of them, as pg_upgrade does.
const MADE_ANEW: &str = "
    DO $do$
    DECLARE
        was record;
    BEGIN
        SET LOCAL search_path = pg_catalog, pg_temp;
        FOR was IN
            SELECT conrelid::regclass AS of_table, conname AS name, pg_get_constraintdef(p.oid) AS definition
              FROM pg_constraint p JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND objid = conrelid
                   JOIN pg_extension e ON e.oid = refobjid AND extname = 'pg_seats'
             WHERE deptype = 'e' AND contype = 'c'
        LOOP
            EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %2$I %3$s',
                           was.of_table, was.name, was.definition);
        END LOOP;
        FOR was IN
            SELECT adrelid::regclass AS of_table, attname AS name, pg_get_expr(adbin, adrelid) AS definition
              FROM pg_attrdef JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum
                   JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND objid = adrelid
                   JOIN pg_extension e ON e.oid = refobjid AND extname = 'pg_seats'
             WHERE deptype = 'e'
        LOOP
            EXECUTE format('ALTER TABLE %s ALTER %I SET DEFAULT %s', was.of_table, was.name, was.definition);
        END LOOP;
    END$do$";

/// What PostgreSQL says of all that the script makes on its tables.
const DEFINED: &str = "
    SET search_path = pg_catalog, pg_temp;
    WITH ours AS (
        SELECT c.oid, c.relname, n.nspname
          FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND extname = 'pg_seats'
               JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid AND relkind = 'r'
               JOIN pg_namespace n ON n.oid = relnamespace
         WHERE d.deptype = 'e'
    ), defined AS (
        SELECT conrelid AS oid, 'constraint' AS kind, conname AS name, pg_get_constraintdef(p.oid) AS definition
          FROM pg_constraint p WHERE contype <> 'n'
        UNION ALL
        SELECT o.oid, 'index', c.relname,
               replace(pg_get_indexdef(c.oid), format(' ON %I.%I ', o.nspname, o.relname), ' ')
          FROM pg_index JOIN ours o ON o.oid = indrelid JOIN pg_class c ON c.oid = indexrelid WHERE NOT indisprimary
        UNION ALL
        SELECT adrelid, 'default', attname, pg_get_expr(adbin, adrelid)
          FROM pg_attrdef JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum
        UNION ALL
        SELECT attrelid, 'not null', attname, 'NOT NULL' FROM pg_attribute WHERE attnum > 0 AND attnotnull
        UNION ALL
        SELECT tgrelid, 'trigger', tgname, tgtype::text FROM pg_trigger
    )
    SELECT concat_ws(chr(9), relname, kind, name, replace(definition, chr(10), ' '))
      FROM defined JOIN ours USING (oid)
     ORDER BY relname COLLATE \"C\", kind COLLATE \"C\", name COLLATE \"C\"";

const TOLD: &str = "
    SELECT string_agg(concat_ws(' ', detail ->> 'table', detail ->> 'kind', detail ->> 'name'), ', ' ORDER BY number)
      FROM license_events WHERE event = 'interference'";

const STATUS: &str = "SELECT status FROM license_usage";

#[test]
fn the_definitions_are_those_of_the_script() {
    let cluster = Cluster::start();
    cluster.sql("CREATE EXTENSION pg_seats");
    let defined = cluster.sql(DEFINED);
    assert_eq!(
        include_str!("../../sql/definitions.txt").trim_end(),
        defined,
        "sql/definitions.txt is to be:\n{defined}\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_add_is_told_whatever_its_name() {
    let cluster = Cluster::with_seats(5);
    cluster.sql(
        "ALTER DATABASE postgres SET quote_all_identifiers = on;
         ALTER DATABASE postgres SET IntervalStyle = iso_8601;
         ALTER DATABASE postgres SET DateStyle = 'SQL, DMY'",
    );
    cluster.sql("UPDATE licenses SET seats = 6");
    assert_eq!(cluster.sql(STATUS), "ok", "as it was made");
    cluster.sql(MADE_ANEW);
    cluster.sql("UPDATE licenses SET seats = 7");
    assert_eq!(cluster.sql(STATUS), "ok", "made anew");
    // Who looks after a table may add columns that do nothing.
    cluster.sql("ALTER TABLE licenses ADD COLUMN remark text");
    assert_eq!(cluster.sql(STATUS), "ok", "with a column more");
    let mut told = Vec::new();
    for (added, thing) in [
        (
            "ALTER TABLE license_events ADD CONSTRAINT licenses_seats_not_negative CHECK (event <> 'login') NOT VALID",
            "license_events constraint licenses_seats_not_negative",
        ),
        (
            "ALTER TABLE license_bars DROP CONSTRAINT license_bars_bar_by_known,
                 ADD CONSTRAINT license_bars_bar_by_known CHECK (product <> 'TOM')",
            "license_bars constraint license_bars_bar_by_known",
        ),
        (
            "DROP INDEX license_events_at; CREATE INDEX license_events_at ON license_events (event)",
            "license_events index license_events_at",
        ),
        (
            "ALTER TABLE license_exemptions ALTER note SET NOT NULL",
            "license_exemptions not null note",
        ),
        (
            "ALTER TABLE license_counts ALTER denied SET DEFAULT 0",
            "license_counts default denied",
        ),
        (
            "CREATE TRIGGER license_change AFTER INSERT OR UPDATE OR DELETE ON license_counts
                 FOR EACH ROW EXECUTE FUNCTION license_tables_changed()",
            "license_counts trigger license_change",
        ),
        (
            "CREATE TRIGGER \"license_change\t29\" AFTER INSERT ON license_keys
                 FOR EACH STATEMENT EXECUTE FUNCTION suppress_redundant_updates_trigger()",
            "license_keys trigger license_change\t29",
        ),
        (
            "CREATE TABLE app_session (origin uuid, datid oid, lease_id uuid,
                 CONSTRAINT on_leases FOREIGN KEY (origin, datid, lease_id) REFERENCES license_leases ON DELETE RESTRICT)",
            "license_leases foreign key on_leases",
        ),
        (
            "ALTER FUNCTION license_held(text) SECURITY DEFINER",
            "function license_held",
        ),
        (
            "ALTER FUNCTION license_checkin(text, text) OWNER TO anna",
            "function license_checkin",
        ),
        (
            "ALTER FUNCTION license_raise_seats(text, int) SET search_path = public",
            "function license_raise_seats",
        ),
        (
            "CREATE OR REPLACE FUNCTION license_origin() RETURNS uuid LANGUAGE sql IMMUTABLE AS 'SELECT gen_random_uuid()'",
            "function license_origin",
        ),
    ] {
        cluster.sql(added);
        told.push(thing);
        let all = told.join(", ");
        eventually(thing, PATIENCE, async || cluster.sql(TOLD) == all).await;
        assert_eq!(cluster.sql(STATUS), "interfered with", "{added}");
    }
}
