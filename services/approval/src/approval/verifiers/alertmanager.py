"""The verifier alertmanager: what the incident is about, an alert or a group of alerts, is no longer in Alertmanager."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta

from approval.verifiers.fingerprint import fingerprint, is_fingerprint
from approval.verifiers.http_api import HttpApi, HttpSettings
from approval.verifiers.protocol import EXPRESSION_LABEL, CannotTellError, Look, Repair
from approval.verifiers.settling import read_settle, require_uptime

_SOURCE = "alertmanager"
# Of the fingerprint of an incident about a group of alerts, and the label that says which: the intake makes both.
_GROUP_PREFIX = "group:"
_GROUP_LABEL = "alertmanager_group"
# Alertmanager's matchers take others in quotes only; leaving one out makes the answer longer, not wrong.
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
# Of a URL: proxies refuse longer ones.
_MAX_FILTER_CHARACTERS = 2_000
# An alert that is silenced or inhibited has not ended.
_ANY_STATE = [("active", "true"), ("silenced", "true"), ("inhibited", "true"), ("unprocessed", "true")]
_ANY_GROUP = [("active", "true"), ("silenced", "true"), ("inhibited", "true"), ("muted", "true")]


class AlertmanagerVerifier:
    """Looks for alerts by Alertmanager's API v2."""

    def __init__(self, api: HttpApi, *, settle: timedelta) -> None:
        """An Alertmanager that has run for less than `settle` may not have received every alert yet."""
        self._api = api
        self._settle = settle

    async def look(self, repair: Repair) -> Look:
        """Whether the alert, or any alert of the group, is there in any state."""
        wanted = repair.fingerprint
        if wanted.startswith(_GROUP_PREFIX) and repair.source == _SOURCE:
            return await self._look_for_group(*_group(repair.labels))
        # Those of the alert: the intake adds one.
        labels = {name: value for name, value in repair.labels.items() if name != EXPRESSION_LABEL}
        is_known = fingerprint(labels) == wanted
        if not is_fingerprint(wanted) or not (is_known or repair.source == _SOURCE):
            raise CannotTellError("the incident has no fingerprint of an alert of Alertmanager")
        # A filter by labels only when these are the alert's: it would not be found by others, which is not "gone".
        filters = _filters(labels) if is_known else []
        found = (await self._api.get("/api/v2/alerts", [*_ANY_STATE, *filters])).content
        if not isinstance(found, list) or not all(isinstance(alert, dict) for alert in found):
            raise CannotTellError("the answer is not a list of alerts")
        for alert in found:
            if alert.get("fingerprint") == wanted:
                return Look(gone=False, message=f"the alert {wanted} is {_state(alert)} in Alertmanager")
        await self._require_settled()
        return Look(gone=True, message=f"the alert {wanted} is not active in Alertmanager")

    async def _look_for_group(self, receiver: str, labels: Mapping[str, str]) -> Look:
        parameters = [*_ANY_GROUP, *_filters(labels)]
        found = (await self._api.get("/api/v2/alerts/groups", parameters)).content
        if not isinstance(found, list):
            raise CannotTellError("the answer is not a list of groups of alerts")
        left = sum(_alerts_of(group, receiver, labels) for group in found)
        if left:
            return Look(gone=False, message=f"alerts of the group are in Alertmanager: {left}")
        await self._require_settled()
        return Look(gone=True, message="no alert of the group is in Alertmanager")

    async def _require_settled(self) -> None:
        # After the alerts: one that was restarted in between is noticed.
        status = await self._api.get("/api/v2/status")
        if not isinstance(status.content, dict):
            raise CannotTellError("the answer is not a status of Alertmanager")
        cluster = status.content.get("cluster")
        if isinstance(cluster, dict) and cluster.get("status") == "settling":
            raise CannotTellError("Alertmanager has not yet settled in its cluster")
        if self._settle:
            require_uptime(status.content.get("uptime"), status, self._settle)

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()


def _state(alert: Mapping[str, object]) -> str:
    status = alert.get("status")
    state = status.get("state") if isinstance(status, dict) else None
    return state if state in ("active", "suppressed", "unprocessed") else "known"


def _group(labels: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
    """Return the receiver and the labels of the group that an incident is about."""
    try:
        content = json.loads(labels.get(_GROUP_LABEL, ""))
        return content["receiver"], dict(content["labels"])
    except (ValueError, TypeError, KeyError):
        raise CannotTellError("the incident does not say which group of alerts it is about") from None


def _alerts_of(group: object, receiver: str, labels: Mapping[str, str]) -> int:
    """Return how many alerts a listed group has if it is the wanted one: its labels and its receiver identify it."""
    try:
        is_wanted = group["labels"] == labels and group["receiver"]["name"] == receiver  # type: ignore[index] # checked here
        return len(group["alerts"]) if is_wanted else 0  # type: ignore[index] # checked here
    except (TypeError, KeyError):
        raise CannotTellError("the answer is not a list of groups of alerts") from None


def _filters(labels: Mapping[str, str]) -> Sequence[tuple[str, str]]:
    filters: list[tuple[str, str]] = []
    room = _MAX_FILTER_CHARACTERS
    for name, value in labels.items():
        quoted = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        matcher = f'{name}="{quoted}"'
        if _LABEL_NAME.fullmatch(name) and len(matcher) <= room:
            filters.append(("filter", matcher))
            room -= len(matcher)
    return filters


def make_verifier(environment: Mapping[str, str]) -> AlertmanagerVerifier:
    """Return the verifier for the Alertmanager at APPROVAL_VERIFIER_URL."""
    return AlertmanagerVerifier(
        HttpApi(HttpSettings.from_environment(environment)), settle=read_settle(environment)
    )
