"""`flywheel up` as a process: the ready line, signals, kill -9, errors."""

import os
import pty
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from flywheel.postgres.embedded import EmbeddedPostgres
from flywheel.stack.addresses import Address
from flywheel.stack.readiness import grpc_is_serving, http_is_ready
from flywheel.system.processes import is_alive
from tests.flywheel.stack.running_stack import (
    FREE_PORTS,
    TIMEOUT_SECONDS,
    eventually,
    flywheel_up,
    line_of,
    services_of,
    stand_ins,
    starts,
)
from tests.unwritable import UNWRITABLE, Unwritable


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return stand_ins(tmp_path)


def addresses_in(ready_line: str) -> dict[str, Address]:
    word, *pairs = ready_line.split(" ")
    assert word == "ready"
    return {name: Address.parse(text, variable=name) for name, text in (pair.split("=") for pair in pairs)}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def database_of(data_dir: Path) -> EmbeddedPostgres:
    return EmbeddedPostgres(data_dir / "postgres")


def test_the_ready_line_has_all_addresses(tmp_path: Path, environment: dict[str, str]) -> None:
    with flywheel_up(tmp_path / "data", environment, first_start=True) as up:
        addresses = addresses_in(line_of(up.stdout))
        assert list(addresses) == ["incident", "approval", "gateway", "intake"]
        assert grpc_is_serving(addresses["incident"])
        assert grpc_is_serving(addresses["approval"])
        assert http_is_ready(addresses["gateway"])
        assert http_is_ready(addresses["intake"])
        up.terminate()
        assert up.communicate(timeout=TIMEOUT_SECONDS) == ("", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything(
    tmp_path: Path, environment: dict[str, str], number: signal.Signals
) -> None:
    with flywheel_up(tmp_path / "data", environment) as up:
        line_of(up.stdout)
        up.send_signal(number)
        assert up.wait(TIMEOUT_SECONDS) == 0
        assert not services_of(tmp_path / "data")
        assert not database_of(tmp_path / "data").is_running()


def test_a_signal_during_the_start_stops_everything(tmp_path: Path, environment: dict[str, str]) -> None:
    with flywheel_up(tmp_path / "data", environment | {"STAND_IN_APPROVAL": "never_ready"}) as up:
        eventually(lambda: "approval" in services_of(tmp_path / "data"))
        up.send_signal(signal.SIGINT)
        out, _ = up.communicate(timeout=TIMEOUT_SECONDS)
        assert (up.returncode, out) == (0, "")
        assert not services_of(tmp_path / "data")
        assert not database_of(tmp_path / "data").is_running()


def test_a_second_signal_kills_services_that_do_not_stop(tmp_path: Path, environment: dict[str, str]) -> None:
    ignoring = {f"STAND_IN_{name}": "ignores_sigterm" for name in ("GATEWAY", "APPROVAL", "INCIDENT")}
    with flywheel_up(tmp_path / "data", environment | ignoring) as up:
        line_of(up.stdout)
        begin = time.monotonic()
        up.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            up.wait(1.0)
        up.send_signal(signal.SIGINT)
        assert up.wait(TIMEOUT_SECONDS) == 0
        # Without the second signal each of the three would have twenty seconds.
        assert time.monotonic() - begin < 30.0
        assert not services_of(tmp_path / "data")


def test_after_kill_9_the_next_start_works_with_all_data(tmp_path: Path, environment: dict[str, str]) -> None:
    data_dir = tmp_path / "data"
    with flywheel_up(data_dir, environment) as killed:
        line_of(killed.stdout)
        left = services_of(data_dir)
        server = database_of(data_dir).pid
        killed.kill()
        killed.wait()
        assert all(map(is_alive, left.values()))

        with flywheel_up(data_dir, environment) as up:
            addresses = addresses_in(line_of(up.stdout))
            assert not any(map(is_alive, left.values()))
            assert database_of(data_dir).pid == server
            assert grpc_is_serving(addresses["incident"])
            assert starts(database_of(data_dir).url("incident")) == 2


@pytest.mark.parametrize("started", ["postgres.partial", "postgres", "log/incident.log", "log/gateway.log"])
def test_after_kill_9_during_the_start_the_next_start_works(
    tmp_path: Path, environment: dict[str, str], started: str
) -> None:
    data_dir = tmp_path / "data"
    with flywheel_up(data_dir, environment, first_start=True) as killed:
        eventually((data_dir / started).exists)
        killed.kill()
        killed.wait()
        with flywheel_up(data_dir, environment, first_start=True) as up:
            addresses_in(line_of(up.stdout))
            assert len(services_of(data_dir)) == len(
                {"incident", "approval", "metrics_gateway", "alert_intake"}
            )


@pytest.mark.parametrize("victim", ["incident", "approval", "metrics_gateway", "alert_intake"])
def test_a_killed_service_is_restarted(tmp_path: Path, environment: dict[str, str], victim: str) -> None:
    data_dir = tmp_path / "data"
    with flywheel_up(data_dir, environment) as up:
        addresses = addresses_in(line_of(up.stdout))
        name = {"metrics_gateway": "gateway", "alert_intake": "intake"}.get(victim, victim)
        services_of(data_dir)[victim].kill()
        assert line_of(up.stderr) == f"flywheel: {name} ended (signal SIGKILL); starting it again"
        probe = http_is_ready if name in ("gateway", "intake") else grpc_is_serving
        eventually(lambda: probe(addresses[name]))


@pytest.mark.parametrize("unwritable", UNWRITABLE.values(), ids=UNWRITABLE.keys())
def test_the_stack_starts_restarts_and_stops_while_its_output_cannot_be_written(
    tmp_path: Path, environment: dict[str, str], unwritable: Unwritable
) -> None:
    data_dir = tmp_path / "data"
    listen = {name: f"127.0.0.1:{free_port()}" for name in FREE_PORTS}
    addresses = {name: Address.parse(text, variable=name) for name, text in listen.items()}
    incident, approval = addresses["INCIDENT_LISTEN"], addresses["APPROVAL_LISTEN"]

    def is_ready() -> bool:
        return (
            http_is_ready(addresses["GATEWAY_LISTEN"])
            and http_is_ready(addresses["INTAKE_LISTEN"])
            and grpc_is_serving(approval)
            and grpc_is_serving(incident)
        )

    with unwritable() as output, flywheel_up(data_dir, environment | listen, output=output) as up:
        eventually(is_ready)
        time.sleep(2)  # until it knows that, too: no output shows it
        killed = services_of(data_dir)["incident"]
        killed.kill()
        eventually(lambda: services_of(data_dir).get("incident", killed) != killed)
        eventually(is_ready)
        up.terminate()
        assert up.wait(TIMEOUT_SECONDS) == 0
        assert services_of(data_dir) == {}


def test_a_log_that_cannot_be_opened_is_discarded_and_the_service_starts(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    log = tmp_path / "data" / "log" / "incident.log"
    log.mkdir(parents=True)
    (log / "in the way").touch()
    (log.parent / "incident.log.1").mkdir()
    (log.parent / "incident.log.1" / "in the way").touch()
    with flywheel_up(tmp_path / "data", environment) as up:
        line_of(up.stdout)
        assert line_of(up.stderr) == f"flywheel: the log {log} is discarded: Is a directory"


def test_sighup_is_ignored_under_nohup(tmp_path: Path, environment: dict[str, str]) -> None:
    with flywheel_up(tmp_path / "data", environment, before=["nohup"]) as up:
        line_of(up.stdout)
        up.send_signal(signal.SIGHUP)
        services_of(tmp_path / "data")["incident"].kill()
        assert line_of(up.stderr) == "flywheel: incident ended (signal SIGKILL); starting it again"


def test_an_unusable_folder_is_an_error_with_advice(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with flywheel_up(tmp_path / "file" / "data", {}, first_start=True) as up:
        out, err = up.communicate(timeout=TIMEOUT_SECONDS)
    assert (up.returncode, out) == (1, "")
    assert err.splitlines() == [
        f"flywheel: the folder {tmp_path / 'file' / 'data'} cannot be used: Not a directory",
        "flywheel: choose another place with --data-dir",
    ]


def test_a_killed_postgresql_is_restarted(tmp_path: Path, environment: dict[str, str]) -> None:
    data_dir = tmp_path / "data"
    with flywheel_up(data_dir, environment) as up:
        line_of(up.stdout)
        psutil.Process(database_of(data_dir).pid).kill()
        assert (
            line_of(up.stderr) == "flywheel: PostgreSQL ended (its server process is gone); starting it again"
        )
        # Joins the start in progress, and returns when the server responds.
        EmbeddedPostgres(data_dir / "postgres", log_path=data_dir / "log" / "postgres.log").start()
        assert starts(database_of(data_dir).url("incident")) == 1


def test_a_second_stack_on_the_same_folder_is_refused(tmp_path: Path, environment: dict[str, str]) -> None:
    with flywheel_up(tmp_path / "data", environment) as up:
        line_of(up.stdout)
        running = services_of(tmp_path / "data")
        second = subprocess.run(
            [sys.executable, "-m", "flywheel", "up"],
            env={**os.environ, "FLYWHEEL_DATA_DIR": str(tmp_path / "data")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert second.returncode == 1
        assert second.stdout == ""
        assert second.stderr.splitlines() == [
            f"flywheel: a stack runs on {tmp_path / 'data'} already (process {up.pid})",
            f"flywheel: stop it: kill {up.pid}; or choose another place with --data-dir",
        ]
        assert services_of(tmp_path / "data") == running
        assert database_of(tmp_path / "data").is_running()


def test_a_port_in_use_is_an_error_with_advice(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with flywheel_up(tmp_path / "data", {}, "--gateway-listen", address, first_start=True) as up:
            out, err = up.communicate(timeout=TIMEOUT_SECONDS)
    assert (up.returncode, out) == (1, "")
    assert err.splitlines() == [
        f"flywheel: the address {address} is in use",
        "flywheel: set GATEWAY_LISTEN to another one, or to port 0 for any that is free",
    ]


def test_a_service_that_fails_to_start_shows_the_end_of_its_log(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    with flywheel_up(tmp_path / "data", environment | {"STAND_IN_INCIDENT": "crashing"}) as up:
        out, err = up.communicate(timeout=TIMEOUT_SECONDS)
    assert (up.returncode, out) == (1, "")
    assert err.splitlines() == [
        "flywheel: the incident service ended while starting (exit status 3)",
        "    the stand-in crashes on request",
        f"flywheel: see {tmp_path / 'data' / 'log' / 'incident.log'}",
    ]


def test_a_terminal_shows_the_steps(tmp_path: Path, environment: dict[str, str]) -> None:
    ours, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "flywheel", "up", "--data-dir", str(tmp_path / "data")],
        stdout=subprocess.PIPE,
        stderr=terminal,
        text=True,
        env={**os.environ, **FREE_PORTS, **environment, "TERM": "xterm"},
    )
    os.close(terminal)
    seen = bytearray()

    def read() -> None:
        while True:
            try:
                seen.extend(os.read(ours, 4096))
            except OSError:  # how Linux says that the other end is closed
                return

    reader = threading.Thread(target=read)
    reader.start()
    try:
        ready = line_of(process.stdout)
        eventually(lambda: b"Ctrl-C stops it" in seen)
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_SECONDS) == 0
    finally:
        process.kill()
        process.communicate()
        reader.join()
        os.close(ours)
    page = f"page http://{addresses_in(ready)['gateway']} · logs {tmp_path / 'data' / 'log'} · Ctrl-C stops it\r\n"
    assert page in seen.decode()
    for step in (b"creating the database", b"starting the services", b"stopping PostgreSQL"):
        assert step in seen


def test_overlapping_addresses_are_refused_before_the_start(tmp_path: Path) -> None:
    same = {"INCIDENT_LISTEN": "127.0.0.1:53051", "APPROVAL_LISTEN": "127.0.0.1:53051"}
    with flywheel_up(tmp_path / "data", same, first_start=True) as up:
        out, err = up.communicate(timeout=TIMEOUT_SECONDS)
    assert (up.returncode, out) == (1, "")
    assert err.splitlines() == [
        "flywheel: INCIDENT_LISTEN and APPROVAL_LISTEN are both 127.0.0.1:53051; give each its own"
    ]
    assert not (tmp_path / "data" / "postgres").exists()
