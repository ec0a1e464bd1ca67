//! What CREATE EXTENSION makes: whatever others have put into its schema, or have said of privileges, nothing of theirs
//! is called, and nobody has a privilege that is not in the list.

use crate::util::*;

/// Every privilege on what belongs to the extension that somebody beside its owner has.
const GRANTED: &str = r#"
    WITH members AS (
        SELECT classid, objid FROM pg_depend
         WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
           AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_seats')
    ), objects AS (
        SELECT relname::text AS object, 'r'::"char" AS letter, relowner AS owner,
               coalesce(relacl, acldefault('r', relowner)) AS acl
          FROM pg_class JOIN members ON classid = 'pg_class'::regclass AND objid = oid
        UNION ALL
        SELECT proname || '()', 'f', proowner, coalesce(proacl, acldefault('f', proowner))
          FROM pg_proc JOIN members ON classid = 'pg_proc'::regclass AND objid = oid
        UNION ALL
        SELECT 'type ' || typname, 'T', typowner, coalesce(typacl, acldefault('T', typowner))
          FROM pg_type
         WHERE (typrelid IN (SELECT objid FROM members) OR oid IN (SELECT objid FROM members)) AND typcategory <> 'A'
        UNION ALL
        SELECT relname || '.' || attname, 'c', relowner, attacl
          FROM pg_attribute JOIN pg_class ON attrelid = pg_class.oid JOIN members ON objid = attrelid
    )"#;

/// Tables and views: SELECT; functions: EXECUTE.
const FOR_ALL: &[&str] = &[
    "license_active_seats",
    "license_active_seats()",
    "license_bars_in_force",
    "license_bars_in_force()",
    "license_allotments",
    "license_checkin()",
    "license_checkout()",
    "license_exempt_sessions",
    "license_exempt_sessions()",
    "license_exemptions",
    "license_held()",
    "license_keys",
    "license_keys_status",
    "license_keys_status()",
    "license_own_leases",
    "license_own_leases()",
    "license_reservations",
    "license_try_checkout()",
    "license_usage",
    "license_usage()",
    "licenses",
];
const FOR_THOSE_WHO_WATCH: &[&str] = &["license_events"];

fn expected() -> String {
    let mut lines = Vec::new();
    for object in FOR_ALL {
        lines.push((object, "-"));
    }
    for object in FOR_THOSE_WHO_WATCH {
        lines.push((object, "pg_database_owner"));
        lines.push((object, "pg_monitor"));
    }
    lines.sort_unstable();
    let line = |(object, who): (&&str, &str)| {
        let privilege = if object.ends_with(')') {
            "EXECUTE"
        } else {
            "SELECT"
        };
        format!("{object}|{who}|{privilege}|f")
    };
    lines.into_iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Asserts that PUBLIC has, of types, what it has of all types, or nothing.
fn assert_the_list(cluster: &Cluster, db: &str, what: &str) {
    let granted = format!(
        "{GRANTED}
         SELECT object, grantee::regrole, privilege_type, is_grantable FROM objects, aclexplode(acl)
          WHERE grantee <> owner AND NOT (letter = 'T' AND grantee = 0) ORDER BY object COLLATE \"C\", grantee::regrole::text COLLATE \"C\""
    );
    assert_eq!(cluster.sql_in(db, &granted), expected(), "{what}");
    let lacks = format!(
        "{GRANTED}
         SELECT object, d.privilege_type FROM objects, aclexplode(acldefault(letter, owner)) d
          WHERE letter <> 'c' AND d.grantee = owner AND NOT EXISTS (
                SELECT FROM aclexplode(acl) a WHERE (a.grantee, a.privilege_type) = (owner, d.privilege_type))"
    );
    assert_eq!(
        cluster.sql_in(db, &lacks),
        "",
        "{what}: the owner lacks some"
    );
}

#[test]
fn nobody_has_a_privilege_that_is_not_in_the_list() {
    let cluster = Cluster::start();
    cluster.sql("CREATE ROLE app LOGIN; CREATE ROLE \"Group of \"\"apps\"\"\"");
    for (number, defaults) in [
        "",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO app WITH GRANT OPTION",
        "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO app, \"Group of \"\"apps\"\"\", PUBLIC;
         ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO app WITH GRANT OPTION;
         ALTER DEFAULT PRIVILEGES GRANT ALL ON TYPES TO app;
         ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO app, PUBLIC",
        "ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS FROM PUBLIC;
         ALTER DEFAULT PRIVILEGES REVOKE ALL ON TYPES FROM PUBLIC",
        "ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS FROM PUBLIC, postgres;
         ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM postgres;
         ALTER DEFAULT PRIVILEGES REVOKE ALL ON TYPES FROM postgres, PUBLIC",
    ]
    .into_iter()
    .enumerate()
    {
        let db = format!("company{number}");
        cluster.sql(&format!("CREATE DATABASE {db}"));
        cluster.sql_in(&db, &format!("{defaults};\nCREATE EXTENSION pg_seats"));
        assert_the_list(&cluster, &db, defaults);
        // Dumps bring nothing else.
        let dumped = cluster.program("pg_dump", &["-d", &db]);
        if !defaults.contains("ON TYPES") {
            assert_eq!(dumped.stderr, "", "{defaults}: warned of");
        }
        let dump = dumped.ok();
        cluster.sql(&format!("CREATE DATABASE {db}_restored"));
        let psql = [
            "-Xq",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            &format!("{db}_restored"),
        ];
        cluster.program_with("psql", &psql, &[], &dump).ok();
        assert_the_list(&cluster, &format!("{db}_restored"), defaults);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_in_the_schema_of_somebody_else_is_called() {
    let cluster = Cluster::start();
    cluster.hire();
    cluster.sql("CREATE SCHEMA emils AUTHORIZATION emil");
    let traps = "
        CREATE TABLE emils.trap (who name);
        GRANT INSERT ON emils.trap TO PUBLIC;
        CREATE FUNCTION emils.convert_to(text, text) RETURNS bytea LANGUAGE plpgsql IMMUTABLE AS $$BEGIN
            INSERT INTO emils.trap VALUES (current_user);
            RETURN pg_catalog.convert_to($1, $2::name);
        END$$;
        CREATE FUNCTION emils.octet_length(bytea) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$BEGIN
            INSERT INTO emils.trap VALUES (current_user);
            RETURN 1;
        END$$;
        CREATE FUNCTION emils.now() RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$BEGIN
            INSERT INTO emils.trap VALUES (current_user);
            RETURN pg_catalog.now();
        END$$;
        CREATE FUNCTION emils.format(text, uuid) RETURNS text LANGUAGE plpgsql STABLE AS $$BEGIN
            INSERT INTO emils.trap VALUES (current_user);
            RETURN pg_catalog.format($1, $2);
        END$$;
        CREATE FUNCTION emils.above(int, int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$BEGIN
            INSERT INTO emils.trap VALUES (current_user);
            RETURN $1 OPERATOR(pg_catalog.>=) $2;
        END$$;
        CREATE OPERATOR emils.>= (LEFTARG = int, RIGHTARG = int, FUNCTION = emils.above);
        CREATE DOMAIN emils.text AS pg_catalog.text DEFAULT 'evil';
        CREATE DOMAIN emils.uuid AS pg_catalog.uuid";
    cluster.psql_as("emil", "postgres", traps).ok();
    cluster.sql(
        "SET search_path = emils, pg_catalog;
         CREATE EXTENSION pg_seats SCHEMA emils;
         INSERT INTO emils.licenses (product, seats, pool, overdraft) VALUES ('TOM', 1, 'firm', 1);
         INSERT INTO emils.license_exemptions VALUES ('host', '10.0.0.0/8'), ('role', 'carl');
         INSERT INTO emils.license_reservations VALUES ('TOM', 'anna', 1, 1)",
    );
    cluster.sql("SELECT FROM emils.license_usage, emils.license_active_seats");
    assert_eq!(cluster.sql("SELECT * FROM emils.trap"), "");
    // Nor does anything of ours depend on what is not ours.
    let strangers = cluster.sql(
        "WITH members AS (
            SELECT classid, objid FROM pg_depend
             WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
               AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_seats')
         ), ours AS (
            SELECT * FROM members
            UNION
            SELECT d.classid, d.objid FROM pg_depend d JOIN members m ON (d.refclassid, d.refobjid) = (m.classid, m.objid)
         )
         SELECT pg_describe_object(d.classid, d.objid, 0), pg_describe_object(d.refclassid, d.refobjid, 0)
           FROM pg_depend d JOIN ours USING (classid, objid)
          WHERE d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_type'::regclass)
            AND (d.refclassid, d.refobjid) NOT IN (SELECT classid, objid FROM ours)",
    );
    assert_eq!(strangers, "", "belongs to others");
}

#[test]
fn a_schema_that_somebody_can_drop_is_warned_of() {
    let cluster = Cluster::start();
    cluster.hire();
    cluster.sql(
        "CREATE DATABASE of_anna OWNER anna;
         CREATE DATABASE company",
    );
    for (db, schema, owner) in [
        ("postgres", "public", None),
        ("postgres", "licensing", None),
        ("postgres", "\"Annas own\"", Some("anna")),
        ("of_anna", "public", Some("anna")),
        ("of_anna", "licensing", None),
        ("company", "\"Bert's\"", Some("bert")),
    ] {
        let authorization = owner.map_or(String::new(), |owner| format!("AUTHORIZATION {owner}"));
        if schema != "public" {
            cluster.sql_in(db, &format!("CREATE SCHEMA {schema} {authorization}"));
        }
        let create = format!("CREATE EXTENSION pg_seats SCHEMA {schema}");
        let ran = cluster.psql_as("postgres", db, &create);
        // PostgreSQL takes no such name of a schema for an extension whose script names it.
        if schema.contains('\'') {
            let refused = ran.failed();
            assert!(
                refused.contains("invalid character in extension"),
                "{refused}"
            );
            continue;
        }
        let words = owner.map_or(String::new(), |owner| {
            format!(
                "role \"{owner}\" owns schema \"{}\", and can drop the licenses with it",
                schema.trim_matches('"')
            )
        });
        assert_eq!(ran.status, Some(0), "{ran:?}");
        assert_eq!(
            ran.stderr.contains("WARNING"),
            owner.is_some(),
            "{db} {schema}: {ran:?}"
        );
        assert!(ran.stderr.contains(&words), "{db} {schema}: {ran:?}");
        assert_eq!(ran.stderr.contains("HINT"), owner.is_some(), "{ran:?}");
        cluster.sql_in(db, "DROP EXTENSION pg_seats");
    }
}

#[test]
fn who_may_create_in_the_schema_is_warned_of() {
    let cluster = Cluster::start();
    cluster.hire();
    cluster.sql(
        "CREATE SCHEMA licensing; GRANT CREATE ON SCHEMA licensing TO anna, PUBLIC, postgres;
         CREATE SCHEMA \"Seats\"; GRANT CREATE ON SCHEMA \"Seats\" TO \"bert\"; GRANT USAGE ON SCHEMA \"Seats\" TO PUBLIC",
    );
    for (schema, who, revoke) in [
        ("licensing", "role \"anna\", PUBLIC", "licensing FROM"),
        ("\"Seats\"", "role \"bert\"", "\"Seats\" FROM"),
    ] {
        let create = format!("CREATE EXTENSION pg_seats SCHEMA {schema}");
        let ran = cluster.psql_as("postgres", "postgres", &create);
        assert_eq!(ran.status, Some(0), "{ran:?}");
        let words = format!(
            "{who} may create in schema \"{}\", and can put functions in the place of these",
            schema.trim_matches('"')
        );
        assert_eq!(ran.stderr.matches("WARNING").count(), 1, "{ran:?}");
        assert!(ran.stderr.contains(&words), "{ran:?}");
        assert!(ran.stderr.contains(revoke), "{ran:?}");
        cluster.sql("DROP EXTENSION pg_seats");
    }
}
