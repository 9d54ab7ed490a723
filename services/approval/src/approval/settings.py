"""The approval service's settings: environment variables APPROVAL_<FIELD>."""

from datetime import timedelta
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from approval.execution.limits import OperationLimits
from approval.notification.settings import NotificationSettings
from approval.recovery.model import RecoveryRules
from servicekit.identity.settings import IdentitySettings
from servicekit.process.service_settings import ServiceSettings
from servicekit.process.settings import Address, Duration
from servicekit.process.tls_settings import needs, together


class ApprovalSettings(ServiceSettings, IdentitySettings, NotificationSettings):
    """The settings of every service, how callers prove who they are, how the incident service is reached, who is notified, and the limits of operations."""

    model_config = SettingsConfigDict(env_prefix="APPROVAL_")

    listen: Address = "127.0.0.1:50052"
    # gRPC target of the incident service; a DNS name is balanced over all its addresses.
    incident_target: str = "127.0.0.1:50051"
    # PEM files: the authorities of the incident service, with which it is called over TLS; this service's own certificate,
    # which it may require, and its key. Read again when they change.
    incident_tls_ca_file: Path | None = None
    incident_tls_cert_file: Path | None = Field(default=None, validate_default=True)
    incident_tls_key_file: Path | None = Field(default=None, validate_default=True)
    # The name in the incident service's certificate, when it is not the host of the target.
    incident_tls_server_name: str = ""
    # How long Propose waits for the incident service before it accepts an incident unverified.
    incident_check_timeout: Duration = timedelta(seconds=2)
    # The timeout of one attempt to resolve; then it is retried. Must end well within the outbox's lease of 30 s, or two
    # attempts would overlap.
    incident_resolve_timeout: Duration = Field(
        default=timedelta(seconds=10), gt=timedelta(0), le=timedelta(seconds=25)
    )
    # How long an approval may wait and be executed when its proposal sets no ttl.
    default_ttl: Duration = timedelta(hours=24)
    # Which executors run operations, by the names of their entry points, separated by commas: dry-run, kubernetes, http,
    # or one of a package of your own. None: operations wait, approved, until there is one.
    executors: str = ""
    # How long one operation may run; after that it is stopped and counts as failed.
    operation_timeout: Duration = Field(default=timedelta(minutes=10), gt=timedelta(0))
    # No operation on a target within this time after the last one on it ended, so that a loop cannot restart a
    # deployment for ever.
    cooldown: Duration = timedelta(minutes=5)
    # At most so many operations on one target within an hour.
    operations_per_hour: int = Field(default=6, ge=1)
    # The rules of auto-approval. Unset: no proposal is approved without a person.
    policy_file: Path | None = None
    # The kill switch of those rules, for the lifetime of the process.
    auto_approve: bool = True
    # The kill switch of a running process: a file that must contain "on". It is read at each proposal; one that cannot be
    # read counts as off, and so does any file while the other switch is off.
    auto_approve_file: Path | None = None
    # What verifies whether an operation that worked has helped, by the name of its entry point: alertmanager, prometheus, or
    # one of a package of your own. None: an operation that worked resolves its incident.
    verifier: str = ""
    # The time after an operation in which the incident's alert has to be gone; then the repair has not helped.
    verifier_window: Duration = Field(default=timedelta(minutes=10), gt=timedelta(0), le=timedelta(days=1))
    # Between two looks, and before the first: an alert needs a while to end.
    verifier_interval: Duration = Field(
        default=timedelta(seconds=15), ge=timedelta(milliseconds=100), le=timedelta(hours=1)
    )
    # At so many looks in a row the alert must be gone: one that comes back has not ended.
    verifier_looks: int = Field(default=2, ge=2, le=100)
    # How long one look may take; a longer one cannot tell.
    verifier_timeout: Duration = Field(
        default=timedelta(seconds=10), gt=timedelta(0), le=timedelta(minutes=1)
    )
    # How often approvals past their expiry are marked as such; they are refused from that instant in any case.
    expire_every: Duration = Field(default=timedelta(seconds=10), gt=timedelta(0))
    # How often executed, unacknowledged approvals without an open delivery are looked for.
    reconcile_every: Duration = Field(default=timedelta(minutes=5), gt=timedelta(0))
    # Approvals that ended, and last changed, longer ago than this are removed with their decisions and executions; kept for
    # ever when not set. Repairs of the last 24 hours or within the cool-down, and what is not acknowledged, stay in any case.
    retention: Duration | None = Field(default=None, gt=timedelta(0))
    # Watch streams that one process keeps open; more are refused with RESOURCE_EXHAUSTED. Each gets every change that passes
    # its filters, and counts among the calls that a server takes at a time.
    watch_max_streams: int = Field(default=200, ge=1, le=1500)
    # The success rate is withheld below this many executions in 24 h: too few to mean anything.
    min_samples: int = Field(default=10, ge=1)

    @property
    def operation_limits(self) -> OperationLimits:
        """The limits of every operation."""
        return OperationLimits(
            timeout=self.operation_timeout,
            cooldown=self.cooldown,
            per_hour=self.operations_per_hour,
        )

    @property
    def recovery_rules(self) -> RecoveryRules:
        """How it is verified whether a repair has helped."""
        return RecoveryRules(
            window=self.verifier_window,
            interval=self.verifier_interval,
            looks=self.verifier_looks,
            timeout=self.verifier_timeout,
        )

    @model_validator(mode="after")
    def _check_window(self) -> Self:
        if self.verifier_window < self.verifier_interval * self.verifier_looks:
            raise ValueError("APPROVAL_VERIFIER_WINDOW: shorter than the looks that it must hold")
        return self

    @field_validator("incident_tls_cert_file")
    @classmethod
    def _check_certificate(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        return needs(cls, "incident_tls_ca_file", value, info)

    @field_validator("incident_tls_key_file")
    @classmethod
    def _check_key(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        return together(cls, "incident_tls_cert_file", value, info)
