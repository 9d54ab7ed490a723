"""The simulated target verifies what calls its hooks, executes each approval once, and repairs only what it can."""

import base64
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from flywheel.demo.target import Target

BODY = b'{"version": 1, "type": "approval.execute"}'
APPROVAL = "APR-20260507-0000A1"


@pytest.fixture
def target() -> Iterator[Target]:
    with Target({"orders": True, "mails": False}) as running:
        running.stop_draining()
        yield running


@pytest.fixture
def secret(target: Target, tmp_path: Path) -> str:
    target.write_hooks(tmp_path)
    return (tmp_path / "hook.secret").read_text().strip()


def signed(secret: str, approval_id: str = APPROVAL, sent: datetime | None = None) -> dict[str, str]:
    time = sent or datetime.now(UTC)
    return {
        "webhook-id": approval_id,
        "webhook-timestamp": str(int(time.timestamp())),
        "webhook-signature": Webhook(secret).sign(approval_id, time, BODY.decode()),
        "idempotency-key": approval_id,
    }


def test_a_repair_that_helps_empties_its_queue(target: Target, secret: str) -> None:
    assert target.repair("orders", signed(secret), BODY) == HTTPStatus.OK
    assert target.metrics().splitlines() == [
        'demo_queue_length{queue="orders"} 0',
        'demo_queue_length{queue="mails"} 1000',
    ]


def test_a_repair_that_does_not_help_responds_as_one_that_does(target: Target, secret: str) -> None:
    before = target.metrics()
    assert target.repair("mails", signed(secret), BODY) == HTTPStatus.OK
    assert target.metrics() == before


def test_an_approval_is_executed_once(target: Target, secret: str) -> None:
    assert target.repair("orders", signed(secret), BODY) == HTTPStatus.OK
    target.stop_draining()
    before = target.metrics()
    assert target.repair("orders", signed(secret), BODY) == HTTPStatus.OK
    assert target.metrics() == before


def test_a_call_without_a_valid_signature_changes_nothing(target: Target, secret: str) -> None:
    before = target.metrics()
    another = "whsec_" + base64.b64encode(bytes(32)).decode()
    for headers in (
        {},
        signed(another),
        signed(secret) | {"webhook-id": "APR-20260507-0000A2"},
        signed(secret, sent=datetime.now(UTC) - timedelta(minutes=6)),
    ):
        assert target.repair("orders", headers, BODY) == HTTPStatus.UNAUTHORIZED
    assert target.repair("orders", signed(secret), BODY + b" ") == HTTPStatus.UNAUTHORIZED
    assert target.metrics() == before


def test_a_message_that_is_delivered_twice_is_read_once(target: Target) -> None:
    for _ in range(2):
        target.notify(b'{"title": "Approval needed", "message": "Risk HIGH\\nAPR-1/pending/1"}')
    assert [each.message_id for each in target.notifications] == ["APR-1/pending/1"]
