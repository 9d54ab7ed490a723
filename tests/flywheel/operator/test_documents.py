"""The command in the documents: the reference is as the command is, and what they show works."""

import io
import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from flywheel.reference import commands, document
from tests.flywheel.operator.deployment import NAME, Command, Deployment, Terminal

ROOT = Path(__file__).parents[3]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
REFERENCE = ROOT / "docs/cli.md"
# Every command of these is run here.
PLAYED = [ROOT / "README.md", REFERENCE, ROOT / "docs/grpcurl.md"]
# These have tests of their own: they start processes, go on until they are ended, or write where no test should.
_ELSEWHERE = (
    "up",
    "demo",
    "import",
    "export",
    "token",
    "certs",
    "audit",
    "migrate",
    "completion",
    "policy",
    "doctor",
)


def lines(path: Path) -> Iterator[str]:
    """The commands of a document's blocks, those within a sentence left out."""
    for block in re.findall(r"```(?:sh|bash)\n(.*?)```", path.read_text(encoding="utf-8"), flags=re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if re.match(r"(?:\S*/)?flywheel ", line):
                yield line


def stages(line: str) -> list[list[str]]:
    """The commands of a line, which a pipe connects, each without its name."""
    parts = [part.strip() for part in line.split(" | ")]
    return [shlex.split(part, comments=True)[1:] for part in parts if "flywheel " in part]


def test_the_reference_is_as_the_commands_are() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    assert text == document(text), "make docs renews it"


def test_every_command_is_in_the_reference() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    found = [words for words, _ in commands()]
    assert "flywheel incident resolve" in found
    assert [words for words in found if not re.search(rf"^##+ {words}$", text, re.MULTILINE)] == []


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if [*lines(path)]], ids=lambda path: path.name)
def test_every_command_that_a_document_shows_exists_with_its_flags(path: Path) -> None:
    leaves = dict(commands())
    for line in lines(path):
        for words in stages(line):
            size = 2 if f"flywheel {' '.join(words[:2])}" in leaves else 1
            command = leaves[f"flywheel {' '.join(words[:size])}"]
            known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
            flags = {word.partition("=")[0] for word in words[size:] if re.match(r"--?[a-z]", word)}
            assert flags <= known | {"-h", "--help"}, line


@pytest.mark.parametrize("path", PLAYED, ids=lambda path: path.name)
def test_every_command_that_a_document_shows_works(
    path: Path, flywheel: Command, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLYWHEEL_CONTEXT", NAME)
    approval_id = ""
    ran = 0
    for line in lines(path):
        words = stages(line)[0]
        goes_on = "watch" in words[:2] or words[0] in _ELSEWHERE
        # `…` stands for an id that only the reader has.
        if goes_on or "…" in line.replace("APR-…", ""):
            continue
        if words[:2] == ["incident", "postmortem"]:
            # It is written a moment after the resolution.
            deployment.settle()
        printed: str | None = None
        for words in stages(line):
            command = [word.replace("APR-…", approval_id) for word in words]
            at = [index for index, word in enumerate(command) if word == "--context"]
            for index in at:
                command[index + 1] = NAME
            person = Terminal("y\n") if printed is None else io.StringIO(printed)
            ended = flywheel(*command, stdin=person)
            assert ended.status == 0, f"{line}\n{ended}"
            printed = ended.out
        ran += 1
        if words[:2] == ["approval", "propose"]:
            assert printed is not None
            approval_id = printed.split()[0]
    assert ran > 1


def test_a_command_that_a_help_shows_begins_with_its_name() -> None:
    shown = [words for words, command in commands() if re.search(r"`flywheel -", command.help or "")]
    assert shown == []


def test_no_command_installs_its_own_completion() -> None:
    flags = {name for _, command in commands() for each in command.params for name in each.opts}
    assert "--json" in flags
    assert not flags & {"--install-completion", "--show-completion"}


def test_no_two_flags_of_a_command_have_one_name() -> None:
    for words, command in commands():
        names = sorted(name for each in command.params for name in (*each.opts, *each.secondary_opts))
        assert [one for one, other in pairwise(names) if one == other] == [], words
        assert command.help, words
        assert all(each.help for each in command.params if each.name != "help"), words
