-- Every change of what is licensed is noticed, whoever makes it: ALWAYS includes logical replication, which fires row
-- triggers only. They only take note, and refuse nothing.
DO $script$
DECLARE
    licensing pg_catalog.regclass;
    takes_note CONSTANT pg_catalog.regprocedure := '@extschema@.license_tables_changed()';
BEGIN
    FOREACH licensing IN ARRAY ARRAY[
        '@extschema@.licenses', '@extschema@.license_exemptions', '@extschema@.license_reservations',
        '@extschema@.license_bars', '@extschema@.license_keys', '@extschema@.license_allotments'
    ]::pg_catalog.regclass[] LOOP
        EXECUTE pg_catalog.format(
            'CREATE TRIGGER license_change AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION %s',
            licensing, takes_note);
        EXECUTE pg_catalog.format(
            'CREATE TRIGGER license_truncate AFTER TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION %s',
            licensing, takes_note);
        EXECUTE pg_catalog.format('ALTER TABLE %s ENABLE ALWAYS TRIGGER license_change', licensing);
        EXECUTE pg_catalog.format('ALTER TABLE %s ENABLE ALWAYS TRIGGER license_truncate', licensing);
        EXECUTE pg_catalog.format('COMMENT ON TRIGGER license_change ON %s IS ''Takes note of changed rows''', licensing);
        EXECUTE pg_catalog.format('COMMENT ON TRIGGER license_truncate ON %s IS ''Takes note of TRUNCATE''', licensing);
    END LOOP;
END
$script$;
