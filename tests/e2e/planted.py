"""Secrets that are planted, and the search for them wherever they must not be."""

import base64
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from secrets import token_hex
from urllib.parse import quote

# Of a key in PEM: its lines. A shorter piece could be met by chance.
_MIN_CHARACTERS = 15


class Planted:
    """Secrets by their names."""

    def __init__(self) -> None:
        self._secrets: dict[str, str] = {}

    def new(self, name: str) -> str:
        """Make a secret."""
        return self.known(name, f"planted{token_hex(12)}")

    def known(self, name: str, secret: str) -> str:
        """Search for a secret that was made elsewhere."""
        assert len(secret) >= _MIN_CHARACTERS
        self._secrets[name] = secret
        return secret

    def key(self, path: Path) -> None:
        """Search for the lines of a private key."""
        lines = [line for line in path.read_text().splitlines() if line and "-----" not in line]
        for number, line in enumerate(lines):
            if len(line) >= _MIN_CHARACTERS:
                self.known(f"{path.parent.name}/{path.name}:{number}", line)

    def found_in(self, texts: Mapping[str, str | bytes]) -> list[str]:
        """Where which secret is: as it is, percent-encoded, in JSON, or in base64 at any offset."""
        needles = [(name, needle) for name, secret in self._secrets.items() for needle in _spellings(secret)]
        every = re.compile("|".join(sorted({re.escape(needle) for _, needle in needles})).encode())
        found = []
        for where, text in texts.items():
            content = text.encode(errors="replace") if isinstance(text, str) else text
            matched = {match.decode() for match in every.findall(content)}
            found += [f"{name} is in {where}" for name, needle in needles if needle in matched]
        return found


def _spellings(secret: str) -> Iterable[str]:
    yield from {secret, quote(secret, safe=""), json.dumps(secret)[1:-1]}
    for offset in range(3):
        # Without the characters at both ends, which depend on what is before and behind it.
        encoded = base64.b64encode(b"\0" * offset + secret.encode()).decode().rstrip("=")
        yield encoded[4 if offset else 0 : -2]


def command_lines() -> Mapping[str, bytes]:
    """What the process list shows of each process."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found[str(path)] = path.read_bytes()
        except OSError:
            continue  # it has ended
    return found


def environments(pids: Iterable[int]) -> Mapping[str, bytes]:
    """The variables of these processes."""
    return {f"/proc/{pid}/environ": Path(f"/proc/{pid}/environ").read_bytes() for pid in pids}


def files_in(folder: Path) -> Mapping[str, bytes]:
    """The contents of all files in a folder."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
