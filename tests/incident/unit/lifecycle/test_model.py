"""Digests of a Create's content: they make Create idempotent."""

import dataclasses
from typing import Any

import pytest

from incident.lifecycle.model import NewIncident
from incident.model import Severity

CONTENT = NewIncident(
    title="t",
    severity=Severity.LOW,
    description="d",
    fingerprint="f",
    labels={"a": "1", "b": "2"},
    source="s",
)


@pytest.mark.parametrize(
    "change",
    [
        {"title": "T"},
        {"severity": Severity.HIGH},
        {"description": ""},
        {"fingerprint": ""},
        {"labels": {"a": "1"}},
        {"labels": {"a": "2", "b": "1"}},
        {"labels": {"a": "1", "b": "2", "c": ""}},
        {"source": ""},
        {"title": "", "source": "t"},
    ],
    ids=str,
)
def test_other_content_has_another_digest(change: dict[str, Any]) -> None:
    assert dataclasses.replace(CONTENT, **change).content_hash() != CONTENT.content_hash()


def test_the_order_of_labels_does_not_change_the_digest() -> None:
    other = dataclasses.replace(CONTENT, labels={"b": "2", "a": "1"})
    assert other.content_hash() == CONTENT.content_hash()


def test_text_that_moves_between_fields_changes_the_digest() -> None:
    one = dataclasses.replace(CONTENT, title='a", "LOW", "b', description="")
    two = dataclasses.replace(CONTENT, title="a", description="b")
    assert one.content_hash() != two.content_hash()


def test_the_digest_is_stable_over_processes_and_releases() -> None:
    """It is stored: were it to change, a retry over a deploy would look like other content."""
    simple = NewIncident(title="t", severity=Severity.LOW)
    assert simple.content_hash() == "fd3e78f3733c963ab15e4ff901993cd5fe4b86ccec12ec8f18b91e6e490e8134"
