"""The settings that every gRPC service has."""

from pydantic import Field, SecretStr, field_validator

from servicekit.database.url import check_database_url
from servicekit.process.settings import Address, Settings


class ServiceSettings(Settings):
    """Where a service listens, where its data is, and what it logs. Subclasses set `env_prefix` and `listen`."""

    # Where RPCs are served. Beyond loopback only with INSECURE, as long as there is no authentication.
    listen: Address
    # Serve RPCs beyond loopback without authentication: every host that reaches the port may call under any name.
    insecure: bool = False
    # Server reflection lets grpcurl and buf curl list and call without the .proto files.
    reflection: bool = True
    # libpq URL of the service's own database; several hosts and unix sockets as libpq writes them.
    database_url: SecretStr
    # Connections to the database, the one that listens for new jobs included. More than PostgreSQL can run at a time
    # (about twice its cores) adds waiting, not throughput.
    database_pool_size: int = Field(default=10, ge=3, le=200)
    # Serves this process's own RPC metrics (grpc_server_*) for Prometheus; off when empty.
    metrics_listen: Address | None = None
    # The lowest level that is logged: DEBUG, INFO, WARNING or ERROR.
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, url: SecretStr) -> SecretStr:
        check_database_url(url.get_secret_value())
        return url
