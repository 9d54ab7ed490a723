"""What a post is answered: only what is whole and committed with 200."""

import asyncio
import json
import socket

import pytest

from tests.alert_intake.alerts import TestedAlert
from tests.alert_intake.notifications import alert, body, notification
from tests.alert_intake.running_intake import Intake, running_intake
from tests.callers import Incidents
from tests.eventually import eventually
from tests.services import RunningService
from tests.tcp_proxy import tcp_proxy

pytestmark = pytest.mark.asyncio(loop_scope="session")

NOWHERE = "127.0.0.1:1"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "the body is not JSON: "),
        (b"{", "the body is not JSON: "),
        (b"\xff\xfe", "the body is not JSON: "),
        (b"[" * 100_000, "the body is not JSON: "),
        (b"[]", "the body must be an object"),
        (b"null", "the body must be an object"),
        (json.dumps({**notification(), "version": "3"}).encode(), "version must be '4'"),
        (json.dumps({**notification(), "alerts": []}).encode(), "alerts must not be empty"),
        (body(alert(fingerprint="")), "alerts[0].fingerprint must be 1 to 56 printable ASCII characters"),
        (body(alert(startsAt="never")), "alerts[0].startsAt "),
        (body(alert(), alert(status="gone")), "alerts[1].status must be 'firing' or 'resolved'"),
        (body(alert(labels={"a": None})), "alerts[0].labels.a must be a string"),
    ],
    ids=[
        "empty",
        "cut",
        "not UTF-8",
        "deep",
        "list",
        "null",
        "version",
        "no alerts",
        "fingerprint",
        "time",
        "status",
        "label",
    ],
)
async def test_a_malformed_body_is_refused_with_the_field(intake: Intake, content: bytes, line: str) -> None:
    response = await intake.post_body(content)
    assert response.status_code == 400
    assert response.text.startswith(line)


async def test_one_bad_alert_refuses_the_whole_body(intake: Intake, incidents: Incidents) -> None:
    good = TestedAlert()
    assert (await intake.post(good.fires(), alert(fingerprint="a b"))).status_code == 400
    assert await good.incidents(incidents) == []


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_a_body_that_a_page_of_another_site_could_send_is_refused(intake: Intake, kind: str) -> None:
    response = await intake.post_body(body(), **{"Content-Type": kind})
    assert response.status_code == 415


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/alertmanager", 405),
        ("OPTIONS", "/alertmanager", 405),
        ("POST", "/alertmanager/", 404),
        ("POST", "/metrics", 405),
        ("GET", "/-/healthy", 200),
        ("GET", "/-/ready", 200),
        ("GET", "/", 404),
    ],
)
async def test_only_the_documented_paths_and_methods_are_there(
    intake: Intake, method: str, path: str, status: int
) -> None:
    assert (await intake.client.request(method, path)).status_code == status


async def test_a_body_beyond_the_limit_is_refused(
    incident_service: RunningService, approval_service: RunningService
) -> None:
    variables = {"INTAKE_MAX_BODY_BYTES": "2000"}
    async with running_intake(incident_service.address, approval_service.address, variables) as intake:
        assert (await intake.post(TestedAlert().fires())).status_code == 200
        large = TestedAlert().fires(annotations={"summary": "x" * 2_000})
        assert (await intake.post(large)).status_code == 413
        assert await intake.value("http_server_refused_total", limit="body") == 1


async def test_a_service_that_is_away_is_503_until_it_is_back(
    incidents: Incidents, incident_service: RunningService, approval_service: RunningService
) -> None:
    firing = [TestedAlert() for _ in range(50)]
    posted = [each.fires() for each in firing]
    async with tcp_proxy(NOWHERE) as network:
        variables = {"INTAKE_CALL_TIMEOUT": "2s"}
        async with running_intake(network.address, approval_service.address, variables) as intake:
            response = await intake.post(*posted)
            assert response.status_code == 503
            assert response.text.startswith("50 of 50 are not committed\n")
            assert await intake.value("alert_intake_alerts_total", result="failed") == 50
            assert await intake.value("alert_intake_posts_total", status="503") == 1
            network.target = incident_service.address
            await eventually(lambda: intake.post(*posted), lambda post: post.status_code == 200)
    for each in firing:
        assert (await each.incident(incidents)).occurrence_count == 1


async def test_an_end_is_not_taken_while_the_approval_service_is_away(
    incidents: Incidents, incident_service: RunningService
) -> None:
    ended = TestedAlert()
    variables = {"INTAKE_CALL_TIMEOUT": "2s"}
    async with running_intake(incident_service.address, NOWHERE, variables) as intake:
        assert (await intake.post(ended.fires())).status_code == 200
        assert (await intake.post(ended.ended(until=5))).status_code == 503
    assert (await ended.incident(incidents)).resolution_number == 0


async def test_a_post_that_takes_too_long_is_503_and_its_client_is_not_waited_for(
    approval_service: RunningService,
) -> None:
    # It accepts connections and never answers.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host, port = silent.getsockname()
        variables = {"INTAKE_POST_TIMEOUT": "200ms", "INTAKE_CALL_TIMEOUT": "60s"}
        async with running_intake(f"{host}:{port}", approval_service.address, variables) as intake:
            response = await intake.post(TestedAlert().fires())
            assert (response.status_code, "not committed in time" in response.text) == (503, True)


async def test_what_its_client_does_not_wait_for_is_not_committed_later(
    incidents: Incidents, incident_service: RunningService, approval_service: RunningService
) -> None:
    abandoned, other = TestedAlert(), TestedAlert()
    called = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        called.set()
        while await reader.read(65_536):
            pass
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with (
        server,
        tcp_proxy(f"{host}:{port}") as network,
        running_intake(network.address, approval_service.address) as intake,
    ):
        posting = asyncio.create_task(intake.post(abandoned.fires()))
        await called.wait()
        posting.cancel()
        await asyncio.gather(posting, return_exceptions=True)

        async def left() -> bool:
            return 'status="499"' in (await intake.client.get("/metrics")).text

        await eventually(left)
        network.target = incident_service.address
        network.reset()
        await eventually(lambda: intake.post(other.fires()), lambda post: post.status_code == 200)
    assert await abandoned.incidents(incidents) == []
