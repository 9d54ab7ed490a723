"""Notifications through Apprise against a real HTTP server."""

from dataclasses import replace

import pytest

from servicekit.outbox.handler import DeliveryError, PermanentError
from tests.receiver import Answer, free_port, hang_up, raw, receiver, reset, status
from tests.servicekit.unit.notifications.notifying import MESSAGE, failure, notifier, send, url

# Apprise imports it on Pythons that still have it.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


async def test_every_receiver_gets_title_facts_details_and_last_the_id() -> None:
    async with receiver() as one, receiver() as two:
        await send(notifier(url(one), url(two)))
        for each in (one, two):
            (request,) = each.requests
            assert (request.content["title"], request.content["type"]) == ("Resolved: disk full", "info")
            assert request.content["message"] == (
                "severity HIGH\nobserved\nINC-20260507-99ADF2/notification/2"
            )


async def test_the_level_is_sent() -> None:
    async with receiver() as there:
        await send(notifier(url(there)), replace(MESSAGE, level="failure"))
        assert there.requests[0].content["type"] == "failure"


async def test_markup_is_sent_as_plain_text() -> None:
    markup = replace(MESSAGE, details="<b>bold</b> & {{ secret }} :smile: \\n")
    async with receiver() as plain, receiver() as html:
        await send(notifier(url(plain), url(html, "/?format=html")), markup)
        assert "\n<b>bold</b> & {{ secret }} :smile: \\n\n" in plain.requests[0].content["message"]
        assert "<b>" not in html.requests[0].content["message"]


async def test_a_retry_notifies_only_receivers_that_were_not_notified() -> None:
    async with receiver() as one, receiver() as two:
        by = notifier(url(one), url(two))
        two.answers.append(status(500))
        error = await failure(by)
        assert isinstance(error, DeliveryError)
        assert str(error) == "URL 2 (JSON): answered 500"
        await send(by, progress=error.progress)
        assert (len(one.requests), len(two.requests)) == (1, 2)


async def test_progress_accumulates_over_several_retries() -> None:
    async with receiver() as one, receiver() as two, receiver() as three:
        urls = url(one), url(two), url(three)
        two.answers += [status(503), status(503)]
        three.answers += [status(503)]
        first = await failure(notifier(*urls))
        # Another process, which knows the job only.
        second = await failure(notifier(*urls), progress=first.progress)
        assert str(second) == "URL 2 (JSON): answered 503"
        await send(notifier(*urls), progress=second.progress)
        assert [len(each.requests) for each in (one, two, three)] == [1, 3, 2]


async def test_a_new_url_at_the_position_of_a_notified_one_is_notified() -> None:
    async with receiver() as one, receiver() as two, receiver() as other:
        two.answers.append(status(500))
        error = await failure(notifier(url(one), url(two)))
        await send(notifier(url(other), url(two)), progress=error.progress)
        assert (len(other.requests), len(two.requests)) == (1, 2)


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 422])
async def test_a_refusal_is_permanent(code: int) -> None:
    async with receiver() as there:
        there.answers.append(status(code))
        error = await failure(notifier(url(there)))
        assert isinstance(error, PermanentError)
        assert str(error) == f"URL 1 (JSON): answered {code}"


@pytest.mark.parametrize(
    "answer",
    [
        *[pytest.param(status(code), id=str(code)) for code in (408, 425, 429, 500, 502, 503, 504)],
        pytest.param(status(302, headers={"Location": "http://127.0.0.1:9/"}), id="a redirect"),
        pytest.param(reset, id="a reset"),
        pytest.param(hang_up, id="no answer at all"),
        pytest.param(raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), id="not HTTP"),
    ],
)
async def test_a_transient_failure_is_retried(answer: Answer) -> None:
    async with receiver() as there:
        there.answers.append(answer)
        by = notifier(url(there))
        error = await failure(by)
        assert isinstance(error, DeliveryError)
        await send(by, progress=error.progress)


async def test_an_unreachable_receiver_is_retried() -> None:
    assert isinstance(await failure(notifier(f"json://127.0.0.1:{await free_port()}/")), DeliveryError)


async def test_a_refusal_is_not_permanent_while_another_receiver_can_be_retried() -> None:
    async with receiver() as refusing, receiver() as healing:
        by = notifier(url(refusing), url(healing))
        refusing.answers += [status(404), status(404)]
        healing.answers.append(status(500))
        first = await failure(by)
        assert isinstance(first, DeliveryError)
        second = await failure(by, progress=first.progress)
        assert isinstance(second, PermanentError)
        # Re-queued once the receiver is repaired: only that one is notified.
        await send(by, progress=second.progress)
        assert (len(refusing.requests), len(healing.requests)) == (3, 2)


async def test_redirects_are_not_followed() -> None:
    async with receiver() as there, receiver() as elsewhere:
        there.answers.append(status(307, headers={"Location": elsewhere.url()}))
        await failure(notifier(url(there)))
        assert elsewhere.requests == []
