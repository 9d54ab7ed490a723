"""The roles that the tables of the services give RPCs to, and how an identity provider's claims become roles."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from servicekit.identity.watched_file import FileProblemError
from servicekit.process.toml import NotTomlError, parse_toml

VIEWER: Final = "viewer"
PROPOSER: Final = "proposer"
APPROVER: Final = "approver"
OPERATOR: Final = "operator"
DETECTOR: Final = "detector"
INTAKE: Final = "intake"
# What people and jobs may have.
ROLES: Final = frozenset({VIEWER, PROPOSER, APPROVER, OPERATOR, DETECTOR, INTAKE})

# A service has one role, which is its name, and has it by its certificate alone.
APPROVAL_SERVICE: Final = "service:approval"
GATEWAY_SERVICE: Final = "service:gateway"
INTAKE_SERVICE: Final = "service:intake"
# On a server without authentication a caller's name is its own word, and so would be its roles.
EVERY_ROLE: Final = ROLES | {APPROVAL_SERVICE, GATEWAY_SERVICE, INTAKE_SERVICE}

# Of one claim; more is not a list of roles.
_MAX_VALUES = 1_000


class RoleMapping:
    """Which values of a claim give which roles."""

    def __init__(self, roles_of_value: Mapping[str, frozenset[str]]) -> None:
        self._roles_of_value = roles_of_value

    def roles(self, values: Collection[str]) -> frozenset[str]:
        """Return the roles of all these values; unknown values give none."""
        found: frozenset[str] = frozenset()
        for value in values:
            found |= self._roles_of_value.get(value, frozenset())
        return found


# Without a mapping file the values are the roles' own names.
ROLES_BY_NAME: Final = RoleMapping({role: frozenset({role}) for role in ROLES})
NO_ROLES: Final = RoleMapping({})


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    # By role, the values of the claim that give it.
    roles: dict[str, list[Annotated[str, Field(min_length=1, max_length=256)]]]


def parse_role_mapping(content: bytes) -> RoleMapping:
    """Return the mapping in a file: TOML, a table `roles` with a list of the claim's values by role.

    Raises FileProblemError.
    """
    try:
        table = _File.model_validate(parse_toml(content)).roles
    except NotTomlError as exc:
        raise FileProblemError(str(exc)) from None
    except ValidationError:
        raise FileProblemError(
            'must hold a table [roles] of lists, such as approver = ["sre-leads"]'
        ) from None
    if unknown := sorted(table.keys() - ROLES):
        raise FileProblemError(f"there is no role {unknown[0]!r}: the roles are {', '.join(sorted(ROLES))}")
    roles: dict[str, frozenset[str]] = {}
    for role, values in table.items():
        for value in values:
            roles[value] = roles.get(value, frozenset()) | {role}
    return RoleMapping(roles)


def claim_values(claims: Mapping[str, Any], path: str) -> Collection[str]:
    """Return the texts of a claim, which is a list of texts or one text with spaces between them.

    `path` is the claim's name, or leads to it through objects, as `realm_access.roles` does. None when there is no such claim.
    """
    value: Any = claims.get(path)
    if value is None:
        value = claims
        for name in path.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
    if isinstance(value, str):
        value = value.split()
    if not isinstance(value, list):
        return ()
    return {each for each in value[:_MAX_VALUES] if isinstance(each, str)}
