"""The current policy, read again for each proposal, and its kill switch.

Fails closed: while one of the files cannot be used, nothing is approved without a person. The policy before a broken
change does not stay in force: it may hold the very rule that an operator is removing.
"""

import asyncio
import threading
from pathlib import Path

import structlog

from approval.policy.file import PolicyFileError
from approval.policy.model import Policy
from approval.policy.reader import PolicyReader
from servicekit.process.files import why_unreadable
from servicekit.process.settings import SettingsError

_log = structlog.get_logger()

_NO_RULES = Policy()


class AutoApprovalDisabledError(Exception):
    """Auto-approval is disabled; the message is the reason."""


class AutoApproval:
    """Reads the policy that counts for a proposal now."""

    def __init__(self, reader: PolicyReader | None, *, switched_on: bool, switch_file: Path | None) -> None:
        """Without a `reader` nothing is ever approved. `switch_file`, if there is one, must say on, too."""
        self._reader = reader
        self._switched_on = switched_on
        self._switch_file = switch_file
        self._logged: object = None
        # Proposals read in threads of their own; one at a time, so that each change is logged once.
        self._lock = threading.Lock()

    async def start(self) -> None:
        """Log whether auto-approval is enabled.

        Raises SettingsError for a policy file that cannot be used. With the switch off the file is not read: a broken
        one must not prevent a start with the switch off.
        """
        try:
            await asyncio.to_thread(self._read)
        except AutoApprovalDisabledError:
            pass
        except PolicyFileError as exc:
            file = self._reader and self._reader.file
            lines = [f"APPROVAL_POLICY_FILE: {file}: {problem}" for problem in exc.problems]
            raise SettingsError("\n".join(lines)) from None
        await self.policy()

    async def policy(self) -> Policy:
        """Return the policy in the files now; without rules when it is disabled or cannot be used."""
        if self._reader is None:
            return _NO_RULES
        return await asyncio.to_thread(self._current, self._reader)

    def _current(self, reader: PolicyReader) -> Policy:
        with self._lock:
            try:
                policy = self._read()
            except AutoApprovalDisabledError as exc:
                self._log_disabled(str(exc))
                return _NO_RULES
            except PolicyFileError as exc:
                self._log_disabled(f"{reader.file}: {exc}")
                return _NO_RULES
            if self._logged is not policy:
                self._logged = policy
                _log.info("auto_approval_on", rules=[rule.name for rule in policy.rules])
            return policy

    def _log_disabled(self, reason: str) -> None:
        if self._logged != reason:
            self._logged = reason
            _log.warning("auto_approval_off", reason=reason)

    def _read(self) -> Policy:
        """Return the policy in the files. Raises AutoApprovalDisabledError, PolicyFileError."""
        if self._reader is None:
            return _NO_RULES
        if not self._switched_on:
            raise AutoApprovalDisabledError("APPROVAL_AUTO_APPROVE is off")
        if self._switch_file is not None:
            _require_on(self._switch_file)
        return self._reader.read()


def _require_on(switch_file: Path) -> None:
    try:
        content = switch_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise AutoApprovalDisabledError(
            f"APPROVAL_AUTO_APPROVE_FILE: {switch_file}: {why_unreadable(exc)}"
        ) from None
    if content.lower() != "on":
        raise AutoApprovalDisabledError("APPROVAL_AUTO_APPROVE_FILE does not say on")
