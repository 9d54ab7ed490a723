r"""Transcripts: commands with what they print, compared with what they print now.

    $ flywheel incident show INC-20260507-0000A1    a command
    ID: …                                           its output
    \# A heading                                    its output, which is no comment
    ! flywheel: …                                   its standard error
    [5]                                             its exit status, unless 0
    % settle                                        something else that happens

`RENEW_TRANSCRIPTS=1` writes what they print now.
"""

import difflib
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.flywheel.operator.deployment import Command, Ended, Terminal

Hook = Callable[..., None]

_TIME = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z| UTC)|(?<=, ).+(?= after it was opened)")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NUMBER = re.compile(
    r'^\d+(?= is |  |$|: The| approvals were)|(?<="sequence": ")\d+|(?<="compared_count": )\d+|(?<="rank": )[\d.e-]+|(?<=Dismiss )\d+',
    re.MULTILINE,
)
_ADDRESS = re.compile(r"127\.0\.0\.1:(?!5005)\d{4,5}")
_AGE = re.compile(r"(?<=  )\d+[smhd](?=  |$)", re.MULTILINE)
_OPAQUE = re.compile(
    r'("(?:mean_resolution_time|etag|resume_token|event_id|knowledge_id|action_hash|execution_id|delivery_id)": )"[^"]+"'
    r"|^((?:ETAG|ACTION HASH|DELIVERY|ID):)  (?!INC-|APR-).+$",
    re.MULTILINE,
)
_SPACES = re.compile(r"(?<=\S) {2,}")


class Transcript:
    """One file, played."""

    def __init__(self, path: Path, command: Command, hooks: Mapping[str, Hook]) -> None:
        self._path = path
        self._command = command
        self._hooks = hooks
        self._answers: list[str] = []
        # What the last command printed: LAST in the next one.
        self._last = ""
        # What an approval is called here, by its id.
        self.names: dict[str, str] = {}

    def compare(self) -> None:
        """Play the file, and fail where it prints something else."""
        written = self._path.read_text(encoding="utf-8")
        played = "\n".join(self._play(written.splitlines())) + "\n"
        if os.environ.get("RENEW_TRANSCRIPTS"):
            self._path.write_text(played, encoding="utf-8")
        difference = difflib.unified_diff(
            written.splitlines(), played.splitlines(), "written", "played", lineterm=""
        )
        assert played == written, "\n".join(difference)

    def actual(self, text: str) -> str:
        """Return a text with the ids that its names stand for."""
        text = text.replace("LAST", self._last)
        identities = {name: identity for identity, name in self.names.items()}
        return re.sub(r"APR-\d+\b(?!-)", lambda found: identities.get(found[0], found[0]), text)

    def _play(self, lines: list[str]) -> Iterator[str]:
        for line in lines:
            if line.startswith("% "):
                yield line
                self._happen(*shlex.split(line[2:]))
            elif line.startswith("$ "):
                yield line
                yield from self._printed(self._run(shlex.split(self.actual(line[2:]))))
            elif line.startswith("#") or not line:
                yield line

    def _happen(self, name: str, *arguments: str) -> None:
        if name == "answer":
            self._answers += arguments
        else:
            self._hooks[name](*map(self.actual, arguments))

    def _run(self, words: list[str]) -> Ended:
        answers, self._answers = self._answers, []
        person = Terminal("".join(f"{answer}\n" for answer in answers)) if answers else None
        assert words[0] == "flywheel"
        return self._command(*words[1:], stdin=person)

    def _printed(self, ended: Ended) -> Iterator[str]:
        self._last = ended.out.strip()
        for line in self._normalized(ended.out).splitlines():
            yield f"\\{line}" if not line or line[0] in "#$%" else line
        yield from (f"! {line}" for line in self._normalized(ended.err).splitlines())
        if ended.status:
            yield f"[{ended.status}]"

    def _normalized(self, text: str) -> str:
        for identity in re.findall(r"APR-\d{8}-[0-9A-F]{6,12}", text):
            self.names.setdefault(identity, f"APR-{len(self.names) + 1}")
        for identity, name in self.names.items():
            text = text.replace(identity, name)
        text = _SPACES.sub("  ", _UUID.sub("UUID", _TIME.sub("TIME", text)))
        text = _ADDRESS.sub("ADDRESS", _NUMBER.sub("N", text))
        text = _OPAQUE.sub(lambda found: f'{found[1]}"…"' if found[1] else f"{found[2]}  …", text)
        return _AGE.sub("AGE", text)
