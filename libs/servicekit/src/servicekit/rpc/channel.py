"""Channels to other services: round robin over DNS, keepalive, retries of UNAVAILABLE only."""

import json
from collections.abc import Sequence

import grpc.aio


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


def open_channel(target: str, services: Sequence[str], *, max_attempts: int = 3) -> grpc.aio.Channel:
    """Open a channel to `target` for calls to `services`. Must be called inside the running event loop.

    Every call needs a deadline of its own: pass `timeout=` in seconds.
    """
    return grpc.aio.insecure_channel(
        target,
        options=[
            ("grpc.service_config", service_config(services, max_attempts=max_attempts)),
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
        ],
    )
