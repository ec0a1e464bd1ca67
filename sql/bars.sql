-- Who can't come back for a time. Written by a worker for license_terminate(), read with the licenses;
-- see src/ending.

CREATE TABLE @extschema@.license_bars (
    origin       uuid NOT NULL,
    datid        oid NOT NULL,
    bar_id       bigint NOT NULL,
    product      text NOT NULL,
    bar_by       text NOT NULL DEFAULT 'user_host',
    usesysid     oid,
    client_user  text,
    client_host  text,
    barred_until timestamptz NOT NULL,
    barred_at    timestamptz NOT NULL DEFAULT pg_catalog.now(),
    barred_by    name,
    reason       text,
    PRIMARY KEY (origin, datid, bar_id),
    CONSTRAINT license_bars_bar_by_known CHECK (bar_by IN ('user_host', 'user', 'host'))
);

COMMENT ON TABLE @extschema@.license_bars IS
    'Users who were stopped and can''t come back for a time. license_lift_bar(), or deleting a row, lets one in again. The view license_bars_in_force shows those of this database and its pools.';
COMMENT ON COLUMN @extschema@.license_bars.origin IS
    'license_origin() of the database in which it was wished: rows of others bar nobody';
COMMENT ON COLUMN @extschema@.license_bars.datid IS
    'OID of the database in which it was wished: a copy of the database has rows that are not its own';
COMMENT ON COLUMN @extschema@.license_bars.bar_id IS 'What license_lift_bar() takes';
COMMENT ON COLUMN @extschema@.license_bars.product IS 'The product';
COMMENT ON COLUMN @extschema@.license_bars.bar_by IS
    'user_host (the user at that host), user (wherever it works) or host (whoever works there)';
COMMENT ON COLUMN @extschema@.license_bars.usesysid IS
    'OID of the role; null where it is the application''s own user, or a host';
COMMENT ON COLUMN @extschema@.license_bars.client_user IS 'The application''s own user, of a lease';
COMMENT ON COLUMN @extschema@.license_bars.client_host IS
    'The client''s host; null where the user is barred wherever it works';
COMMENT ON COLUMN @extschema@.license_bars.barred_until IS 'Until when';
COMMENT ON COLUMN @extschema@.license_bars.barred_at IS 'Since when';
COMMENT ON COLUMN @extschema@.license_bars.barred_by IS 'The administrator';
COMMENT ON COLUMN @extschema@.license_bars.reason IS 'Why';
