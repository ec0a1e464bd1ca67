-- How many seats of each product, and the rules. Every login of the database reads the rows, by way of shared
-- memory: see src/rules. What PostgreSQL makes of constraints, indexes and defaults is in definitions.txt, to be told from
-- what others add.

CREATE TABLE @extschema@.licenses (
    product          text NOT NULL,
    seats            int,
    purchased        int,
    counted_by       text NOT NULL DEFAULT 'user_host',
    claimed_at       text NOT NULL DEFAULT 'login',
    application_name text,
    pool             text,
    enforcement      text NOT NULL DEFAULT 'on',
    overdraft        int NOT NULL DEFAULT 0,
    linger           interval NOT NULL DEFAULT '0',
    idle_timeout     interval,
    reclaim_idle_after interval,
    max_per_user     int,
    warn_at_percent  int NOT NULL DEFAULT 90,
    valid_from       timestamptz,
    valid_until      timestamptz,
    grace            interval NOT NULL DEFAULT '0',
    PRIMARY KEY (product),
    -- Names are compared whole, and as UTF-8 whatever the database's encoding: what is longer than a
    -- name of PostgreSQL (63 bytes) is refused, never cut.
    CONSTRAINT licenses_product_is_a_name
        CHECK (product !~ E'[\\x01-\\x1f\\x7f]' AND pg_catalog.octet_length(pg_catalog.convert_to(product, 'UTF8')) BETWEEN 1 AND 63),
    CONSTRAINT licenses_pool_is_a_name
        CHECK (pool !~ E'[\\x01-\\x1f\\x7f]' AND pg_catalog.octet_length(pg_catalog.convert_to(pool, 'UTF8')) BETWEEN 1 AND 63),
    CONSTRAINT licenses_seats_not_negative CHECK (seats >= 0),
    CONSTRAINT licenses_purchased_not_negative CHECK (purchased >= 0),
    -- Unlimited seats (null) exceed any purchase.
    CONSTRAINT licenses_seats_within_purchased
        CHECK (purchased IS NULL OR seats IS NOT NULL AND seats <= purchased),
    CONSTRAINT licenses_counted_by_known
        CHECK (counted_by IN ('user_host', 'user', 'host', 'session', 'user_workstation')),
    CONSTRAINT licenses_claimed_at_known CHECK (claimed_at IN ('login', 'checkout')),
    CONSTRAINT licenses_enforcement_known CHECK (enforcement IN ('on', 'warn', 'off')),
    CONSTRAINT licenses_application_name_is_a_pattern
        CHECK (application_name !~ E'(^|[^\\\\])(\\\\\\\\)*\\\\$'
               AND pg_catalog.octet_length(pg_catalog.convert_to(application_name, 'UTF8')) BETWEEN 1 AND 127),
    CONSTRAINT licenses_overdraft_not_negative CHECK (overdraft >= 0),
    CONSTRAINT licenses_warn_at_percent_in_range CHECK (warn_at_percent BETWEEN 0 AND 100),
    CONSTRAINT licenses_grace_not_negative CHECK (grace >= '0'),
    -- Raises 22008 where the sum is no date: in UTC, as it is read, whatever the time zone here.
    CONSTRAINT licenses_grace_ends_in_time
        CHECK (grace < '0' OR pg_catalog.timezone('UTC', valid_until) + grace >= pg_catalog.timezone('UTC', valid_until)),
    CONSTRAINT licenses_valid_from_before_until CHECK (valid_from < valid_until),
    CONSTRAINT licenses_linger_in_range CHECK (linger BETWEEN '0' AND '1 year'),
    CONSTRAINT licenses_idle_timeout_in_range CHECK (idle_timeout BETWEEN '1 second' AND '1 year'),
    CONSTRAINT licenses_reclaim_idle_after_in_range
        CHECK (reclaim_idle_after BETWEEN '0' AND '1 year'),
    CONSTRAINT licenses_max_per_user_positive CHECK (max_per_user >= 1)
);

-- A login must know which license it claims: no two may have the same pattern, or none.
CREATE UNIQUE INDEX licenses_one_claim_per_application_name
    ON @extschema@.licenses (application_name) NULLS NOT DISTINCT WHERE claimed_at = 'login';

COMMENT ON TABLE @extschema@.licenses IS
    'How many seats of each product this database may use at once, and the rules. Without a row everyone is admitted.';
COMMENT ON COLUMN @extschema@.licenses.product IS 'Name of the product, shown to people';
COMMENT ON COLUMN @extschema@.licenses.seats IS 'Seats that may be in use at once; null: unlimited';
COMMENT ON COLUMN @extschema@.licenses.purchased IS 'Seats owned, which seats can''t exceed; null: no cap';
COMMENT ON COLUMN @extschema@.licenses.counted_by IS
    'What makes two connections the same user: user_host, user, host, session or user_workstation';
COMMENT ON COLUMN @extschema@.licenses.claimed_at IS
    'Who claims it: login (every login that application_name admits) or checkout (only applications)';
COMMENT ON COLUMN @extschema@.licenses.application_name IS
    'LIKE pattern of the application names whose logins claim it; the longest pattern wins; null: those that no pattern matches';
COMMENT ON COLUMN @extschema@.licenses.pool IS
    'Databases of this server with the same pool and product count together; null: this database alone';
COMMENT ON COLUMN @extschema@.licenses.enforcement IS
    'on; warn: admits, logs and counts what would have been denied; off: admits';
COMMENT ON COLUMN @extschema@.licenses.overdraft IS 'Seats admitted beyond seats, and logged';
COMMENT ON COLUMN @extschema@.licenses.linger IS
    'How long a seat stays taken for its identity after its last holder left';
COMMENT ON COLUMN @extschema@.licenses.idle_timeout IS
    'Inactivity of all its sessions after which a seat is logged off; null: never';
COMMENT ON COLUMN @extschema@.licenses.reclaim_idle_after IS
    'Inactivity after which a seat gives way to somebody who would be denied; null: never';
COMMENT ON COLUMN @extschema@.licenses.max_per_user IS
    'Seats that one database role may have at once, of leases one client_user; null: no limit';
COMMENT ON COLUMN @extschema@.licenses.warn_at_percent IS
    'Percent of seats in use from which license_usage.status is warning';
COMMENT ON COLUMN @extschema@.licenses.valid_from IS 'Nobody is admitted before';
COMMENT ON COLUMN @extschema@.licenses.valid_until IS 'Nobody is admitted from then on, save within grace';
COMMENT ON COLUMN @extschema@.licenses.grace IS 'Still admitted that long after valid_until';

-- A restored company database keeps its license.
SELECT pg_catalog.pg_extension_config_dump('@extschema@.licenses', '');
