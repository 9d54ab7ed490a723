"""The command as a process: Ctrl-C, closed pipes, terminals, completion, and what is imported."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from awoooi.client import SyncIncidentClient
from tests.flywheel.operator.deployment import Command
from tests.services import TIMEOUT_SECONDS

FLYWHEEL = [sys.executable, "-m", "flywheel"]


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The command until the block ends."""
    process = subprocess.Popen(
        [*FLYWHEEL, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def incidents(flywheel: Command) -> Iterator[SyncIncidentClient]:
    """Calls of somebody else."""
    address = json.loads(flywheel.done("context", "show", "--json"))["incident"]
    with SyncIncidentClient(address, actor="detector", timeout=TIMEOUT_SECONDS) as client:
        yield client


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_watch_prints_each_change_as_it_comes_and_ends_quietly_at_a_signal(
    incidents: SyncIncidentClient, number: signal.Signals
) -> None:
    incident_id = incidents.create(title="watched", severity="LOW").incident.incident_id
    with running("incident", "watch", incident_id, "--existing", "--json") as process:
        assert process.stdout is not None
        existing = json.loads(process.stdout.readline())
        assert existing["incident"]["incident_id"] == incident_id
        incidents.resolve(incident_id, resolution_type="HUMAN")
        change = json.loads(process.stdout.readline())
        assert (change["event"]["type"], change["incident"]["state"]) == ("TYPE_RESOLVED", "STATE_RESOLVED")
        assert change["resume_token"]
        process.send_signal(number)
        _, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    assert errors == ""
    assert process.returncode in (128 + number, -number)


def test_a_closed_pipe_ends_a_list_quietly(incidents: SyncIncidentClient) -> None:
    for _ in range(3):
        incidents.create(title="x" * 400, severity="INFO", labels={"of": "pipe"})
    with running("incident", "list", "--label", "of=pipe", "--json") as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait(timeout=TIMEOUT_SECONDS) == 128 + signal.SIGPIPE
        process.stdout = None


def test_an_answer_is_asked_for_on_a_terminal_and_the_result_stays_apart(
    incidents: SyncIncidentClient,
) -> None:
    incident_id = incidents.create(title="asked", severity="LOW").incident.incident_id
    leader, follower = pty.openpty()
    try:
        process = subprocess.Popen(
            [*FLYWHEEL, "incident", "resolve", incident_id, "-o", "name"],
            stdin=follower,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.write(leader, b"y\n")
        printed, asked = process.communicate(timeout=TIMEOUT_SECONDS)
    finally:
        os.close(leader)
        os.close(follower)
    assert (process.returncode, printed) == (0, f"{incident_id}\n")
    assert "Resolve it as HUMAN? [y/N]" in asked


@pytest.mark.usefixtures("flywheel")
def test_a_status_that_is_watched_prints_a_line_each_time() -> None:
    with running("status", "--watch", "--every", "0.2", "--json") as process:
        assert process.stdout is not None
        found = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    assert [each["context"] for each in found] == ["here"] * 2
    assert (errors, process.returncode) == ("", 128 + signal.SIGINT)


@pytest.mark.usefixtures("flywheel")
def test_a_status_that_is_watched_on_a_terminal_is_drawn_anew_in_place() -> None:
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [*FLYWHEEL, "status", "--watch", "--every", "0.2"],
        stdout=follower,
        stderr=subprocess.PIPE,
        env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"},
    )
    os.close(follower)
    shown = b""
    try:
        while shown.count(b"INCIDENTS") < 2:
            shown += os.read(leader, 65_536)
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # what a terminal says at its end
            while read := os.read(leader, 65_536):
                shown += read
        _, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    finally:
        process.kill()
        process.wait()
        os.close(leader)
    assert (process.returncode, errors) == (128 + signal.SIGINT, b"")
    # On a screen of its own, which is left at the end.
    assert shown.count(b"\x1b[?1049h") == shown.count(b"\x1b[?1049l") == 1


def complete(words: str, shell: str = "bash") -> list[str]:
    """What a shell offers for the last word."""
    variables = {
        "_FLYWHEEL_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
        "_TYPER_COMPLETE_ARGS": words,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    done = subprocess.run(
        FLYWHEEL,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_SECONDS,
    )
    return done.stdout.split()


def test_bash_completes_commands_flags_values_and_contexts(command: Command, tmp_path: Path) -> None:
    command.done("context", "add", "prod", "--incident", "127.0.0.1:1", "--approval", "127.0.0.1:2")
    script = command.done("completion", "bash")
    # What the script does when the user types these words and a tab.
    typed = [
        ("flywheel inc", "incident"),
        ("flywheel incident re", "reopen resolve"),
        ("flywheel incident list --sev", "--severity"),
        ("flywheel incident list --severity cr", "critical"),
        ("flywheel incident list --context p", "prod"),
        ("flywheel doctor --context p", "prod"),
        ("flywheel context use p", "prod"),
        ("flywheel context show p", "prod"),
        ("flywheel context remove p", "prod"),
    ]
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m flywheel "$@"\n')
    program.chmod(0o755)
    tries = "\n".join(
        f"COMP_WORDS=({words}); COMP_CWORD={len(words.split()) - 1}; COMPREPLY=();"
        f' _flywheel_completion {program}; echo "${{COMPREPLY[*]}}"'
        for words, _ in typed
    )
    done = subprocess.run(
        ["bash", "-c", f"{script}\n{tries}"],
        capture_output=True,
        text=True,
        check=False,
        # Each try is a process.
        timeout=len(typed) * TIMEOUT_SECONDS,
    )
    assert done.stderr == ""
    assert [" ".join(sorted(line.split())) for line in done.stdout.splitlines()] == [
        words for _, words in typed
    ]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_are_offered_the_same(shell: str) -> None:
    assert "incident" in " ".join(complete("flywheel inc", shell))


def test_help_and_up_do_without_the_client() -> None:
    program = (
        "import sys; sys.argv = ['flywheel', '--help']\n"
        "from flywheel.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: print(sorted({'grpc', 'rich', 'google.protobuf'} & {*sys.modules}), file=sys.stdout)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "incident " in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
