"""Hands rollbacks to a program, such as that of a deployment tool."""

import asyncio
import shutil
from collections.abc import Collection, Mapping, Sequence

from approval.executors import (
    Operation,
    OperationFailedError,
    OperationKind,
    PlanCheck,
    RunContext,
    format_operation,
)


class ProgramExecutor:
    """Calls the program with the action and the approval's id; its exit code is the outcome."""

    kinds: Collection[OperationKind] = (OperationKind.ROLLBACK,)

    def __init__(self, program: str) -> None:
        self._program = program

    async def plan(self, operation: Operation) -> Sequence[PlanCheck]:
        found = shutil.which(self._program)
        return [PlanCheck("program_exists", passed=found is not None, message=self._program)]

    async def run(self, operation: Operation, context: RunContext) -> str:
        arguments = (format_operation(operation), context.approval_id)
        process = await asyncio.create_subprocess_exec(self._program, *arguments)
        try:
            code = await process.wait()
        finally:
            if process.returncode is None:  # the time is over, or the service stops
                process.kill()
                await process.wait()
        if code != 0:
            raise OperationFailedError(f"{self._program} ended with {code}")
        return f"{self._program} has done it"

    async def close(self) -> None:
        """There is nothing to release."""


def make_executor(environment: Mapping[str, str]) -> ProgramExecutor:
    program = environment.get("PROGRAM_EXECUTOR_PATH")
    if not program:
        raise ValueError("PROGRAM_EXECUTOR_PATH: required by the executor program")
    return ProgramExecutor(program)
