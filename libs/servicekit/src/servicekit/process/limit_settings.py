"""The limits of a gRPC server that an operator may have to change."""

from datetime import timedelta

from pydantic import Field

from servicekit.process.settings import Duration, Settings

_MIB = 1 << 20


class LimitSettings(Settings):
    """What a server takes at most. docs/configuration.md says what happens beyond each, and which limits are fixed."""

    # Connections that are accepted; each is a file descriptor.
    max_connections: int = Field(default=1_000, ge=10, le=100_000)
    # A connection this old is closed once its calls have ended, so that its client looks the addresses up again and finds new
    # replicas. Where all connections come through a proxy, it balances and this is not needed.
    max_connection_age: Duration | None = Field(default=None, ge=timedelta(seconds=1))
    # Unary calls that are open, of all callers and of one address. A proxy in front is one address.
    max_calls: int = Field(default=2_000, ge=10, le=100_000)
    max_calls_per_peer: int = Field(default=1_500, ge=1, le=100_000)
    # Streams, likewise.
    max_streams: int = Field(default=1_000, ge=1, le=100_000)
    max_streams_per_peer: int = Field(default=500, ge=1, le=100_000)
    # From a call's headers to its request.
    request_timeout: Duration = Field(default=timedelta(seconds=10), ge=timedelta(milliseconds=100))
    # How long a unary call may run; a caller's shorter deadline holds besides.
    call_timeout: Duration = Field(default=timedelta(seconds=30), ge=timedelta(seconds=1))
    # From an answer to the caller's having read it: slow links need more.
    write_timeout: Duration = Field(default=timedelta(seconds=30), ge=timedelta(seconds=1))
    # Bytes of answers that callers have not read; the process holds about twice as much.
    max_unsent_bytes: int = Field(default=64 * _MIB, ge=8 * _MIB)
    # Bytes received that are no message yet.
    max_received_bytes: int = Field(default=128 * _MIB, ge=32 * _MIB)
