-- All functions but license_origin(), which is made first; see src/api, and src/server/trigger.rs for the last.

-- What applications call.

CREATE FUNCTION @extschema@.license_checkout(
    product text DEFAULT NULL, wait interval DEFAULT '0', client_user text DEFAULT NULL,
    OUT seat_id uuid, OUT lease_id uuid, OUT product text, OUT usename name, OUT client_user text,
    OUT client_host text, OUT workstation text, OUT seats_in_use int, OUT seats int,
    OUT expires_at timestamptz)
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'license_checkout_wrapper';

CREATE FUNCTION @extschema@.license_try_checkout(
    product text DEFAULT NULL, client_user text DEFAULT NULL,
    OUT seat_id uuid, OUT lease_id uuid, OUT product text, OUT usename name, OUT client_user text,
    OUT client_host text, OUT workstation text, OUT seats_in_use int, OUT seats int,
    OUT expires_at timestamptz)
RETURNS SETOF record ROWS 1
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'license_try_checkout_wrapper';

CREATE FUNCTION @extschema@.license_checkin(product text DEFAULT NULL, client_user text DEFAULT NULL)
RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'license_checkin_wrapper';

CREATE FUNCTION @extschema@.license_held(product text)
RETURNS boolean
LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'license_held_wrapper';

CREATE FUNCTION @extschema@.license_lease(
    client_user text, client_host text, product text DEFAULT NULL,
    ttl interval DEFAULT '5 minutes', wait interval DEFAULT '0',
    OUT seat_id uuid, OUT lease_id uuid, OUT product text, OUT usename name, OUT client_user text,
    OUT client_host text, OUT workstation text, OUT seats_in_use int, OUT seats int,
    OUT expires_at timestamptz)
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'license_lease_wrapper';

CREATE FUNCTION @extschema@.license_heartbeat(lease_id uuid)
RETURNS timestamptz
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'license_heartbeat_wrapper';

CREATE FUNCTION @extschema@.license_release(lease_id uuid)
RETURNS boolean
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'license_release_wrapper';

COMMENT ON FUNCTION @extschema@.license_checkout(text, interval, text) IS
    'Takes a seat, which the session holds until it checks in or ends; waits in the queue for it if asked to';
COMMENT ON FUNCTION @extschema@.license_try_checkout(text, text) IS
    'Takes a seat as license_checkout does; no row when none is free';
COMMENT ON FUNCTION @extschema@.license_checkin(text, text) IS
    'Gives back one checkout of this session; false if there was none';
COMMENT ON FUNCTION @extschema@.license_held(text) IS
    'Whether this session''s identity, or a lease lent to this transaction, holds a seat of the product; for policies and CHECKs';
COMMENT ON FUNCTION @extschema@.license_lease(text, text, text, interval, interval) IS
    'Takes a seat on behalf of an application''s user, until it is released or no heartbeat came for its time to live';
COMMENT ON FUNCTION @extschema@.license_heartbeat(uuid) IS
    'Extends a lease by its time to live, and lends it to the transaction; its new end, null if it is gone';
COMMENT ON FUNCTION @extschema@.license_release(uuid) IS
    'Ends a lease when the transaction commits; false if it was gone';

-- What administrators call.

CREATE FUNCTION @extschema@.license_raise_seats(product text, seats int)
RETURNS int
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'license_raise_seats_wrapper';

CREATE FUNCTION @extschema@.license_reduce_seats(product text, seats int)
RETURNS int
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'license_reduce_seats_wrapper';

CREATE FUNCTION @extschema@.license_terminate(
    seat_id uuid, reason text DEFAULT NULL, bar_for interval DEFAULT '0',
    bar_by text DEFAULT 'user_host')
RETURNS int
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'license_terminate_wrapper';

CREATE FUNCTION @extschema@.license_lift_bar(bar_id bigint)
RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'license_lift_bar_wrapper';

COMMENT ON FUNCTION @extschema@.license_raise_seats(text, int) IS
    'Raises the seats of a product, at most to what is purchased; for e.g. accountants. Returns the new number';
COMMENT ON FUNCTION @extschema@.license_reduce_seats(text, int) IS
    'Reduces the seats of a product, and throws nobody out; for support. Returns the new number';
COMMENT ON FUNCTION @extschema@.license_terminate(uuid, text, interval, text) IS
    'Stops a session: ends all that hold a seat, bars its users for a time if asked to, and returns how many ended';
COMMENT ON FUNCTION @extschema@.license_lift_bar(bigint) IS
    'Lets a barred user in again; false if the bar was gone. The ids are in license_bars_in_force';

-- Signed licenses.

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
COMMENT ON FUNCTION @extschema@.license_renew(text) IS
    'Renews a signed license now, or all of the database, by pg_seats.renewal_command, and returns how many; 38000 where the command fails, 28000 where its answer can''t be verified, both a WARNING where another license was renewed';
COMMENT ON FUNCTION @extschema@.license_allot(text, jsonb, int, timestamptz) IS
    'Passes seats on to another installation, and returns the token to be installed there; not undone by ROLLBACK';
COMMENT ON FUNCTION @extschema@.license_give_back(text) IS
    'Ends the use of seats that were passed on to this installation, and returns a receipt; not undone by ROLLBACK';
COMMENT ON FUNCTION @extschema@.license_accept_return(text) IS
    'Takes back, once, the seats of a receipt, and returns how many; 28000 where it can''t be verified';

-- Under the views.

CREATE FUNCTION @extschema@.license_active_seats()
RETURNS TABLE (seat_id uuid, product text, datname text, usename text, client_user text,
               client_host text, workstation text, application_name text, kind text, sessions int,
               pids int[], opened_at timestamptz, last_active_at timestamptz,
               expires_at timestamptz, seen_at timestamptz)
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'license_active_seats_wrapper';

CREATE FUNCTION @extschema@.license_usage()
RETURNS TABLE (product text, seats int, purchased int, in_use int, available int, waiting int,
               exempt int, high_water int, high_water_at timestamptz, denied bigint,
               counted_since timestamptz, valid_until timestamptz, days_left int, status text, license_id text)
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'license_usage_wrapper';

CREATE FUNCTION @extschema@.license_exempt_sessions()
RETURNS TABLE (pid int, datname text, usename text, client_host text, application_name text,
               reason text)
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'license_exempt_sessions_wrapper';

CREATE FUNCTION @extschema@.license_own_leases()
RETURNS TABLE (lease_id uuid, product text, client_user text, client_host text,
               ttl_seconds double precision, expires_at timestamptz, taken_by text)
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'license_own_leases_wrapper';

CREATE FUNCTION @extschema@.license_keys_status()
RETURNS TABLE (license_id text, issuer text, customer text, products jsonb, valid_from timestamptz,
               valid_until timestamptz, days_left int, state text, detail text,
               believed_until timestamptz, installation text, token text,
               next_renewal_at timestamptz, renewal_failure text)
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'license_keys_status_wrapper';

CREATE FUNCTION @extschema@.license_bars_in_force()
RETURNS TABLE (bar_id bigint, product text, bar_by text, usename text, client_user text,
               client_host text, barred_until timestamptz, barred_at timestamptz, barred_by text,
               reason text)
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'license_bars_in_force_wrapper';

COMMENT ON FUNCTION @extschema@.license_active_seats() IS 'Under the view license_active_seats';
COMMENT ON FUNCTION @extschema@.license_usage() IS 'Under the view license_usage';
COMMENT ON FUNCTION @extschema@.license_exempt_sessions() IS 'Under the view license_exempt_sessions';
COMMENT ON FUNCTION @extschema@.license_own_leases() IS 'Under the view license_own_leases';
COMMENT ON FUNCTION @extschema@.license_keys_status() IS 'Under the view license_keys_status';
COMMENT ON FUNCTION @extschema@.license_bars_in_force() IS 'Under the view license_bars_in_force';

-- What the triggers of the tables call.

CREATE FUNCTION @extschema@.license_tables_changed() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'license_tables_changed_wrapper';

COMMENT ON FUNCTION @extschema@.license_tables_changed() IS
    'Trigger function: takes note of a change, which is in force once it is committed';
