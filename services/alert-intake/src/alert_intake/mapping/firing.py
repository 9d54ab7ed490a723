"""The identity of a firing: every report of it names the same request and the same incident, on every Alertmanager."""

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime

_ID_DIGITS = 12
_NOTE = re.compile(r"The alert ended at (\S+)\.")
_AGAIN = "+again:"


@dataclass(frozen=True, slots=True)
class Firing:
    """One time in which an alert or a group fires.

    `ended_before` tells it from an earlier one with the same beginning: Alertmanager considers an alert as ended when
    Prometheus is silent about it for some minutes, and as firing since its old beginning when it receives it again.
    """

    fingerprint: str
    starts_at: datetime
    ended_before: datetime | None = None

    @property
    def request_id(self) -> str:
        """The idempotency key of its reports."""
        again = "" if self.ended_before is None else f"{_AGAIN}{self.ended_before.isoformat()}"
        return f"{self.fingerprint}@{self.starts_at.isoformat()}{again}"

    @property
    def incident_id(self) -> str:
        """The id of the incident that its first report opens."""
        digest = hashlib.sha256(self.request_id.encode()).hexdigest()[:_ID_DIGITS].upper()
        return f"INC-{self.starts_at:%Y%m%d}-{digest}"

    def began_after(self, end: datetime) -> bool:
        """Tell whether this is another firing than the one that ended then, and a later one."""
        if self.ended_before is not None:
            return self.ended_before >= end
        return self.starts_at > end


def parse_firing(request_id: str) -> Firing | None:
    """Return the firing that a report was about; None for a request id that is not of here."""
    fingerprint, _, times = request_id.rpartition("@")
    starts_at, _, ended_before = times.partition(_AGAIN)
    try:
        return Firing(fingerprint, _time(starts_at), _time(ended_before) if ended_before else None)
    except (ValueError, OverflowError):
        return None


def end_note(ended_at: datetime) -> str:
    """Return the note of an incident that is resolved because its alert ended."""
    return f"The alert ended at {ended_at.isoformat()}."


def parse_end_note(note: str) -> datetime | None:
    """Return when the alert ended, by such a note; None for another note."""
    match = _NOTE.fullmatch(note)
    try:
        return None if match is None else _time(match[1])
    except (ValueError, OverflowError):
        return None


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
