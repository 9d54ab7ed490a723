"""The algorithms of signatures that may be verified. Apart, so that settings are read without loading a cryptographic library."""

from typing import Final

OF_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
OF_CURVE: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
# Asymmetric alone: with a symmetric one, a verifier of tokens can make one.
ALGORITHMS: Final = frozenset({*OF_RSA, *OF_CURVE.values(), "EdDSA"})
