"""Reports: what a notification says about one alert or group, with what its incident is opened by."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from alert_intake.alertmanager.model import Alert, Notification
from alert_intake.mapping.model import AlertMapping, Grouping, ReceiverMapping, Severity, Source
from servicekit import text

# Limits of the incident service.
_MAX_TITLE = 500
_MAX_DESCRIPTION_BYTES = 8_192
_MAX_LABELS = 64
_MAX_LABEL = 256
# An annotation that the incident gets as a label: the verifier prometheus of the approval service evaluates it.
_EXPRESSION = "recovery_expression"
# A label of an incident that is about a group: the verifier alertmanager of the approval service looks for the group by it.
_GROUP = "alertmanager_group"
_NO_LABELS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Report:
    """That an alert, or a group of alerts, fires or has ended."""

    firing: bool
    starts_at: datetime
    # When it ended; `starts_at` where Alertmanager does not say. Unused while it fires.
    ends_at: datetime
    # The same for every firing of the same alert or group.
    fingerprint: str
    title: str
    description: str
    severity: Severity
    labels: Mapping[str, str]


def find_reports(notification: Notification, mapping: AlertMapping) -> Iterator[Report]:
    """Yield what the notification says, in its order: of each alert, or of the whole group."""
    receiver = mapping.of(notification.receiver)
    if receiver.grouping is Grouping.GROUP:
        yield _of_group(notification, receiver)
        return
    for alert in notification.alerts:
        ended = alert.ends_at or alert.starts_at
        yield _report(
            receiver,
            alert.fingerprint,
            firing=alert.firing,
            starts_at=alert.starts_at,
            ends_at=max(ended, alert.starts_at),
            labels=alert.labels,
            annotations=alert.annotations,
            footer=alert.generator_url,
        )


def _of_group(notification: Notification, receiver: ReceiverMapping) -> Report:
    # While the group fires, its alerts that have ended are part of the message too.
    alerts: Sequence[Alert] = [
        alert for alert in notification.alerts if alert.firing or not notification.firing
    ] or notification.alerts
    starts_at = min(alert.starts_at for alert in alerts)
    return _report(
        receiver,
        f"group:{hashlib.sha256(notification.group_key.encode()).hexdigest()[:32]}",
        firing=notification.firing,
        starts_at=starts_at,
        ends_at=max(starts_at, *(alert.ends_at or alert.starts_at for alert in alerts)),
        # What all alerts agree on; where they are one, that is all that it has.
        labels={**notification.common_labels, **notification.group_labels},
        annotations=notification.common_annotations,
        footer="\n".join(f"- {_named(alert)}" for alert in alerts),
        group=_group(notification),
    )


def _group(notification: Notification) -> Mapping[str, str]:
    """Return the label that says which group it is, by what Alertmanager's API knows it; none where that is too long."""
    content = {"receiver": notification.receiver, "labels": notification.group_labels}
    group = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return {_GROUP: group} if len(group) <= _MAX_LABEL else {}


def _named(alert: Alert) -> str:
    labels = ", ".join(f"{name}={value}" for name, value in sorted(alert.labels.items()))
    return f"{labels} since {alert.starts_at.isoformat()}"


def _report(
    receiver: ReceiverMapping,
    fingerprint: str,
    *,
    firing: bool,
    starts_at: datetime,
    ends_at: datetime,
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
    footer: str,
    group: Mapping[str, str] = _NO_LABELS,
) -> Report:
    def first(sources: Sequence[Source]) -> str:
        found = ((annotations if each.annotation else labels).get(each.name, "") for each in sources)
        return next((value for value in found if not text.is_blank(value)), "")

    severity = text.line(first(receiver.severity)).lower()
    title = _line(first(receiver.title) or labels.get("alertname", ""))
    description = "\n\n".join(filter(None, (first(receiver.description), footer)))
    own = {**_expression(annotations), **group}
    return Report(
        firing=firing,
        starts_at=starts_at,
        ends_at=ends_at,
        fingerprint=fingerprint,
        title=_cut(title or f"alert {fingerprint}", _MAX_TITLE),
        description=_cut_bytes(text.block(description.replace("\0", " ")), _MAX_DESCRIPTION_BYTES),
        severity=receiver.severities.get(severity, receiver.default_severity),
        labels={**_labels(labels, receiver.labels, _MAX_LABELS - len(own)), **own},
    )


def _expression(annotations: Mapping[str, str]) -> Mapping[str, str]:
    expression = text.block(annotations.get(_EXPRESSION, "").replace("\0", " ")).strip()
    # A part of one would be another one.
    return {_EXPRESSION: expression} if 0 < len(expression) <= _MAX_LABEL else {}


def _labels(labels: Mapping[str, str], chosen: frozenset[str] | None, limit: int) -> Mapping[str, str]:
    """Return the labels that an incident can have: the alert's name first, then by name, no more than it takes."""
    names = sorted(labels, key=lambda name: (name != "alertname", name))
    kept: dict[str, str] = {}
    for name in names:
        key = text.key(_cut(name, _MAX_LABEL))
        if (chosen is None or name in chosen) and text.is_key(key) and len(kept) < limit:
            kept.setdefault(key, _cut(text.block(labels[name].replace("\0", " ")), _MAX_LABEL))
    return kept


def _line(value: str) -> str:
    """Return a text on one line that the incident service takes: other control characters are spaces too."""
    return text.line("".join(each if text.is_line(each) else " " for each in value))


def _cut(value: str, longest: int) -> str:
    return value if len(value) <= longest else f"{value[: longest - 1]}…"


def _cut_bytes(value: str, longest: int) -> str:
    encoded = value.encode()
    if len(encoded) <= longest:
        return value
    return encoded[: longest - len("…".encode())].decode(errors="ignore") + "…"
