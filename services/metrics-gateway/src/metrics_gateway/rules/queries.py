"""The PromQL expressions of Prometheus rule files and Grafana dashboards, with their lines."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metrics_gateway.rules.grafana import (
    LEGEND_LABEL,
    as_expression,
    is_of_unknown_kind,
    is_prometheus,
    substituted,
)
from metrics_gateway.rules.located import Located, UnreadableError, read_json, read_yaml

# `$labels.source` and `.Labels.source` in an alert's labels and annotations.
_TEMPLATE_LABEL = re.compile(r"(?:\$labels|\.Labels)\.(\w+)")

_NEITHER = "neither Prometheus rules nor a Grafana dashboard"
_DASHBOARD_FIELDS = {"panels", "rows", "templating", "annotations"}


@dataclass(frozen=True, slots=True)
class Query:
    """One expression, and the names and labels that depend on it."""

    # The rule's or panel's name.
    name: str
    # As in the file; violations are located in its lines.
    text: Located
    # The candidates to parse: the first that parses is used. More than one where Grafana's variables have several
    # possible values.
    expressions: Sequence[str]
    # The name of the series that a recording rule makes.
    records: str | None = None
    # Labels that the rule adds.
    added: frozenset[str] = frozenset()
    # Labels of the result that its annotations or legend show, each with that text.
    shown: Sequence[tuple[str, Located]] = field(default=())
    # The type of the data source is not known: what is not PromQL is a query of another language.
    may_be_foreign: bool = False


@dataclass(frozen=True, slots=True)
class QueryFile:
    """A file and the queries in it."""

    path: Path
    lines: Sequence[str]
    rules: Sequence[Query]
    panels: Sequence[Query]


def read_file(path: Path) -> QueryFile:
    """Return the queries of rules and dashboards: plain files, Kubernetes objects and Lists of them, in YAML or JSON.

    Raises UnreadableError when it cannot be read, is neither, or has no queries: a check of nothing proves nothing.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as exc:
        raise UnreadableError(exc.strerror or str(exc)) from exc
    except UnicodeDecodeError as exc:
        raise UnreadableError("not UTF-8") from exc
    rules: list[Query] = []
    panels: list[Query] = []
    try:
        documents = [read_json(text)] if path.suffix == ".json" else read_yaml(text)
        # A redundant separator makes an empty document.
        for document in filter(None, documents):
            for each in _objects(document):
                _add_queries(each, rules, panels)
    # Any other shape of the document.
    except (AttributeError, KeyError, TypeError) as exc:
        raise UnreadableError(_NEITHER) from exc
    if not rules and not panels:
        raise UnreadableError("no rules and no queries in it")
    return QueryFile(path, text.splitlines(), rules, panels)


def _objects(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a document, or the objects in a Kubernetes List."""
    if str(document.get("kind", "")).endswith("List"):
        for item in document["items"]:
            yield from _objects(item)
    else:
        yield document


def _add_queries(document: Mapping[str, Any], rules: list[Query], panels: list[Query]) -> None:
    kind = document.get("kind")
    content = document["spec"] if kind and "spec" in document else document.get("dashboard", document)
    if "groups" in content or kind == "PrometheusRule":
        rules += _rules(content.get("groups") or ())
    elif _DASHBOARD_FIELDS & content.keys():
        panels += _panels(content)
    elif "elements" in content:
        raise UnreadableError(
            "a Grafana dashboard in schema v2 (spec.elements) cannot be read: export it as v1"
        )
    elif isinstance(kind, str) and kind.isidentifier():
        raise UnreadableError(f"an object of kind {kind} is {_NEITHER}")
    else:
        raise UnreadableError(_NEITHER)


def _rules(groups: Sequence[Mapping[str, Any]]) -> Iterator[Query]:
    for group in groups:
        for rule in group.get("rules") or ():
            labels: Mapping[str, Located] = rule.get("labels") or {}
            texts = [*labels.values(), *(rule.get("annotations") or {}).values()]
            record = rule.get("record")
            expression = _text(rule["expr"])
            yield Query(
                name=_text(record or rule["alert"]),
                text=expression,
                expressions=[expression],
                records=record,
                added=frozenset(labels),
                shown=[(label, text) for text in texts for label in _TEMPLATE_LABEL.findall(text)],
            )


def _text(value: object) -> Located:
    if not isinstance(value, Located):
        raise TypeError
    return value


def _panels(dashboard: Mapping[str, Any]) -> Iterator[Query]:
    for variable in (dashboard.get("templating") or {}).get("list") or ():
        yield from _variable(variable)
    for annotation in (dashboard.get("annotations") or {}).get("list") or ():
        yield from _targets(f"annotation {annotation.get('name')}", annotation, [annotation])
        yield from _targets(
            f"annotation {annotation.get('name')}", annotation, [annotation.get("target") or {}]
        )
    rows = dashboard.get("rows") or ()
    yield from _panels_in([*(dashboard.get("panels") or ()), *rows])


def _panels_in(panels: Sequence[Mapping[str, Any]]) -> Iterator[Query]:
    for panel in panels:
        yield from _targets(
            f'panel "{panel.get("title") or panel.get("id")}"', panel, panel.get("targets") or ()
        )
        # Panels of a row.
        yield from _panels_in(panel.get("panels") or ())


def _targets(name: str, owner: Mapping[str, Any], targets: Sequence[Mapping[str, Any]]) -> Iterator[Query]:
    for target in targets:
        expression = target.get("expr")
        datasource = target.get("datasource") or owner.get("datasource")
        if expression and is_prometheus(datasource):
            legend = target.get("legendFormat") or Located()
            yield Query(
                name=name,
                text=expression,
                expressions=substituted(expression),
                shown=[(label, legend) for label in LEGEND_LABEL.findall(legend)],
                may_be_foreign=is_of_unknown_kind(datasource),
            )


def _variable(variable: Mapping[str, Any]) -> Iterator[Query]:
    if variable.get("type") != "query" or not is_prometheus(variable.get("datasource")):
        return
    query = variable.get("query")
    text = query.get("query") if isinstance(query, dict) else query
    expression = as_expression(text) if text else None
    if text and expression:
        yield Query(name=f"variable {variable.get('name')}", text=text, expressions=substituted(expression))
