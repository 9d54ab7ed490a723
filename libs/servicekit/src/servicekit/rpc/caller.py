"""Establishes the identity of a call's caller, by what its transport and its metadata say."""

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, TypeAlias
from urllib.parse import unquote

import grpc

from servicekit.identity.authenticator import Authenticator
from servicekit.identity.canonical import ANONYMOUS, SERVICE_PREFIX, InvalidNameError, canonical, is_system
from servicekit.identity.credentials import Credentials, Refusal, UnauthenticatedError
from servicekit.identity.identity import Identity
from servicekit.rpc.access_log import AccessLog
from servicekit.rpc.context import Context
from servicekit.rpc.identity import loopback_identity, set_identity
from servicekit.rpc.status_details import FieldViolation, RpcError, RpcStatus, invalid_argument_message

ACTOR_METADATA_KEY = "awoooi-actor"
_AUTHORIZATION = "authorization"
_PRIVATE_TRANSPORTS = (b"ssl", b"tls")

Metadata: TypeAlias = Iterable[tuple[str, str | bytes]]

# From the properties of a connection to the service that its client certificate names, such as `service:approval`.
ServiceOf = Callable[[Mapping[str, Iterable[bytes]]], str | None]


class Callers(Protocol):
    """Tells who is calling."""

    async def identify(self, context: Context, method: str) -> Identity:
        """Return the identity of the caller of `method`. Raises RpcError."""


class ClaimedCallers:
    """Takes the name in the metadata key `awoooi-actor`: for a server without authentication, where a caller may claim any name."""

    async def identify(self, context: Context, method: str) -> Identity:
        """Return the identity that the caller claims."""
        return loopback_identity(claimed_name(_metadata(context)) or ANONYMOUS)


class VerifiedCallers:
    """Takes what credentials prove. The metadata key `awoooi-actor` may repeat it, and nothing else."""

    def __init__(
        self, authenticator: Authenticator, log: AccessLog, *, service_of: ServiceOf | None = None
    ) -> None:
        """`service_of` reads the client certificate, where one is required."""
        self._authenticator = authenticator
        self._log = log
        self._service_of = service_of

    async def identify(self, context: Context, method: str) -> Identity:
        """Return the identity that the credentials prove."""
        metadata = _metadata(context)
        try:
            identity = await self._authenticator.authenticate(self._credentials(context, metadata))
        except UnauthenticatedError as exc:
            self._log.unauthenticated(exc.refusal, method, context)
            raise RpcError(_STATUSES.get(exc.refusal, _INVALID)) from None
        # From here on refusals are recorded under it, those of a bad or another's name included.
        set_identity(identity)
        if claimed_name(metadata) not in (None, identity.name):
            self._log.denied("actor_mismatch", method, identity)
            raise RpcError(_OTHER_ACTOR)
        return identity

    def _credentials(self, context: Context, metadata: Metadata) -> Credentials:
        authorization = [value for key, value in metadata if key == _AUTHORIZATION and isinstance(value, str)]
        # The properties of a connection are copied at each look: only when they matter.
        if self._service_of is None and not authorization:
            return Credentials()
        properties: Mapping[str, Iterable[bytes]] = context.auth_context()
        return Credentials(
            authorization,
            service=(self._service_of(properties) or "") if self._service_of is not None else "",
            is_private=_is_encrypted(properties) or is_loopback_peer(context.peer()),
        )


def _metadata(context: Context) -> Metadata:
    # gRPC makes it anew at each look.
    return context.invocation_metadata() or ()


def claimed_name(metadata: Metadata) -> str | None:
    """Return the canonical form of the name in the metadata; None without one.

    Raises RpcError for one that is reserved or malformed.
    """
    for key, value in metadata:
        if key == ACTOR_METADATA_KEY:
            try:
                name = canonical(value) if isinstance(value, str) else ""
            except InvalidNameError as exc:
                raise _bad_name(str(exc)) from None
            if not name or (is_system(name) and not name.startswith((SERVICE_PREFIX, ANONYMOUS))):
                raise _bad_name("must not be a name of the system")
            return name
    return None


def _bad_name(description: str) -> RpcError:
    violations = [FieldViolation(f"metadata {ACTOR_METADATA_KEY}", description)]
    return RpcError(
        RpcStatus(
            grpc.StatusCode.INVALID_ARGUMENT,
            invalid_argument_message(violations),
            "INVALID_ARGUMENT",
            field_violations=violations,
        )
    )


def _is_encrypted(properties: Mapping[str, Iterable[bytes]]) -> bool:
    return any(kind in _PRIVATE_TRANSPORTS for kind in properties.get("transport_security_type", ()))


def is_loopback_peer(peer: str) -> bool:
    """Tell whether gRPC's name of a peer, such as `ipv4:127.0.0.1:50312`, is on this machine."""
    family, _, address = peer.partition(":")
    if family == "unix":
        return True
    host = unquote(address).rpartition(":")[0].strip("[]")
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback


# Constant texts: nothing of what was sent, nor what would have been right.
_MISSING = RpcStatus(
    grpc.StatusCode.UNAUTHENTICATED,
    "this call needs credentials: send a bearer token in the metadata key authorization, or a client certificate",
    "CREDENTIALS_MISSING",
)
_INVALID = RpcStatus(grpc.StatusCode.UNAUTHENTICATED, "the credentials are not valid", "CREDENTIALS_INVALID")
_EXPIRED = RpcStatus(
    grpc.StatusCode.UNAUTHENTICATED, "the credentials have expired: get new ones", "CREDENTIALS_EXPIRED"
)
_PLAINTEXT = RpcStatus(
    grpc.StatusCode.UNAUTHENTICATED,
    "bearer tokens are taken over TLS only; consider the one that was sent as known to others",
    "TLS_REQUIRED",
)
_KEYS_UNAVAILABLE = RpcStatus(
    grpc.StatusCode.UNAVAILABLE,
    "the keys of the identity provider are not available now, try again",
    "IDENTITY_PROVIDER_UNAVAILABLE",
)
_STATUSES = {
    Refusal.MISSING: _MISSING,
    # Only of credentials that were right before: their holder alone learns it.
    Refusal.EXPIRED: _EXPIRED,
    Refusal.PLAINTEXT: _PLAINTEXT,
    Refusal.KEYS_UNAVAILABLE: _KEYS_UNAVAILABLE,
}
_OTHER_ACTOR = RpcStatus(
    grpc.StatusCode.PERMISSION_DENIED,
    f"the metadata {ACTOR_METADATA_KEY} names another identity than the credentials: leave it out",
    "ACTOR_NOT_AUTHENTICATED",
)
