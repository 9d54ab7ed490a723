"""A notification of Alertmanager and its alerts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert, as it was when the notification was made."""

    # Of all its labels: the same alert has the same one on every Alertmanager.
    fingerprint: str
    firing: bool
    # When this firing began, and when it ended (None while it fires). By Prometheus' clock.
    starts_at: datetime
    ends_at: datetime | None
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    # The expression's graph in Prometheus. May be empty.
    generator_url: str


@dataclass(frozen=True, slots=True)
class Notification:
    """What one POST says: alerts of one group for one receiver."""

    receiver: str
    group_key: str
    # Whether any alert of the group fires, those left out included.
    firing: bool
    group_labels: Mapping[str, str]
    common_labels: Mapping[str, str]
    common_annotations: Mapping[str, str]
    external_url: str
    # In the order of the message. Not empty.
    alerts: Sequence[Alert]
    # How many alerts Alertmanager left out (its setting `max_alerts`).
    truncated: int
