"""The objects that the kubernetes executor may change. The default is none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from approval.actions.grammar import ActionSyntaxError, parse_action
from approval.executors.protocol import PlanCheck
from approval.model import Operation

_NAMESPACES = "APPROVAL_KUBERNETES_NAMESPACES"
KINDS_VARIABLE = "APPROVAL_KUBERNETES_KINDS"
# Beside `pod`: also pods that nothing creates again.
POD_WITHOUT_OWNER = "pod-without-owner"
KINDS = ("deployment", "statefulset", "daemonset", "pod", POD_WITHOUT_OWNER)


@dataclass(frozen=True, slots=True)
class AllowList:
    """Namespaces and kinds of objects; an operation needs both."""

    namespaces: frozenset[str]
    kinds: frozenset[str]

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read the two variables. Raises ValueError naming the one that cannot be used; `*` cannot."""
        namespaces = _names(environment, _NAMESPACES)
        for name in namespaces:
            try:
                parse_action(f"RESTART deployment/any --namespace={name}")
            except ActionSyntaxError:
                raise ValueError(f"{_NAMESPACES}: {name!r} is not the name of a namespace") from None
        kinds = _names(environment, KINDS_VARIABLE)
        for name in kinds:
            if name not in KINDS:
                raise ValueError(f"{KINDS_VARIABLE}: {name!r} is none of {', '.join(KINDS)}")
        return cls(namespaces, kinds)

    @property
    def pods_without_owner(self) -> bool:
        """Whether a pod may be deleted that nothing creates again."""
        return POD_WITHOUT_OWNER in self.kinds

    def checks(self, operation: Operation) -> Sequence[PlanCheck]:
        """Return whether the operation's namespace and kind are allowed."""
        return [
            _check("namespace_allowed", operation.namespace, self.namespaces, _NAMESPACES),
            _check("kind_allowed", operation.resource_kind, self.kinds, KINDS_VARIABLE),
        ]


def _names(environment: Mapping[str, str], variable: str) -> frozenset[str]:
    return frozenset(name.strip() for name in environment.get(variable, "").split(",") if name.strip())


def _check(name: str, value: str, allowed: frozenset[str], variable: str) -> PlanCheck:
    if value in allowed:
        return PlanCheck(name, passed=True, message=f"{value} is allowed")
    listed = ", ".join(sorted(allowed)) or "nothing"
    return PlanCheck(name, passed=False, message=f"{value} is not allowed: {variable} allows {listed}")
