"""The kubernetes executor: plans an operation, or runs it and waits until the workload is healthy."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus

from approval.executors.kubernetes.allow_list import AllowList
from approval.executors.kubernetes.changes import CannotChangeError, Change, change
from approval.executors.kubernetes.cluster import Cluster, ClusterError, Connector, Json
from approval.executors.kubernetes.rollout import Rollout, describe, rollout
from approval.executors.kubernetes.written import Written
from approval.executors.protocol import OperationFailedError, PlanCheck, RunContext
from approval.model import Operation, OperationKind

_PLAN_SECONDS = 30.0
# The run ends this much before its timeout, so that it can report its progress.
_MARGIN = timedelta(seconds=2)
_RETRIABLE = (HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS)


@dataclass(frozen=True, slots=True)
class Pace:
    """How often the cluster is called."""

    # Seconds between two reads of a workload that is not healthy yet.
    poll: float = 2.0
    # Seconds before each retry of a change that the cluster rejected as conflicting or too busy; then it has failed.
    retries: Sequence[float] = (0.1, 0.2, 0.4, 0.8)


class KubernetesExecutor:
    """Restarts, scales, deletes and rolls back the objects on its allow-list."""

    def __init__(self, connector: Connector, allowed: AllowList, *, pace: Pace | None = None) -> None:
        self._connector = connector
        self._allowed = allowed
        self._pace = pace or Pace()

    @property
    def kinds(self) -> Collection[OperationKind]:
        """Every kind that changes an object of a cluster."""
        return [OperationKind.RESTART, OperationKind.SCALE, OperationKind.DELETE, OperationKind.ROLLBACK]

    async def plan(self, operation: Operation) -> Sequence[PlanCheck]:
        """Whether the operation is allowed, its object exists and the cluster would accept the change (a dry run)."""
        checks = list(self._allowed.checks(operation))
        if not all(check.passed for check in checks):
            return checks
        pending = "object_exists"
        try:
            async with (
                asyncio.timeout(_PLAN_SECONDS),
                self._connector.connect(operation) as cluster,
            ):
                found = await cluster.read()
                checks.append(
                    PlanCheck(pending, passed=True, message=describe(operation.resource_kind, found))
                )
                pending = "change_accepted"
                would = await change(cluster, operation, self._allowed, dry_run=True)
                checks.append(
                    PlanCheck(pending, passed=True, message=f"the cluster would accept: {would.text}")
                )
        except TimeoutError:
            checks.append(PlanCheck(pending, passed=False, message=f"no answer within {_PLAN_SECONDS:g} s"))
        except (CannotChangeError, ClusterError) as exc:
            checks.append(PlanCheck(pending, passed=False, message=str(exc)))
        return checks

    async def run(self, operation: Operation, context: RunContext) -> str:
        """Change the object, wait until it is healthy with that change (a pod: gone), and return what was done.

        Raises OperationFailedError with the progress, also when the change was undone meanwhile. Without a response to a change, the error says that it may have
        happened.
        """
        failed = [check.message for check in self._allowed.checks(operation) if not check.passed]
        if failed:
            raise OperationFailedError("; ".join(failed))
        seconds = max(context.timeout - _MARGIN, context.timeout / 2).total_seconds()
        progress = _Progress()
        try:
            async with asyncio.timeout(seconds), self._connector.connect(operation) as cluster:
                progress.cluster = cluster
                done = await self._change(cluster, operation)
                progress.changed(done)
                return await self._wait(cluster, operation, done, progress)
        except TimeoutError:
            raise OperationFailedError(progress.timed_out(seconds)) from None
        except (CannotChangeError, ClusterError) as exc:
            raise OperationFailedError(progress.failed(str(exc))) from None

    async def _change(self, cluster: Cluster, operation: Operation) -> Change:
        """Change the object; retried from the read on a conflict or a busy cluster."""
        for pause in self._pace.retries:
            try:
                return await change(cluster, operation, self._allowed, dry_run=False)
            except ClusterError as exc:
                if exc.status not in _RETRIABLE:
                    raise
            await asyncio.sleep(pause)
        return await change(cluster, operation, self._allowed, dry_run=False)

    async def _wait(self, cluster: Cluster, operation: Operation, done: Change, progress: "_Progress") -> str:
        while True:
            try:
                state = await _look(cluster, operation, done)
            except ClusterError as exc:
                if not exc.is_transient:
                    raise
                progress.note(str(exc))
            else:
                if state.done:
                    return f"{done.text}: {state.text}"
                if state.failed:
                    raise ClusterError(state.text)
                progress.note(state.text)
            await asyncio.sleep(self._pace.poll)

    async def close(self) -> None:
        """There is nothing to release: each operation has its own connection."""


class _Progress:
    """The progress of a run, for the text of its failure."""

    def __init__(self) -> None:
        self.cluster: Cluster | None = None
        self._done = ""
        self._last = ""

    def changed(self, done: Change) -> None:
        self._done = done.text
        self._last = "not looked at since"

    def note(self, state: str) -> None:
        self._last = state

    def timed_out(self, seconds: float) -> str:
        if not self._done:
            is_uncertain = self.cluster is not None and self.cluster.is_change_unconfirmed
            changed = "it may have happened" if is_uncertain else "nothing was changed"
            return f"the cluster did not answer within {seconds:g} s: {changed}"
        return f"{self._done}, but it was not done within {seconds:g} s: {self._last}"

    def failed(self, reason: str) -> str:
        return f"{self._done}, but: {reason}" if self._done else reason


async def _look(cluster: Cluster, operation: Operation, done: Change) -> Rollout:
    if done.written is not None:
        return _look_at_workload(operation.resource_kind, await cluster.read(), done.before, done.written)
    try:
        pod = await cluster.read()
    except ClusterError as exc:
        if exc.status == HTTPStatus.NOT_FOUND:
            return Rollout("it is gone", done=True)
        raise
    if pod["metadata"]["uid"] != done.before["metadata"]["uid"]:
        return Rollout("another pod has taken its name", done=True)
    return Rollout("it is still ending")


def _look_at_workload(kind: str, workload: Json, before: Json, written: Written) -> Rollout:
    metadata = workload["metadata"]
    if metadata["uid"] != before["metadata"]["uid"]:
        return Rollout("it was deleted meanwhile, and another has taken its name", failed=True)
    if metadata.get("deletionTimestamp"):
        return Rollout("it is being deleted", failed=True)
    difference = written.difference(workload)
    if difference:
        return Rollout(f"it was {difference}", failed=True)
    return rollout(kind, workload, before=before, changes_pods=written.changes_pods)
