"""`flywheel policy` as it is run."""

import os
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path

import pytest

from approval.replay.command import commands
from flywheel.errors import FlywheelError
from flywheel.policy.command import replay
from servicekit.database.migrations import Migrations
from tests.approval.schemas import approval_database

VALID = """
[rules.observe]
actions = ["NO_ACTION"]
risks = ["LOW"]

[notifications.oncall]
channels = ["oncall"]

[notifications.sandbox]
namespaces = ["sandbox"]
channels = []
"""


def policy(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_DATABASE_URL")}
    return subprocess.run(
        [sys.executable, "-m", "flywheel", "policy", *map(str, arguments)],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text(VALID)
    return path


def test_a_valid_file_is_shown(file: Path) -> None:
    done = policy("check", file, "--channel", "oncall")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "rule observe: NO_ACTION",
        "route oncall: oncall",
        "route sandbox: nobody",
        f"{file}: valid",
    ]


def test_each_problem_has_a_line_and_a_channel_that_does_not_exist_is_one(file: Path) -> None:
    file.write_text(VALID + '[rules.other]\nactions = ["RESTRAT"]\nrisk = ["LOW"]\n')
    done = policy("check", file)
    assert (done.returncode, done.stdout) == (1, "")
    lines = done.stderr.splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"{file}: rules.other.") for line in lines)
    assert f"{file}: rules.other.risk: unknown key; did you mean risks?" in lines
    # Of a valid file alone the channels are looked at.
    file.write_text(VALID)
    done = policy("check", file, "--channel", "pager")
    assert done.returncode == 1
    assert "there is no channel oncall" in done.stderr


@pytest.mark.parametrize("since", ["yesterday", "2026-13-01"])
def test_a_time_that_is_none_is_a_usage_error(
    since: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replay = commands(Migrations("approval:migrations"), lambda: "")["policy-replay"]
    parser = ArgumentParser()
    replay.add_arguments(parser)
    assert replay.run(parser.parse_args([str(file), "--since", since])) == 2
    assert capsys.readouterr().err.startswith("--since: expected a duration such as")


async def test_a_replay_reads_the_database_in_the_environment(file: Path) -> None:
    async with approval_database() as url:
        done = policy("replay", file, "--since", "1d", APPROVAL_DATABASE_URL=url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("0 proposals since ")


def test_a_replay_without_a_database_says_what_to_do(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The signals of this process are the test run's.
    monkeypatch.setattr("flywheel.policy.command.raise_stop_signals", lambda **_: None)
    monkeypatch.delenv("APPROVAL_DATABASE_URL", raising=False)
    with pytest.raises(FlywheelError) as raised:
        replay(file, tmp_path, since="", as_json=False)
    assert raised.value.advice.endswith("or set APPROVAL_DATABASE_URL")
