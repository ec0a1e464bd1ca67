-- Who is not counted and never denied; see src/rules.

CREATE TABLE @extschema@.license_exemptions (
    kind  text NOT NULL,
    value text NOT NULL,
    note  text,
    -- Where there is no room for all, the newest are left out.
    added_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    PRIMARY KEY (kind, value),
    CONSTRAINT license_exemptions_kind_known CHECK (kind IN ('role', 'host')),
    CONSTRAINT license_exemptions_role_is_a_name
        CHECK (kind <> 'role' OR pg_catalog.octet_length(pg_catalog.convert_to(value, 'UTF8')) BETWEEN 1 AND 63),
    -- An address with bits set right of its mask could mean the host or the network.
    CONSTRAINT license_exemptions_host_is_local_address_or_network
        CHECK (CASE WHEN kind <> 'host' OR value = 'local' THEN true
                    ELSE value::inet = pg_catalog.network(value::inet) END)
);

COMMENT ON TABLE @extschema@.license_exemptions IS
    'Roles and hosts whose logins take no seat and are never denied; a signed license may limit how many are exempt at once';
COMMENT ON COLUMN @extschema@.license_exemptions.kind IS 'role or host';
COMMENT ON COLUMN @extschema@.license_exemptions.value IS
    'The role''s name (its members are exempt too), or local, an address, or a network in CIDR form';
COMMENT ON COLUMN @extschema@.license_exemptions.note IS 'Why it is exempt';
COMMENT ON COLUMN @extschema@.license_exemptions.added_at IS
    'Since when: where the rows of all databases exceed pg_seats.max_rules, the newest are not in force';

SELECT pg_catalog.pg_extension_config_dump('@extschema@.license_exemptions', '');
