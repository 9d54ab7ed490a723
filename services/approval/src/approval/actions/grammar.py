"""The grammar of actions: text to operation and back.

    action     = no-action | repair | hook
    no-action  = "NO_ACTION" [ ":" any text ]
    repair     = ( "RESTART" | "ROLLBACK" | "DELETE" ) object namespace
               | "SCALE" object ( replicas namespace | namespace replicas )
    object     = kind "/" name
    namespace  = ( "-n" | "--namespace" ) ( " " | "=" ) name
    replicas   = "--replicas" ( " " | "=" ) number
    hook       = "HTTP" "POST" name

Words are separated by white space; verbs and kinds are case-insensitive. The text after NO_ACTION's colon is not parsed.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from approval.model import Operation, OperationKind

# The letters are ASCII in any case; the white space is that between words, of any script.
_NO_ACTION = re.compile(r"\s*(?ai:NO_ACTION)\s*(?::.*)?", re.DOTALL)
_WORD = re.compile(r"\S+")
_OBJECT_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER = re.compile(r"[0-9]{1,5}")
_MAX_REPLICAS = 10_000

_WORKLOADS = ("deployment", "statefulset", "daemonset")
_KINDS: Mapping[OperationKind, Sequence[str]] = {
    OperationKind.RESTART: _WORKLOADS,
    OperationKind.ROLLBACK: _WORKLOADS,
    OperationKind.SCALE: ("deployment", "statefulset"),
    OperationKind.DELETE: ("pod",),
}
_NAMESPACE_FLAGS = ("-n", "--namespace")
_REPLICAS_FLAG = "--replicas"


class ActionSyntaxError(Exception):
    """The action does not follow the grammar. `position` counts characters from 0."""

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(f"at character {position + 1}: {reason}")
        self.position = position
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _Word:
    text: str
    position: int


def parse_action(text: str) -> Operation:
    """Return the operation of an action.

    Raises ActionSyntaxError with the position and the reason when the text is no action.
    """
    if _NO_ACTION.fullmatch(text):
        return Operation(OperationKind.NO_ACTION)
    words = [_Word(match[0], match.start()) for match in _WORD.finditer(text)]
    if not words:
        raise ActionSyntaxError(0, "expected an action")
    verb, rest = words[0], words[1:]
    end = len(text)
    match _folded(verb.text):
        case "RESTART" | "ROLLBACK" | "SCALE" | "DELETE" as kind:
            return _repair(OperationKind(kind), rest, end)
        case "HTTP":
            return _hook(rest, end)
        case "NO_ACTION":
            raise ActionSyntaxError(rest[0].position, "expected ':' before the text after NO_ACTION")
        case _:
            raise ActionSyntaxError(
                verb.position, "expected NO_ACTION, RESTART, SCALE, DELETE, ROLLBACK or HTTP"
            )


def format_operation(operation: Operation) -> str:
    """Return the action text of `operation`; parsing it gives the operation back."""
    match operation.kind:
        case OperationKind.NO_ACTION:
            return "NO_ACTION"
        case OperationKind.HTTP:
            return f"HTTP POST {operation.hook}"
        case OperationKind.SCALE:
            replicas = f" --replicas={operation.replicas}"
        case _:
            replicas = ""
    return f"{operation.kind} {operation.resource_kind}/{operation.name}{replicas} -n {operation.namespace}"


def _folded(word: str) -> str:
    """A word in upper case; one with letters that are not ASCII, some of which fold to ASCII, is returned unchanged."""
    return word.upper() if word.isascii() else word


def _repair(kind: OperationKind, words: Sequence[_Word], end: int) -> Operation:
    if not words:
        raise ActionSyntaxError(end, "expected an object such as deployment/api")
    resource_kind, name = _object(kind, words[0])
    flags = _flags(
        words[1:], end, allowed=(*_NAMESPACE_FLAGS, *([_REPLICAS_FLAG] if kind == "SCALE" else []))
    )
    namespace = flags.pop("namespace", None)
    if namespace is None:
        raise ActionSyntaxError(end, "expected a namespace: -n NAME")
    if not _LABEL.fullmatch(namespace.text):
        raise ActionSyntaxError(namespace.position, "is not the name of a namespace")
    replicas = flags.pop("replicas", None)
    if kind is not OperationKind.SCALE:
        return Operation(kind, resource_kind=resource_kind, name=name, namespace=namespace.text)
    if replicas is None:
        raise ActionSyntaxError(end, "expected the number of replicas: --replicas=NUMBER")
    if not _NUMBER.fullmatch(replicas.text) or int(replicas.text) > _MAX_REPLICAS:
        raise ActionSyntaxError(replicas.position, f"expected a number of replicas from 0 to {_MAX_REPLICAS}")
    return Operation(
        kind, resource_kind=resource_kind, name=name, namespace=namespace.text, replicas=int(replicas.text)
    )


def _object(kind: OperationKind, word: _Word) -> tuple[str, str]:
    resource_kind, slash, name = word.text.partition("/")
    known = _KINDS[kind]
    if not slash or _folded(resource_kind).lower() not in known:
        raise ActionSyntaxError(word.position, f"{kind} expects {' or '.join(known)}, then / and a name")
    if not _OBJECT_NAME.fullmatch(name):
        raise ActionSyntaxError(
            word.position + len(resource_kind) + 1, "is not the name of a Kubernetes object"
        )
    return resource_kind.lower(), name


def _flags(words: Sequence[_Word], end: int, *, allowed: Sequence[str]) -> dict[str, _Word]:
    found: dict[str, _Word] = {}
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        flag, equals, value = word.text.partition("=")
        if flag not in allowed:
            raise ActionSyntaxError(word.position, f"expected {' or '.join(allowed)}")
        name = "namespace" if flag in _NAMESPACE_FLAGS else "replicas"
        if name in found:
            raise ActionSyntaxError(word.position, f"the {name} is given twice")
        if equals:
            found[name] = _Word(value, word.position + len(flag) + 1)
        elif waiting:
            found[name] = waiting.pop(0)
        else:
            raise ActionSyntaxError(end, f"expected a value after {flag}")
    return found


def _hook(words: Sequence[_Word], end: int) -> Operation:
    if not words or _folded(words[0].text) != "POST":
        raise ActionSyntaxError(words[0].position if words else end, "expected POST after HTTP")
    if len(words) == 1:
        raise ActionSyntaxError(end, "expected the name of a hook")
    if not _LABEL.fullmatch(words[1].text):
        raise ActionSyntaxError(
            words[1].position, "is not the name of a hook: a-z, 0-9 and -, at most 63 characters"
        )
    if len(words) > 2:  # noqa: PLR2004 - POST and the name
        raise ActionSyntaxError(words[2].position, "expected the end of the action")
    return Operation(OperationKind.HTTP, hook=words[1].text)
