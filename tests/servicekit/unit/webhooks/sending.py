"""A sender, and one POST with it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from servicekit.webhooks.errors import NoResponseError
from servicekit.webhooks.response import Response
from servicekit.webhooks.sender import WebhookSender
from servicekit.webhooks.signature import parse_secrets
from tests.receiver import Answer, receiver

SECRET = "a secret of the tests"
BODY = b'{"type":"incident.resolved"}'
MESSAGE_ID = "INC-20260507-99ADF2/webhook/2"


@asynccontextmanager
async def sender_to(url: str, **options: Any) -> AsyncIterator[WebhookSender]:
    """A sender, closed when the block ends."""
    sender = WebhookSender(url, user_agent="awoooi-tests", **options)
    try:
        yield sender
    finally:
        await sender.close()


async def post(sender: WebhookSender, *, within: float = 30.0, **options: Any) -> Response:
    """One POST."""
    options = {"body": BODY, "message_id": MESSAGE_ID, "secrets": parse_secrets(SECRET)} | options
    return await sender.post(within=timedelta(seconds=within), **options)


async def outcome(url: str, *, within: float = 30.0, **options: Any) -> Response | NoResponseError:
    """The response to one POST, or why there is none."""
    async with sender_to(url, **options) as sender:
        try:
            return await post(sender, within=within)
        except NoResponseError as exc:
            return exc


async def outcome_of(answer: Answer, *, within: float = 30.0, **options: Any) -> Response | NoResponseError:
    """The outcome of one POST that is answered so."""
    async with receiver() as there:
        there.answers.append(answer)
        return await outcome(there.url("/sesame"), within=within, **options)
