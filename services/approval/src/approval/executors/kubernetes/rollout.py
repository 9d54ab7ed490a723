"""The progress of a rollout, by the rules of `kubectl rollout status`. Calls no cluster."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from approval.executors.kubernetes.pods import describe_pod

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rollout:
    """How far a workload is."""

    text: str
    done: bool = False
    # The progress deadline is exceeded: waiting longer would not help.
    failed: bool = False


def rollout(kind: str, workload: Json, *, before: Json, changes_pods: bool) -> Rollout:
    """Return how far a workload is; `before` is the workload as it was before it was changed.

    With `changes_pods` its pod template was changed; else the number of its replicas only, which a workload whose pods
    are not replaced (it is paused, or its strategy is OnDelete) comes to as well.
    """
    if not is_observed(workload):
        return Rollout("the change is not yet observed by the cluster")
    obstacle = cannot_roll(workload)
    if obstacle and not changes_pods:
        return _scaled(kind, workload, obstacle)
    state = _BY_KIND[kind](workload)
    # The condition of the previous rollout may remain until the new one shows progress.
    if _deadline_exceeded(workload) and _progressing(workload) != _progressing(before):
        return Rollout(f"the progress deadline passed: {state.text}", failed=True)
    if obstacle and not state.done:
        return Rollout(f"{state.text}, and {obstacle}")
    return state


def is_observed(workload: Json) -> bool:
    """Return whether the cluster has observed the workload's last change."""
    generation: int = workload["metadata"]["generation"]
    return _status(workload, "observedGeneration") >= generation


def describe(kind: str, found: Json) -> str:
    """Return in a few words what is there."""
    match kind:
        case "pod":
            return describe_pod(found)
        case "daemonset":
            return f"{_status(found, 'desiredNumberScheduled')} pods"
        case "statefulset":
            revision = found.get("status", {}).get("currentRevision", "unknown")
            return f"{_replicas(found)} replicas, revision {revision}"
        case _:
            paused = ", paused" if found["spec"].get("paused") else ""
            return f"{_replicas(found)} replicas, revision {deployment_revision(found)}{paused}"


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
    partition = _partition(workload)
    if 0 < partition >= _replicas(workload):
        return f"its update partition is {partition}: all pods stay as they are"
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


def _scaled(kind: str, workload: Json, obstacle: str) -> Rollout:
    wanted, existing = _replicas(workload), _status(workload, "replicas")
    counted = "availableReplicas" if kind == "deployment" else "readyReplicas"
    word = counted.removesuffix("Replicas")
    serving = _status(workload, counted)
    if existing > wanted + _surge_of_paused(workload):
        return Rollout(f"{existing} replicas are there, {wanted} are wanted")
    if serving < wanted:
        return Rollout(f"{serving} of {wanted} replicas {word}")
    updated = _status(workload, "updatedReplicas")
    old = f", {updated} of them updated: {obstacle}" if updated < existing else ""
    return Rollout(f"{serving} of {wanted} replicas {word}{old}", done=True)


def _surge_of_paused(workload: Json) -> int:
    """Return how many replicas more a Deployment keeps that was paused between two revisions."""
    if not 0 < _status(workload, "updatedReplicas") < _status(workload, "replicas"):
        return 0
    surge = (workload["spec"].get("strategy", {}).get("rollingUpdate") or {}).get("maxSurge", 0)
    if isinstance(surge, int):
        return surge
    return math.ceil(_replicas(workload) * int(surge.removesuffix("%")) / 100)


def _stateful_set(workload: Json) -> Rollout:
    wanted, updated = _replicas(workload), _status(workload, "updatedReplicas")
    existing, ready = _status(workload, "replicas"), _status(workload, "readyReplicas")
    if ready < wanted:
        return Rollout(f"{ready} of {wanted} replicas ready")
    if existing > wanted:
        return Rollout(f"{existing} replicas are there, {wanted} are wanted")
    partition = _partition(workload)
    if 0 < partition < wanted:
        if updated < wanted - partition:
            return Rollout(f"{updated} of {wanted - partition} replicas above the partition updated")
        text = f"{wanted - partition} of {wanted} replicas, those above the partition, updated; {ready} ready"
        return Rollout(text, done=True)
    if _is_between_revisions(workload):
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


def _partition(workload: Json) -> int:
    """Return the ordinal below which a StatefulSet keeps its pods as they are."""
    number: int = (workload["spec"].get("updateStrategy", {}).get("rollingUpdate") or {}).get("partition", 0)
    return number


def _is_between_revisions(stateful_set: Json) -> bool:
    status = stateful_set.get("status", {})
    return bool(status.get("updateRevision") != status.get("currentRevision"))


def _progressing(workload: Json) -> Json:
    conditions: list[Json] = workload.get("status", {}).get("conditions") or []
    return next((each for each in conditions if each.get("type") == "Progressing"), {})


def _deadline_exceeded(workload: Json) -> bool:
    return _progressing(workload).get("reason") == "ProgressDeadlineExceeded"
