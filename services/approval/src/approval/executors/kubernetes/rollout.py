"""The progress of a rollout, by the rules of `kubectl rollout status`. Calls no cluster."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rollout:
    """How far a workload is."""

    text: str
    done: bool = False
    # The progress deadline is exceeded: waiting longer would not help.
    failed: bool = False


def rollout(kind: str, workload: Json, *, before: Json) -> Rollout:
    """Return how far a workload is; `before` is the workload as it was before it was changed."""
    if not is_observed(workload):
        return Rollout("the change is not yet observed by the cluster")
    # The condition of the previous rollout may remain until the new one shows progress.
    if _deadline_exceeded(workload) and _progressing(workload) != _progressing(before):
        return Rollout(f"the progress deadline passed: {_BY_KIND[kind](workload).text}", failed=True)
    return _BY_KIND[kind](workload)


def is_observed(workload: Json) -> bool:
    """Return whether the cluster has observed the workload's last change."""
    generation: int = workload["metadata"]["generation"]
    return _status(workload, "observedGeneration") >= generation


def describe(kind: str, found: Json) -> str:
    """Return in a few words what is there."""
    match kind:
        case "pod":
            return f"the pod is {found.get('status', {}).get('phase', 'Unknown')}"
        case "daemonset":
            return f"{_status(found, 'desiredNumberScheduled')} pods"
        case "statefulset":
            revision = found.get("status", {}).get("currentRevision", "unknown")
            return f"{_replicas(found)} replicas, revision {revision}"
        case _:
            return f"{_replicas(found)} replicas, revision {deployment_revision(found)}"


def deployment_revision(found: Json) -> int:
    """Return the revision that a Deployment or ReplicaSet is annotated with; 0 when it has none."""
    text = (found["metadata"].get("annotations") or {}).get("deployment.kubernetes.io/revision", "")
    return int(text) if text.isdecimal() else 0


def cannot_roll(workload: Json) -> str:
    """Return why a new pod template would not come to run; empty when it would."""
    if workload["spec"].get("paused"):
        return "its rollouts are paused"
    if _strategy(workload) == "OnDelete":
        return "its update strategy is OnDelete: pods stay as they are until they are deleted"
    return ""


def _deployment(workload: Json) -> Rollout:
    wanted, updated = _replicas(workload), _status(workload, "updatedReplicas")
    existing, available = _status(workload, "replicas"), _status(workload, "availableReplicas")
    if updated < wanted:
        return Rollout(f"{updated} of {wanted} replicas updated")
    if existing > updated:
        return Rollout(f"old replicas are still there: {existing - updated}")
    if existing > wanted:
        return Rollout(f"{existing} replicas are there, {wanted} are wanted")
    if available < updated:
        return Rollout(f"{available} of {updated} replicas available")
    return Rollout(f"{available} of {wanted} replicas updated and available", done=True)


def _stateful_set(workload: Json) -> Rollout:
    wanted, updated = _replicas(workload), _status(workload, "updatedReplicas")
    existing, ready = _status(workload, "replicas"), _status(workload, "readyReplicas")
    if ready < wanted:
        return Rollout(f"{ready} of {wanted} replicas ready")
    if existing > wanted:
        return Rollout(f"{existing} replicas are there, {wanted} are wanted")
    strategy = workload["spec"].get("updateStrategy", {})
    partition = strategy.get("rollingUpdate", {}).get("partition", 0)
    if partition:
        if updated < wanted - partition:
            return Rollout(f"{updated} of {wanted - partition} replicas above the partition updated")
    elif _strategy(workload) != "OnDelete" and _is_between_revisions(workload):
        return Rollout(f"{updated} of {wanted} replicas updated")
    return Rollout(f"{ready} of {wanted} replicas updated and ready", done=True)


def _daemon_set(workload: Json) -> Rollout:
    wanted = _status(workload, "desiredNumberScheduled")
    updated, available = _status(workload, "updatedNumberScheduled"), _status(workload, "numberAvailable")
    if updated < wanted:
        return Rollout(f"{updated} of {wanted} pods updated")
    if available < wanted:
        return Rollout(f"{available} of {wanted} pods available")
    return Rollout(f"{available} of {wanted} pods updated and available", done=True)


_BY_KIND: Mapping[str, Callable[[Json], Rollout]] = {
    "deployment": _deployment,
    "statefulset": _stateful_set,
    "daemonset": _daemon_set,
}


def _status(workload: Json, field: str) -> int:
    # A count of zero is left out of the JSON.
    count: int = workload.get("status", {}).get(field, 0)
    return count


def _replicas(workload: Json) -> int:
    count: int = workload["spec"].get("replicas", 1)
    return count


def _strategy(workload: Json) -> str:
    name: str = workload["spec"].get("updateStrategy", {}).get("type", "")
    return name


def _is_between_revisions(stateful_set: Json) -> bool:
    status = stateful_set.get("status", {})
    return bool(status.get("updateRevision") != status.get("currentRevision"))


def _progressing(workload: Json) -> Json:
    conditions: list[Json] = workload.get("status", {}).get("conditions") or []
    return next((each for each in conditions if each.get("type") == "Progressing"), {})


def _deadline_exceeded(workload: Json) -> bool:
    return _progressing(workload).get("reason") == "ProgressDeadlineExceeded"
