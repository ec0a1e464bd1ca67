-- The audit trail. Written by a worker; see src/events.

CREATE TABLE @extschema@.license_events (
    at          timestamptz NOT NULL,
    event       text NOT NULL,
    product     text,
    usename     name,
    client_user text,
    client_host text,
    workstation text,
    datname     name,
    detail      jsonb NOT NULL DEFAULT '{}',
    -- What is told where no library counts, or by hand, is a run of its own.
    run         uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
    number      bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (run, number)
);

CREATE INDEX license_events_at ON @extschema@.license_events (at);
-- Each warning of a license's end is given once.
CREATE INDEX license_events_ending ON @extschema@.license_events (product)
    WHERE event = 'warning' AND detail ->> 'level' = 'ending';
-- Each foreign thing is told once.
CREATE INDEX license_events_interference ON @extschema@.license_events (at)
    WHERE event = 'interference';

COMMENT ON TABLE @extschema@.license_events IS
    'The audit trail: who took and left seats, who was denied, and what administrators did. Written within a second, kept for pg_seats.event_retention.';
COMMENT ON COLUMN @extschema@.license_events.at IS 'When it happened';
COMMENT ON COLUMN @extschema@.license_events.event IS
    'One of: login, checkout, lease, release, denial, overdraft, exempt login, lease expiry, termination, idle log-off, reclaim, warning, raise, reduction, license added, license changed, license removed, license truncated, exemption added, exemption changed, exemption removed, exemption truncated, reservation added, reservation changed, reservation removed, reservation truncated, bar added, bar changed, bar removed, bar truncated, signed license added, signed license changed, signed license removed, signed license truncated, allotment added, allotment changed, allotment removed, allotment truncated, tampering, interference, license in doubt, renewal, clock jump, events lost';
COMMENT ON COLUMN @extschema@.license_events.product IS 'The product';
COMMENT ON COLUMN @extschema@.license_events.usename IS 'The authenticated role';
COMMENT ON COLUMN @extschema@.license_events.client_user IS 'The application''s own user';
COMMENT ON COLUMN @extschema@.license_events.client_host IS 'The client''s host';
COMMENT ON COLUMN @extschema@.license_events.workstation IS 'The client''s workstation';
COMMENT ON COLUMN @extschema@.license_events.datname IS 'The database';
COMMENT ON COLUMN @extschema@.license_events.detail IS
    'What else is known, among it seat_id, cause, in_use, limit, and from and to of changed columns; count, since and held_ms where what loops is told together; no_room_for names what was not known any more when it was written';
COMMENT ON COLUMN @extschema@.license_events.run IS
    'Which start of which server told it: of its rows no two have the same number';
COMMENT ON COLUMN @extschema@.license_events.number IS
    'In the order in which things happened, with gaps, for other databases have numbers of the same run';
COMMENT ON INDEX @extschema@.license_events_at IS 'Finds the rows of a time, and those that are old';
COMMENT ON INDEX @extschema@.license_events_ending IS 'Finds the warnings that were given of a license''s end';
COMMENT ON INDEX @extschema@.license_events_interference IS 'Finds what was told of others'' things on our tables';

SELECT pg_catalog.pg_extension_config_dump('@extschema@.license_events', '');
