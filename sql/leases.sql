-- Leases: what lasts of them. Written by license_lease() and license_release(), read after a start;
-- see src/lease.

CREATE TABLE @extschema@.license_leases (
    origin      uuid NOT NULL,
    datid       oid NOT NULL,
    lease_id    uuid NOT NULL,
    usesysid    oid NOT NULL,
    taken_by    oid NOT NULL,
    product     text NOT NULL,
    client_user text NOT NULL,
    client_host text NOT NULL,
    ttl         interval NOT NULL,
    granted_at  timestamptz NOT NULL DEFAULT pg_catalog.now(),
    PRIMARY KEY (origin, datid, lease_id)
);

COMMENT ON TABLE @extschema@.license_leases IS
    'The leases of this database that have not ended, to be found again after a crash. Written by the license functions alone.';
COMMENT ON COLUMN @extschema@.license_leases.origin IS
    'license_origin() of the database in which it was taken: a subscriber has rows that are not its own';
COMMENT ON COLUMN @extschema@.license_leases.datid IS
    'OID of the database in which it was taken: a copy of the database has rows that are not its own';
COMMENT ON COLUMN @extschema@.license_leases.lease_id IS 'What extends and ends the lease: a secret of whoever took it';
COMMENT ON COLUMN @extschema@.license_leases.usesysid IS 'OID of the role whose session took it';
COMMENT ON COLUMN @extschema@.license_leases.taken_by IS
    'OID of the role that took it: the current role of the call';
COMMENT ON COLUMN @extschema@.license_leases.product IS 'The product';
COMMENT ON COLUMN @extschema@.license_leases.client_user IS 'The application''s own user';
COMMENT ON COLUMN @extschema@.license_leases.client_host IS 'Where that user works, as the application gave it';
COMMENT ON COLUMN @extschema@.license_leases.ttl IS 'How long it lasts after each heartbeat';
COMMENT ON COLUMN @extschema@.license_leases.granted_at IS 'When it was taken';
