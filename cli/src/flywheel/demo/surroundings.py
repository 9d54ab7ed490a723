"""What a demo does not take from the environment."""

import re
from collections.abc import Mapping

# Those of the services: a demo has settings of its own, and neither certificate nor token, which it does not need on
# loopback. A proxy does not apply to services of this machine.
_SETTING = re.compile(r"(INCIDENT|APPROVAL|GATEWAY|INTAKE)_\w+|(?i:\w+_proxy)")


def without_settings(environment: Mapping[str, str]) -> dict[str, None]:
    """Return the variables that a demo removes from the environment of its services."""
    return {name: None for name in environment if _SETTING.fullmatch(name)}
