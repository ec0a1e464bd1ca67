-- Seats of signed licenses that were allotted to other installations; see src/signed/allotments.rs.

CREATE TABLE @extschema@.license_allotments (
    allotment_id text NOT NULL,
    license_id   text NOT NULL,
    product      text NOT NULL,
    seats        int NOT NULL,
    installation text NOT NULL,
    allotted_at  timestamptz NOT NULL DEFAULT pg_catalog.now(),
    allotted_by  name NOT NULL DEFAULT session_user,
    valid_until  timestamptz,
    returned_at  timestamptz,
    token        text NOT NULL,
    PRIMARY KEY (allotment_id)
);

COMMENT ON TABLE @extschema@.license_allotments IS
    'Seats of signed licenses that were passed on to other installations, and whether they came back';
COMMENT ON COLUMN @extschema@.license_allotments.allotment_id IS 'The allotment''s id: the claim jti of its token';
COMMENT ON COLUMN @extschema@.license_allotments.license_id IS 'The license that they are of';
COMMENT ON COLUMN @extschema@.license_allotments.product IS 'The product';
COMMENT ON COLUMN @extschema@.license_allotments.seats IS 'How many seats';
COMMENT ON COLUMN @extschema@.license_allotments.installation IS 'The id of the installation that has them';
COMMENT ON COLUMN @extschema@.license_allotments.allotted_at IS 'When they were passed on';
COMMENT ON COLUMN @extschema@.license_allotments.allotted_by IS 'Who passed them on';
COMMENT ON COLUMN @extschema@.license_allotments.valid_until IS 'When they come back by themselves; null: never';
COMMENT ON COLUMN @extschema@.license_allotments.returned_at IS 'When they came back, by a receipt or by their time; null: they are away';
COMMENT ON COLUMN @extschema@.license_allotments.token IS 'What is to be installed there';

-- Whoever restores it must not have the seats twice.
SELECT pg_catalog.pg_extension_config_dump('@extschema@.license_allotments', '');
