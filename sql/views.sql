-- What administrators and users look at. Thin over functions that read the ledger.

CREATE VIEW @extschema@.license_active_seats AS
SELECT seat_id,
       product,
       datname::name,
       usename::name,
       client_user,
       client_host,
       workstation,
       application_name,
       kind,
       sessions,
       pids,
       opened_at,
       last_active_at,
       greatest(seen_at - last_active_at, '0'::interval) AS idle,
       expires_at
  FROM @extschema@.license_active_seats();

COMMENT ON VIEW @extschema@.license_active_seats IS
    'One row for each seat in use, those of the database''s pools included. Where the sessions of a seat differ, the column is null. Members of pg_monitor and roles that may execute license_terminate see all, others their own.';
COMMENT ON COLUMN @extschema@.license_active_seats.seat_id IS 'The seat''s id, which license_terminate() takes';
COMMENT ON COLUMN @extschema@.license_active_seats.product IS 'The product';
COMMENT ON COLUMN @extschema@.license_active_seats.datname IS 'The database of its holders; null: they are in several, or the seat lingers';
COMMENT ON COLUMN @extschema@.license_active_seats.usename IS
    'The role that authenticated; null: its holders'' roles differ';
COMMENT ON COLUMN @extschema@.license_active_seats.client_user IS
    'The application''s own user, where one was given at checkout or lease';
COMMENT ON COLUMN @extschema@.license_active_seats.client_host IS
    'The client''s host: local, an address, or the name that a lease was taken with';
COMMENT ON COLUMN @extschema@.license_active_seats.workstation IS
    'The workstation that the client sent at connection start';
COMMENT ON COLUMN @extschema@.license_active_seats.application_name IS
    'The application''s name; null: its holders'' names differ';
COMMENT ON COLUMN @extschema@.license_active_seats.kind IS
    'The strongest of its holders: login, checkout, then lease; null: the seat lingers';
COMMENT ON COLUMN @extschema@.license_active_seats.sessions IS 'How many sessions hold it';
COMMENT ON COLUMN @extschema@.license_active_seats.pids IS 'Their process ids, as in pg_stat_activity';
COMMENT ON COLUMN @extschema@.license_active_seats.opened_at IS 'When the seat was taken';
COMMENT ON COLUMN @extschema@.license_active_seats.last_active_at IS 'When any of its holders was last active';
COMMENT ON COLUMN @extschema@.license_active_seats.idle IS 'How long none of its holders has been active';
COMMENT ON COLUMN @extschema@.license_active_seats.expires_at IS
    'When its lease ends, or it lingers no longer; null: it has no such end';

CREATE VIEW @extschema@.license_usage AS
SELECT product, seats, purchased, in_use, available, waiting, exempt, high_water, high_water_at,
       denied, counted_since, valid_until, days_left, status, license_id
  FROM @extschema@.license_usage();

COMMENT ON VIEW @extschema@.license_usage IS
    'How much of each license is in use, since when that is counted, how many logins were denied, its status, and the id of the signed license that rules it (null: nobody has signed it)';
COMMENT ON COLUMN @extschema@.license_usage.product IS 'The product';
COMMENT ON COLUMN @extschema@.license_usage.seats IS 'Seats that may be in use at once; null: unlimited';
COMMENT ON COLUMN @extschema@.license_usage.purchased IS 'Seats owned, which seats can''t exceed; null: no cap';
COMMENT ON COLUMN @extschema@.license_usage.in_use IS 'Seats in use, in all databases of the pool';
COMMENT ON COLUMN @extschema@.license_usage.available IS
    'Seats that are free, those kept for reserved roles included; null: unlimited';
COMMENT ON COLUMN @extschema@.license_usage.waiting IS 'How many wait in the queue for a seat';
COMMENT ON COLUMN @extschema@.license_usage.exempt IS 'Exempt sessions that would have claimed a seat of it';
COMMENT ON COLUMN @extschema@.license_usage.high_water IS 'The most seats that were in use at once since counted_since';
COMMENT ON COLUMN @extschema@.license_usage.high_water_at IS 'When that many were first in use; null: none ever was';
COMMENT ON COLUMN @extschema@.license_usage.denied IS
    'How many were denied since counted_since, or would have been under warn';
COMMENT ON COLUMN @extschema@.license_usage.counted_since IS 'Since when high_water and denied are counted';
COMMENT ON COLUMN @extschema@.license_usage.valid_until IS 'When the license ends; null: never';
COMMENT ON COLUMN @extschema@.license_usage.days_left IS
    'Whole days of 24 hours until valid_until, and 0 from then on; null: it has no end';
COMMENT ON COLUMN @extschema@.license_usage.status IS
    'The first that holds of tampered, interfered with, not enforced, expired, not yet valid, over, overdraft, full, grace, warning, unlimited, ok';
COMMENT ON COLUMN @extschema@.license_usage.license_id IS
    'The id of the signed license that rules the product; null: nobody has signed it';

CREATE VIEW @extschema@.license_exempt_sessions AS
SELECT pid, datname::name, usename::name, client_host, application_name, reason
  FROM @extschema@.license_exempt_sessions();

COMMENT ON VIEW @extschema@.license_exempt_sessions IS
    'Sessions of the database that take no seat, and why. Members of pg_monitor and roles that may execute license_terminate see all, others their own.';
COMMENT ON COLUMN @extschema@.license_exempt_sessions.pid IS 'The process id, as in pg_stat_activity';
COMMENT ON COLUMN @extschema@.license_exempt_sessions.datname IS
    'The database; null: a replication connection without one';
COMMENT ON COLUMN @extschema@.license_exempt_sessions.usename IS 'The role that authenticated';
COMMENT ON COLUMN @extschema@.license_exempt_sessions.client_host IS 'The client''s host; null: a background worker';
COMMENT ON COLUMN @extschema@.license_exempt_sessions.application_name IS 'The application''s name';
COMMENT ON COLUMN @extschema@.license_exempt_sessions.reason IS
    'superuser, replication, exempt role, exempt host, no license claimed or background worker';

CREATE VIEW @extschema@.license_own_leases AS
SELECT lease_id, product, client_user, client_host, ttl_seconds * '1 second'::interval AS ttl,
       expires_at, taken_by::name
  FROM @extschema@.license_own_leases();

COMMENT ON VIEW @extschema@.license_own_leases IS
    'The leases of the database that roles took of which you are a member';
COMMENT ON COLUMN @extschema@.license_own_leases.lease_id IS 'What extends and ends the lease';
COMMENT ON COLUMN @extschema@.license_own_leases.product IS 'The product';
COMMENT ON COLUMN @extschema@.license_own_leases.client_user IS 'The application''s own user';
COMMENT ON COLUMN @extschema@.license_own_leases.client_host IS 'Where that user works';
COMMENT ON COLUMN @extschema@.license_own_leases.ttl IS 'How long it lasts after each heartbeat';
COMMENT ON COLUMN @extschema@.license_own_leases.expires_at IS 'When it ends without another heartbeat';
COMMENT ON COLUMN @extschema@.license_own_leases.taken_by IS
    'The role that took it: the current role of the call, also after SET ROLE';

CREATE VIEW @extschema@.license_keys_status AS
SELECT license_id, issuer, customer, products, valid_from, valid_until, days_left, state, detail,
       believed_until, installation, token, next_renewal_at, renewal_failure
  FROM @extschema@.license_keys_status();

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

CREATE VIEW @extschema@.license_bars_in_force AS
SELECT bar_id, product, bar_by, usename::pg_catalog.name, client_user, client_host, barred_until,
       barred_at, barred_by::pg_catalog.name, reason
  FROM @extschema@.license_bars_in_force();

COMMENT ON VIEW @extschema@.license_bars_in_force IS
    'Who can''t come back for a time, of the database''s products and their pools. Shows rows only to roles that may execute license_terminate.';
COMMENT ON COLUMN @extschema@.license_bars_in_force.bar_id IS 'What license_lift_bar() takes';
COMMENT ON COLUMN @extschema@.license_bars_in_force.product IS 'The product';
COMMENT ON COLUMN @extschema@.license_bars_in_force.bar_by IS
    'user_host (the user at that host), user (wherever it works) or host (whoever works there)';
COMMENT ON COLUMN @extschema@.license_bars_in_force.usename IS
    'The role; null where it is the application''s own user, or a host';
COMMENT ON COLUMN @extschema@.license_bars_in_force.client_user IS
    'The application''s own user, of a lease';
COMMENT ON COLUMN @extschema@.license_bars_in_force.client_host IS
    'The client''s host; null where the user is barred wherever it works';
COMMENT ON COLUMN @extschema@.license_bars_in_force.barred_until IS 'Until when';
COMMENT ON COLUMN @extschema@.license_bars_in_force.barred_at IS 'Since when';
COMMENT ON COLUMN @extschema@.license_bars_in_force.barred_by IS 'The administrator';
COMMENT ON COLUMN @extschema@.license_bars_in_force.reason IS 'Why';
