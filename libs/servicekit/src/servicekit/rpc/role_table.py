"""Role tables: who may call what."""

from collections.abc import Collection, Mapping
from typing import TypeAlias

# By method, `/package.Service/Method`, the roles of which a caller needs one.
RoleTable: TypeAlias = Mapping[str, frozenset[str]]


def role_table(service: str, roles: Mapping[str, Collection[str]]) -> RoleTable:
    """Return the table of a service, by its full name, from the roles of its methods by their names."""
    return {f"/{service}/{method}": frozenset(needed) for method, needed in roles.items()}
