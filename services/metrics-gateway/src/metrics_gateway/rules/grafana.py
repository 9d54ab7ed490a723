"""Grafana's additions to PromQL: variables, functions of variable queries, data sources."""

import re
from collections.abc import Callable
from typing import Any

# Placeholder in a label value, metric or label name for what the reader of the dashboard selects.
CHOSEN = "chosen_in_grafana"
# A label in a legend.
LEGEND_LABEL = re.compile(r"\{\{\s*(\w+)\s*\}\}")

_OLD_VARIABLE = re.compile(r"\[\[(\w+)(?::\w+)?\]\]")
# `$1` is not a variable: label_replace refers to its groups so.
_VARIABLE = re.compile(r"\$\{(?P<long>[A-Za-z_]\w*)[^}]*\}|\$(?P<short>[A-Za-z_]\w*)")
# Strings, and durations: ranges and offsets.
_PIECE = re.compile(
    r"""(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`)|(?P<duration>\[[^\]]*\]|\boffset\s+\S+)"""
)
_UNIT = re.compile(r"[smhdwy]")
_FUNCTION = re.compile(r"\s*(label_values|label_names|metrics|query_result)\s*\((.*)\)\s*", re.DOTALL)
_LABEL_VALUES = re.compile(r"(?:(?P<series>.+),)?\s*(?P<label>\w+)\s*", re.DOTALL)


def is_prometheus(datasource: Any) -> bool:
    """Whether a query may go to Prometheus; the default data source and a variable may be one."""
    kind = datasource.get("type") if isinstance(datasource, dict) else None
    return kind in (None, "prometheus", "datasource")


def is_of_unknown_kind(datasource: Any) -> bool:
    """Whether a data source is named without its type, or is the mixed one: its query may be in another language."""
    if isinstance(datasource, dict):
        return datasource.get("type") in (None, "datasource")
    return bool(datasource)


def substituted(expression: str) -> list[str]:
    """Return the expression with its variables replaced by possible values: first names, then numbers.

    Durations become five minutes, parts of strings become CHOSEN. Without variables both are the same, and one is
    returned.
    """
    modern = _OLD_VARIABLE.sub(r"${\1}", expression)
    return list(dict.fromkeys(_substituted(modern, otherwise) for otherwise in (CHOSEN, "1")))


def _substituted(expression: str, otherwise: str) -> str:
    def plain(text: str) -> str:
        # Built-in variables are times as numbers.
        return _VARIABLE.sub(lambda found: "1" if _name(found).startswith("__") else otherwise, text)

    written, position = "", 0
    for piece in _PIECE.finditer(expression):
        replace = _in_string if piece["string"] else _in_duration
        written += plain(expression[position : piece.start()]) + replace(piece[0])
        position = piece.end()
    return written + plain(expression[position:])


def _in_string(text: str) -> str:
    return _VARIABLE.sub(CHOSEN, text)


def _in_duration(text: str) -> str:
    replacement: Callable[[re.Match[str]], str] = lambda found: (  # noqa: E731 - one expression, used once
        "5" if _UNIT.match(text, found.end()) else "5m"
    )
    return _VARIABLE.sub(replacement, text)


def _name(found: re.Match[str]) -> str:
    return found["long"] or found["short"]


def as_expression(query: str) -> str | None:
    """Return PromQL with the series and labels of a variable's query; None when it has none."""
    function = _FUNCTION.fullmatch(query)
    if function is None:
        return query
    name, argument = function.groups()
    if name == "label_values":
        parts = _LABEL_VALUES.fullmatch(argument)
        if parts is None:
            return query
        return f"count by ({parts['label']}) ({parts['series']})" if parts["series"] else None
    if name == "metrics":
        return f'{{__name__=~"{argument.strip()}"}}'
    return argument if argument.strip() else None
