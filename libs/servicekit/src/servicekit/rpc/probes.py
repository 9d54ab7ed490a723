"""A server for the health service alone, in plain text: for probes that speak no TLS, such as those of Kubernetes.

It says whether this process is well, and takes nothing: so it needs neither TLS nor authentication.
"""

import grpc.aio

# A prober or two.
_CONNECTIONS = 50
_CALLS_PER_CONNECTION = 4
_MESSAGE_BYTES = 4 << 10


def probe_server() -> grpc.aio.Server:
    """Return the server, without services and not yet listening."""
    return grpc.aio.server(
        options=[
            # As for the other server: a second one on the same port would get half of the probes.
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", _MESSAGE_BYTES),
            ("grpc.max_metadata_size", _MESSAGE_BYTES),
            ("grpc.max_concurrent_streams", _CALLS_PER_CONNECTION),
            ("grpc.max_allowed_incoming_connections", _CONNECTIONS),
            ("grpc.server_handshake_timeout_ms", 5_000),
            # A probe is a connection of its own: what lasts longer is none, and is ended with its calls.
            ("grpc.max_connection_idle_ms", 10_000),
            ("grpc.max_connection_age_ms", 60_000),
            ("grpc.max_connection_age_grace_ms", 1_000),
        ],
        maximum_concurrent_rpcs=_CONNECTIONS * _CALLS_PER_CONNECTION,
    )
