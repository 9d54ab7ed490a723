"""Loads the verifier that the settings name."""

from collections.abc import Mapping
from importlib.metadata import entry_points

from approval.verifiers.protocol import ENTRY_POINT_GROUP, Verifier, VerifierFactory
from servicekit.process.settings import SettingsError


def load_verifier(name: str, environment: Mapping[str, str]) -> Verifier | None:
    """Make the verifier; None without a name.

    Raises SettingsError when the name is unknown, or when the settings of the verifier are invalid.
    """
    if not name:
        return None
    found = {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}
    if name not in found:
        known = ", ".join(sorted(found)) or "none"
        raise SettingsError(f"APPROVAL_VERIFIER: there is no verifier {name!r}; installed: {known}")
    factory: VerifierFactory = found[name].load()
    try:
        return factory(environment)
    except ValueError as exc:
        raise SettingsError(str(exc)) from None
