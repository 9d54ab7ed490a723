"""Every command that a document shows, run against a stack as `make up` starts it."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise, takewhile
from pathlib import Path

import pytest

from flywheel.stack.stack import Stack

ROOT = Path(__file__).parents[2]
BUF = Path(sys.executable).with_name("buf")
DOCUMENTS = [ROOT / "README.md", ROOT / "docs/grpcurl.md"]


def commands(document: Path) -> list[list[str]]:
    """The shell commands of a document's `sh` blocks, each as its words."""
    blocks = re.findall(r"```sh\n(.*?)```", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def call(words: list[str]) -> tuple[str, str, str] | None:
    """What a grpcurl or `buf curl` command calls: headers, request and method; None for what only looks around."""
    options = dict.fromkeys(["-H", "-d"], "")
    for flag, value in pairwise(words):
        if flag in options:
            options[flag] = value
    method = re.search(r"[a-z.]+\.v1\.[A-Za-z]+/[A-Za-z]+$", words[-1])
    return (options["-H"], options["-d"], method[0]) if method else None


def resume_token(command: list[str]) -> str:
    """The first token of a watch, which comes behind the changes of its snapshot."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        lines = iter(running.stdout.readline, "")
        response: dict[str, str] = {}
        while "resumeToken" not in response:
            response = json.loads("".join(takewhile("}\n".__ne__, lines)) + "}")
        running.kill()
    return response["resumeToken"]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    anywhere = "127.0.0.1:0"
    running = Stack(
        tmp_path_factory.mktemp("stack"),
        incident_listen=anywhere,
        approval_listen=anywhere,
        gateway_listen=anywhere,
        intake_listen=anywhere,
        durable=False,
    )
    with running:
        yield running


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_grpcurl_and_buf_forms_of_a_call_are_the_same(document: Path) -> None:
    found = commands(document)
    grpcurl = [call(words) for words in found if words[0] == "grpcurl"]
    buf = [call(words) for words in found if words[0].endswith("buf")]
    # The README opens one incident by each form.
    same = re.compile(r"INC-20260507-99ADF\d")
    assert [same.sub("INC", str(each)) for each in grpcurl if each] == [
        same.sub("INC", str(each)) for each in buf if each
    ]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_buf_and_curl_command_works(document: Path, stack: Stack) -> None:
    ports = {
        "127.0.0.1:50051": str(stack.incident.address.connect_address),
        "127.0.0.1:50052": str(stack.approval.address.connect_address),
        "127.0.0.1:9464": str(stack.gateway.address.connect_address),
    }
    approval_id = token = ""
    ran = 0
    for words in commands(document):
        if words[0] not in (".venv/bin/buf", "curl"):
            continue
        # In one pass, since a port of the stack may be another one of the document.
        at_stack = [re.sub("|".join(ports), lambda match: ports[match[0]], word) for word in words]
        command = [word.replace("APR-…", approval_id).replace('"…"', f'"{token}"') for word in at_stack]
        if words[0] != "curl":
            command[0] = str(BUF)
        ran += 1
        if words[-1].endswith("/Watch"):
            token = resume_token(command)
            continue
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}{done.stderr}"
        if words[-1].endswith("/Propose"):
            approval_id = json.loads(done.stdout)["approval"]["approvalId"]
    assert ran > 1
