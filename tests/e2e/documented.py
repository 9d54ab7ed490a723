"""The commands of docs/operations.md, run as they are written."""

import asyncio
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from flywheel.postgres.binaries import find_binaries, program_environment

ROOT = Path(__file__).parents[2]
OPERATIONS = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
RUNBOOK = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")
BUF = Path(sys.executable).with_name("buf")


def section(title: str) -> str:
    """The text under a heading, up to the next of its level."""
    found = re.search(
        rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", OPERATIONS, flags=re.DOTALL | re.MULTILINE
    )
    assert found, title
    return found[1]


def blocks(title: str, language: str) -> Sequence[str]:
    """The code blocks of a section."""
    return re.findall(rf"```{language}\n(.*?)```", section(title), flags=re.DOTALL)


async def run(script: str, variables: Mapping[str, str | Path]) -> str:
    """Run a block with these variables and no others of PostgreSQL; returns what it printed."""
    environment = program_environment() | {name: str(value) for name, value in variables.items()}
    environment["PATH"] = f"{find_binaries().directory}{os.pathsep}{environment['PATH']}"
    running = await asyncio.create_subprocess_exec(
        "bash",
        "-euc",
        script,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, errors = await running.communicate()
    assert running.returncode == 0, f"{script}\n{errors.decode()}"
    return printed.decode()


async def call(script: str, *, approval: str) -> str:
    """Run a block that uses the runbook's shell functions."""
    definitions = re.findall(r"```sh\n(.*?)```", RUNBOOK, flags=re.DOTALL)[1]
    definitions = definitions.replace(".venv/bin/buf", shlex.quote(str(BUF)))
    return await run(f"{definitions}\n{script}", {"APPROVAL": approval})
