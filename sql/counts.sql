-- What lasts of the counts. Written by a worker; see src/events/counts.rs.

CREATE TABLE @extschema@.license_counts (
    origin        uuid NOT NULL,
    datid         oid NOT NULL,
    product       text NOT NULL,
    high_water    bigint NOT NULL,
    high_water_at timestamptz NOT NULL,
    denied        bigint NOT NULL,
    counted_since timestamptz NOT NULL,
    PRIMARY KEY (origin, datid, product)
);

COMMENT ON TABLE @extschema@.license_counts IS
    'What license_usage counts, to be found again after a restart. Written by a worker alone.';
COMMENT ON COLUMN @extschema@.license_counts.origin IS
    'license_origin() of the database in which it was counted: a subscriber has rows that are not its own';
COMMENT ON COLUMN @extschema@.license_counts.datid IS
    'OID of the database in which it was counted: a copy of the database counts anew';
COMMENT ON COLUMN @extschema@.license_counts.product IS 'The product';
COMMENT ON COLUMN @extschema@.license_counts.high_water IS 'The most seats that were in use at once';
COMMENT ON COLUMN @extschema@.license_counts.high_water_at IS 'When they were';
COMMENT ON COLUMN @extschema@.license_counts.denied IS 'How many were denied, or would have been under warn';
COMMENT ON COLUMN @extschema@.license_counts.counted_since IS 'Since when that is counted';
