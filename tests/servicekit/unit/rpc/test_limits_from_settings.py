"""The settings of a service are the limits of its server; without any they are the server's own."""

from datetime import timedelta

from incident.settings import IncidentSettings
from servicekit.rpc.limits_from_settings import server_limits
from servicekit.rpc.read_places import ReadLimits
from servicekit.rpc.server_limits import ServerLimits


def settings(**values: object) -> IncidentSettings:
    return IncidentSettings.model_validate({"database_url": "postgresql://localhost/incident"} | values)


def test_without_settings_the_limits_are_those_of_a_server() -> None:
    plain = settings()
    assert server_limits(plain) == ServerLimits(reads=ReadLimits(running=plain.concurrent_reads))


def test_every_setting_reaches_its_limit() -> None:
    limits = server_limits(
        settings(
            max_connections=11,
            max_calls=12,
            max_calls_per_peer=13,
            max_streams=14,
            max_streams_per_peer=15,
            request_timeout="16s",
            call_timeout="17s",
            write_timeout="18s",
            max_unsent_bytes=19_000_000,
            max_received_bytes=200_000_000,
            calls_per_second=21,
        )
    )
    assert (limits.connections, limits.calls_per_second) == (11, 21)
    assert (limits.calls.total, limits.calls.per_peer) == (12, 13)
    assert (limits.streams.total, limits.streams.per_peer) == (14, 15)
    assert limits.request_time == timedelta(seconds=16)
    assert limits.deadline == timedelta(seconds=17)
    assert (limits.unsent.write_time, limits.unsent.total_bytes) == (timedelta(seconds=18), 19_000_000)
    assert limits.received.total_bytes == 200_000_000
