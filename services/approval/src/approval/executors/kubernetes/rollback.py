"""Plans the rollback of a workload to its previous revision, as `kubectl rollout undo` does it. Calls no cluster."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from approval.executors.kubernetes.rollout import deployment_revision

Json = Mapping[str, Any]

# Annotations of a Deployment itself; the others come with the revision.
_OWN_ANNOTATIONS = (
    "kubectl.kubernetes.io/last-applied-configuration",
    "deployment.kubernetes.io/revision",
    "deployment.kubernetes.io/revision-history",
    "deployment.kubernetes.io/desired-replicas",
    "deployment.kubernetes.io/max-replicas",
    "deprecated.deployment.rollback.to",
)
_TEMPLATE_HASH = "pod-template-hash"


class NoRollbackError(Exception):
    """There is nothing to roll back to."""


@dataclass(frozen=True, slots=True)
class Rollback:
    """The patch of a workload, and the revisions from and to which it leads."""

    patch: Json | list[Json]
    current: int
    previous: int


def selector(workload: Json) -> str:
    """Return the label selector that finds what the workload owns."""
    wanted = workload["spec"]["selector"]
    parts = [f"{key}={value}" for key, value in sorted((wanted.get("matchLabels") or {}).items())]
    for each in wanted.get("matchExpressions") or []:
        key, values = each["key"], ",".join(each.get("values") or [])
        match each["operator"]:
            case "Exists":
                parts.append(key)
            case "DoesNotExist":
                parts.append(f"!{key}")
            case operator:
                parts.append(f"{key} {operator.lower()} ({values})")
    return ",".join(parts)


def plan_rollback(kind: str, workload: Json, revisions: Json) -> Rollback:
    """Return the way to the second newest of the revisions that the workload owns.

    The patch holds the workload's resource version: it is refused (409) when the workload has changed since it was
    read, for then another revision may be the previous one. Raises NoRollbackError when there is none, or when it is
    the same as the current one.
    """
    owned = [each for each in revisions.get("items") or [] if _is_owned(each, workload)]
    if kind == "deployment":
        return _deployment_rollback(workload, owned)
    return _controller_rollback(workload, owned)


def _deployment_rollback(deployment: Json, replica_sets: Sequence[Json]) -> Rollback:
    numbered = sorted((each for each in replica_sets if deployment_revision(each)), key=deployment_revision)
    current, previous = _last_two(numbered)
    template = _without_hash(previous["spec"]["template"])
    if template == deployment["spec"]["template"]:
        raise NoRollbackError("the previous revision is the same as the current one")
    own = deployment["metadata"].get("annotations") or {}
    unchanged = {key: own[key] for key in _OWN_ANNOTATIONS if key in own}
    restored = {
        key: value
        for key, value in previous["metadata"]["annotations"].items()
        if key not in _OWN_ANNOTATIONS
    }
    patch: list[Json] = [
        {
            "op": "replace",
            "path": "/metadata/resourceVersion",
            "value": deployment["metadata"]["resourceVersion"],
        },
        {"op": "replace", "path": "/spec/template", "value": template},
        {"op": "add", "path": "/metadata/annotations", "value": {**restored, **unchanged}},
    ]
    return Rollback(patch, deployment_revision(current), deployment_revision(previous))


def _controller_rollback(workload: Json, revisions: Sequence[Json]) -> Rollback:
    current, previous = _last_two(sorted(revisions, key=_revision))
    data = previous["data"]
    template = {key: value for key, value in data["spec"]["template"].items() if key != "$patch"}
    if template == workload["spec"]["template"]:
        raise NoRollbackError("the previous revision is the same as the current one")
    # The stored data is a strategic merge patch already, which replaces the template.
    patch = {**data, "metadata": {"resourceVersion": workload["metadata"]["resourceVersion"]}}
    return Rollback(patch, _revision(current), _revision(previous))


def _last_two(ordered: Sequence[Json]) -> tuple[Json, Json]:
    if len(ordered) < 2:  # noqa: PLR2004 - the current one and the previous one
        raise NoRollbackError("there is no previous revision")
    return ordered[-1], ordered[-2]


def _revision(controller_revision: Json) -> int:
    number: int = controller_revision["revision"]
    return number


def _is_owned(found: Json, workload: Json) -> bool:
    owners = found["metadata"].get("ownerReferences") or []
    return any(each.get("controller") and each["uid"] == workload["metadata"]["uid"] for each in owners)


def _without_hash(template: Json) -> Json:
    metadata = template.get("metadata") or {}
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if key != _TEMPLATE_HASH}
    return {**template, "metadata": {**metadata, "labels": labels}}
