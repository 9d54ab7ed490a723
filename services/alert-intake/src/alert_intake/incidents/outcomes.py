"""What is done about a report."""

from dataclasses import dataclass
from enum import StrEnum

from alert_intake.mapping.report import Report


class Result(StrEnum):
    """The kinds of outcome: label values of `alert_intake_alerts_total`."""

    # It fires, and its incident is committed.
    REPORTED = "reported"
    # It fires, and was counted at the unresolved incident of an earlier firing.
    DEDUPLICATED = "deduplicated"
    # It fires still, and its incident was resolved by a person or a repair: no other is opened before it ends.
    STILL_FIRING = "still_firing"
    # It ended, and its incident is resolved by this.
    RESOLVED = "resolved"
    ALREADY_RESOLVED = "already_resolved"
    # It ended, and its incident is about a later firing, or was reopened since.
    SUPERSEDED = "superseded"
    # It ended, and no incident is about it.
    UNKNOWN = "unknown"
    # The services refuse it, and would again.
    REJECTED = "rejected"
    # It ended while an approved action is being executed.
    HELD = "held"
    # It fires since a time of which it was just reported as ended: an old report, or it fires again.
    UNSETTLED = "unsettled"
    # A call failed, or its time was over.
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        """Whether posting it again would change nothing."""
        return self not in (Result.HELD, Result.UNSETTLED, Result.FAILED)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done about one report, and why it was not."""

    report: Report
    result: Result
    reason: str = ""
