"""The settings of TLS: the files of a server, and those of a client of other services."""

from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator

from servicekit.process.settings import Settings


class ServerTlsSettings(Settings):
    """The certificate that a process shows, and which certificates it wants to see. Subclasses set `env_prefix`."""

    # PEM files: the certificate, with those between it and its authority behind it, and its key. Read again when they
    # change. With them the process serves TLS alone.
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = Field(default=None, validate_default=True)
    # PEM file of the authorities that sign the certificates of clients.
    tls_client_ca_file: Path | None = Field(default=None, validate_default=True)

    @field_validator("tls_key_file")
    @classmethod
    def _check_pair(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        return together(cls, "tls_cert_file", value, info)

    @field_validator("tls_client_ca_file")
    @classmethod
    def _check_has_certificate(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        return needs(cls, "tls_cert_file", value, info)


def together(settings: type[Settings], other: str, value: Path | None, info: ValidationInfo) -> Path | None:
    """Return `value`. Raises ValueError when one of it and the field `other` is set and the other is not."""
    if (value is None) is not (info.data.get(other) is None):
        raise ValueError(f"must be set together with {variable(settings, other)}")
    return value


def needs(settings: type[Settings], other: str, value: Path | None, info: ValidationInfo) -> Path | None:
    """Return `value`. Raises ValueError when it is set and the field `other`, without which it has no effect, is not."""
    if value is not None and info.data.get(other) is None:
        raise ValueError(f"has no effect without {variable(settings, other)}")
    return value


def variable(settings: type[Settings] | Settings, field: str) -> str:
    """Return the environment variable of a field."""
    return f"{settings.model_config.get('env_prefix', '')}{field}".upper()
