"""The clients of a deployment, opened when a command first calls a service."""

import getpass
import os
from contextlib import ExitStack
from functools import cached_property, partial
from pathlib import Path
from typing import Final, TypeVar

import grpc

from awoooi.client import (
    RetryPolicy,
    SyncApprovalClient,
    SyncIncidentClient,
    SyncStatsClient,
)
from awoooi.client.channel import open_sync_channel
from awoooi.client.sync import SyncClient
from flywheel.errors import FlywheelError
from flywheel.operator.contexts.model import Context
from flywheel.operator.contexts.secrets import read_secret, read_token
from flywheel.operator.exits import ExitStatus

# A restart behind a load balancer is waited for, a service that is down is reported within a second.
_RETRY: Final = RetryPolicy(max_attempts=4)

Client = TypeVar("Client", bound=SyncClient)


class Connection:
    """One deployment, called by one person."""

    def __init__(self, context: Context, *, actor: str | None, timeout: float) -> None:
        """Raises FlywheelError when `actor` is given beside credentials, which have the caller's identity."""
        if actor and context.is_authenticated:
            raise FlywheelError(
                f"--actor: in the context {context.name} the credentials say who is calling",
                advice="leave --actor out, or use another context",
                exit_status=ExitStatus.USAGE,
            )
        self.context = context
        self._actor = (
            "" if context.is_authenticated else actor or os.environ.get("FLYWHEEL_ACTOR") or _user_name()
        )
        self._timeout = timeout
        self._open = ExitStack()

    def close(self) -> None:
        """Close what was opened."""
        self._open.close()

    @cached_property
    def incidents(self) -> SyncIncidentClient:
        """The incident service."""
        return self._client(SyncIncidentClient, self._incident_channel)

    @cached_property
    def approvals(self) -> SyncApprovalClient:
        """The approval service."""
        return self._client(SyncApprovalClient, self._approval_channel)

    @cached_property
    def incident_stats(self) -> SyncStatsClient:
        """The statistics of the incident service."""
        return self._client(SyncStatsClient, self._incident_channel)

    @cached_property
    def approval_stats(self) -> SyncStatsClient:
        """The statistics of the approval service."""
        return self._client(SyncStatsClient, self._approval_channel)

    @cached_property
    def _incident_channel(self) -> grpc.Channel:
        return self._channel(self.context.incident)

    @cached_property
    def _approval_channel(self) -> grpc.Channel:
        return self._channel(self.context.approval)

    def _channel(self, target: str) -> grpc.Channel:
        channel = open_sync_channel(target, credentials=self._credentials)
        self._open.callback(channel.close)
        return channel

    def _client(self, kind: type[Client], channel: grpc.Channel) -> Client:
        token_file = self.context.token_file
        # For each call: a watch goes on with the token that has replaced the first one.
        token = partial(read_token, Path(token_file)) if token_file else ""
        return kind(channel, actor=self._actor, token=token, timeout=self._timeout, retry=_RETRY)

    @cached_property
    def _credentials(self) -> grpc.ChannelCredentials | None:
        context = self.context
        if not context.is_encrypted:
            return None
        authority = _read(context.ca_file) if context.ca_file else None
        if not context.cert_file:
            return grpc.ssl_channel_credentials(authority)
        return grpc.ssl_channel_credentials(
            authority, read_secret(Path(context.key_file)), _read(context.cert_file)
        )


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as exc:
        raise FlywheelError(f"{path} cannot be read: {exc.strerror}") from exc


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as exc:
        raise FlywheelError(
            "this user has no name", advice="give one with --actor or FLYWHEEL_ACTOR"
        ) from exc
