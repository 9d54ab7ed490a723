"""Checks a PromQL selector against the series that exist: its name, its labels, their values."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import promql_parser as promql
from promql_parser import MatchOp

from metrics_gateway.exposition.families import Exported
from metrics_gateway.exposition.labels import AnyLabel
from metrics_gateway.rules.go_patterns import go_pattern
from metrics_gateway.rules.grafana import CHOSEN

# The names of our series, and of those recorded from them, begin so: the loop's, and those about a process's identities and
# certificates. What begins so and does not exist is an error; other names are those of other exporters.
OURS = ("awoooi_flywheel", "identity_source_", "tls_certificate_")
NAME = "__name__"

# The labels that a result may have; None: unknown, since it contains series of another exporter.
Scope = frozenset[str] | None


@dataclass(frozen=True, slots=True)
class KnownSeries:
    """The series that exist: those exported, those recorded with their labels, and the labels that scraping adds."""

    exported: Exported
    recorded: Mapping[str, Scope]
    target_labels: frozenset[str]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that does not exist: the reason, and the word that locates it in the text."""

    reason: str
    word: str


Problems = list[Problem]


def check_selector(selector: promql.VectorSelector, known: KnownSeries, problems: Problems) -> Scope:
    """Return the labels of the selected series, and add the selector's problems to `problems`."""
    if selector.matchers.or_matchers:
        problems.append(Problem("Prometheus knows no `or` between label matchers", "or"))
    matchers = selector.matchers.matchers
    name = selector.name or _name_in(matchers, MatchOp.Equal)
    if CHOSEN in name:
        # A variable in the name: any of the series that it may make.
        return (
            _check_pattern(name.replace(CHOSEN, ".*"), matchers, known, problems)
            if name.startswith(OURS)
            else None
        )
    if name:
        return _check_series(name, matchers, known, problems)
    pattern = _name_in(matchers, MatchOp.Re)
    # Other patterns also match series of other exporters.
    if CHOSEN in pattern or not pattern.lstrip("^(?:").startswith(OURS):
        return None
    return _check_pattern(pattern, matchers, known, problems)


def require_labels(labels: frozenset[str], scope: Scope, where: str, problems: Problems) -> None:
    """Add a problem for each label that is not in the scope; `where` names the scope in the message."""
    if scope is None:
        return
    there = ", ".join(sorted(scope)) or "none"
    problems += [
        Problem(f"no label {label} in {where} (there: {there})", label)
        for label in sorted(labels - scope)
        if CHOSEN not in label
    ]


def _name_in(matchers: Sequence[promql.Matcher], operation: promql.MatchOp) -> str:
    return next((each.value for each in matchers if each.name == NAME and each.op == operation), "")


def _check_pattern(
    pattern: str, matchers: Sequence[promql.Matcher], known: KnownSeries, problems: Problems
) -> Scope:
    names = [*known.exported, *known.recorded]
    for each in _alternatives(pattern):
        if not any(_fits(each, name) for name in names):
            problems.append(Problem(f"no series has a name like {each}", each))
    scopes: list[Scope] = []
    found: list[Problems] = []
    for name in names:
        if _fits(pattern, name):
            found.append([])
            scopes.append(_check_series(name, matchers, known, found[-1]))
    # A matcher is valid when it is for one of the series.
    if found and all(found):
        problems += found[0]
    return union_of(scopes)


def union_of(scopes: Sequence[Scope]) -> Scope:
    """Return all labels of the scopes; None when one of them is unknown."""
    every: frozenset[str] = frozenset()
    for scope in scopes:
        if scope is None:
            return None
        every |= scope
    return every


def _check_series(
    name: str, matchers: Sequence[promql.Matcher], known: KnownSeries, problems: Problems
) -> Scope:
    checked = [each for each in matchers if each.name != NAME and each.name not in known.target_labels]
    names = frozenset(each.name for each in checked)
    if name in known.recorded:
        scope = known.recorded[name]
        require_labels(names, scope, name, problems)
        return scope
    if name not in known.exported:
        if name.startswith(OURS):
            hint = _hint(name, [*known.exported, *known.recorded])
            problems.append(Problem(f"no series {name}{hint}", name))
        return None
    labels = {label.name: label for label in known.exported[name]}
    scope = known.target_labels | labels.keys()
    require_labels(names, scope, name, problems)
    for each in checked:
        if each.name in labels and CHOSEN not in each.value:
            problems += _check_values(name, each, labels[each.name])
    return scope


def _hint(name: str, names: Sequence[str]) -> str:
    # The common prefix is not a similarity.
    rests = {_rest(each): each for each in names}
    close = difflib.get_close_matches(_rest(name), rests, n=1)
    return f" (is it {rests[close[0]]}?)" if close else ""


def _rest(name: str) -> str:
    return name.removeprefix(next((prefix for prefix in OURS if name.startswith(prefix)), ""))


def _check_values(series: str, matcher: promql.Matcher, label: AnyLabel) -> Iterator[Problem]:
    """Yield the values of a matcher that no series has; for != and !~ too: excluding an impossible value is a mistake."""
    if matcher.op in (MatchOp.Re, MatchOp.NotRe):
        missing = [each for each in _alternatives(matcher.value) if not _takes_any(label, each)]
    else:
        missing = [] if label.takes(matcher.value) else [matcher.value]
    for each in missing:
        yield Problem(
            f'no {label.name}="{each}" in {series} (there: {label.described()})', each or label.name
        )


def _alternatives(pattern: str) -> Sequence[str]:
    """Return the alternatives of a pattern that is a plain list, such as `pending|parked`; else the pattern."""
    listed = re.fullmatch(r"\^?(?:\((?:\?:)?)?([^()\[\]\\]*)\)?\$?", pattern)
    return listed[1].split("|") if listed else [pattern]


def _takes_any(label: AnyLabel, pattern: str) -> bool:
    compiled = go_pattern(pattern)
    return compiled is None or label.takes_any(compiled)


def _fits(pattern: str, name: str) -> bool:
    compiled = go_pattern(pattern)
    return compiled is None or compiled.fullmatch(name) is not None
