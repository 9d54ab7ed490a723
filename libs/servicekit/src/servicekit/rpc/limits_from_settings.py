"""A server's limits from the settings of a service."""

from servicekit.process.service_settings import ServiceSettings
from servicekit.rpc.admission import PlaceLimits
from servicekit.rpc.read_places import ReadLimits
from servicekit.rpc.received_bytes import ReceivedLimits
from servicekit.rpc.server_limits import ServerLimits
from servicekit.rpc.unsent_responses import UnsentLimits

_FIXED = ServerLimits()


def server_limits(settings: ServiceSettings) -> ServerLimits:
    """Return the limits that `settings` ask for; those without a setting are fixed."""
    return ServerLimits(
        calls=PlaceLimits(
            settings.max_calls,
            per_peer=settings.max_calls_per_peer,
            per_identity=_FIXED.calls.per_identity,
        ),
        streams=PlaceLimits(
            settings.max_streams,
            per_peer=settings.max_streams_per_peer,
            per_identity=_FIXED.streams.per_identity,
        ),
        reads=ReadLimits(running=settings.concurrent_reads),
        request_time=settings.request_timeout,
        unsent=UnsentLimits(total_bytes=settings.max_unsent_bytes, write_time=settings.write_timeout),
        received=ReceivedLimits(total_bytes=settings.max_received_bytes),
        connections=settings.max_connections,
        connection_age=settings.max_connection_age,
        calls_per_second=settings.calls_per_second,
        deadline=settings.call_timeout,
    )
