"""Channels to other services: round robin over DNS, keepalive, retries of UNAVAILABLE only."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc.aio

from servicekit.identity.certificate_store import CertificateStore
from servicekit.process.settings import Settings
from servicekit.rpc.reloading_channel import ReloadingChannel
from servicekit.rpc.tls import channel_credentials

if TYPE_CHECKING:
    from servicekit.identity.certificate_watch import CertificateWatch

_OPTIONS: Sequence[tuple[str, str | int]] = (
    # Services talk to each other directly: an http_proxy in the environment is for something else.
    ("grpc.enable_http_proxy", 0),
    # A peer that vanished without a word is noticed within about 15 s, idle or not.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # After an outage: try again within a second, not after gRPC's two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    # How long one attempt to connect may take.
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # A replica on a new address is found within seconds after a connection is lost, not after thirty.
    ("grpc.dns_min_time_between_resolutions_ms", 2_000),
)


def service_config(services: Sequence[str], *, max_attempts: int = 3) -> str:
    """Return the gRPC service config (JSON) for the full protobuf names of the services called.

    Only UNAVAILABLE is retried: the call did not reach a working server, or its effect is idempotent by contract.
    Backends that say NOT_SERVING are left out of the rotation.
    """
    return json.dumps(
        {
            "loadBalancingConfig": [{"round_robin": {}}],
            "healthCheckConfig": {"serviceName": ""},
            "methodConfig": [
                {
                    "name": [{"service": service} for service in services],
                    "retryPolicy": {
                        "maxAttempts": max_attempts,
                        "initialBackoff": "0.05s",
                        "maxBackoff": "1s",
                        "backoffMultiplier": 2,
                        "retryableStatusCodes": ["UNAVAILABLE"],
                    },
                }
            ],
        }
    )


@dataclass(frozen=True, slots=True)
class ChannelTls:
    """How a channel protects its connections."""

    # The authorities of the server, and the certificate that is shown to it, if any.
    certificates: "CertificateWatch"
    # The name that the server's certificate must have; the host of the target when empty.
    server_name: str = ""


def open_channel(
    target: str, services: Sequence[str], *, max_attempts: int = 3, tls: ChannelTls | None = None
) -> grpc.aio.Channel:
    """Open a channel to `target` for calls to `services`. Must be called inside the running event loop.

    Every call needs a deadline of its own: pass `timeout=` in seconds. With `tls` it connects anew when the certificates
    change; calls in flight end on the old connections.

    gRPC verifies that the server's certificate has the target's name, or `server_name`, among its DNS names and addresses.
    It is `grpc.default_authority` that says so, not `grpc.ssl_target_name_override`, which is for tests: the name that is
    verified is the one that is called. A URI in the certificate cannot be verified: gRPC for Python has no place for it.
    """
    options = [
        ("grpc.service_config", service_config(services, max_attempts=max_attempts)),
        *_OPTIONS,
    ]
    if tls is None:
        return grpc.aio.insecure_channel(target, options=options)
    if tls.server_name:
        options.append(("grpc.default_authority", tls.server_name))

    def connect() -> grpc.aio.Channel:
        return grpc.aio.secure_channel(target, channel_credentials(tls.certificates.current), options=options)

    channel = ReloadingChannel(connect)
    tls.certificates.on_change(channel.reload)
    return channel


def channel_tls(
    settings: Settings, store: CertificateStore, prefix: str, *, server_name: str = ""
) -> ChannelTls | None:
    """Return how the settings `<prefix>_ca_file`, `_cert_file` and `_key_file` protect a channel; None: not at all.

    Raises SettingsError for a file of no use.
    """
    if getattr(settings, f"{prefix}_ca_file") is None:
        return None
    watch = store.open(
        settings,
        authorities=f"{prefix}_ca_file",
        certificate=f"{prefix}_cert_file",
        key=f"{prefix}_key_file",
    )
    return ChannelTls(watch, server_name)
