"""`python -m servicekit.healthcheck TARGET [PREFIX]`: exits 0 when the server there is healthy, 1 when it is not.

For container health checks, which have no other client at hand. TARGET is `HOST:PORT` of a gRPC server, which is to be SERVING,
or the `http://` URL of an HTTP server, which is to respond with 200. PREFIX begins the variables of the server's settings, such
as `INCIDENT`: with `<PREFIX>_TLS_CERT_FILE` set, the server is called over TLS and must show that certificate.
"""

import os
import ssl
import sys
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path

import grpc
from cryptography import x509
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

_TIMEOUT_SECONDS = 3.0
_EXIT_USAGE = 2


def is_serving(target: str, prefix: str = "") -> bool:
    """Return whether the gRPC server at `target` is SERVING within three seconds."""
    # A proxy in the environment, which Docker may put into every container, is for other targets.
    options = [("grpc.enable_http_proxy", 0)]
    certificate = _file(prefix, "TLS_CERT_FILE")
    if certificate is None:
        channel = grpc.insecure_channel(target, options=options)
    else:
        channel = grpc.secure_channel(
            target,
            _credentials(prefix, certificate),
            # The address of a health check is no name of the certificate.
            options=[*options, ("grpc.default_authority", _name(certificate))],
        )
    with channel:
        try:
            response: health_pb2.HealthCheckResponse = HealthStub(channel).Check(  # type: ignore[attr-defined]  # the stubs forgot it
                health_pb2.HealthCheckRequest(), timeout=_TIMEOUT_SECONDS
            )
        except grpc.RpcError:
            return False
    return response.status == health_pb2.HealthCheckResponse.SERVING


def is_responding(url: str, prefix: str = "") -> bool:
    """Return whether the HTTP server responds with 200 within three seconds."""
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    certificate = _file(prefix, "TLS_CERT_FILE")
    if certificate is not None:
        url = url.replace("http://", "https://", 1)
        context = ssl.create_default_context(cadata=certificate.decode("ascii", errors="ignore"))
        # It is the certificate itself that is trusted, with any names and any authority.
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
        handlers.append(urllib.request.HTTPSHandler(context=context))
    try:
        with urllib.request.build_opener(*handlers).open(url, timeout=_TIMEOUT_SECONDS) as response:
            return bool(response.status == HTTPStatus.OK)
    except (OSError, urllib.error.HTTPError):
        return False


def _credentials(prefix: str, certificate: bytes) -> grpc.ChannelCredentials:
    """Trust the server's own certificate, and show it when the server requires one."""
    key = None
    if f"{prefix}_TLS_CLIENT_CA_FILE" in os.environ and f"{prefix}_MTLS_LISTEN" not in os.environ:
        key = _file(prefix, "TLS_KEY_FILE")
    return grpc.ssl_channel_credentials(certificate, key, certificate if key is not None else None)


def _name(certificate: bytes) -> str:
    """Return a name of the certificate; an empty one, which no server has, when it has none."""
    leaf = x509.load_pem_x509_certificates(certificate)[0]
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ""
    found = [
        *names.get_values_for_type(x509.DNSName),
        *map(str, names.get_values_for_type(x509.IPAddress)),
    ]
    # Of a wildcard, any name that it stands for.
    return found[0].replace("*", "health", 1) if found else ""


def _file(prefix: str, name: str) -> bytes | None:
    path = os.environ.get(f"{prefix}_{name}") if prefix else None
    return Path(path).read_bytes() if path else None


def main(arguments: list[str]) -> int:
    """Return the exit code."""
    if len(arguments) not in (1, 2):
        print("usage: python -m servicekit.healthcheck TARGET [PREFIX]", file=sys.stderr)  # noqa: T201 - a command
        return _EXIT_USAGE
    target, prefix = arguments[0], "".join(arguments[1:])
    try:
        healthy = (is_responding if target.startswith("http://") else is_serving)(target, prefix)
    except (OSError, ValueError) as exc:
        print(f"{prefix}_TLS_CERT_FILE: {exc}", file=sys.stderr)  # noqa: T201 - a command
        return 1
    return 0 if healthy else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
