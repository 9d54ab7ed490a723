"""The change of each operation, after a read of its object. Does not wait for the rollout."""

from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus

from approval.executors.kubernetes.cluster import Cluster, ClusterError, Json
from approval.executors.kubernetes.rollback import NoRollbackError, plan_rollback, selector
from approval.executors.kubernetes.rollout import cannot_roll, is_observed
from approval.model import Operation, OperationKind

_RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"


class CannotChangeError(Exception):
    """The object is in a state in which the operation would have no effect."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change: its description, and the object as it was before."""

    text: str
    before: Json


async def change(cluster: Cluster, operation: Operation, *, dry_run: bool) -> Change:
    """Change the operation's object; with `dry_run` as a server-side dry run.

    Raises CannotChangeError when it would have no effect, ClusterError when the call fails.
    """
    found = await cluster.read()
    match operation.kind:
        case OperationKind.RESTART:
            return await _restart(cluster, operation, found, dry_run=dry_run)
        case OperationKind.SCALE:
            return await _scale(cluster, operation, found, dry_run=dry_run)
        case OperationKind.ROLLBACK:
            return await _roll_back(cluster, operation, found, dry_run=dry_run)
        case _:
            return await _delete(cluster, operation, found, dry_run=dry_run)


async def _restart(cluster: Cluster, operation: Operation, found: Json, *, dry_run: bool) -> Change:
    _require_rollable(operation, found)
    annotations = {_RESTARTED_AT: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
    await cluster.patch(
        {"spec": {"template": {"metadata": {"annotations": annotations}}}},
        dry_run=dry_run,
    )
    return Change(f"restarted {_target(operation)}", found)


async def _scale(cluster: Cluster, operation: Operation, found: Json, *, dry_run: bool) -> Change:
    replicas = operation.replicas or 0
    await cluster.scale(replicas, dry_run=dry_run)
    before = found["spec"].get("replicas", 1)
    return Change(f"scaled {_target(operation)} from {before} to {replicas}", found)


async def _roll_back(cluster: Cluster, operation: Operation, found: Json, *, dry_run: bool) -> Change:
    _require_rollable(operation, found)
    if not is_observed(found):
        # The last change has no revision yet: the newest one would be mistaken for the current one.
        raise ClusterError(
            f"the last change of {_target(operation)} is not yet observed by the cluster",
            status=HTTPStatus.CONFLICT,
        )
    revisions = await cluster.list_revisions(selector(found))
    try:
        way = plan_rollback(operation.resource_kind, found, revisions)
    except NoRollbackError as exc:
        raise CannotChangeError(f"{_target(operation)} cannot be rolled back: {exc}") from None
    await cluster.patch(way.patch, dry_run=dry_run)
    return Change(f"rolled {_target(operation)} back from revision {way.current} to {way.previous}", found)


async def _delete(cluster: Cluster, operation: Operation, found: Json, *, dry_run: bool) -> Change:
    try:
        await cluster.delete_pod(found["metadata"]["uid"], dry_run=dry_run)
    except ClusterError as exc:
        # Deleted concurrently: a pod that replaced it is not the one that was to be deleted.
        if exc.status != HTTPStatus.NOT_FOUND and not await _is_replaced(cluster, exc, found):
            raise
        return Change(f"did not have to delete {_target(operation)}", found)
    return Change(f"deleted {_target(operation)}", found)


async def _is_replaced(cluster: Cluster, error: ClusterError, pod: Json) -> bool:
    if error.status != HTTPStatus.CONFLICT:
        return False
    now = await cluster.read()
    return bool(now["metadata"]["uid"] != pod["metadata"]["uid"])


def _require_rollable(operation: Operation, found: Json) -> None:
    reason = cannot_roll(found)
    if reason:
        raise CannotChangeError(f"{_target(operation)} would not change: {reason}")


def _target(operation: Operation) -> str:
    return f"{operation.resource_kind}/{operation.name} in namespace {operation.namespace}"
