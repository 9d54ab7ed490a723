"""The change of each operation, after a read of its object. Does not wait for the rollout."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

from approval.executors.kubernetes.allow_list import KINDS_VARIABLE, POD_WITHOUT_OWNER, AllowList
from approval.executors.kubernetes.cluster import Cluster, ClusterError, Json
from approval.executors.kubernetes.pods import is_mirror, owner
from approval.executors.kubernetes.rollback import NoRollbackError, plan_rollback, selector
from approval.executors.kubernetes.rollout import cannot_roll, is_observed
from approval.executors.kubernetes.written import RESTARTED_AT, Written, restarted_at
from approval.model import Operation, OperationKind


class CannotChangeError(Exception):
    """The object is in a state in which the operation would have no effect."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change: its description, the object as it was before, and the field that was written; None for a deletion."""

    text: str
    before: Json
    written: Written | None = None


async def change(cluster: Cluster, operation: Operation, allowed: AllowList, *, dry_run: bool) -> Change:
    """Change the operation's object; with `dry_run` as a server-side dry run.

    Raises CannotChangeError when it would have no effect or its object is not allowed, ClusterError when the call
    fails.
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
            return await _delete(cluster, operation, found, allowed, dry_run=dry_run)


async def _restart(cluster: Cluster, operation: Operation, found: Json, *, dry_run: bool) -> Change:
    _require_rollable(operation, found)
    time = _restart_time(found)
    response = await cluster.patch(
        {"spec": {"template": {"metadata": {"annotations": {RESTARTED_AT: time}}}}},
        dry_run=dry_run,
    )
    written = Written.restart(found, time)
    _require_stored(operation, written, response)
    return Change(f"restarted {_target(operation)}", found, written)


def _restart_time(workload: Json) -> str:
    """Return the time now, as one that differs from the last restart's: an equal one would restart nothing."""
    now = datetime.now(UTC)
    while (text := f"{now:%Y-%m-%dT%H:%M:%S.%fZ}") == restarted_at(workload):
        now += timedelta(microseconds=1)
    return text


async def _scale(cluster: Cluster, operation: Operation, found: Json, *, dry_run: bool) -> Change:
    _require_lasting(operation, found)
    replicas = operation.replicas or 0
    response = await cluster.scale(replicas, dry_run=dry_run)
    written = Written.replicas(found, replicas)
    _require_stored(operation, written, response)
    return Change(f"scaled {_target(operation)} from {written.before} to {replicas}", found, written)


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
    written = Written.template(found, await cluster.patch(way.patch, dry_run=dry_run))
    if written.is_without_effect:
        raise ClusterError(
            f"{_target(operation)} was changed back by the cluster: the pod template is as it was"
        )
    text = f"rolled {_target(operation)} back from revision {way.current} to {way.previous}"
    return Change(text, found, written)


async def _delete(
    cluster: Cluster, operation: Operation, found: Json, allowed: AllowList, *, dry_run: bool
) -> Change:
    target = _target(operation)
    if is_mirror(found):
        raise CannotChangeError(
            f"{target} would not change: it is the mirror of a static pod, which its node runs"
        )
    if not owner(found):
        if not allowed.pods_without_owner:
            raise CannotChangeError(
                f"{target} has no owner that would create another: "
                f"{KINDS_VARIABLE} does not allow {POD_WITHOUT_OWNER}"
            )
        target += ", which has no owner that creates another"
    try:
        await cluster.delete_pod(found["metadata"]["uid"], dry_run=dry_run)
    except ClusterError as exc:
        # Deleted concurrently: a pod that replaced it is not the one that was to be deleted.
        if exc.status != HTTPStatus.NOT_FOUND and not await _is_replaced(cluster, exc, found):
            raise
        return Change(f"did not have to delete {target}", found)
    return Change(f"deleted {target}", found)


async def _is_replaced(cluster: Cluster, error: ClusterError, pod: Json) -> bool:
    if error.status != HTTPStatus.CONFLICT:
        return False
    now = await cluster.read()
    return bool(now["metadata"]["uid"] != pod["metadata"]["uid"])


def _require_lasting(operation: Operation, found: Json) -> None:
    if found["metadata"].get("deletionTimestamp"):
        raise CannotChangeError(f"{_target(operation)} would not change: it is being deleted")


def _require_rollable(operation: Operation, found: Json) -> None:
    _require_lasting(operation, found)
    reason = cannot_roll(found)
    if reason:
        raise CannotChangeError(f"{_target(operation)} would not change: {reason}")


def _require_stored(operation: Operation, written: Written, response: Json) -> None:
    """An admission webhook may put back what was written before it is stored."""
    difference = written.difference(response, "by the cluster")
    if difference:
        raise ClusterError(f"{_target(operation)} was {difference}")


def _target(operation: Operation) -> str:
    return f"{operation.resource_kind}/{operation.name} in namespace {operation.namespace}"
