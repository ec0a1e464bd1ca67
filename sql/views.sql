-- What administrators and users look at. Thin over functions that read the ledger.

CREATE FUNCTION @extschema@.license_active_seats()
RETURNS TABLE (seat_id uuid, product text, datname text, usename text, client_user text,
               client_host text, workstation text, application_name text, kind text, sessions int,
               pids int[], opened_at timestamptz, last_active_at timestamptz,
               expires_at timestamptz, seen_at timestamptz)
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'license_active_seats_wrapper';

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

CREATE VIEW @extschema@.license_usage AS
SELECT product, seats, purchased, in_use, available, waiting, exempt, high_water, high_water_at,
       denied, counted_since, valid_until, days_left, status
  FROM @extschema@.license_usage();

COMMENT ON VIEW @extschema@.license_usage IS
    'How much of each license is in use, since when that is counted, how many logins were denied, and its status';

CREATE VIEW @extschema@.license_exempt_sessions AS
SELECT pid, datname::name, usename::name, client_host, application_name, reason
  FROM @extschema@.license_exempt_sessions();

COMMENT ON VIEW @extschema@.license_exempt_sessions IS
    'Sessions of the database that take no seat, and why. Members of pg_monitor and roles that may execute license_terminate see all, others their own.';

COMMENT ON FUNCTION @extschema@.license_active_seats() IS 'Under the view license_active_seats';
COMMENT ON FUNCTION @extschema@.license_usage() IS 'Under the view license_usage';
COMMENT ON FUNCTION @extschema@.license_exempt_sessions() IS 'Under the view license_exempt_sessions';

GRANT SELECT ON @extschema@.license_active_seats, @extschema@.license_usage,
                @extschema@.license_exempt_sessions TO PUBLIC;
