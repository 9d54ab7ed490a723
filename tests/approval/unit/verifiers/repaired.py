"""A repair, and an API that a test scripts."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from approval.actions.grammar import parse_action
from approval.verifiers.fingerprint import fingerprint
from approval.verifiers.protocol import Repair
from tests.receiver import Answer, Receiver, receiver, status

LABELS = {"alertname": "ApiDown", "instance": 'a\\b"c\nd', "namespace": "prod"}
FINGERPRINT = fingerprint(LABELS)
DATE = "Thu, 07 May 2026 12:00:00 GMT"


def repair(
    action: str = "RESTART deployment/api -n prod",
    *,
    wanted: str = FINGERPRINT,
    source: str = "alertmanager",
    labels: Mapping[str, str] = LABELS,
) -> Repair:
    """A repair of an incident with this fingerprint, source and labels."""
    return Repair(
        "APR-20260507-0000A1",
        "INC-20260507-0000A1",
        parse_action(action),
        datetime(2026, 5, 7, 12, tzinfo=UTC),
        wanted,
        source,
        labels,
    )


def answer(content: Any) -> Answer:
    """An answer of the API at DATE."""
    return status(200, headers={"Date": DATE}, body=json.dumps(content).encode())


@asynccontextmanager
async def answering(*answers: Answer) -> AsyncIterator[tuple[Receiver, Mapping[str, str]]]:
    """An API with these answers, and the variables of a verifier that asks it."""
    async with receiver() as running:
        running.answers.extend(answers)
        yield running, {"APPROVAL_VERIFIER_URL": running.url("")}
