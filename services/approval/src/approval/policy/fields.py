"""The fields that tables of the policy file have in common."""

from typing import Annotated

from pydantic import AfterValidator, ConfigDict

from approval.actions.grammar import ActionSyntaxError, parse_action
from approval.model import Operation

# Of every table of the file.
TABLE = ConfigDict(frozen=True, extra="forbid")


def _check_namespace(name: str) -> str:
    if _parsed(f"DELETE pod/x -n {name}").namespace != name:
        raise ValueError("is not the name of a namespace")
    return name


def _check_hook(name: str) -> str:
    if _parsed(f"HTTP POST {name}").hook != name:
        raise ValueError("is not the name of a hook")
    return name


def _parsed(action: str) -> Operation:
    try:
        return parse_action(action)
    except ActionSyntaxError as exc:
        raise ValueError(exc.reason) from None


Namespace = Annotated[str, AfterValidator(_check_namespace)]
Hook = Annotated[str, AfterValidator(_check_hook)]
