"""`metrics-gateway check-rules`: do rules and dashboards use only what the gateway exports?"""

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from metrics_gateway.exposition.catalogue import exported_series
from metrics_gateway.rules.located import Located, UnreadableError
from metrics_gateway.rules.promql import Checked, check_expression
from metrics_gateway.rules.queries import Query, QueryFile, read_file
from metrics_gateway.rules.selectors import KnownSeries, Scope

_SCRAPE_LABELS = frozenset({"job", "instance"})

EXIT_FOUND = 1
EXIT_UNREADABLE = 2


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """Something in a file that does not exist."""

    path: Path
    line: int
    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.name}: {self.reason}"


def check_files(files: Sequence[QueryFile], target_labels: Iterable[str] = ()) -> Sequence[Finding]:
    """Return what the files use and the gateway does not export, in the order of files and lines.

    What a rule of any of the files records exists, too. `target_labels` are those that scraping adds besides job and
    instance.
    """
    recorded: dict[str, Scope] = {
        rule.records: None for file in files for rule in file.rules if rule.records is not None
    }
    known = KnownSeries(exported_series(), recorded, _SCRAPE_LABELS | frozenset(target_labels))
    findings: set[Finding] = set()
    for file in files:
        for query in (*file.rules, *file.panels):
            findings.update(_check(query, file, known))
            if query.records is not None:
                recorded[query.records] = _recorded_labels(query, known)
    order = [file.path for file in files]
    return sorted(findings, key=lambda finding: (order.index(finding.path), finding))


def _check(query: Query, file: QueryFile, known: KnownSeries) -> Iterator[Finding]:
    try:
        checked = _parsed(query, known)
    except ValueError as exc:
        yield Finding(file.path, query.text.first, query.name, f"not PromQL: {exc}")
        return
    for problem in checked.problems:
        yield Finding(file.path, _line_of(problem.word, query.text, file), query.name, problem.reason)
    if checked.labels is not None:
        for label, text in query.shown:
            if label not in checked.labels | query.added | {"__name__"}:
                has = ", ".join(sorted(checked.labels | query.added)) or "none"
                reason = f"no label {label} to be shown (there: {has})"
                yield Finding(file.path, _line_of(label, text, file), query.name, reason)


def _parsed(query: Query, known: KnownSeries) -> Checked:
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
    """Return the line in which a text, which may have several, has the word; its first when none has."""
    whole = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)")
    numbered = enumerate(file.lines[text.first - 1 : text.last], start=text.first)
    return next((number for number, line in numbered if whole.search(line)), text.first)


def run(paths: Sequence[Path], target_labels: Sequence[str]) -> int:
    """Check the files, say what was found, and return the exit code: 0, EXIT_FOUND or EXIT_UNREADABLE."""
    files: list[QueryFile] = []
    unreadable = False
    for path in paths:
        try:
            files.append(read_file(path))
        except UnreadableError as exc:
            unreadable = True
            print(f"{path}: {exc}", file=sys.stderr)  # noqa: T201 - for who ran it
    findings = check_files(files, target_labels)
    for finding in findings:
        print(finding)  # noqa: T201 - the command's result
    if unreadable:
        return EXIT_UNREADABLE
    if findings:
        return EXIT_FOUND
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
