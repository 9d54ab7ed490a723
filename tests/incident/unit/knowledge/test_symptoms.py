"""The identity of a problem: the fingerprint, or the normalised title and labels."""

from collections.abc import Mapping

import pytest

from incident.knowledge.model import symptom_key

Problem = tuple[str, Mapping[str, str], str]


def problem(
    title: str = "disk full", labels: Mapping[str, str] | None = None, fingerprint: str = ""
) -> Problem:
    return title, labels or {}, fingerprint


SAME = {
    "white space and case": (problem("Disk  full\n"), problem("disk FULL")),
    "numbers": (problem("97 % of /var used"), problem("98 % of /var used")),
    "numbers of any length": (problem("after 9 s"), problem("after 120 s")),
    "times": (problem("since 12:00:01"), problem("since 23:59:59")),
    "ends of pod names": (problem("api-7d9f8b6c5-x2k9p restarts"), problem("api-5c6b7d8e9-a1b2c restarts")),
    "hexadecimal ids": (problem("job 3fa85f64 failed"), problem("job 0c1d2e3f failed")),
    "numbers in labels": (problem(labels={"pod": "api-1"}), problem(labels={"pod": "api-22"})),
    "order of labels": (problem(labels={"a": "x", "b": "y"}), problem(labels={"b": "y", "a": "x"})),
    "one fingerprint, other words": (
        problem("disk full", {"host": "db"}, "f"),
        problem("no space left", {}, "f"),
    ),
}
DIFFERENT = {
    "words": (problem("disk full"), problem("disk slow")),
    "labels": (problem(labels={"service": "api"}), problem(labels={"service": "web"})),
    "names of labels": (problem(labels={"a": "x"}), problem(labels={"b": "x"})),
    "more labels": (problem(), problem(labels={"a": "x"})),
    "fingerprints that differ in a number": (problem(fingerprint="f1"), problem(fingerprint="f2")),
    "a fingerprint and a title of the same text": (problem(fingerprint="disk full"), problem("disk full")),
    "words run together": (problem("disk full"), problem("diskfull")),
    "text moved from a label into another": (
        problem(labels={"a": "x", "b": ""}),
        problem(labels={"a": "", "b": "x"}),
    ),
}


@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME)
def test_volatile_differences_are_the_same_problem(one: Problem, other: Problem) -> None:
    assert symptom_key(*one) == symptom_key(*other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT.values(), ids=DIFFERENT)
def test_substantial_differences_are_another_problem(one: Problem, other: Problem) -> None:
    assert symptom_key(*one) != symptom_key(*other)
