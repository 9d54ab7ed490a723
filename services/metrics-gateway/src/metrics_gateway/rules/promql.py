"""Checks a PromQL expression against the series that exist, and derives the labels of its result."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import promql_parser as promql
from promql_parser import MatchOp

from metrics_gateway.rules.selectors import (
    NAME,
    KnownSeries,
    Problem,
    Problems,
    Scope,
    check_selector,
    require_labels,
    union_of,
)

_KEEPING_AGGREGATIONS = {"topk", "bottomk", "limitk", "limit_ratio"}
_RELABELLING = {"label_replace", "label_join"}
_ABSENCE = {"absent", "absent_over_time"}
_NUMBER_OR_STRING = re.compile(
    r"""(?P<number>(?<![\w:])\d+(?:_\d+)+)|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`"""
)
_NO_LABELS: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The problems of an expression, and the labels of its result."""

    problems: Sequence[Problem]
    labels: Scope


def check_expression(text: str, known: KnownSeries) -> CheckResult:
    """Check an expression. Raises ValueError with the parser's message when the text is not PromQL."""
    check = _Check(known)
    labels = check.scope(promql.parse(_without_separators(text)))
    return CheckResult(check.problems, labels)


def _without_separators(text: str) -> str:
    """Return the expression without the underscores in numbers (`1_000`), which this parser does not know."""
    return _NUMBER_OR_STRING.sub(
        lambda found: found[0].replace("_", "") if found["number"] else found[0], text
    )


class _Check:
    """Walks one expression, from its selectors up."""

    def __init__(self, known: KnownSeries) -> None:
        self._known = known
        self.problems: Problems = []

    def scope(self, node: object) -> Scope:
        """Return the labels of the node's result."""
        scope: Scope = _NO_LABELS
        match node:
            case promql.VectorSelector():
                scope = check_selector(node, self._known, self.problems)
            case promql.MatrixSelector():
                scope = self.scope(node.vector_selector)
            case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
                scope = self.scope(node.expr)
            case promql.AggregateExpr():
                scope = self._aggregation(node)
            case promql.BinaryExpr():
                scope = self._operation(node)
            case promql.Call():
                scope = self._call(node)
        return scope

    def _aggregation(self, node: promql.AggregateExpr) -> Scope:
        scope = self.scope(node.expr)
        self.scope(node.param)
        operation = str(node.op)
        grouping = node.modifier
        named = frozenset(grouping.labels if grouping else ())
        self._require(named, scope, operation)
        if operation in _KEEPING_AGGREGATIONS:
            return scope
        without = grouping is not None and grouping.type == promql.AggModifierType.Without
        made = {_text(node.param)} if operation == "count_values" else ()
        if without:
            return None if scope is None else (scope - named).union(made)
        return named.union(made)

    def _operation(self, node: promql.BinaryExpr) -> Scope:
        left, right = self.scope(node.lhs), self.scope(node.rhs)
        if _is_scalar(node.lhs) or _is_scalar(node.rhs):
            return right if _is_scalar(node.lhs) else left
        operation, modifier = str(node.op), node.modifier
        matching = modifier.matching if modifier else None
        named = frozenset(matching.labels if matching else ())
        on = matching is not None and matching.type == promql.LabelModifierType.Include
        if on:
            self._require(named, left, f"the left side of {operation}")
            self._require(named, right, f"the right side of {operation}")
        else:
            self._require(named, union_of([left, right]), f"either side of {operation}")
        if operation == "or":
            return union_of([left, right])
        if operation in ("and", "unless"):
            return left
        if modifier and modifier.group_labels is not None:
            return self._grouped(modifier, left, right)
        if on:
            return named
        return None if left is None else left - named

    def _grouped(self, modifier: promql.BinModifier, left: Scope, right: Scope) -> Scope:
        """Return the labels of the "many" side, and those that group_left or group_right adds from the "one" side."""
        to_the_left = modifier.card == promql.VectorMatchCardinality.ManyToOne
        many, one = (left, right) if to_the_left else (right, left)
        taken = frozenset(modifier.group_labels or ())
        self._require(taken, one, f"what group_{'left' if to_the_left else 'right'} takes from")
        return union_of([many, taken])

    def _call(self, node: promql.Call) -> Scope:
        name = node.func.name
        scopes = [self.scope(each) for each in node.args]
        if name in _RELABELLING:
            # label_replace(v, target, replacement, source, pattern); label_join(v, target, separator, source…)
            _, target, _, *sources = map(_text, node.args)
            self._require(frozenset(sources[:1] if name == "label_replace" else sources), scopes[0], name)
            return union_of([scopes[0], frozenset({target})])
        if name in _ABSENCE:
            return frozenset(_labels_of_absent(node.args[0]))
        scope = union_of(
            [each for argument, each in zip(node.args, scopes, strict=True) if not _is_scalar(argument)]
        )
        if name == "histogram_quantile" and scope is not None:
            self._require(frozenset({"le"}), scope, name)
            return scope - {"le"}
        if node.func.return_type == promql.ValueType.Scalar or name == "vector":
            return _NO_LABELS
        return scope

    def _require(self, labels: frozenset[str], scope: Scope, where: str) -> None:
        require_labels(labels, scope, where, self.problems)


def _labels_of_absent(node: object) -> Iterator[str]:
    """Yield the labels of the result of absent(): those that the selector compares with `=`."""
    selector = node.vector_selector if isinstance(node, promql.MatrixSelector) else node
    if isinstance(selector, promql.VectorSelector):
        matchers = selector.matchers.matchers
        yield from (each.name for each in matchers if each.op == MatchOp.Equal and each.name != NAME)


def _is_scalar(node: object) -> bool:
    match node:
        case promql.NumberLiteral() | promql.StringLiteral():
            return True
        case promql.ParenExpr() | promql.UnaryExpr():
            return _is_scalar(node.expr)
        case promql.BinaryExpr():
            return _is_scalar(node.lhs) and _is_scalar(node.rhs)
        case promql.Call():
            return bool(node.func.return_type == promql.ValueType.Scalar)
        case _:
            return False


def _text(node: object) -> str:
    return node.val if isinstance(node, promql.StringLiteral) else ""
