"""Watchers of approvals, and a server that answers their Watch alone."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any, cast

from approval.roles import ROLES
from approval.servicer import ApprovalServicer
from approval.status_codes import ERRORS
from approval.watch.repository import ApprovalChanges
from awoooi.approval.v1 import approval_pb2
from awoooi.approval.v1 import approval_service_pb2 as pb
from awoooi.approval.v1.approval_service_pb2_grpc import add_ApprovalServiceServicer_to_server
from servicekit.rpc.page_tokens import PageTokens
from tests import watching as shared
from tests.callers import Approvals
from tests.watching import WatchedService, WatchServer


def _servicer(watch: Any, page_tokens: PageTokens) -> ApprovalServicer:
    unused = cast("Any", None)
    return ApprovalServicer(
        propose=unused,
        approvals=unused,
        execute=unused,
        plan=unused,
        execution_log=unused,
        deliveries=unused,
        dead_letters=unused,
        canaries=unused,
        reconciler=unused,
        watch=watch,
        page_tokens=page_tokens,
        default_ttl=timedelta(hours=1),
    )


_SERVICE = WatchedService(
    "awoooi.approval.v1.ApprovalService",
    add_ApprovalServiceServicer_to_server,
    _servicer,
    errors=ERRORS,
    roles=ROLES,
)


def watch_server(database_url: str, **limits: Any) -> AbstractAsyncContextManager[WatchServer]:
    """A real server over the database, in this process, that only watches; others write."""
    return shared.watch_server(database_url, ApprovalChanges(), _SERVICE, **limits)


def state_name(state: approval_pb2.Approval.State.ValueType) -> str:
    """A state as the contract names it, without the prefix."""
    return approval_pb2.Approval.State.Name(state).removeprefix("STATE_")


class Watcher(shared.Watcher[pb.WatchResponse]):
    """A stream and its responses so far."""

    @property
    def transitions(self) -> Sequence[tuple[str, str]]:
        """The states before and after each change."""
        return [
            (state_name(each.change.state_before), state_name(each.change.state_after))
            for each in self.changes
        ]

    async def until_change_of(self, approval_id: str) -> Sequence[str]:
        """Read up to and with a change of this approval; returns the approvals of all changes that came over the stream."""
        while (await self.change()).approval.approval_id != approval_id:
            pass
        return [response.approval.approval_id for response in self.changes]


async def watching(approvals: Approvals, **fields: Any) -> Watcher:
    """A stream with these fields that has begun: its first response with a token was read."""
    watcher = Watcher(approvals.watch(heartbeats=True, **fields), content="change")
    await watcher.begin()
    return watcher
