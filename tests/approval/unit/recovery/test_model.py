"""When an alert counts as gone, and when it is given up."""

import pytest

from approval.model import Recovery
from approval.recovery.model import Found, Judgement, Standing, judge

ACTIVE = Found(False, "the alert is active", 1)
GONE = Found(True, "the alert is not active", 1)
UNKNOWN = Found(None, "no answer in time", 1)
REPORTED = Found(True, "the alert is not active", 2)


def standing(
    looks: int = 0, *, is_over: bool = False, later_approval_id: str = "", is_worked_on: bool = False
) -> Standing:
    return Standing(looks, 1, is_over, later_approval_id, is_worked_on)


@pytest.mark.parametrize(
    ("before", "found", "expected"),
    [
        pytest.param(standing(), ACTIVE, (Recovery.PENDING, 0), id="active"),
        pytest.param(standing(), GONE, (Recovery.PENDING, 1), id="gone once"),
        pytest.param(standing(1), GONE, (Recovery.VERIFIED, 2), id="gone twice in a row"),
        pytest.param(standing(1), ACTIVE, (Recovery.PENDING, 0), id="back at the second look"),
        pytest.param(standing(1), UNKNOWN, (Recovery.PENDING, 0), id="not known at the second look"),
        pytest.param(standing(1), REPORTED, (Recovery.PENDING, 1), id="reported between the looks"),
        pytest.param(standing(0), REPORTED, (Recovery.PENDING, 1), id="reported before the first"),
        pytest.param(standing(1), Found(True, "", None), (Recovery.PENDING, 1), id="reports not known"),
        pytest.param(standing(is_over=True), ACTIVE, (Recovery.NOT_RECOVERED, 0), id="active at the end"),
        pytest.param(standing(1, is_over=True), ACTIVE, (Recovery.NOT_RECOVERED, 0), id="back at the end"),
        pytest.param(
            standing(1, is_over=True), UNKNOWN, (Recovery.NOT_RECOVERED, 0), id="not known at the end"
        ),
        pytest.param(
            standing(0, is_over=True), GONE, (Recovery.PENDING, 1), id="gone at the end: looked again"
        ),
        pytest.param(standing(1, is_over=True), GONE, (Recovery.VERIFIED, 2), id="gone after the end"),
        pytest.param(
            standing(1, later_approval_id="APR-2"), GONE, (Recovery.NOT_RECOVERED, 0), id="superseded"
        ),
        pytest.param(standing(1, is_worked_on=True), GONE, (Recovery.PENDING, 0), id="worked on"),
        pytest.param(
            standing(is_over=True, is_worked_on=True),
            ACTIVE,
            (Recovery.PENDING, 0),
            id="worked on at the end",
        ),
    ],
)
def test_where_a_look_leads(before: Standing, found: Found, expected: tuple[Recovery, int]) -> None:
    judgement = judge(before, found, looks=2)
    assert (judgement.recovery, judgement.looks_without_alert) == expected


def test_the_end_says_why() -> None:
    ended = [
        judge(standing(1), GONE, looks=2),
        judge(standing(is_over=True), ACTIVE, looks=2),
        judge(standing(is_over=True), UNKNOWN, looks=2),
        judge(standing(later_approval_id="APR-2"), GONE, looks=2),
    ]
    assert [each.message for each in ended] == [
        "the alert is not active, at 2 looks in a row",
        "the alert is active",
        "could not be verified: no answer in time",
        "the alert was not gone before APR-2 was executed for the same incident",
    ]


def test_more_looks_may_be_required() -> None:
    found: list[Judgement] = []
    looks = 0
    for _ in range(5):
        found.append(judge(standing(looks), GONE, looks=5))
        looks = found[-1].looks_without_alert
    assert [each.recovery for each in found] == [Recovery.PENDING] * 4 + [Recovery.VERIFIED]
