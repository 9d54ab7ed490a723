"""The gateway as its users start it: a process with an environment, signals, an exit code and a log."""

import asyncio
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from google.protobuf.message import Message

from tests.metrics_gateway.honest_answers import incident_answer
from tests.metrics_gateway.running_gateway import PATIENCE_SECONDS, PATIENT, Gateway, is_up
from tests.metrics_gateway.stats_server import Context, always, stats_server


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with these settings of the gateway and no others."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", "GRPC_"))
    }
    return inherited | dict(variables)


async def start(*arguments: str, **variables: str) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "metrics_gateway",
        *arguments,
        env=environment(variables),
        stdout=PIPE,
        stderr=PIPE,
    )


async def next_line(process: Process) -> Mapping[str, Any]:
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE_SECONDS):
        line: Mapping[str, Any] = json.loads(await process.stderr.readline())
    return line


class GatewayProcess:
    """A gateway that has said that it serves."""

    def __init__(self, process: Process, first_line: Mapping[str, Any], client: httpx2.AsyncClient) -> None:
        self.process = process
        self.first_line = first_line
        self.gateway = Gateway(client)

    async def next_line(self) -> Mapping[str, Any]:
        """Wait for the next line of its log."""
        return await next_line(self.process)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> list[dict[str, Any]]:
        """Ask it to stop and return what else it logged."""
        self.process.send_signal(number)
        return await self.ended()

    async def ended(self) -> list[dict[str, Any]]:
        """Wait for its end and return what else it logged; every line is JSON, and nothing is on standard output."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            out, err = await self.process.communicate()
        assert out == b""
        return [json.loads(line) for line in err.splitlines()]


@asynccontextmanager
async def gateway_process(**variables: str) -> AsyncIterator[GatewayProcess]:
    process = await start("serve", **({"GATEWAY_LISTEN": "127.0.0.1:0"} | variables))
    try:
        first_line = await next_line(process)
        async with httpx2.AsyncClient(
            base_url=f"http://{first_line['address']}", timeout=PATIENCE_SECONDS, trust_env=False
        ) as client:
            yield GatewayProcess(process, first_line, client)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def refusal(*arguments: str, **variables: str) -> tuple[int | None, str]:
    """Exit code and standard error of a gateway that does not start."""
    process = await start(*arguments, **variables)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            _, err = await process.communicate()
    finally:
        if process.returncode is None:  # it started after all
            process.kill()
            await process.wait()
    return process.returncode, err.decode()


async def test_it_says_where_it_serves_and_serves_there() -> None:
    async with (
        stats_server(always(incident_answer())) as incident,
        gateway_process(GATEWAY_SOURCES=f"incident={incident.address}") as running,
    ):
        assert running.first_line["event"] == "serving"
        assert running.first_line["service"] == "metrics-gateway"
        assert not running.first_line["address"].endswith(":0")
        scrape = await running.gateway.scrape()
        assert scrape.value("awoooi_flywheel_source_up", source="incident") == 1
        assert scrape.value("awoooi_flywheel_incidents_stuck") == 567


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_in_good_order(number: signal.Signals) -> None:
    async with gateway_process(GATEWAY_SOURCES="incident=127.0.0.1:1") as running:
        lines = await running.stop(number)
        assert [line["event"] for line in lines] == ["stopping", "stopped"]
        assert running.process.returncode == 0


async def test_a_scrape_under_way_at_the_end_is_answered() -> None:
    go_on = asyncio.Event()

    async def when_told(_: Context) -> Message | bytes:
        await go_on.wait()
        return incident_answer()

    async with (
        stats_server(when_told) as incident,
        gateway_process(
            GATEWAY_SOURCES=f"incident={incident.address}", GATEWAY_LONGEST_SOURCE_TIMEOUT="60s"
        ) as running,
    ):
        scraping = asyncio.create_task(running.gateway.scrape(**PATIENT))
        await incident.was_asked_times(1)
        running.process.send_signal(signal.SIGTERM)
        assert (await running.next_line())["event"] == "stopping"
        go_on.set()
        assert is_up("incident")(await scraping)
        assert [line["event"] for line in await running.ended()] == ["stopped"]
        assert running.process.returncode == 0


async def test_its_log_is_json_whatever_happens() -> None:
    async with gateway_process(GATEWAY_SOURCES="incident=127.0.0.1:1", GATEWAY_LOG_LEVEL="DEBUG") as running:
        await running.gateway.scrape()
        await running.gateway.client.get("/nowhere")
        reader, writer = await asyncio.open_connection(*split(running.first_line["address"]))
        writer.write(b"\x16\x03\x01 no HTTP\r\n\r\n")
        await reader.read()
        writer.close()
        lines = await running.stop()
        failure = next(line for line in lines if line["event"] == "prometheus_metrics_flywheel_error")
        assert (failure["source"], failure["reason"], failure["level"]) == (
            "incident",
            "unavailable",
            "warning",
        )
        assert "Connection refused" in failure["detail"]


async def test_a_source_that_stopped_and_one_that_has_no_health_service_leave_no_foreign_lines() -> None:
    async with (
        stats_server(always(incident_answer()), with_health=False) as incident,
        gateway_process(GATEWAY_SOURCES=f"incident={incident.address}") as running,
    ):
        await running.gateway.scrape()
        await incident.stop()
        await running.gateway.scrape()
        assert [line["event"] for line in await running.stop()] == [
            "prometheus_metrics_flywheel_error",
            "stopping",
            "stopped",
        ]


async def test_an_address_in_use_is_said_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, said = await refusal("serve", GATEWAY_LISTEN=address)
    assert (code, said) == (1, f"GATEWAY_LISTEN: {address} is in use by another process\n")


async def test_two_gateways_never_share_a_port() -> None:
    async with gateway_process() as running:
        address = running.first_line["address"]
        code, said = await refusal("serve", GATEWAY_LISTEN=address)
    assert (code, said) == (1, f"GATEWAY_LISTEN: {address} is in use by another process\n")


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("192.0.2.1:0", id="nobody's address"),
        pytest.param("no-such-host.invalid:9464", id="an unknown name"),
        pytest.param(f"{'a' * 64}:9464", id="no name at all"),
    ],
)
async def test_an_address_that_is_not_this_machines_is_said_in_one_line(address: str) -> None:
    code, said = await refusal("serve", "--insecure", GATEWAY_LISTEN=address)
    assert code == 1
    assert said.startswith(f"GATEWAY_LISTEN: cannot listen on {address}: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0"])
async def test_beyond_loopback_it_refuses_to_start(address: str) -> None:
    code, said = await refusal("serve", GATEWAY_LISTEN=address)
    assert code == 2
    assert said.startswith(f"GATEWAY_LISTEN: {address} can be reached from other machines")
    assert "--insecure" in said


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        pytest.param(["--insecure"], {}, id="the option"),
        pytest.param([], {"GATEWAY_INSECURE": "true"}, id="the variable"),
    ],
)
async def test_beyond_loopback_it_starts_when_told_in_so_many_words(
    arguments: list[str], variables: dict[str, str]
) -> None:
    # The system reads this as 127.0.0.1; the gateway cannot tell and refuses it as it would 0.0.0.0.
    address = "127.1:0"
    code, said = await refusal("serve", GATEWAY_LISTEN=address)
    assert (code, said.partition(" can be reached")[0]) == (2, f"GATEWAY_LISTEN: {address}")
    process = await start("serve", *arguments, GATEWAY_LISTEN=address, **variables)
    try:
        assert (await next_line(process))["event"] == "serving"
    finally:
        process.kill()
        await process.communicate()


async def test_bad_settings_are_said_in_one_line_each() -> None:
    code, said = await refusal("serve", GATEWAY_SOURCES="incident", GATEWAY_LISTEN="9464")
    assert code == 2
    assert [line.partition(":")[0] for line in said.splitlines()] == ["GATEWAY_LISTEN", "GATEWAY_SOURCES"]


def split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)
