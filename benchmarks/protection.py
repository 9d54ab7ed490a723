"""What a protected service is started with, and called with: mutual TLS, and a JSON Web Token on each call."""

import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from benchmarks.http2 import Access
from flywheel.certificates.authority import Authority

_LIFETIME = timedelta(days=1)
_ISSUER, _AUDIENCE, _KEY_ID = "https://login.example", "flywheel", "benchmarks"


@dataclass(frozen=True, slots=True)
class Protection:
    """The settings of the service, and the access of its callers."""

    settings: Mapping[str, str]
    access: Access


def protect(directory: Path) -> Protection:
    """Write certificates and keys into `directory`, which is made if need be."""
    directory.mkdir(exist_ok=True)
    authority = Authority.make(lifetime=_LIFETIME)
    (directory / "ca.crt").write_bytes(authority.pair.certificate)
    for name in ("incident", "approval"):
        pair = authority.sign(f"spiffe://awoooi/{name}", ["127.0.0.1"], lifetime=_LIFETIME)
        (directory / f"{name}.crt").write_bytes(pair.certificate)
        (directory / f"{name}.key").write_bytes(pair.key)
    key = generate_private_key(SECP256R1())
    public = {
        **jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True),
        "kid": _KEY_ID,
        "use": "sig",
    }
    (directory / "jwks.json").write_text(json.dumps({"keys": [public]}))
    now = int(time.time())
    claims = {
        "iss": _ISSUER,
        "aud": _AUDIENCE,
        "sub": "benchmarks",
        "roles": ["operator"],
        "iat": now,
        "exp": now + int(_LIFETIME.total_seconds()),
    }
    token = jwt.encode(claims, key, algorithm="ES256", headers={"kid": _KEY_ID})
    tls = ssl.create_default_context(cafile=directory / "ca.crt")
    tls.load_cert_chain(directory / "approval.crt", directory / "approval.key")
    tls.set_alpn_protocols(["h2"])
    settings = {
        "INCIDENT_TLS_CERT_FILE": str(directory / "incident.crt"),
        "INCIDENT_TLS_KEY_FILE": str(directory / "incident.key"),
        "INCIDENT_TLS_CLIENT_CA_FILE": str(directory / "ca.crt"),
        "INCIDENT_OIDC_ISSUER": _ISSUER,
        "INCIDENT_OIDC_AUDIENCE": _AUDIENCE,
        "INCIDENT_OIDC_JWKS_FILE": str(directory / "jwks.json"),
        # One caller makes the whole load.
        "INCIDENT_CALLS_PER_SECOND": "0",
    }
    return Protection(settings, Access(tls, {"authorization": f"Bearer {token}"}))
