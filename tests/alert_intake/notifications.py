"""Bodies as Alertmanager posts them."""

import json
from collections.abc import Mapping
from typing import Any

STARTED = "2026-05-07T10:00:00.5Z"
ENDED = "2026-05-07T10:20:00Z"
NO_TIME = "0001-01-01T00:00:00Z"
NO_LABELS: Mapping[str, str] = {}


def alert(fingerprint: str = "c0ffee0123456789", *, firing: bool = True, **fields: Any) -> dict[str, Any]:
    """One alert of a body."""
    return {
        "status": "firing" if firing else "resolved",
        "labels": {"alertname": "DiskFull", "severity": "critical", "instance": "db-1:9100"},
        "annotations": {"summary": "The disk of db-1 is full", "description": "2 % are left."},
        "startsAt": STARTED,
        "endsAt": NO_TIME if firing else ENDED,
        "generatorURL": "http://prometheus:9090/graph?g0.expr=up",
        "fingerprint": fingerprint,
        **fields,
    }


def notification(*alerts: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A body with these alerts; one that fires when none is given."""
    content = alerts or (alert(),)
    firing = any(each.get("status") == "firing" for each in content)
    return {
        "version": "4",
        "groupKey": '{}:{alertname="DiskFull"}',
        "truncatedAlerts": 0,
        "status": "firing" if firing else "resolved",
        "receiver": "flywheel",
        "groupLabels": {"alertname": "DiskFull"},
        "commonLabels": {"alertname": "DiskFull", "severity": "critical"},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager:9093",
        "alerts": list(content),
        **fields,
    }


def body(*alerts: dict[str, Any], **fields: Any) -> bytes:
    """The bytes of a notification."""
    return json.dumps(notification(*alerts, **fields)).encode()
