"""Loads the executors that the settings name, and finds the one for an operation."""

from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points

from approval.executors.protocol import ENTRY_POINT_GROUP, Executor, ExecutorFactory
from approval.model import OperationKind
from servicekit.process.settings import SettingsError


class Executors:
    """The executors of this process by the kind of operation."""

    def __init__(self, named: Mapping[str, Executor]) -> None:
        """Raises SettingsError when two executors run the same kind of operation."""
        self._by_kind: dict[OperationKind, tuple[str, Executor]] = {}
        for name, executor in named.items():
            for kind in executor.kinds:
                if kind in self._by_kind:
                    other = self._by_kind[kind][0]
                    raise SettingsError(f"APPROVAL_EXECUTORS: {other} and {name} both run {kind}")
                self._by_kind[kind] = (name, executor)
        self._named = named

    @property
    def kinds(self) -> frozenset[OperationKind]:
        """The kinds of operation that can be run."""
        return frozenset(self._by_kind)

    def find(self, kind: OperationKind) -> tuple[str, Executor] | None:
        """Return the name and the executor that runs operations of this kind, or None."""
        return self._by_kind.get(kind)

    async def close(self) -> None:
        """Close all executors."""
        for executor in self._named.values():
            await executor.close()


def load_executors(names: Sequence[str], environment: Mapping[str, str]) -> Executors:
    """Make the executors named, in order.

    Raises SettingsError when a name is unknown, or when the settings of an executor are invalid.
    """
    found = {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}
    made: dict[str, Executor] = {}
    for name in names:
        if name not in found:
            known = ", ".join(sorted(found)) or "none"
            raise SettingsError(f"APPROVAL_EXECUTORS: there is no executor {name!r}; installed: {known}")
        factory: ExecutorFactory = found[name].load()
        try:
            made[name] = factory(environment)
        except ValueError as exc:
            raise SettingsError(str(exc)) from None
    return Executors(made)
