"""PyJWT makes keys and tokens. Reads a list of requests on standard input, and prints the list of answers:
{"generate": "EdDSA"}                   a new private key, as a JWK
{"key": JWK, "header": {}, "claims": {}}  a token of these claims, signed with alg of the header
{"key": JWK, "header": {}, "text": ""}    the same of any text at all
"""

import json
import sys

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm


def generate(alg):
    assert alg == "EdDSA"
    return json.loads(OKPAlgorithm.to_jwk(Ed25519PrivateKey.generate()))


def sign(header, key, claims=None, text=None):
    alg = header["alg"]
    key = None if alg == "none" else jwt.PyJWK(key, alg).key
    if text is None:
        return jwt.encode(claims, key, algorithm=alg, headers=header)
    return jwt.api_jws.encode(text.encode(), key, algorithm=alg, headers=header)


def answer(request):
    return generate(request["generate"]) if "generate" in request else sign(**request)


print(json.dumps([answer(request) for request in json.load(sys.stdin)]))
