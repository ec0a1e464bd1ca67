-- Signed licenses: the tokens that were installed; see src/signed.

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

-- A restored company database keeps its license.
SELECT pg_catalog.pg_extension_config_dump('@extschema@.license_keys', '');
