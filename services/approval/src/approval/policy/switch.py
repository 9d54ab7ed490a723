"""The policy that is in force, read again for each proposal, and the kill switch over it.

Whatever is wrong with one of the files, nothing is approved without a person. The policy before a broken change does not
stay in force: it may hold the very rule that somebody is trying to get rid of.
"""

import asyncio
import threading
from pathlib import Path

import structlog

from approval.policy.file import PolicyFileError, parse_policy
from approval.policy.model import Policy
from servicekit.process.files import why_unreadable
from servicekit.process.settings import SettingsError

_log = structlog.get_logger()

_NOTHING = Policy()


class _OffError(Exception):
    """Nothing is approved without a person; the message says why."""


class AutoApproval:
    """Tells the policy that counts for a proposal now."""

    def __init__(self, policy_file: Path | None, *, switched_on: bool, switch_file: Path | None) -> None:
        """Without a `policy_file` nothing is ever approved. `switch_file`, where there is one, must say on, too."""
        self._policy_file = policy_file
        self._switched_on = switched_on
        self._switch_file = switch_file
        self._content: bytes | None = None
        self._policy = _NOTHING
        self._told: object = None
        # Proposals read in threads of their own; one after the other they read in order and tell each change once.
        self._lock = threading.Lock()

    async def start(self) -> None:
        """Log whether proposals are approved by rules.

        Raises SettingsError for a policy file that cannot be used. Switched off, it is not looked at: no file stands in
        the way of who starts the service with the switch off.
        """
        try:
            await asyncio.to_thread(self._read)
        except _OffError:
            pass
        except PolicyFileError as exc:
            lines = [f"APPROVAL_POLICY_FILE: {self._policy_file}: {problem}" for problem in exc.problems]
            raise SettingsError("\n".join(lines)) from None
        await self.policy()

    async def policy(self) -> Policy:
        """Return the policy that the files say now; without rules when they are off or cannot be used."""
        if self._policy_file is None:
            return _NOTHING
        return await asyncio.to_thread(self._look)

    def _look(self) -> Policy:
        with self._lock:
            try:
                policy = self._read()
            except _OffError as exc:
                self._tell_off(str(exc))
                return _NOTHING
            except PolicyFileError as exc:
                self._tell_off(f"{self._policy_file}: {exc}")
                return _NOTHING
            if self._told is not policy:
                self._told = policy
                _log.info("auto_approval_on", rules=[rule.name for rule in policy.rules])
            return policy

    def _tell_off(self, reason: str) -> None:
        if self._told != reason:
            self._told = reason
            _log.warning("auto_approval_off", reason=reason)

    def _read(self) -> Policy:
        """Return what the files say. Raises _OffError, PolicyFileError."""
        if self._policy_file is None:
            return _NOTHING
        if not self._switched_on:
            raise _OffError("APPROVAL_AUTO_APPROVE is off")
        if self._switch_file is not None:
            _require_on(self._switch_file)
        # All of it, and not only its time: two changes may have the same one.
        try:
            content = self._policy_file.read_bytes()
        except OSError as exc:
            raise PolicyFileError([why_unreadable(exc)]) from None
        if content != self._content:
            self._policy = parse_policy(content)
            self._content = content
        return self._policy


def _require_on(switch_file: Path) -> None:
    try:
        says = switch_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise _OffError(f"APPROVAL_AUTO_APPROVE_FILE: {switch_file}: {why_unreadable(exc)}") from None
    if says.lower() != "on":
        raise _OffError("APPROVAL_AUTO_APPROVE_FILE does not say on")
