"""The incident service's settings: environment variables INCIDENT_<FIELD>."""

from datetime import timedelta

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from incident.effects.settings import EffectSettings
from servicekit.process.settings import Address, Duration


class IncidentSettings(EffectSettings):
    """Where the service listens, where its data is, and how patient it is."""

    model_config = SettingsConfigDict(env_prefix="INCIDENT_")

    # Where RPCs are served. Beyond loopback only with INSECURE, as long as there is no authentication.
    listen: Address = "127.0.0.1:50051"
    # Serve RPCs beyond loopback without authentication: whoever reaches the port may call under any name.
    insecure: bool = False
    # Server reflection lets grpcurl and buf curl list and call without the .proto files.
    reflection: bool = True
    # libpq URL of the service's own database; several hosts and unix sockets as libpq writes them.
    database_url: SecretStr
    # Connections to the database, the one that listens for new jobs included. More than PostgreSQL can run at a time
    # (about twice its cores) adds waiting, not throughput.
    database_pool_size: int = Field(default=10, ge=3, le=200)
    # An unresolved incident without progress for longer than this is stuck.
    stuck_after: Duration = timedelta(minutes=30)
    # Incidents resolved longer ago than this are removed with all their rows; kept for ever when not set.
    retention: Duration | None = Field(default=None, gt=timedelta(0))
    # Watch streams that one process keeps open; beyond them a Watch is told RESOURCE_EXHAUSTED. Each is sent every change
    # that passes its filters, and counts among the 2,000 calls that a server takes at a time.
    watch_max_streams: int = Field(default=200, ge=1, le=1500)
    # Serves this process's own RPC metrics (grpc_server_*) for Prometheus; off when empty.
    metrics_listen: Address | None = None
    # What is logged: DEBUG, INFO, WARNING or ERROR.
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
