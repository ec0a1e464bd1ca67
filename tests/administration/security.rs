//! What others hang on our tables gains nobody anything: neither by a privilege that somebody has granted, nor by
//! owning a table for a while. Each way in is tried on every table that the extension has, whichever those are, and
//! everything that touches them is provoked by users who are no superusers, and by the workers.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::util::*;

/// The attacker, and what he wants to have run: it tells the log whose rights it has, and tries to keep them.
const ATTACKER: &str = "
    CREATE SCHEMA app AUTHORIZATION app;
    GRANT USAGE ON SCHEMA app TO PUBLIC;
    GRANT CREATE ON SCHEMA public TO PUBLIC;
    SET ROLE app;
    CREATE TABLE app.later (n int);
    GRANT ALL ON app.later TO PUBLIC;
    CREATE FUNCTION app.gain() RETURNS boolean LANGUAGE plpgsql AS $f$
    DECLARE
        who text := 'nobody';
        rights boolean := false;
        attempt text;
    BEGIN
        BEGIN
            who := current_user;
            rights := (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = who);
        EXCEPTION WHEN OTHERS THEN NULL;
        END;
        RAISE LOG 'the attack runs as %, superuser: %', who, rights;
        FOREACH attempt IN ARRAY ARRAY[
            'ALTER ROLE app SUPERUSER',
            'GRANT pg_execute_server_program TO app',
            'SET ROLE postgres', 'RESET ROLE', 'ALTER ROLE app SUPERUSER',
            'SET SESSION AUTHORIZATION DEFAULT', 'ALTER ROLE app SUPERUSER',
            'SELECT set_config(''role'', ''none'', false)', 'ALTER ROLE app SUPERUSER',
            'CREATE TEMP TABLE kept (n int)',
            'SELECT set_config(''search_path'', ''app'', false)',
            'SELECT lo_create(0)',
            'CREATE TABLE public.kept (n int)',
            'CREATE FUNCTION public.kept() RETURNS int LANGUAGE sql SECURITY DEFINER RETURN 1',
            'CREATE TYPE public.kept_too AS (n int)',
            'CREATE SCHEMA kept'
        ] LOOP
            BEGIN
                EXECUTE attempt;
            EXCEPTION WHEN OTHERS THEN NULL;
            END;
        END LOOP;
        RETURN true;
    END $f$;
    CREATE FUNCTION app.attack() RETURNS boolean LANGUAGE plpgsql AS $f$
    BEGIN
        BEGIN
            INSERT INTO app.later VALUES (1);
        EXCEPTION WHEN OTHERS THEN NULL;
        END;
        RETURN app.gain();
    END $f$;
    CREATE FUNCTION app.always(anyelement) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
        $f$ BEGIN RETURN app.attack(); END $f$;
    CREATE FUNCTION app.fire() RETURNS trigger LANGUAGE plpgsql AS
        $f$ BEGIN PERFORM app.attack(); RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END; END $f$;
    CREATE FUNCTION app.refuse() RETURNS trigger LANGUAGE plpgsql AS
        $f$ BEGIN PERFORM app.attack(); RAISE 'refused'; END $f$;
    CREATE FUNCTION app.is_late() RETURNS trigger LANGUAGE plpgsql AS
        $f$ BEGIN PERFORM app.gain(); RETURN NEW; END $f$;
    CREATE CONSTRAINT TRIGGER later AFTER INSERT ON app.later DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION app.is_late();
    CREATE DOMAIN app.evil AS text CHECK (app.always(VALUE));
    RESET ROLE;";

/// What is done with each table in turn: `%1$s` is the table, `%2$I` its first column, `%3$s` its name.
struct Way {
    name: &'static str,
    /// By the superuser, or the owner of all: what the attacker can do then.
    opens: &'static str,
    /// By the attacker.
    uses: &'static str,
    /// Nothing that touches the tables is kept from its work.
    is_harmless: bool,
}

const TRIGGERS: &str = "
    CREATE TRIGGER a BEFORE INSERT OR UPDATE OR DELETE ON %1$s FOR EACH ROW EXECUTE FUNCTION app.fire();
    CREATE TRIGGER b BEFORE INSERT OR UPDATE OR DELETE ON %1$s EXECUTE FUNCTION app.fire();
    CREATE TRIGGER c AFTER INSERT ON %1$s REFERENCING NEW TABLE AS n EXECUTE FUNCTION app.fire();
    CREATE CONSTRAINT TRIGGER d AFTER INSERT OR UPDATE OR DELETE ON %1$s DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION app.fire();
    CREATE TRIGGER e BEFORE INSERT OR UPDATE OR DELETE ON %1$s FOR EACH ROW EXECUTE FUNCTION app.refuse();";

const OWNED: &str = "ALTER TABLE %1$s OWNER TO app;";

const WAYS: &[Way] = &[
    Way {
        name: "granted",
        opens: "GRANT ALL ON %1$s TO app;",
        uses: TRIGGERS,
        is_harmless: true,
    },
    Way {
        name: "always",
        opens: OWNED,
        uses: "
            ALTER TABLE %1$s ENABLE ALWAYS TRIGGER a; ALTER TABLE %1$s ENABLE ALWAYS TRIGGER b;
            ALTER TABLE %1$s ENABLE ALWAYS TRIGGER c; ALTER TABLE %1$s ENABLE ALWAYS TRIGGER d;
            ALTER TABLE %1$s ENABLE ALWAYS TRIGGER e;",
        is_harmless: true,
    },
    Way {
        name: "rules",
        opens: OWNED,
        uses: "
            CREATE RULE i AS ON INSERT TO %1$s DO INSTEAD SELECT app.attack();
            CREATE RULE u AS ON UPDATE TO %1$s DO ALSO SELECT app.attack();
            CREATE RULE d AS ON DELETE TO %1$s DO INSTEAD NOTHING;
            ALTER TABLE %1$s ENABLE ALWAYS RULE i; ALTER TABLE %1$s ENABLE ALWAYS RULE u;
            ALTER TABLE %1$s ENABLE ALWAYS RULE d;",
        is_harmless: true,
    },
    Way {
        name: "policies",
        opens: OWNED,
        uses: "
            CREATE POLICY p ON %1$s USING (app.attack() AND false) WITH CHECK (app.attack() AND false);
            ALTER TABLE %1$s ENABLE ROW LEVEL SECURITY; ALTER TABLE %1$s FORCE ROW LEVEL SECURITY;",
        is_harmless: true,
    },
    Way {
        name: "checks",
        opens: OWNED,
        uses: "ALTER TABLE %1$s ADD CONSTRAINT evil CHECK (app.always(%2$I));",
        is_harmless: true,
    },
    Way {
        name: "indexes",
        opens: OWNED,
        uses: "
            CREATE INDEX ON %1$s ((app.always(%2$I)));
            CREATE INDEX ON %1$s (%2$I) WHERE app.always(%2$I) AND app.always(1);
            CREATE STATISTICS app.s_%3$s ON (app.always(%2$I)), %2$I FROM %1$s;",
        is_harmless: true,
    },
    Way {
        name: "children",
        opens: OWNED,
        uses: "
            CREATE TABLE app.c_%3$s (CHECK (app.always(%2$I))) INHERITS (%1$s);
            CREATE TABLE app.p_%3$s (LIKE %1$s); ALTER TABLE %1$s INHERIT app.p_%3$s;
            CREATE TRIGGER a BEFORE INSERT OR UPDATE OR DELETE ON app.c_%3$s
                FOR EACH ROW EXECUTE FUNCTION app.fire();
            ALTER TABLE app.c_%3$s ENABLE ALWAYS TRIGGER a;
            INSERT INTO app.c_%3$s SELECT * FROM ONLY %1$s;",
        is_harmless: true,
    },
    Way {
        name: "defaults",
        opens: OWNED,
        uses: "ALTER TABLE %1$s ADD COLUMN evil boolean DEFAULT app.attack();",
        is_harmless: false,
    },
    Way {
        name: "generated",
        opens: OWNED,
        uses: "ALTER TABLE %1$s ADD COLUMN evil boolean GENERATED ALWAYS AS (app.always(%2$I)) STORED;",
        is_harmless: false,
    },
    Way {
        name: "types",
        opens: OWNED,
        uses: "
            DO $t$ DECLARE c name; BEGIN
                FOR c IN SELECT attname FROM pg_attribute
                          WHERE attrelid = '%1$s'::regclass AND atttypid = 'text'::regtype LOOP
                    BEGIN
                        EXECUTE format('ALTER TABLE %1$s ALTER %%I TYPE app.evil', c);
                    EXCEPTION WHEN OTHERS THEN NULL;
                    END;
                END LOOP;
            END $t$;",
        is_harmless: false,
    },
];

/// Statements for each table of the extension.
fn for_each_table(statements: &str) -> String {
    format!(
        "DO $do$
         DECLARE ours record;
         BEGIN
             FOR ours IN SELECT c.oid::regclass AS t, a.attname AS first, c.relname AS name
                           FROM pg_depend d
                           JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'pg_seats'
                           JOIN pg_class c ON c.oid = d.objid AND c.relkind = 'r'
                           JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = 1
                          WHERE d.classid = 'pg_class'::regclass
                            AND d.refclassid = 'pg_extension'::regclass LOOP
                 EXECUTE format($way${statements}$way$, ours.t, ours.first, ours.name);
             END LOOP;
         END $do$;"
    )
}

/// Returns what the extension has in a catalog, as a query for one text of each.
fn members(catalog: &str, condition: &str, text: &str) -> String {
    format!(
        "SELECT (SELECT {text}) FROM pg_depend d
           JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'pg_seats'
           JOIN {catalog} c ON c.oid = d.objid
          WHERE d.classid = '{catalog}'::regclass AND d.refclassid = 'pg_extension'::regclass AND {condition}
          ORDER BY 1"
    )
}

/// Who calls a function.
enum Who {
    User,
    Admin,
    /// It is refused here, as far as it may have got.
    AdminInVain,
}

/// A call of each function, in an order in which they have something to do.
const CALLS: &[(&str, Who, &str)] = &[
    (
        "license_checkout",
        Who::User,
        "SELECT license_checkout('Report')",
    ),
    (
        "license_try_checkout",
        Who::User,
        "SELECT license_try_checkout('Report')::text",
    ),
    ("license_held", Who::User, "SELECT license_held('Report')"),
    (
        "license_checkin",
        Who::User,
        "SELECT license_checkin('Report')::text",
    ),
    (
        "license_origin",
        Who::Admin,
        "SELECT license_origin()::text",
    ),
    (
        "license_installation",
        Who::Admin,
        "SELECT license_installation()::text",
    ),
    (
        "license_lease",
        Who::Admin,
        "SELECT lease_id::text FROM license_lease('xim', '10.0.0.1', 'Report', '1 s')",
    ),
    (
        "license_release",
        Who::Admin,
        "SELECT license_release(lease_id)::text FROM license_lease('zoe', '10.0.0.1', 'Report')",
    ),
    (
        "license_heartbeat",
        Who::Admin,
        "SELECT license_heartbeat(lease_id)::text FROM license_lease('yan', '10.0.0.1', 'Report', '1 s')",
    ),
    (
        "license_own_leases",
        Who::Admin,
        "SELECT count(*)::text FROM license_own_leases()",
    ),
    (
        "license_raise_seats",
        Who::Admin,
        "SELECT license_raise_seats('Report', 7)::text",
    ),
    (
        "license_reduce_seats",
        Who::Admin,
        "SELECT license_reduce_seats('Report', 5)::text",
    ),
    (
        "license_active_seats",
        Who::Admin,
        "SELECT count(*)::text FROM license_active_seats()",
    ),
    (
        "license_exempt_sessions",
        Who::Admin,
        "SELECT count(*)::text FROM license_exempt_sessions()",
    ),
    (
        "license_usage",
        Who::Admin,
        "SELECT count(*)::text FROM license_usage()",
    ),
    (
        "license_terminate",
        Who::Admin,
        "SELECT license_terminate('{seat}', 'stopped', '1 hour')::text",
    ),
    (
        "license_lift_bar",
        Who::Admin,
        "SELECT license_lift_bar(bar_id)::text FROM license_bars_in_force",
    ),
    (
        "license_bars_in_force",
        Who::Admin,
        "SELECT count(*)::text FROM license_bars_in_force()",
    ),
    (
        "license_install",
        Who::Admin,
        "SELECT license_install('{token}')",
    ),
    (
        "license_keys_status",
        Who::Admin,
        "SELECT count(*)::text FROM license_keys_status()",
    ),
    (
        "license_renew",
        Who::AdminInVain,
        "SELECT license_renew('TOM-4711')::text",
    ),
    (
        "license_allot",
        Who::AdminInVain,
        "SELECT license_allot('Signed', '{key}', 1)",
    ),
    (
        "license_accept_return",
        Who::AdminInVain,
        "SELECT license_accept_return('{token}')::text",
    ),
    (
        "license_give_back",
        Who::AdminInVain,
        "SELECT license_give_back('TOM-4711')",
    ),
    (
        "license_uninstall",
        Who::Admin,
        "SELECT license_uninstall('TOM-4711')::text",
    ),
];

fn superusers(cluster: &Cluster) -> String {
    cluster.sql("SELECT string_agg(rolname, ' ') FROM pg_roles WHERE rolsuper OR rolname IN
                 (SELECT r.rolname FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member WHERE r.rolname = 'app')")
}

/// Returns what an administrator who is no superuser, an application and a user do; those of them that failed.
async fn provoke(cluster: &Cluster, db: &str, token: &str, host: &str) -> Vec<String> {
    let mut failed = Vec::new();
    let admin = match cluster.login("carl").db(db).open().await {
        Ok(admin) => admin,
        Err(denied) => return vec![format!("{denied:?}")],
    };
    let path = admin.text("SHOW search_path").await;
    let anna = cluster.login("anna").db(db).from(host).open_ok().await;
    let id = format!("SELECT seat_id FROM license_active_seats WHERE client_host = '{host}'");
    let seat = admin.texts(&id).await;
    let seat = seat
        .first()
        .map_or("00000000-0000-0000-0000-000000000000", String::as_str);
    for (name, who, statement) in CALLS {
        let statement = statement
            .replace("{seat}", seat)
            .replace("{token}", token)
            .replace("{key}", &Vendor::new("other", 9).jwk().to_string());
        let session = if matches!(who, Who::User) {
            &anna
        } else {
            &admin
        };
        if let Err(denied) = session.try_texts(&statement).await
            && !matches!(who, Who::AdminInVain)
        {
            failed.push(format!("{name}: {denied:?}"));
        }
    }
    let views = members("pg_class", "relkind = 'v'", "c.oid::regclass::text");
    for view in admin.texts(&views).await {
        if let Err(denied) = admin
            .try_texts(&format!("SELECT count(*)::text FROM {view}"))
            .await
        {
            failed.push(format!("{view}: {denied:?}"));
        }
    }
    assert_eq!(admin.text("SHOW search_path").await, path, "{db}");
    assert_eq!(admin.text("SELECT current_user").await, "carl", "{db}");
    failed
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gains_anything_by_what_he_hangs_on_our_tables() {
    let vendor = Vendor::aptora();
    let cluster = Cluster::builder()
        .conf("pg_seats.vendor_keys", "vendor.json")
        .conf("pg_seats.load_timeout", "30s")
        .conf("pg_seats.renewal_command", "false")
        .conf("log_min_messages", "log")
        // PostgreSQL's own ANALYZE computes indexes as the table's owner, whom it was given back to.
        .conf("autovacuum", "off")
        .start();
    cluster.write("vendor.json", &vendor.key_file());
    cluster.hire();
    cluster.sql(
        "CREATE ROLE app LOGIN; CREATE ROLE auditor LOGIN BYPASSRLS; GRANT pg_read_all_data TO auditor",
    );
    let mut claims = vendor.claims(json!(null));
    claims["products"] = json!([{"product": "Signed", "seats": 5, "claimed_at": "checkout"}]);
    let token = vendor.sign(&claims);
    let all = superusers(&cluster);
    cluster.sql_in("template1", "CREATE EXTENSION pg_seats");
    let functions = members("pg_proc", "prorettype <> 'trigger'::regtype", "proname");
    let functions = cluster.sql_in("template1", &functions);
    let mut called: Vec<&str> = CALLS.iter().map(|(name, ..)| *name).collect();
    called.sort_unstable();
    assert_eq!(
        functions.lines().collect::<Vec<_>>(),
        called,
        "each function is called"
    );
    cluster.sql_in("template1", "DROP EXTENSION pg_seats");
    for way in WAYS {
        let db = way.name;
        cluster.sql(&format!("CREATE DATABASE {db}"));
        cluster.sql_in(db, ATTACKER);
        cluster.sql_in(
            db,
            "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO app;
             CREATE EXTENSION pg_seats;
             GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO carl;
             GRANT SELECT ON ALL TABLES IN SCHEMA public TO carl;
             INSERT INTO licenses (product, seats) VALUES ('TOM', 5);
             INSERT INTO licenses (product, seats, purchased, claimed_at) VALUES ('Report', 5, 10, 'checkout');
             INSERT INTO license_exemptions VALUES ('role', 'dora');
             INSERT INTO license_reservations VALUES ('Report', 'emil', 1)",
        );
        // A row in each of the tables, as far as users bring them about.
        assert_eq!(
            provoke(&cluster, db, &token, "127.0.1.1").await,
            [""; 0],
            "{db}"
        );
        let status = cluster.sql_in(db, "SELECT string_agg(status, ' ') FROM license_usage");
        assert_eq!(status, "ok ok", "{db}");
        let tables = cluster.sql_in(
            db,
            &members("pg_class", "relkind = 'r'", "c.oid::regclass::text"),
        );
        let tables = tables.lines().count().to_string();
        if way.name == "always" {
            cluster.sql_in(db, &for_each_table("GRANT ALL ON %1$s TO app;"));
            cluster.psql_as("app", db, &for_each_table(TRIGGERS)).ok();
        }
        cluster.sql_in(db, &for_each_table(way.opens));
        cluster.psql_as("app", db, &for_each_table(way.uses)).ok();
        cluster.sql_in(db, &for_each_table("ALTER TABLE %1$s OWNER TO postgres;"));
        cluster.sql("SELECT pg_reload_conf()");
        let mark = cluster.log().len();
        for round in 0..2 {
            let host = format!("127.0.1.{}", round + 2);
            let failed = provoke(&cluster, db, &token, &host).await;
            assert!(!way.is_harmless || failed.is_empty(), "{db}: {failed:#?}");
            if way.is_harmless {
                let events =
                    "SELECT count(*) FROM ONLY public.license_events WHERE event = 'termination'";
                let trail = cluster.login("auditor").db(db).open_ok().await;
                let what = format!("the trail of {db} goes on");
                eventually(&what, Duration::from_secs(20), async || {
                    trail.text(events).await == (round + 2).to_string()
                })
                .await;
                // What was hung on each of the tables is told of.
                let told =
                    "SELECT count(DISTINCT detail ->> 'table') FROM ONLY public.license_events
                             WHERE event = 'interference'";
                eventually("all is told of", Duration::from_secs(20), async || {
                    trail.text(told).await == tables
                })
                .await;
                let status = "SELECT DISTINCT status FROM public.license_usage";
                assert_eq!(trail.text(status).await, "interfered with", "{db}");
            }
        }
        let log = cluster.log_since(mark);
        assert!(!log.contains("superuser: t"), "{db}: {log}");
        assert_eq!(superusers(&cluster), all, "{db}");
        let dump = cluster.program("pg_dump", &["-d", db]).ok();
        assert!(dump.contains("CREATE EXTENSION"), "{db}");
    }
    let mark = cluster.log().len();
    cluster.restart(Stop::Fast);
    for way in WAYS {
        provoke(&cluster, way.name, &token, "127.0.1.9").await;
    }
    let log = cluster.log_since(mark);
    assert!(!log.contains("superuser: t"), "{log}");
    assert_eq!(superusers(&cluster), all);
}

/// What a former owner may make of the table of leases; whether it can still be written.
const REMADE: [(&str, bool); 5] = [
    (
        "DROP CONSTRAINT license_leases_pkey; ALTER TABLE license_leases ALTER lease_id TYPE int USING 1",
        false,
    ),
    (
        "DROP CONSTRAINT license_leases_pkey,
         ADD COLUMN x int4range DEFAULT '[1,2)', ADD COLUMN r int4range DEFAULT '[1,2)';
         ALTER TABLE license_leases ADD PRIMARY KEY (x, r WITHOUT OVERLAPS) INCLUDE (origin, datid, lease_id)",
        true,
    ),
    (
        "DROP CONSTRAINT license_leases_pkey, ADD PRIMARY KEY (origin) INCLUDE (datid, lease_id)",
        true,
    ),
    (
        "DROP CONSTRAINT license_leases_pkey, ADD PRIMARY KEY (lease_id, datid, origin) DEFERRABLE",
        true,
    ),
    ("SET UNLOGGED", false),
];

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_former_owner_makes_of_the_leases_ends_no_server() {
    let cluster = Cluster::builder().start();
    cluster.hire();
    cluster.sql("CREATE ROLE app LOGIN");
    let started = cluster.sql("SELECT pg_postmaster_start_time()");
    let has_overlaps = cluster.programs().major() >= 18;
    let cases = REMADE.iter().flat_map(|case| [(case, true), (case, false)]);
    for (at, ((remade, is_usable), by_hand)) in cases.enumerate() {
        if remade.contains("OVERLAPS") && !has_overlaps {
            continue;
        }
        let db = &format!("remade{at}");
        cluster.sql(&format!("CREATE DATABASE {db}"));
        cluster.sql_in(
            db,
            "CREATE EXTENSION pg_seats; GRANT CREATE ON SCHEMA public TO app;
             INSERT INTO licenses (product, seats, claimed_at) VALUES ('Report', 5, 'checkout')",
        );
        let ttl = if by_hand { "5 minutes" } else { "3 s" };
        let lease =
            format!("SELECT lease_id FROM license_lease('zoe', '10.0.0.1', 'Report', '{ttl}')");
        let id = cluster.sql_in(db, &lease);
        cluster.sql_in(db, "ALTER TABLE license_leases OWNER TO app");
        let mark = cluster.log().len();
        let sql = format!("ALTER TABLE license_leases {remade}");
        cluster.psql_as("app", db, &sql).ok();
        cluster.sql_in(db, "ALTER TABLE license_leases OWNER TO postgres");
        let release = format!("SELECT license_release('{id}')");
        let released = by_hand.then(|| cluster.psql_as("postgres", db, &release));
        if !*is_usable {
            match released {
                Some(released) => drop(released.failed()),
                None => {
                    cluster.wait_log_since(mark, "could not delete rows of license_leases");
                }
            }
            continue;
        }
        if let Some(released) = released {
            assert_eq!(released.ok(), "t", "{remade}");
        }
        eventually("the row is gone", Duration::from_secs(20), async || {
            cluster.sql_in(db, "SELECT count(*) FROM license_leases") == "0"
        })
        .await;
    }
    assert!(!cluster.log().contains("was terminated by signal"));
    assert_eq!(cluster.sql("SELECT pg_postmaster_start_time()"), started);
}

#[tokio::test(flavor = "multi_thread")]
async fn seats_of_another_type_are_not_taken_for_numbers() {
    let cluster = Cluster::builder().licensed("seats, claimed_at", "5, 'checkout'");
    cluster.sql(
        "ALTER TABLE licenses DROP CONSTRAINT licenses_seats_within_purchased,
             ALTER seats TYPE numeric, ALTER purchased TYPE numeric",
    );
    for change in [
        "license_raise_seats('TOM', 6)",
        "license_reduce_seats('TOM', 4)",
    ] {
        let failed = cluster
            .psql_as("postgres", "postgres", &format!("SELECT {change}"))
            .failed();
        assert!(
            failed.contains("column \"seats\" has another type"),
            "{failed}"
        );
    }
    assert_eq!(cluster.sql("SELECT seats FROM licenses"), "5");
}

/// What lasts an hour, unless the attacker himself has it run; and what can't be talked out of it.
const SLOW: &str = "
    CREATE SCHEMA app AUTHORIZATION app;
    GRANT USAGE ON SCHEMA app TO PUBLIC;
    GRANT CREATE ON SCHEMA public TO app;
    SET ROLE app;
    CREATE FUNCTION app.slow(anyelement) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $f$
    BEGIN
        IF session_user <> 'app' THEN PERFORM pg_sleep(3600); END IF;
        RETURN true;
    END $f$;
    CREATE FUNCTION app.stubborn(anyelement) RETURNS boolean LANGUAGE plpgsql AS $f$
    BEGIN
        WHILE session_user <> 'app' LOOP
            BEGIN
                PERFORM pg_sleep(3600);
            EXCEPTION WHEN query_canceled THEN NULL;
            END;
        END LOOP;
        RETURN true;
    END $f$;";

/// Creates a database whose tables have been the attacker's for a moment.
fn attacked(cluster: &Cluster, db: &str, tables: &[&str], attack: &str) {
    cluster.sql(&format!("CREATE DATABASE {db}"));
    cluster.sql_in(db, SLOW);
    cluster.license(db, "seats", "5");
    let own = |owner: &str| {
        let tables = tables.iter();
        tables
            .map(|table| format!("ALTER TABLE {table} OWNER TO {owner};"))
            .collect::<String>()
    };
    cluster.sql_in(db, &own("app"));
    cluster.psql_as("app", db, attack).ok();
    cluster.sql_in(db, &own("postgres"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_slow_where_the_planner_looks_keeps_nobody_waiting() {
    let cluster = Cluster::builder()
        .conf("pg_seats.exempt_superusers", "off")
        .conf("autovacuum", "off")
        .start();
    cluster.hire();
    cluster.sql("CREATE ROLE app LOGIN");
    attacked(
        &cluster,
        "company",
        &["license_exemptions", "licenses"],
        "CREATE INDEX evil ON license_exemptions (note) WHERE app.slow(1);
         CREATE INDEX more ON licenses (product) WHERE app.slow(1);
         CREATE STATISTICS public.evil ON (app.slow(product)), product FROM licenses;
         ALTER TABLE licenses ADD CONSTRAINT evil CHECK (app.slow(1)) NOT VALID",
    );
    cluster.restart(Stop::Fast);
    for user in ["carl", "postgres"] {
        let start = Instant::now();
        let session = cluster.login(user).db("company").open_ok().await;
        assert!(start.elapsed() < Duration::from_secs(2), "{user}");
        if user == "postgres" {
            let start = Instant::now();
            let status = "SELECT status FROM license_usage";
            assert_eq!(session.text(status).await, "interfered with");
            assert!(start.elapsed() < Duration::from_secs(2));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_slow_where_the_trail_is_written_holds_up_no_other_database() {
    let cluster = Cluster::builder()
        .conf("autovacuum", "off")
        .conf("max_worker_processes", 8)
        .licensed("seats", "5");
    cluster.sql("CREATE ROLE app LOGIN");
    for at in 0..3 {
        attacked(
            &cluster,
            &format!("slow{at}"),
            &["license_events", "license_counts"],
            "ALTER TABLE license_events ADD CONSTRAINT evil CHECK (app.stubborn(event)) NOT VALID;
             ALTER TABLE license_counts ADD CONSTRAINT evil CHECK (app.stubborn(product)) NOT VALID",
        );
    }
    let mark = cluster.log().len();
    let mut sessions = Vec::new();
    for at in 0..3 {
        let login = cluster.login("carl").db(&format!("slow{at}"));
        sessions.push(login.open_ok().await);
    }
    cluster.wait_log_since(mark, "what is executed on the tables takes too long");
    // As long as it takes until each was visited.
    tokio::time::sleep(Duration::from_secs(30)).await;
    cluster.wait_log_since(mark, "less often: what is executed on its tables took");
    for round in 1..4 {
        let start = Instant::now();
        let host = format!("127.0.1.{round}");
        let _anna = cluster.login("anna").from(&host).open_ok().await;
        assert!(start.elapsed() < Duration::from_secs(2));
        let told = format!("SELECT count(*) FROM license_events WHERE client_host = '{host}'");
        eventually(
            "the login is told of",
            Duration::from_secs(12),
            async || cluster.sql(&told) != "0",
        )
        .await;
        println!("told after {:?}", start.elapsed());
    }
    let start = Instant::now();
    cluster.sql("DROP DATABASE slow0 WITH (FORCE)");
    assert!(start.elapsed() < Duration::from_secs(7));
}
