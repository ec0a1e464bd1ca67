-- Who can't come back for a time. Written by a worker for license_terminate(), read with the licenses;
-- see src/ending.

CREATE TABLE @extschema@.license_bars (
    datid        oid NOT NULL,
    product      text NOT NULL,
    usesysid     oid NOT NULL,
    client_host  text NOT NULL,
    workstation  text NOT NULL DEFAULT '',
    client_user  text,
    barred_until timestamptz NOT NULL,
    barred_at    timestamptz NOT NULL DEFAULT pg_catalog.now(),
    barred_by    name,
    reason       text
);

COMMENT ON TABLE @extschema@.license_bars IS
    'Users who were stopped and can''t come back for a time. Delete a row to let one in again.';
COMMENT ON COLUMN @extschema@.license_bars.datid IS
    'OID of the database in which it was wished: a copy of the database has rows that are not its own';
COMMENT ON COLUMN @extschema@.license_bars.product IS 'The product';
COMMENT ON COLUMN @extschema@.license_bars.usesysid IS 'OID of the role';
COMMENT ON COLUMN @extschema@.license_bars.client_host IS 'The client''s host';
COMMENT ON COLUMN @extschema@.license_bars.workstation IS 'The client''s workstation, or empty';
COMMENT ON COLUMN @extschema@.license_bars.client_user IS 'The application''s own user';
COMMENT ON COLUMN @extschema@.license_bars.barred_until IS 'Until when';
COMMENT ON COLUMN @extschema@.license_bars.barred_at IS 'Since when';
COMMENT ON COLUMN @extschema@.license_bars.barred_by IS 'The administrator';
COMMENT ON COLUMN @extschema@.license_bars.reason IS 'Why';

CREATE TRIGGER license_change AFTER INSERT OR UPDATE OR DELETE ON @extschema@.license_bars
    FOR EACH ROW EXECUTE FUNCTION @extschema@.license_tables_changed();
CREATE TRIGGER license_truncate AFTER TRUNCATE ON @extschema@.license_bars
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.license_tables_changed();
ALTER TABLE @extschema@.license_bars ENABLE ALWAYS TRIGGER license_change;
ALTER TABLE @extschema@.license_bars ENABLE ALWAYS TRIGGER license_truncate;
COMMENT ON TRIGGER license_change ON @extschema@.license_bars IS 'Takes note of changed rows';
COMMENT ON TRIGGER license_truncate ON @extschema@.license_bars IS 'Takes note of TRUNCATE';

REVOKE ALL ON @extschema@.license_bars FROM PUBLIC;
