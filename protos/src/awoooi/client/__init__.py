"""Clients of the flywheel's services: typed, async and sync, with deadlines, retries, pages, streams and typed errors.

    async with IncidentClient("127.0.0.1:50051", actor="alice") as incidents:
        await incidents.resolve("INC-20260507-99ADF2", resolution_type="NO_ACTION")

docs/client.md shows the rest.
"""

from awoooi.client.approvals import ApprovalClient, SyncApprovalClient
from awoooi.client.channel import open_channel, open_sync_channel
from awoooi.client.errors import (
    AbortedError,
    AlreadyExistsError,
    CallError,
    DeadlineExceededError,
    FailedPreconditionError,
    FieldViolation,
    InternalError,
    InvalidArgumentError,
    InvalidResponseError,
    NotFoundError,
    PermissionDeniedError,
    Precondition,
    Resource,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
    error_from_status,
)
from awoooi.client.incidents import IncidentClient, SyncIncidentClient
from awoooi.client.options import CallOptions
from awoooi.client.paging import AsyncPager, SyncPager
from awoooi.client.retry import NO_RETRIES, RetryPolicy
from awoooi.client.stats import StatsClient, SyncStatsClient
from awoooi.client.watching import AsyncWatch, SyncWatch

__all__ = [
    "NO_RETRIES",
    "AbortedError",
    "AlreadyExistsError",
    "ApprovalClient",
    "AsyncPager",
    "AsyncWatch",
    "CallError",
    "CallOptions",
    "DeadlineExceededError",
    "FailedPreconditionError",
    "FieldViolation",
    "IncidentClient",
    "InternalError",
    "InvalidArgumentError",
    "InvalidResponseError",
    "NotFoundError",
    "PermissionDeniedError",
    "Precondition",
    "Resource",
    "ResourceExhaustedError",
    "RetryPolicy",
    "StatsClient",
    "SyncApprovalClient",
    "SyncIncidentClient",
    "SyncPager",
    "SyncStatsClient",
    "SyncWatch",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
    "error_from_status",
    "open_channel",
    "open_sync_channel",
]
