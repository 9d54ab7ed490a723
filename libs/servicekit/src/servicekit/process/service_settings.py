"""The settings that every gRPC service has."""

import re
from datetime import timedelta

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from servicekit.database.url import check_database_url
from servicekit.process.limit_settings import LimitSettings
from servicekit.process.log_settings import LogSettings
from servicekit.process.settings import Address, Duration
from servicekit.process.tls_settings import ServerTlsSettings, variable


class ServiceSettings(LimitSettings, ServerTlsSettings, LogSettings):
    """Where a service listens, where its data is, and what it logs. Subclasses set `env_prefix` and `listen`."""

    # Where RPCs are served. Beyond loopback only with TLS and authentication, or with INSECURE.
    listen: Address
    # A second address for RPCs, where the certificate of a client is required: that of other services, while people and
    # jobs call LISTEN with a token. gRPC for Python either requires a certificate or does not ask for it. Without this
    # address TLS_CLIENT_CA_FILE requires it on LISTEN.
    mtls_listen: Address | None = Field(default=None, validate_default=True)
    # An address for the health service alone, in plain text and without authentication, for probes that speak no TLS: those of
    # Kubernetes. It says whether the process is well and takes nothing, so it may be beyond loopback.
    health_listen: Address | None = None
    # The trust domain of the services' SPIFFE ids; certificates of another one are refused.
    tls_trust_domain: str = "awoooi"
    # Serve RPCs beyond loopback without TLS and authentication: every host that reaches the port may call under any name.
    insecure: bool = False
    # Calls of one identity per second, with twice as many at once; 0: no limit. Needs credentials.
    calls_per_second: int = Field(default=500, ge=0)
    # Server reflection lets grpcurl and buf curl list and call without the .proto files.
    reflection: bool = True
    # libpq URL of the service's own database; several hosts and unix sockets as libpq writes them.
    database_url: SecretStr
    # The same for the role that owns the tables: migrations run as it, and grant database_url's role what serving needs, DDL
    # not. When empty, database_url's role owns them.
    owner_database_url: SecretStr = SecretStr("")
    # `transaction`: database_url leads to a pooler that lends a session for one transaction, such as PgBouncer with
    # pool_mode = transaction.
    database_pooling: str = Field(default="session", pattern="^(session|transaction)$")
    # The URL of the same database without the pooler, for what needs a session of its own: being notified of new jobs and of
    # changes for Watch, migrations and commands. Its role is database_url's, or owns the tables.
    database_direct_url: SecretStr = Field(default=SecretStr(""), validate_default=True)
    # Connections to the database, the one that listens for new jobs included. More than PostgreSQL can run at a time
    # (about twice its cores) adds waiting, not throughput.
    database_pool_size: int = Field(default=10, ge=3, le=200)
    # Connections besides, for what grows with the stored data, so that it never keeps other calls from the database: one for
    # the stats, one for background scans, each of the others for one List or search at a time.
    database_read_pool_size: int = Field(default=5, ge=3, le=100)
    # How long one statement of those may take.
    database_read_timeout: Duration = Field(
        default=timedelta(seconds=5), ge=timedelta(milliseconds=100), le=timedelta(seconds=25)
    )
    # Serves this process's own RPC metrics (grpc_server_*) for Prometheus; off when empty.
    metrics_listen: Address | None = None

    @field_validator("database_url", "owner_database_url", "database_direct_url")
    @classmethod
    def _check_database_url(cls, url: SecretStr, info: ValidationInfo) -> SecretStr:
        if (
            info.field_name == "database_direct_url"
            and info.data.get("database_pooling") == "transaction"
            and not url.get_secret_value()
        ):
            pooling = variable(cls, "database_pooling")
            raise ValueError(
                f"must be set with {pooling}=transaction: the URL of the same database without the pooler"
            )
        if url.get_secret_value() or info.field_name == "database_url":
            check_database_url(url.get_secret_value())
        return url

    @property
    def pools_transactions(self) -> bool:
        """Whether database_url leads to a pooler that lends a session for one transaction."""
        return self.database_pooling == "transaction"

    @property
    def session_url(self) -> str:
        """The URL for what needs a session of its own."""
        url = self.database_direct_url if self.pools_transactions else self.database_url
        return url.get_secret_value()

    @property
    def concurrent_reads(self) -> int:
        """How many Lists and searches run at a time: what the stats and background scans leave of their connections."""
        return self.database_read_pool_size - 2

    @field_validator("mtls_listen")
    @classmethod
    def _check_mtls_listen(cls, address: str | None, info: ValidationInfo) -> str | None:
        if address is not None and info.data.get("tls_client_ca_file") is None:
            raise ValueError(f"needs {variable(cls, 'tls_client_ca_file')}")
        return address

    @field_validator("tls_trust_domain")
    @classmethod
    def _check_trust_domain(cls, name: str) -> str:
        if re.fullmatch(r"[a-z0-9._-]{1,255}", name) is None:
            raise ValueError("expected a trust domain: lower-case letters, digits and . _ -")
        return name

    @property
    def requires_client_certificate(self) -> bool:
        """Whether a client of LISTEN must show a certificate."""
        return self.tls_client_ca_file is not None and self.mtls_listen is None
