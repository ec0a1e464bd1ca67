-- The last: who may do what. Nothing else in this script grants or revokes.
--
-- Default privileges, which whoever sets up a server for an application likes to give, apply to what a
-- script makes, and may as well take away from PUBLIC: nothing is left of them. For row types, too, where there are
-- any: pg_dump warns of those that have privileges of their own.
DO $script$
DECLARE
    was record;
BEGIN
    FOR was IN
        WITH members AS (
            SELECT d.classid, d.objid
              FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
             WHERE d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.deptype = 'e'
               AND e.extname = 'pg_seats'
        ), objects AS (
            SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind,
                   c.oid::pg_catalog.regclass::text AS object, c.relowner AS owner, c.relacl AS acl,
                   CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char" AS letter
              FROM members m JOIN pg_catalog.pg_class c
                   ON m.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND c.oid = m.objid
            UNION ALL
            SELECT 'ROUTINE', p.oid::pg_catalog.regprocedure::text, p.proowner, p.proacl, 'f'
              FROM members m JOIN pg_catalog.pg_proc p
                   ON m.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND p.oid = m.objid
            UNION ALL
            SELECT 'TYPE', t.oid::pg_catalog.regtype::text, t.typowner, t.typacl, 'T'
              FROM pg_catalog.pg_type t
             WHERE (t.typrelid IN (SELECT m.objid FROM members m)
                    OR t.oid IN (SELECT m.objid FROM members m))
               -- Those of arrays are those of their elements.
               AND NOT (t.typelem <> 0 AND t.typsubscript = 'pg_catalog.array_subscript_handler'::pg_catalog.regproc)
               AND t.typacl <> pg_catalog.acldefault('T', t.typowner)
        )
        SELECT DISTINCT o.kind, o.object, a.grantee,
               pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(o.owner)) AS owner,
               CASE a.grantee WHEN 0 THEN 'PUBLIC'
                    ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END AS whom
          FROM objects o
               LEFT JOIN LATERAL pg_catalog.aclexplode(
                   coalesce(o.acl, pg_catalog.acldefault(o.letter, o.owner))) a ON true
    LOOP
        -- Of nobody, where nobody has any.
        IF was.grantee IS NOT NULL THEN
            EXECUTE pg_catalog.format('REVOKE ALL ON %s %s FROM %s CASCADE', was.kind, was.object, was.whom);
        END IF;
        EXECUTE pg_catalog.format('GRANT ALL ON %s %s TO %s', was.kind, was.object, was.owner);
    END LOOP;
END
$script$;

-- Whoever dumps the database must be able to read them, and an application may verify a token by itself.
GRANT SELECT ON @extschema@.licenses, @extschema@.license_exemptions, @extschema@.license_reservations,
                @extschema@.license_keys, @extschema@.license_allotments TO PUBLIC;
-- They show to each what is his.
GRANT SELECT ON @extschema@.license_active_seats, @extschema@.license_usage,
                @extschema@.license_exempt_sessions, @extschema@.license_own_leases,
                @extschema@.license_keys_status, @extschema@.license_bars_in_force TO PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.license_active_seats(), @extschema@.license_usage(),
                          @extschema@.license_exempt_sessions(),
                          @extschema@.license_own_leases(),
                          @extschema@.license_keys_status(),
                          @extschema@.license_bars_in_force() TO PUBLIC;
-- Who works where, and when.
GRANT SELECT ON @extschema@.license_events TO pg_monitor, pg_database_owner;

GRANT EXECUTE ON FUNCTION @extschema@.license_checkout(text, interval, text),
                          @extschema@.license_try_checkout(text, text),
                          @extschema@.license_checkin(text, text),
                          @extschema@.license_held(text) TO PUBLIC;

-- Nobody may take seats for others, raise, reduce, stop, install, allot or renew until it is granted: each
-- by itself, for who may raise need not be who may reduce. Who knows a lease's id can use it, and who is barred is no
-- business of others: license_leases, license_bars and license_counts are the owner's.

-- Whoever owns the schema can drop it, and all that is in it. That of pg_database_owner is the database's owner's. Whoever
-- may create in it can put functions beside these, which a call with fewer arguments, or with others' types, finds first.
DO $script$
DECLARE
    target text := (SELECT n.nspname FROM pg_catalog.pg_namespace n WHERE n.oid = '@extschema@'::pg_catalog.regnamespace);
    holder pg_catalog.pg_roles;
    others text;
BEGIN
    SELECT r.* INTO STRICT holder
      FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_database d
               ON d.datname = pg_catalog.current_database()
           JOIN pg_catalog.pg_roles r
               ON r.oid = CASE n.nspowner WHEN 'pg_database_owner'::pg_catalog.regrole THEN d.datdba
                               ELSE n.nspowner END
     WHERE n.oid = '@extschema@'::pg_catalog.regnamespace;
    IF NOT holder.rolsuper THEN
        RAISE WARNING 'role "%" owns schema "%", and can drop the licenses with it', holder.rolname, target
            USING HINT = 'Create the extension in a schema that a superuser owns, as in CREATE SCHEMA licensing; CREATE EXTENSION pg_seats SCHEMA licensing.';
    END IF;
    SELECT pg_catalog.string_agg(
               CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.format('role "%s"', r.rolname) END, ', '
               ORDER BY r.rolname) INTO others
      FROM pg_catalog.pg_namespace n
           CROSS JOIN LATERAL pg_catalog.aclexplode(n.nspacl) a
           LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
     WHERE n.oid = '@extschema@'::pg_catalog.regnamespace AND a.privilege_type = 'CREATE'
       AND a.grantee <> n.nspowner AND r.rolsuper IS NOT TRUE;
    IF others IS NOT NULL THEN
        RAISE WARNING '% may create in schema "%", and can put functions in the place of these', others, target
            USING HINT = pg_catalog.format('Revoke it, as in REVOKE CREATE ON SCHEMA %I FROM PUBLIC, or create the extension in a schema of its own.', target);
    END IF;
END
$script$;
