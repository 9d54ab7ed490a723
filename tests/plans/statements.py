"""The statements that the modules of a package define, found without anyone naming them."""

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import TextClause, TextualSelect

from tests.plans.plan import compiled
from tests.plans.recorder import is_explained


def statements_of(*packages: str) -> Mapping[str, str]:
    """Return the text of each statement with a plan, by the name of its constant; migrations have none that serve."""
    found: dict[str, str] = {}
    for package in packages:
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if ".migrations" in module.name:
                continue
            for name, value in vars(importlib.import_module(module.name)).items():
                found |= {
                    each: text
                    for each, statement in _statements(f"{module.name}.{name}", value)
                    if is_explained(text := compiled(statement))
                }
    return found


def _statements(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, TextClause | TextualSelect):
        yield name, value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _statements(f"{name}[{key}]", each)
