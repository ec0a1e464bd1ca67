-- Signed licenses: the tokens that were installed, what was passed on to other installations, and when
-- tokens are renewed; see src/licenses/signed.rs and src/api/keys.rs.

CREATE TABLE @extschema@.license_keys (
    license_id   text NOT NULL,
    token        text NOT NULL,
    installed_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    installed_by name NOT NULL DEFAULT session_user,
    -- A row that is deleted tells a standby nothing.
    uninstalled_at timestamptz,
    PRIMARY KEY (license_id)
);

COMMENT ON TABLE @extschema@.license_keys IS
    'Signed licenses, as license_install() has stored them. The view license_keys_status shows what they say.';
COMMENT ON COLUMN @extschema@.license_keys.license_id IS 'The license''s id: the claim jti';
COMMENT ON COLUMN @extschema@.license_keys.token IS 'What the vendor has signed: a JWS in compact form';
COMMENT ON COLUMN @extschema@.license_keys.installed_at IS 'When this token was installed';
COMMENT ON COLUMN @extschema@.license_keys.installed_by IS 'Who installed it';
COMMENT ON COLUMN @extschema@.license_keys.uninstalled_at IS
    'When license_uninstall() has taken it out of force; null: it is in force';

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

CREATE TRIGGER license_change AFTER INSERT OR UPDATE OR DELETE ON @extschema@.license_keys
    FOR EACH ROW EXECUTE FUNCTION @extschema@.license_tables_changed();
CREATE TRIGGER license_truncate AFTER TRUNCATE ON @extschema@.license_keys
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.license_tables_changed();
CREATE TRIGGER license_change AFTER INSERT OR UPDATE OR DELETE ON @extschema@.license_allotments
    FOR EACH ROW EXECUTE FUNCTION @extschema@.license_tables_changed();
CREATE TRIGGER license_truncate AFTER TRUNCATE ON @extschema@.license_allotments
    FOR EACH STATEMENT EXECUTE FUNCTION @extschema@.license_tables_changed();
ALTER TABLE @extschema@.license_keys ENABLE ALWAYS TRIGGER license_change;
ALTER TABLE @extschema@.license_keys ENABLE ALWAYS TRIGGER license_truncate;
ALTER TABLE @extschema@.license_allotments ENABLE ALWAYS TRIGGER license_change;
ALTER TABLE @extschema@.license_allotments ENABLE ALWAYS TRIGGER license_truncate;
COMMENT ON TRIGGER license_change ON @extschema@.license_keys IS 'Takes note of changed rows';
COMMENT ON TRIGGER license_truncate ON @extschema@.license_keys IS 'Takes note of TRUNCATE';
COMMENT ON TRIGGER license_change ON @extschema@.license_allotments IS 'Takes note of changed rows';
COMMENT ON TRIGGER license_truncate ON @extschema@.license_allotments IS 'Takes note of TRUNCATE';

-- A restored company database keeps its license, and what it has passed on.
SELECT pg_catalog.pg_extension_config_dump('@extschema@.license_keys', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.license_allotments', '');

CREATE FUNCTION @extschema@.license_install(token text)
RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'license_install_wrapper';

CREATE FUNCTION @extschema@.license_uninstall(license_id text)
RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'license_uninstall_wrapper';

CREATE FUNCTION @extschema@.license_installation()
RETURNS jsonb
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'license_installation_wrapper';

CREATE FUNCTION @extschema@.license_renew(license_id text DEFAULT NULL)
RETURNS int
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'license_renew_wrapper';

CREATE FUNCTION @extschema@.license_keys_status()
RETURNS TABLE (license_id text, issuer text, customer text, products jsonb, valid_from timestamptz,
               valid_until timestamptz, days_left int, state text, detail text,
               believed_until timestamptz, installation text, token text,
               next_renewal_at timestamptz, renewal_failure text)
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'license_keys_status_wrapper';

CREATE VIEW @extschema@.license_keys_status AS
SELECT license_id, issuer, customer, products, valid_from, valid_until, days_left, state, detail,
       believed_until, installation, token, next_renewal_at, renewal_failure
  FROM @extschema@.license_keys_status();

CREATE FUNCTION @extschema@.license_allot(product text, installation jsonb, seats int,
                                          valid_until timestamptz DEFAULT NULL)
RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'license_allot_wrapper';

CREATE FUNCTION @extschema@.license_give_back(product text)
RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'license_give_back_wrapper';

CREATE FUNCTION @extschema@.license_accept_return(receipt text)
RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'license_accept_return_wrapper';

COMMENT ON FUNCTION @extschema@.license_install(text) IS
    'Installs a signed license, effective at commit, and returns its id; 28000 where it can''t be verified';
COMMENT ON FUNCTION @extschema@.license_uninstall(text) IS
    'Removes a signed license and the rows of its products; false if there was none';
COMMENT ON FUNCTION @extschema@.license_installation() IS
    'This server''s public key as a JWK, whose kid is the installation''s id';
COMMENT ON FUNCTION @extschema@.license_allot(text, jsonb, int, timestamptz) IS
    'Passes seats on to another installation, and returns the token to be installed there; not undone by ROLLBACK';
COMMENT ON FUNCTION @extschema@.license_give_back(text) IS
    'Ends the use of seats that were passed on to this installation, and returns a receipt; not undone by ROLLBACK';
COMMENT ON FUNCTION @extschema@.license_accept_return(text) IS
    'Takes back, once, the seats of a receipt, and returns how many; 28000 where it can''t be verified';
COMMENT ON FUNCTION @extschema@.license_renew(text) IS
    'Renews a signed license now, or all of the database, by pg_seats.renewal_command, and returns how many; 38000 where the command fails, 28000 where its answer can''t be verified, both a WARNING where another license was renewed';
COMMENT ON FUNCTION @extschema@.license_keys_status() IS 'Under the view license_keys_status';
COMMENT ON VIEW @extschema@.license_keys_status IS
    'The signed licenses of the database: what they say, how long they last, whether they can be verified, and when they are renewed';
COMMENT ON COLUMN @extschema@.license_keys_status.license_id IS 'The license''s id: the claim jti';
COMMENT ON COLUMN @extschema@.license_keys_status.issuer IS 'The vendor: the claim iss; null: the token can''t be read';
COMMENT ON COLUMN @extschema@.license_keys_status.customer IS 'The customer: the claim sub';
COMMENT ON COLUMN @extschema@.license_keys_status.products IS
    'What the license rules in this database: a list of products with their rules';
COMMENT ON COLUMN @extschema@.license_keys_status.valid_from IS
    'From when on it is valid: the claim nbf; null: from ever';
COMMENT ON COLUMN @extschema@.license_keys_status.valid_until IS 'When it ends: the claim exp; null: never';
COMMENT ON COLUMN @extschema@.license_keys_status.days_left IS
    'Whole days of 24 hours until valid_until, and 0 from then on; null: it has no end';
COMMENT ON COLUMN @extschema@.license_keys_status.state IS
    'valid, expired, not yet valid, tampered, unverified, other installation, given back, superseded or invalid';
COMMENT ON COLUMN @extschema@.license_keys_status.detail IS 'Why, where the state does not say it all';
COMMENT ON COLUMN @extschema@.license_keys_status.believed_until IS
    'Until when a license that can''t be verified now stays in force; null: it is verified';
COMMENT ON COLUMN @extschema@.license_keys_status.installation IS
    'The id of the installation that it is made for; null: any';
COMMENT ON COLUMN @extschema@.license_keys_status.token IS 'The token that the vendor has signed';
COMMENT ON COLUMN @extschema@.license_keys_status.next_renewal_at IS
    'When the server renews it by itself; null: it does not';
COMMENT ON COLUMN @extschema@.license_keys_status.renewal_failure IS
    'Why the last renewal failed; shown to members of pg_monitor and roles that may execute license_renew';
