"""The settings of the alert intake: environment variables INTAKE_<FIELD>."""

from datetime import timedelta
from pathlib import Path

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict

from servicekit.http.settings import HttpServiceSettings
from servicekit.process.addresses import is_loopback
from servicekit.process.settings import Address, Duration
from servicekit.process.tls_settings import needs, together

_SECOND = timedelta(seconds=1)


class IntakeSettings(HttpServiceSettings):
    """Listen address, mapping and limits of the intake, and the services that it calls."""

    model_config = SettingsConfigDict(env_prefix="INTAKE_")

    # HTTP listen address. Beyond loopback only with TLS and authentication, or with INSECURE: every client that reaches the
    # port could open incidents, and resolve those of alerts.
    listen: Address = "127.0.0.1:9465"
    # What incidents get from alerts (docs/alert-intake.md), read at the start. Unset: the default mapping.
    mapping_file: Path | None = None
    # gRPC targets; a DNS name is balanced over all its addresses.
    incident_target: str = "127.0.0.1:50051"
    approval_target: str = "127.0.0.1:50052"
    # PEM files: the authorities of these services, with which they are called over TLS; the intake's own certificate, which
    # they may require, and its key. Read again when they change.
    services_tls_ca_file: Path | None = None
    services_tls_cert_file: Path | None = Field(default=None, validate_default=True)
    services_tls_key_file: Path | None = Field(default=None, validate_default=True)
    # A token of the role `intake`, for services that know it by a token and not by its certificate.
    services_token: SecretStr = SecretStr("")
    # The largest body of a post, in bytes. Several thousand alerts; Alertmanager's `max_alerts` bounds their number.
    max_body_bytes: int = Field(default=16 << 20, ge=1 << 10, le=1 << 30)
    # How long a call of a service may take, its retries included.
    call_timeout: Duration = Field(default=timedelta(seconds=10), ge=timedelta(milliseconds=10))
    # How long a post may take. Then what is committed stays so, and Alertmanager posts the rest again.
    post_timeout: Duration = Field(default=timedelta(seconds=30), ge=timedelta(milliseconds=10))
    # Alerts that are worked on at once, of all posts: more load for the services, up to what they can commit together.
    concurrent_alerts: int = Field(default=32, ge=1, le=1_000)
    # How long after its end an alert that is posted as firing since the same time may be an old post of another
    # Alertmanager. Longer than two Alertmanagers of a cluster are apart (peer_timeout times its size); after it, the alert
    # fires again.
    late_after: Duration = Field(default=timedelta(minutes=2), ge=_SECOND, le=timedelta(hours=1))

    @field_validator("services_tls_cert_file")
    @classmethod
    def _check_certificate(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        return needs(cls, "services_tls_ca_file", value, info)

    @field_validator("services_tls_key_file")
    @classmethod
    def _check_key(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        return together(cls, "services_tls_cert_file", value, info)

    @field_validator("services_token")
    @classmethod
    def _check_is_private(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        targets = [info.data.get(f"{name}_target", "") for name in ("incident", "approval")]
        is_private = info.data.get("services_tls_ca_file") is not None or all(map(is_loopback, targets))
        if value.get_secret_value() and not is_private:
            raise ValueError(
                "needs INTAKE_SERVICES_TLS_CA_FILE: a token is sent to other machines over TLS alone"
            )
        return value
