"""The field that an operation wrote, and whether the cluster still has it. Calls no cluster."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

Json = Mapping[str, Any]

_REPLICAS = ("spec", "replicas")
_TEMPLATE = ("spec", "template")
RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
_RESTARTED_AT = (*_TEMPLATE, "metadata", "annotations", RESTARTED_AT)


@dataclass(frozen=True, slots=True)
class Written:
    """One field of a workload: its value before the operation, and the value that the operation wrote.

    A workload gets healthy again after its change was undone as well, so this field is part of what is waited for.
    """

    path: Sequence[str]
    before: Any
    value: Any

    @classmethod
    def replicas(cls, workload: Json, value: int) -> Self:
        """The number of replicas."""
        return cls(_REPLICAS, _at(workload, _REPLICAS), value)

    @classmethod
    def restart(cls, workload: Json, value: str) -> Self:
        """The time of the restart."""
        return cls(_RESTARTED_AT, _at(workload, _RESTARTED_AT), value)

    @classmethod
    def template(cls, workload: Json, response: Json) -> Self:
        """The pod template as the cluster stored it: with the defaults of this cluster's version."""
        return cls(_TEMPLATE, _at(workload, _TEMPLATE), _at(response, _TEMPLATE))

    @property
    def changes_pods(self) -> bool:
        """Whether pods have to be replaced: the pod template was written."""
        return self.path != _REPLICAS

    @property
    def is_without_effect(self) -> bool:
        """Whether what the cluster stored is what it had."""
        return bool(self.value == self.before)

    def difference(self, workload: Json, cause: str = "meanwhile") -> str:
        """Return what the workload has instead, with what changed it; empty when it has what was written."""
        now = _at(workload, self.path)
        if now == self.value:
            return ""
        back = "back " if now == self.before else ""
        return f"changed {back}{cause}: {self._describe(now)}"

    def _describe(self, now: Any) -> str:
        match self.path[-1]:
            case "replicas":
                return f"{now} replicas, not {self.value}"
            case "template":
                return "the pod template is not the one that was written"
            case _:
                return (
                    f"restarted at {now}, not {self.value}"
                    if now
                    else "the restart is not in the pod template"
                )


def restarted_at(workload: Json) -> str:
    """Return the time of the last restart, as the pod template has it; empty when there was none."""
    return _at(workload, _RESTARTED_AT) or ""


def _at(found: Any, path: Sequence[str]) -> Any:
    for name in path:
        found = (found or {}).get(name)
    return found
