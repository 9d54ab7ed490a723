"""Reads the policy file, again whenever its content has changed."""

import threading
from collections.abc import Collection
from pathlib import Path

from approval.policy.file import PolicyFileError, parse_policy
from approval.policy.model import Policy
from servicekit.process.files import why_unreadable


class PolicyReader:
    """The policy in a file. Threads may share it."""

    def __init__(self, file: Path, *, channels: Collection[str] = ()) -> None:
        """`channels` are those that routes of notifications can name; none: they are not checked."""
        self.file = file
        self._channels = channels
        self._lock = threading.Lock()
        self._content: bytes | None = None
        self._policy = Policy()

    def read(self) -> Policy:
        """Return the policy in the file now, the same object while its content is the same. Raises PolicyFileError."""
        with self._lock:
            # Compared by content and not by modification time: two changes may have the same one.
            try:
                content = self.file.read_bytes()
            except OSError as exc:
                raise PolicyFileError([why_unreadable(exc)]) from None
            if content != self._content:
                self._policy = parse_policy(content, channels=self._channels)
                self._content = content
            return self._policy
