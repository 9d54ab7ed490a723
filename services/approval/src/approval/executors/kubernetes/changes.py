"""What each operation changes in the cluster, after a look at what is there. Does not wait for what comes of it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus

from approval.executors.kubernetes.cluster import Cluster, ClusterError, Json
from approval.executors.kubernetes.rollback import NoRollbackError, plan_rollback, selector
from approval.executors.kubernetes.rollout import cannot_roll, is_observed
from approval.model import Operation, OperationKind

_RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"


class CannotChangeError(Exception):
    """The object is in a state in which the operation would come to nothing."""


@dataclass(frozen=True, slots=True)
class Change:
    """What was changed: how a reader is told, and the object as it was before."""

    text: str
    before: Json


async def change(cluster: Cluster, operation: Operation, *, dry_run: bool) -> Change:
    """Change the operation's object; with `dry_run` the cluster only says whether it would accept that.

    Raises CannotChangeError when it would come to nothing, ClusterError when the cluster refuses.
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
    _refuse_what_cannot_roll(operation, found)
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
    _refuse_what_cannot_roll(operation, found)
    if not is_observed(found):
        # The revision of the last change is not there yet: the newest one would be taken for the current one.
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
        # Whoever was faster: a pod that came in its place is not the one that was to be deleted.
        if exc.status != HTTPStatus.NOT_FOUND and not await _is_replaced(cluster, exc, found):
            raise
        return Change(f"did not have to delete {_target(operation)}", found)
    return Change(f"deleted {_target(operation)}", found)


async def _is_replaced(cluster: Cluster, refusal: ClusterError, pod: Json) -> bool:
    if refusal.status != HTTPStatus.CONFLICT:
        return False
    now = await cluster.read()
    return bool(now["metadata"]["uid"] != pod["metadata"]["uid"])


def _refuse_what_cannot_roll(operation: Operation, found: Json) -> None:
    reason = cannot_roll(found)
    if reason:
        raise CannotChangeError(f"{_target(operation)} would not change: {reason}")


def _target(operation: Operation) -> str:
    return f"{operation.resource_kind}/{operation.name} in namespace {operation.namespace}"
