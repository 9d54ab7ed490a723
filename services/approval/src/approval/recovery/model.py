"""The rules of a recovery: when an alert counts as gone, and when it is given up. Knows no database and no wire."""

import uuid
from dataclasses import dataclass
from datetime import timedelta

from approval.model import Recovery


@dataclass(frozen=True, slots=True)
class RecoveryRules:
    """How long and how often the alert of a repaired incident is looked for."""

    # The time after the operation in which the alert has to be gone.
    window: timedelta
    # Between two looks, and before the first one.
    interval: timedelta
    # So many looks in a row must not find the alert.
    looks: int
    # How long one look may take.
    timeout: timedelta


@dataclass(frozen=True, slots=True)
class ClaimedLook:
    """A recovery that this process looks at; `token` lets it record what it found."""

    approval_id: str
    incident_id: str
    token: uuid.UUID


@dataclass(frozen=True, slots=True)
class Found:
    """What one look found; `gone` is None when it is undetermined.

    `reports` is how often the incident was reported so far, None when that is not known.
    """

    gone: bool | None
    message: str
    reports: int | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How a recovery stood before a look is recorded."""

    looks_without_alert: int
    # How often the incident had been reported at the look before.
    reports: int
    # Whether the window is over, by the database's clock.
    is_over: bool
    # The approval of a later operation for the same incident that worked; empty when there is none.
    later_approval_id: str
    # Whether another operation runs for the same incident.
    is_worked_on: bool


@dataclass(frozen=True, slots=True)
class Judgement:
    """Where a look leads: to the end of the recovery, or to another look."""

    recovery: Recovery
    message: str = ""
    looks_without_alert: int = 0


def judge(standing: Standing, found: Found, *, looks: int) -> Judgement:
    """Return where a look leads.

    The alert must be gone at `looks` looks in a row: one that finds it, or cannot tell, begins anew, and so does a report of
    the incident in between, for then the alert has come back meanwhile. An error is never a success. When the window is over,
    the first look that does not find the alert gone ends it; looks that do are completed, so that the outage of this service
    is not taken for a failure of the repair.

    Another operation for the same incident takes over: which of two has helped would be undetermined.
    """
    if standing.later_approval_id:
        return Judgement(
            Recovery.NOT_RECOVERED,
            f"the alert was not gone before {standing.later_approval_id} was executed for the same incident",
        )
    if standing.is_worked_on:
        return Judgement(Recovery.PENDING)
    if not found.gone:
        reason = f"could not be verified: {found.message}" if found.gone is None else found.message
        return Judgement(Recovery.NOT_RECOVERED if standing.is_over else Recovery.PENDING, reason)
    has_come_back = standing.looks_without_alert > 0 and found.reports != standing.reports
    count = 1 if has_come_back else standing.looks_without_alert + 1
    if count >= looks:
        return Judgement(Recovery.VERIFIED, f"{found.message}, at {count} looks in a row", count)
    return Judgement(Recovery.PENDING, found.message, count)
