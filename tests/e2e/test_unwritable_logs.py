"""Logs that cannot be written (full disk, closed pipe, a reader that has stopped) cost log lines and nothing else."""

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress

import grpc.aio
import httpx2
import pytest

from awoooi.incident.v1 import incident_pb2
from tests.approval.schemas import approval_database, incident_database
from tests.callers import State, approvals_at, incidents_at
from tests.eventually import eventually
from tests.metrics_gateway.scrapes import Scrape, read_text
from tests.services import TIMEOUT_SECONDS, serving, without_settings
from tests.unwritable import UNWRITABLE, Unwritable

EXECUTIONS = 8


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"127.0.0.1:{taken.getsockname()[1]}"


@contextmanager
def process(
    package: str, *arguments: str, stderr: int, **variables: str
) -> "Iterator[subprocess.Popen[bytes]]":
    """`python -m <package>` with its log on `stderr`."""
    started = subprocess.Popen(
        [sys.executable, "-m", package, *arguments],
        env=without_settings() | variables,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
    )
    try:
        yield started
    finally:
        started.kill()
        started.wait()


async def ended(started: "subprocess.Popen[bytes]") -> int:
    """The exit code."""
    return await asyncio.to_thread(started.wait, TIMEOUT_SECONDS)


@asynccontextmanager
async def healthy(package: str, url: str, stderr: int, **variables: str) -> AsyncIterator[str]:
    """The address of a service that serves; it ends with 0 on SIGTERM."""
    prefix, address = package.upper(), free_address()
    settings = {f"{prefix}_LISTEN": address, f"{prefix}_DATABASE_URL": url}
    with process(package, "serve", stderr=stderr, **settings, **variables) as started:
        async with grpc.aio.insecure_channel(address) as channel:
            await serving(channel)
        yield address
        started.send_signal(signal.SIGTERM)
        assert await ended(started) == 0


@asynccontextmanager
async def gateway(sources: str, stderr: int) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the gateway."""
    address = free_address()
    variables = {"GATEWAY_LISTEN": address, "GATEWAY_SOURCES": sources}
    with process("metrics_gateway", "serve", stderr=stderr, **variables) as started:
        async with httpx2.AsyncClient(base_url=f"http://{address}", trust_env=False) as client:

            async def answers() -> bool:
                with suppress(httpx2.HTTPError):
                    return (await client.get("/-/ready")).is_success
                return False

            await eventually(answers)
            yield client
        started.send_signal(signal.SIGTERM)
        assert await ended(started) == 0


async def scrape(client: httpx2.AsyncClient) -> Scrape:
    answer = await client.get("/metrics")
    assert answer.status_code == httpx2.codes.OK, answer.text
    return read_text(answer.text)


@pytest.mark.slow
@pytest.mark.parametrize("unwritable", UNWRITABLE.values(), ids=UNWRITABLE.keys())
async def test_the_loop_closes_while_no_log_can_be_written_from_the_start(unwritable: Unwritable) -> None:
    metrics = free_address()
    with unwritable() as log:
        async with (
            incident_database() as incident_url,
            approval_database() as approval_url,
            healthy("incident", incident_url, log) as incident,
            healthy(
                "approval",
                approval_url,
                log,
                APPROVAL_INCIDENT_TARGET=incident,
                APPROVAL_METRICS_LISTEN=metrics,
            ) as approval,
            # One source that is there and one that is not, which is logged at every change.
            gateway(f"approval={approval},incident=127.0.0.1:1", log) as client,
            incidents_at(incident) as incidents,
            approvals_at(approval) as approvals,
            httpx2.AsyncClient(trust_env=False) as http,
        ):
            ids = [await incidents.opened_id() for _ in range(EXECUTIONS)]
            for incident_id in ids:
                approved = await approvals.approved(incident_id)
                executed = await approvals.execute(approved.approval_id)
                assert executed.approval.state == State.STATE_SUCCEEDED
            scraped = await eventually(
                lambda: scrape(client),
                lambda found: found.value("awoooi_flywheel_noop_resolutions_total") == EXECUTIONS,
            )
            assert scraped.value("awoooi_flywheel_resolve_deliveries", state="parked") == 0
            assert (scraped.value("process_log_lines_dropped_total") or 0) > 0
            for incident_id in ids:
                assert (await incidents.get(incident_id)).state == incident_pb2.Incident.STATE_RESOLVED
            lost = read_text((await http.get(f"http://{metrics}/metrics")).text)
            # Of each execution one line, and one of each delivery.
            assert (lost.value("process_log_lines_dropped_total") or 0) >= 2 * EXECUTIONS


REFUSED: dict[str, tuple[list[str], Mapping[str, str], int]] = {
    "setting": (["incident", "serve"], {}, 2),
    "database": (["incident", "migrate"], {"INCIDENT_DATABASE_URL": "postgresql://u@127.0.0.1:1/x"}, 1),
    "gateway": (["metrics_gateway", "serve"], {"GATEWAY_LISTEN": "nowhere"}, 2),
    "usage": (["approval", "nothing"], {}, 2),
    "flywheel": (["flywheel", "up"], {"INCIDENT_LISTEN": "nowhere"}, 1),
}


@pytest.mark.parametrize("unwritable", UNWRITABLE.values(), ids=UNWRITABLE.keys())
@pytest.mark.parametrize(("command", "variables", "code"), REFUSED.values(), ids=REFUSED.keys())
async def test_a_refused_start_has_its_exit_code_although_its_reason_cannot_be_written(
    command: list[str], variables: Mapping[str, str], code: int, unwritable: Unwritable
) -> None:
    with unwritable() as log, process(*command, stderr=log, **variables) as started:
        assert await ended(started) == code
