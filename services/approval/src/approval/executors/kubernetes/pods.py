"""Pods: their owners. Calls no cluster."""

from collections.abc import Mapping
from typing import Any

Json = Mapping[str, Any]

_MIRROR = "kubernetes.io/config.mirror"


def owner(pod: Json) -> str:
    """Return the controller that creates another pod when this one is deleted; empty when there is none."""
    for each in pod["metadata"].get("ownerReferences") or []:
        if each.get("controller"):
            return f"{each['kind']}/{each['name']}"
    return ""


def is_mirror(pod: Json) -> bool:
    """Tell whether the pod mirrors a static one, which its node runs from a file: deleting the mirror stops nothing."""
    return _MIRROR in (pod["metadata"].get("annotations") or {})


def describe_pod(pod: Json) -> str:
    """Return its phase, and what comes after it."""
    phase = pod.get("status", {}).get("phase", "Unknown")
    successor = owner(pod)
    if not successor:
        return f"the pod is {phase}, and has no owner that creates another"
    return f"the pod is {phase}, and {successor} owns it"
