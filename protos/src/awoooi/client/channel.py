"""Channels: round robin over all addresses of the target, keepalive, bounded messages, quick reconnects."""

import json

import grpc
import grpc.aio

# What the servers accept and what they send at most, with room for a page's last item.
_MAX_REQUEST_BYTES = 1 << 20
_MAX_RESPONSE_BYTES = 4 << 20

_SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    # Backends that say NOT_SERVING, such as those that drain, are left out of the rotation.
    "healthCheckConfig": {"serviceName": ""},
}

_OPTIONS: tuple[tuple[str, str | int], ...] = (
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    ("grpc.max_send_message_length", _MAX_REQUEST_BYTES),
    ("grpc.max_receive_message_length", _MAX_RESPONSE_BYTES),
    # Services are called directly: an http_proxy in the environment is for something else.
    ("grpc.enable_http_proxy", 0),
    # A peer that vanished without a word is noticed within about 15 s, also by a quiet Watch. Servers accept a ping
    # every 5 s.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # After an outage: connect again within about a second, not after gRPC's two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # How long one attempt to connect may take.
    ("grpc.min_reconnect_backoff_ms", 2_000),
    # A replica on a new address is found within seconds after a connection is lost, not after thirty.
    ("grpc.dns_min_time_between_resolutions_ms", 2_000),
)


def open_channel(target: str, *, credentials: grpc.ChannelCredentials | None = None) -> grpc.aio.Channel:
    """Open a channel for async clients, which may share it. Must be called inside the running event loop.

    `target` is any gRPC name: `host:port`, `dns:///incident:50051`, `ipv4:10.0.0.1:50051,10.0.0.2:50051`, `unix:path`.
    `credentials` are TLS, with call credentials composed in where needed; without them the channel is plain text.
    """
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=_OPTIONS)
    return grpc.aio.secure_channel(target, credentials, options=_OPTIONS)


def open_sync_channel(target: str, *, credentials: grpc.ChannelCredentials | None = None) -> grpc.Channel:
    """Open a channel for sync clients, as `open_channel` does for async ones."""
    if credentials is None:
        return grpc.insecure_channel(target, options=_OPTIONS)
    return grpc.secure_channel(target, credentials, options=_OPTIONS)
