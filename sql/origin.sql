-- Before everything else: names resolve in pg_catalog alone, so that nothing in the target schema is ever
-- called. Every other name is qualified.
SET LOCAL search_path = pg_catalog, pg_temp;

-- What tells this database's own rows from those that replication brings, whose database may have the same
-- OID. In the body of a function it is copied with the database and kept by pg_upgrade, and neither dumped
-- nor replicated.
DO $script$
BEGIN
    EXECUTE pg_catalog.format(
        $create$
            CREATE FUNCTION @extschema@.license_origin() RETURNS pg_catalog.uuid
            LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT ''%s''::pg_catalog.uuid'
        $create$,
        pg_catalog.gen_random_uuid());
END
$script$;

COMMENT ON FUNCTION @extschema@.license_origin() IS
    'Made at random with the extension: with the database''s OID it tells this database''s own counts, leases and bars from those of others';
