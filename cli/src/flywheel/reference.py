"""The reference of every command, made from the commands themselves: `python -m flywheel.reference docs/cli.md`."""

import sys
from collections.abc import Iterator
from enum import Enum
from inspect import cleandoc
from pathlib import Path
from typing import Any, Final

import typer

from flywheel.__main__ import app
from flywheel.lazy import LazyCommand

# What is above it in the document is written by hand.
_MARK: Final = "<!-- From here on made by `make docs`. -->\n"
_COMMON: Final = frozenset({"output", "as_json", "context", "actor", "timeout"})


def document(text: str) -> str:
    """Return the document with the reference as it is now. Raises ValueError without the mark."""
    by_hand, mark, _ = text.partition(_MARK)
    if not mark:
        raise ValueError(f"the document has no line {_MARK}")
    return by_hand + mark + "\n" + "\n".join(_reference())


def commands() -> Iterator[tuple[str, Any]]:
    """Yield every command that does something, with the words that call it."""
    yield from _below("flywheel", typer.main.get_command(app))


def _below(words: str, command: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(command, LazyCommand):
        command = command.load()
    if not hasattr(command, "commands"):
        yield words, command
        return
    for name, each in command.commands.items():
        yield from _below(f"{words} {name}", each)


def _reference() -> Iterator[str]:
    everything = [*commands()]
    common = next(command for _, command in everything if _has_common(command))
    yield "## Flags of every command of an operator\n"
    yield from _table([each for each in common.params if each.name in _COMMON])
    noun = ""
    for words, command in everything:
        group = " ".join(words.split()[:2])
        if group != noun:
            noun = group
            yield f"## {noun}\n"
        if words != noun:
            yield f"### {words}\n"
        yield f"{cleandoc(command.help or '')}\n"
        own = [each for each in command.params if not (_has_common(command) and each.name in _COMMON)]
        arguments = [_argument(each) for each in own if each.param_type_name == "argument"]
        yield f"```text\n{' '.join([words, *arguments, '[OPTIONS]'])}\n```\n"
        if own:
            yield from _table(own)
        if _has_common(command):
            yield "And the [flags of every command of an operator](#flags-of-every-command-of-an-operator).\n"


def _has_common(command: Any) -> bool:
    return {each.name for each in command.params} >= _COMMON


def _table(parameters: list[Any]) -> Iterator[str]:
    yield "| | |\n|---|---|"
    for each in parameters:
        yield f"| {_cell(_name(each))} | {_cell(_about(each))} |"
    yield ""


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def _name(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{_argument(parameter)}`"
    names = [*parameter.opts, *parameter.secondary_opts]
    metavar = f" {parameter.metavar}" if parameter.metavar and not parameter.is_flag else ""
    return ", ".join(f"`{name}{metavar if name.startswith('--') else ''}`" for name in sorted(names, key=len))


def _argument(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _about(parameter: Any) -> str:
    parts = [(parameter.help or "").replace("<", "&lt;")]
    kind = parameter.bare_type
    if isinstance(kind, type) and issubclass(kind, Enum):
        parts.append("One of " + ", ".join(f"`{each.value}`" for each in kind) + ".")
    if parameter.required:
        parts.append("Required.")
    elif parameter.default not in (None, False, "", []) and not callable(parameter.default):
        default = parameter.default
        shown = getattr(default, "value", default)
        parts.append(f"Default: `{shown:g}`." if isinstance(shown, float) else f"Default: `{shown}`.")
    if parameter.envvar:
        parts.append(f"Variable: `{parameter.envvar}`.")
    return " ".join(part for part in parts if part)


def main() -> None:
    """Renew the document that is named."""
    path = Path(sys.argv[1])
    path.write_text(document(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
