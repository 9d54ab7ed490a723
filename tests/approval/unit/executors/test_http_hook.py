"""The http executor against a real HTTP server."""

import asyncio
import hashlib
import hmac
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from approval.actions.grammar import parse_action
from approval.executors.http_hook import HttpExecutor, make_executor
from approval.executors.protocol import OperationFailedError, PlanCheck, RunContext
from tests.receiver import (
    Answer,
    Held,
    Receiver,
    endless_body,
    free_port,
    hang_up,
    raw,
    receiver,
    reset,
    status,
)

SECRET = "a secret of enough characters"
ACTION = parse_action("HTTP POST restart-batch")
APPROVAL_ID = "APR-20260507-0000A1"


def executor(folder: Path, url: str, *, timeout: str = "60s", more: str = "") -> HttpExecutor:
    """An executor with one hook."""
    (folder / "secret").write_text(f"{SECRET}\n")
    path = folder / "hooks.toml"
    path.write_text(
        f'[hooks.restart-batch]\nurl = "{url}"\nsecret_file = "secret"\ntimeout = "{timeout}"\n{more}'
    )
    return make_executor({"APPROVAL_HTTP_HOOKS_FILE": str(path)})


def context(seconds: float = 600) -> RunContext:
    """The context of a run."""
    return RunContext(APPROVAL_ID, "INC-20260507-0000A1", timedelta(seconds=seconds))


@asynccontextmanager
async def answering(*answers: Answer) -> AsyncIterator[Receiver]:
    """A receiver with these answers."""
    async with receiver() as running:
        running.answers.extend(answers)
        yield running


async def failure(hook: HttpExecutor, *, seconds: float = 600) -> str:
    """The message of a run that fails."""
    with pytest.raises(OperationFailedError) as caught:
        await hook.run(ACTION, context(seconds))
    return str(caught.value)


async def test_a_post_has_the_action_and_the_idempotency_key(tmp_path: Path) -> None:
    async with answering(status(200, body=b"started")) as running:
        hook = executor(tmp_path, running.url("/hooks?id=7"), more='headers = { X-Team = "sre" }')
        assert await hook.run(ACTION, context()) == "the hook restart-batch answered 200"
    [request] = running.requests
    assert (request.method, request.target) == ("POST", "/hooks?id=7")
    assert request.content == {
        "version": 1,
        "type": "approval.execute",
        "approval_id": APPROVAL_ID,
        "incident_id": "INC-20260507-0000A1",
        "action": "HTTP POST restart-batch",
        "hook": "restart-batch",
    }
    assert request.headers["content-type"] == "application/json"
    assert request.headers["idempotency-key"] == APPROVAL_ID
    assert request.headers["x-team"] == "sre"


@pytest.mark.parametrize("content", [SECRET, f"another {SECRET}\n{SECRET}"])
async def test_the_library_verifies_the_signature(tmp_path: Path, content: str) -> None:
    async with answering() as running:
        hook = executor(tmp_path, running.url())
        (tmp_path / "secret").write_text(content)
        await hook.run(ACTION, context())
    [request] = running.requests
    Webhook(SECRET.encode()).verify(request.body, dict(request.headers))
    assert request.headers["webhook-id"] == APPROVAL_ID


async def test_the_deprecated_signature_is_sent_as_well(tmp_path: Path) -> None:
    async with answering() as running:
        await executor(tmp_path, running.url()).run(ACTION, context())
    [request] = running.requests
    fields = dict(field.split("=") for field in request.headers["x-awoooi-signature"].split(","))
    signed = fields["t"].encode() + b"." + request.body
    assert fields["v1"] == hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()


async def test_a_new_secret_needs_no_restart(tmp_path: Path) -> None:
    async with answering() as running:
        hook = executor(tmp_path, running.url())
        await hook.run(ACTION, context())
        (tmp_path / "secret").write_text("another secret of enough characters")
        await hook.run(ACTION, context())
    bodies = {request.body for request in running.requests}
    signatures = {request.headers["webhook-signature"] for request in running.requests}
    assert (len(bodies), len(signatures)) == (1, 2)


async def test_a_missing_secret_fails_before_anything_is_sent(tmp_path: Path) -> None:
    async with answering() as running:
        hook = executor(tmp_path, running.url())
        (tmp_path / "secret").unlink()
        said = await failure(hook)
        planned = await hook.plan(ACTION)
    reason = "the secret file cannot be read: there is no such file"
    assert said == f"nothing was sent to the hook restart-batch: {reason}"
    assert planned[-1] == PlanCheck("secret_readable", passed=False, message=reason)
    assert running.requests == []


@pytest.mark.parametrize("code", [200, 201, 202, 204, 299])
async def test_2xx_is_success(tmp_path: Path, code: int) -> None:
    async with answering(status(code)) as running:
        said = await executor(tmp_path, running.url()).run(ACTION, context())
    assert said == f"the hook restart-batch answered {code}"


@pytest.mark.parametrize("code", [400, 401, 404, 409, 429, 500, 503])
async def test_every_other_status_is_a_failure_that_quotes_no_body(tmp_path: Path, code: int) -> None:
    async with answering(status(code, body=b"private-detail")) as running:
        said = await failure(executor(tmp_path, running.url()))
    assert said == f"the hook restart-batch answered {code}"
    assert len(running.requests) == 1


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(tmp_path: Path, code: int) -> None:
    async with answering() as elsewhere:
        answer = status(code, headers={"Location": elsewhere.url()})
        async with answering(answer) as running:
            said = await failure(executor(tmp_path, running.url()))
    assert said == f"the hook restart-batch answered {code}; redirects are not followed"
    assert elsewhere.requests == []


async def test_the_status_decides_when_the_body_has_no_end(tmp_path: Path) -> None:
    async with answering(endless_body(200), endless_body(500)) as running:
        hook = executor(tmp_path, running.url())
        assert await hook.run(ACTION, context()) == "the hook restart-batch answered 200"
        assert await failure(hook) == "the hook restart-batch answered 500"


@pytest.mark.parametrize(
    ("own", "seconds", "waited"),
    [
        pytest.param("250ms", 600, "0.25", id="the hook's own timeout"),
        pytest.param("1h", 1.5, "0.75", id="the run's deadline, with a margin to report it"),
    ],
)
async def test_a_hook_that_hangs_times_out_and_may_have_happened(
    tmp_path: Path, own: str, seconds: float, waited: str
) -> None:
    held = Held(status(200))
    async with answering(held) as running:
        said = await failure(executor(tmp_path, running.url(), timeout=own), seconds=seconds)
        held.release.set()
    assert said == f"the hook restart-batch did not answer within {waited} s: it may have happened"


async def drip(writer: asyncio.StreamWriter) -> None:
    """Answer slowly and without end: an inactivity timeout never fires."""
    writer.write(b"HTTP/1.1 200 ")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


async def test_a_hook_that_drips_times_out_as_well(tmp_path: Path) -> None:
    async with answering(drip) as running:
        said = await failure(executor(tmp_path, running.url(), timeout="500ms"))
    assert said == "the hook restart-batch did not answer within 0.5 s: it may have happened"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(reset, "ReadError", id="reset"),
        pytest.param(hang_up, "RemoteProtocolError", id="hung up"),
        pytest.param(raw(b"private-detail\r\n\r\n"), "RemoteProtocolError", id="not HTTP"),
        pytest.param(raw(b"HTTP/1.1 200 " + b"x" * 1_000_000), "RemoteProtocolError", id="a huge head"),
    ],
)
async def test_a_broken_response_may_have_happened_and_is_not_quoted(
    tmp_path: Path, answer: Answer, error: str
) -> None:
    async with answering(answer) as running:
        said = await failure(executor(tmp_path, running.url()))
    assert said == f"the connection to the hook restart-batch failed, {error}: it may have happened"
    assert len(running.requests) == 1


async def test_a_refused_connection_means_that_nothing_was_sent_and_quotes_no_url(tmp_path: Path) -> None:
    url = f"http://user:private-detail@127.0.0.1:{await free_port()}/private-detail"
    said = await failure(executor(tmp_path, url))
    assert said.startswith("nothing was sent to the hook restart-batch: cannot connect: ")
    assert "private-detail" not in said


async def test_credentials_in_the_url_are_sent_as_basic_authentication(tmp_path: Path) -> None:
    async with answering() as running:
        url = running.url().replace("//", "//user:password@")
        await executor(tmp_path, url).run(ACTION, context())
    assert running.requests[0].headers["authorization"] == "Basic dXNlcjpwYXNzd29yZA=="


async def test_a_certificate_without_a_trusted_root_is_refused(
    tmp_path: Path, server_tls: ssl.SSLContext
) -> None:
    async with receiver(server_tls) as running:
        said = await failure(executor(tmp_path, running.url()))
    assert said.startswith("nothing was sent to the hook restart-batch: cannot connect: ")
    assert "CERTIFICATE_VERIFY_FAILED" in said
    assert running.requests == []


async def test_only_configured_hooks_are_called(tmp_path: Path) -> None:
    async with answering() as running:
        hook = executor(tmp_path, running.url())
        other = parse_action("HTTP POST other")
        with pytest.raises(OperationFailedError, match=r"^no hook other is configured$"):
            await hook.run(other, context())
        assert await hook.plan(other) == [
            PlanCheck("hook_configured", passed=False, message="no hook other is configured")
        ]
    assert running.requests == []


async def test_a_plan_sends_no_request(tmp_path: Path) -> None:
    async with answering() as running:
        assert await executor(tmp_path, running.url(), timeout="30s").plan(ACTION) == [
            PlanCheck("hook_configured", passed=True, message="the hook restart-batch has 30 s to answer"),
            PlanCheck("secret_readable", passed=True, message="requests can be signed"),
        ]
    assert running.requests == []
