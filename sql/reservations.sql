-- Seats that are kept for members of a role; see src/rules.

CREATE TABLE @extschema@.license_reservations (
    product   text NOT NULL,
    role      text NOT NULL,
    reserved  int NOT NULL DEFAULT 0,
    max_seats int,
    shared    boolean NOT NULL DEFAULT false,
    PRIMARY KEY (product, role),
    -- No foreign key to licenses: whatever the order of a restore, no row is refused.
    CONSTRAINT license_reservations_product_is_a_name
        CHECK (product !~ E'[\\x01-\\x1f\\x7f]' AND pg_catalog.octet_length(pg_catalog.convert_to(product, 'UTF8')) BETWEEN 1 AND 63),
    CONSTRAINT license_reservations_role_is_a_name
        CHECK (pg_catalog.octet_length(pg_catalog.convert_to(role, 'UTF8')) BETWEEN 1 AND 63),
    CONSTRAINT license_reservations_reserved_not_negative CHECK (reserved >= 0),
    CONSTRAINT license_reservations_max_seats_not_negative CHECK (max_seats >= 0),
    CONSTRAINT license_reservations_reserved_within_max_seats CHECK (reserved <= max_seats)
);

COMMENT ON TABLE @extschema@.license_reservations IS
    'Seats of a product that are kept for members of a role, and the most that they may use';
COMMENT ON COLUMN @extschema@.license_reservations.product IS 'Name of the product, as in licenses';
COMMENT ON COLUMN @extschema@.license_reservations.role IS
    'The role''s name; its members, those of its member roles included, share the row''s seats';
COMMENT ON COLUMN @extschema@.license_reservations.reserved IS
    'Seats that nobody but members of the role may take';
COMMENT ON COLUMN @extschema@.license_reservations.max_seats IS
    'Seats that members of the role may use at once; null: as many as the license has';
COMMENT ON COLUMN @extschema@.license_reservations.shared IS
    'Several people share the role: licenses.max_per_user does not bind its members';

SELECT pg_catalog.pg_extension_config_dump('@extschema@.license_reservations', '');
