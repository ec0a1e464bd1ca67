"""An application's look at its license. Usage: verify_pyjwt.py CONNINFO X PRODUCT, where X is the vendor's
public key. Prints what it is denied for, or nothing."""

import sys

import jwt
import psycopg

ISSUER = "https://aptora.example"


def ours(token):
    """What we have signed: in the token of seats that another server has passed on, ours is inside."""
    if jwt.get_unverified_header(token).get("typ") != "license-allotment+jwt":
        return token
    return jwt.decode(token, options={"verify_signature": False})["license"]


def take_seat(connection, product):
    """Takes a seat of a product that we have sold; what it raises says why not."""
    # The license that the server counts by: another vendor's, or none, may rule a product that ours has, too.
    ruling = connection.execute(
        """SELECT k.token FROM seats.license_usage u JOIN seats.license_keys_status k USING (license_id)
            WHERE u.product = %s AND k.issuer = %s
              AND k.products @> jsonb_build_array(jsonb_build_object('product', u.product))""",
        [product, ISSUER],
    )
    # Its dates, with the grace after them, are held by the server.
    dates = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
    licenses = [
        jwt.decode(ours(token), KEY, algorithms=["EdDSA"], issuer=ISSUER, options=dates)
        for (token,) in ruling
    ]
    sold = {sold["product"] for license in licenses for sold in license["products"]}
    if product not in sold:
        raise LookupError(f"no license that we have signed has {product}")
    connection.execute("SELECT seats.license_checkout(%s)", [product])


conninfo, x, product = sys.argv[1:]
KEY = jwt.PyJWK({"kty": "OKP", "crv": "Ed25519", "x": x}).key
try:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        take_seat(connection, product)
except psycopg.Error as error:
    print(error.sqlstate)
except (jwt.InvalidTokenError, LookupError) as error:
    print(type(error).__name__)
