-- What applications call; see src/api.

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
