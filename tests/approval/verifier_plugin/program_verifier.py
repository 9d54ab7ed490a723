"""Asks a program, such as a synthetic check of a service."""

import asyncio
from collections.abc import Mapping

from approval.verifiers import CannotTellError, Look, Repair

GONE, STILL_THERE = 0, 1


class ProgramVerifier:
    """Calls the program with the incident's fingerprint; its exit code says whether the problem is gone."""

    def __init__(self, program: str) -> None:
        self._program = program

    async def look(self, repair: Repair) -> Look:
        try:
            process = await asyncio.create_subprocess_exec(self._program, repair.fingerprint)
        except OSError:
            raise CannotTellError(f"{self._program} cannot be started") from None
        try:
            code = await process.wait()
        finally:
            if process.returncode is None:  # the time is over, or the service stops
                process.kill()
                await process.wait()
        if code not in (GONE, STILL_THERE):
            raise CannotTellError(f"{self._program} ended with {code}")
        return Look(gone=code == GONE, message=f"{self._program} ended with {code}")

    async def close(self) -> None:
        """There is nothing to release."""


def make_verifier(environment: Mapping[str, str]) -> ProgramVerifier:
    program = environment.get("PROGRAM_VERIFIER_PATH")
    if not program:
        raise ValueError("PROGRAM_VERIFIER_PATH: required by the verifier program")
    return ProgramVerifier(program)
