"""`metrics-gateway check-rules`: do rules and dashboards use only what the gateway and the services export?"""

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from metrics_gateway.exposition.catalogue import exported_series, process_series
from metrics_gateway.rules.located import Located, UnreadableError
from metrics_gateway.rules.promql import CheckResult, check_expression
from metrics_gateway.rules.queries import Query, QueryFile, read_file
from metrics_gateway.rules.selectors import KnownSeries, Scope

_SCRAPE_LABELS = frozenset({"job", "instance"})

EXIT_VIOLATIONS = 1
EXIT_UNREADABLE = 2


@dataclass(frozen=True, slots=True, order=True)
class Violation:
    """A use of a series, label or value that does not exist, or an expression that is not PromQL."""

    path: Path
    line: int
    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.name}: {self.reason}"


def check_files(files: Sequence[QueryFile], target_labels: Iterable[str] = ()) -> Sequence[Violation]:
    """Return every use of what does not exist, in the order of files and lines.

    Series that a rule in one of the files records exist. `target_labels` are those that scraping adds besides job and
    instance.
    """
    recorded: dict[str, Scope] = {
        rule.records: None for file in files for rule in file.rules if rule.records is not None
    }
    known = KnownSeries(
        {**exported_series(), **process_series()}, recorded, _SCRAPE_LABELS | frozenset(target_labels)
    )
    violations: set[Violation] = set()
    for file in files:
        for query in (*file.rules, *file.panels):
            violations.update(_check(query, file, known))
            if query.records is not None:
                recorded[query.records] = _recorded_labels(query, known)
    order = [file.path for file in files]
    return sorted(violations, key=lambda violation: (order.index(violation.path), violation))


def _check(query: Query, file: QueryFile, known: KnownSeries) -> Iterator[Violation]:
    try:
        checked = _parsed(query, known)
    except ValueError as exc:
        if query.may_be_foreign:
            return
        yield Violation(file.path, query.text.first, query.name, f"not PromQL: {exc}")
        return
    for problem in checked.problems:
        yield Violation(file.path, _line_of(problem.word, query.text, file), query.name, problem.reason)
    if checked.labels is not None:
        for label, text in query.shown:
            if label not in checked.labels | query.added | {"__name__"}:
                has = ", ".join(sorted(checked.labels | query.added)) or "none"
                reason = f"no label {label} to be shown (there: {has})"
                yield Violation(file.path, _line_of(label, text, file), query.name, reason)


def _parsed(query: Query, known: KnownSeries) -> CheckResult:
    *earlier, last = query.expressions
    for expression in earlier:
        try:
            return check_expression(expression, known)
        except ValueError:
            continue
    return check_expression(last, known)


def _recorded_labels(query: Query, known: KnownSeries) -> Scope:
    try:
        labels = _parsed(query, known).labels
    except ValueError:
        return None
    return None if labels is None else labels | query.added


def _line_of(word: str, text: Located, file: QueryFile) -> int:
    """Return the line of a text of one or more lines that has the word; the first line when none has."""
    whole = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)")
    numbered = enumerate(file.lines[text.first - 1 : text.last], start=text.first)
    return next((number for number, line in numbered if whole.search(line)), text.first)


def run(paths: Sequence[Path], target_labels: Sequence[str]) -> int:
    """Check the files, print the violations, and return the exit code: 0, EXIT_VIOLATIONS or EXIT_UNREADABLE."""
    files: list[QueryFile] = []
    unreadable = False
    for path in paths:
        try:
            files.append(read_file(path))
        except UnreadableError as exc:
            unreadable = True
            print(f"{path}: {exc}", file=sys.stderr)  # noqa: T201 - for the user
    violations = check_files(files, target_labels)
    for violation in violations:
        print(violation)  # noqa: T201 - the command's result
    if unreadable:
        return EXIT_UNREADABLE
    if violations:
        return EXIT_VIOLATIONS
    print(_summary(files))  # noqa: T201 - the command's result
    return 0


def _summary(files: Sequence[QueryFile]) -> str:
    counted = [
        (len(files), "file"),
        (sum(len(file.rules) for file in files), "rule"),
        (sum(len(file.panels) for file in files), "dashboard query"),
    ]
    texts = [_counted(number, noun) for number, noun in counted if number]
    return f"{', '.join(texts)}: all series exist"


def _counted(number: int, noun: str) -> str:
    plural = noun.removesuffix("y") + "ies" if noun.endswith("y") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"
