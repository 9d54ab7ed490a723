"""The gateway as a process: environment, signals, exit codes, log."""

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

from tests.metrics_gateway.integration.running_gateway import LONG_TIMEOUT, Gateway, is_up
from tests.metrics_gateway.integration.stats_server import Context, always, stats_server
from tests.metrics_gateway.valid_responses import incident_response
from tests.services import TIMEOUT_SECONDS


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
    async with asyncio.timeout(TIMEOUT_SECONDS):
        line: Mapping[str, Any] = json.loads(await process.stderr.readline())
    return line


class GatewayProcess:
    """A gateway that has logged `serving`."""

    def __init__(self, process: Process, first_line: Mapping[str, Any], client: httpx2.AsyncClient) -> None:
        self.process = process
        self.first_line = first_line
        self.gateway = Gateway(client)

    async def next_line(self) -> Mapping[str, Any]:
        """Wait for the next line of its log."""
        return await next_line(self.process)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> list[dict[str, Any]]:
        """Send the signal and return the remaining log events."""
        self.process.send_signal(number)
        return await self.ended()

    async def ended(self) -> list[dict[str, Any]]:
        """Wait for its end and return the remaining log events; every line is JSON, and standard output is empty."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            out, err = await self.process.communicate()
        assert out == b""
        return [json.loads(line) for line in err.splitlines()]


@asynccontextmanager
async def gateway_process(**variables: str) -> AsyncIterator[GatewayProcess]:
    process = await start("serve", **({"GATEWAY_LISTEN": "127.0.0.1:0"} | variables))
    try:
        first_line = await next_line(process)
        async with httpx2.AsyncClient(
            base_url=f"http://{first_line['address']}", timeout=TIMEOUT_SECONDS, trust_env=False
        ) as client:
            yield GatewayProcess(process, first_line, client)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def refusal(*arguments: str, **variables: str) -> tuple[int | None, str]:
    """Exit code and standard error of a gateway that fails to start."""
    process = await start(*arguments, **variables)
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            _, err = await process.communicate()
    finally:
        if process.returncode is None:  # it started after all
            process.kill()
            await process.wait()
    return process.returncode, err.decode()


async def test_the_serving_event_has_the_address_it_serves_on() -> None:
    async with (
        stats_server(always(incident_response())) as incident,
        gateway_process(GATEWAY_SOURCES=f"incident={incident.address}") as running,
    ):
        assert running.first_line["event"] == "serving"
        assert running.first_line["service"] == "metrics-gateway"
        assert not running.first_line["address"].endswith(":0")
        scrape = await running.gateway.scrape()
        assert scrape.value("awoooi_flywheel_source_up", source="incident") == 1
        assert scrape.value("awoooi_flywheel_incidents_stuck") == 567


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_shuts_it_down_gracefully(number: signal.Signals) -> None:
    async with gateway_process(GATEWAY_SOURCES="incident=127.0.0.1:1") as running:
        lines = await running.stop(number)
        assert [line["event"] for line in lines] == ["stopping", "stopped"]
        assert running.process.returncode == 0


async def test_graceful_shutdown_completes_scrapes_in_flight() -> None:
    release = asyncio.Event()

    async def when_released(_: Context) -> Message | bytes:
        await release.wait()
        return incident_response()

    async with (
        stats_server(when_released) as incident,
        gateway_process(
            GATEWAY_SOURCES=f"incident={incident.address}", GATEWAY_LONGEST_SOURCE_TIMEOUT="60s"
        ) as running,
    ):
        scraping = asyncio.create_task(running.gateway.scrape(**LONG_TIMEOUT))
        await incident.received(1)
        running.process.send_signal(signal.SIGTERM)
        assert (await running.next_line())["event"] == "stopping"
        release.set()
        assert is_up("incident")(await scraping)
        assert [line["event"] for line in await running.ended()] == ["stopped"]
        assert running.process.returncode == 0


async def test_every_log_line_is_json() -> None:
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


async def test_a_source_without_health_service_and_a_stopped_one_add_no_foreign_log_lines() -> None:
    async with (
        stats_server(always(incident_response()), with_health=False) as incident,
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


async def test_an_address_in_use_is_a_one_line_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, message = await refusal("serve", GATEWAY_LISTEN=address)
    assert (code, message) == (1, f"GATEWAY_LISTEN: {address} is in use by another process\n")


async def test_two_gateways_never_share_a_port() -> None:
    async with gateway_process() as running:
        address = running.first_line["address"]
        code, message = await refusal("serve", GATEWAY_LISTEN=address)
    assert (code, message) == (1, f"GATEWAY_LISTEN: {address} is in use by another process\n")


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("192.0.2.1:0", id="not a local address"),
        pytest.param("no-such-host.invalid:9464", id="an unknown name"),
        pytest.param(f"{'a' * 64}:9464", id="an invalid name"),
    ],
)
async def test_an_address_of_another_machine_is_a_one_line_error(address: str) -> None:
    code, message = await refusal("serve", "--insecure", GATEWAY_LISTEN=address)
    assert code == 1
    assert message.startswith(f"GATEWAY_LISTEN: cannot listen on {address}: ")
    assert message.count("\n") == 1


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0"])
async def test_it_refuses_to_listen_beyond_loopback(address: str) -> None:
    code, message = await refusal("serve", GATEWAY_LISTEN=address)
    assert code == 2
    assert message.startswith(f"GATEWAY_LISTEN: {address} can be reached from other machines")
    assert "--insecure" in message


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        pytest.param(["--insecure"], {}, id="the option"),
        pytest.param([], {"GATEWAY_INSECURE": "true"}, id="the variable"),
    ],
)
async def test_it_listens_beyond_loopback_when_insecure_is_set(
    arguments: list[str], variables: dict[str, str]
) -> None:
    # The system resolves this to 127.0.0.1; the gateway does not, and refuses it like 0.0.0.0.
    address = "127.1:0"
    code, message = await refusal("serve", GATEWAY_LISTEN=address)
    assert (code, message.partition(" can be reached")[0]) == (2, f"GATEWAY_LISTEN: {address}")
    process = await start("serve", *arguments, GATEWAY_LISTEN=address, **variables)
    try:
        assert (await next_line(process))["event"] == "serving"
    finally:
        process.kill()
        await process.communicate()


async def test_invalid_settings_are_one_line_errors() -> None:
    code, message = await refusal("serve", GATEWAY_SOURCES="incident", GATEWAY_LISTEN="9464")
    assert code == 2
    assert [line.partition(":")[0] for line in message.splitlines()] == ["GATEWAY_LISTEN", "GATEWAY_SOURCES"]


def split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)
