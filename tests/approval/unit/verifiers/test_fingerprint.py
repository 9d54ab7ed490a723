"""Fingerprints are those of Prometheus: the values are what a real Alertmanager gave to these alerts."""

import pytest

from approval.verifiers.fingerprint import fingerprint, is_fingerprint


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        pytest.param({}, "cbf29ce484222325", id="none"),
        # prometheus/common, model/fnv_test and labelset tests: of no bytes, the offset.
    ],
)
def test_the_fingerprint_of_labels(labels: dict[str, str], expected: str) -> None:
    assert fingerprint(labels) == expected


def test_only_the_labels_count_and_not_their_order() -> None:
    one = fingerprint({"alertname": "ApiDown", "instance": "a"})
    assert one == fingerprint({"instance": "a", "alertname": "ApiDown"})
    assert one != fingerprint({"alertname": "ApiDown", "instance": "b"})
    assert one != fingerprint({"alertname": "ApiDowninstance", "": "a"})


@pytest.mark.parametrize(
    ("value", "expected"),
    [("cbf29ce484222325", True), ("CBF29CE484222325", False), ("group:0123456789abcdef", False), ("", False)],
)
def test_the_form_of_a_fingerprint(value: str, *, expected: bool) -> None:
    assert is_fingerprint(value) is expected
