"""Runs operations: durably started, kept alive by a heartbeat, finished by the run that holds the lease.

A process that dies in the middle leaves an approval EXECUTING; `abandoned` brings it to INDETERMINATE when its lease ends.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import structlog

from approval.delivery import timeline_entries
from approval.delivery.model import ResolutionType, TimelineEvent
from approval.delivery.resolve_job import executed_intent, resolve_job
from approval.delivery.timeline_job import timeline_job
from approval.execution import repository as execution_repository
from approval.execution.limits import OperationLimits
from approval.execution.model import ExecuteCommand, Executed, RunResult
from approval.execution.recording import until_recorded
from approval.execution.start import OperationStarts, Run
from approval.executors.protocol import OperationFailedError, RunContext
from approval.lifecycle import repository
from approval.model import OWN_ACTOR, Approval, Recovery
from approval.recovery.model import RecoveryRules
from servicekit.audit.model import Call, background
from servicekit.database.errors import is_unavailable
from servicekit.outbox.queue import NewJob
from servicekit.outbox.transaction import Transactions
from servicekit.process.failpoints import failpoint
from servicekit.text import block

_log = structlog.get_logger()

Result = TypeVar("Result")

# So much of an executor's output is stored and shown: bytes of UTF-8.
_MAX_OUTPUT_BYTES = 8192


class OperationRunner:
    """Runs operations over one database."""

    def __init__(
        self,
        transactions: Transactions,
        starts: OperationStarts,
        *,
        limits: OperationLimits,
        recovery: RecoveryRules | None,
    ) -> None:
        """`recovery`: how it is verified whether an operation that worked has helped; None: it is not."""
        self._transactions = transactions
        self._starts = starts
        self._limits = limits
        self._recovery = recovery
        self._running: set[asyncio.Task[Any]] = set()

    async def execute(
        self, approval: Approval, command: ExecuteCommand, *, call: Call, wait: bool
    ) -> Executed:
        """Start the operation of an approval that may be executed; with `wait` return when it has ended.

        A cancelled call does not stop it. An incident that was resolved meanwhile, and maybe reopened, needs no operation
        of this approval: it is CANCELLED with that reason. Raises ExecutorMissingError, IncidentNotFoundError,
        IncidentUnreachableError (nothing is run blind), ApprovalNotFoundError and what `preconditions.check` raises.
        """
        claimed = await self._starts.claim(approval, command, call=call)
        if isinstance(claimed, Executed):
            return claimed
        failpoint("operation_started")
        running = await asyncio.shield(self._spawn(self._begin(claimed)))
        if wait and running is not None:
            await asyncio.shield(running)
        async with self._transactions.statement() as connection:
            ended = await repository.get(connection, approval.approval_id)
        return Executed(ended, already_executed=False)

    async def _begin(self, run: Run) -> asyncio.Task[None] | None:
        """Run an operation when it is announced; None when it is not to be run."""
        async with self._lease_kept(run):
            is_needed = await self._starts.announce(run)
        failpoint("operation_announced")
        # A process that stood still meanwhile must not run what an operator may have had run again.
        if not is_needed or not await until_recorded(partial(self._extend_lease, run)):
            return None
        return self._spawn(self._run(run))

    async def _run(self, run: Run) -> None:
        async with self._lease_kept(run):
            result = await self._result(run)
            await self._finish(run, result)

    def _spawn(self, work: Coroutine[None, None, Result]) -> asyncio.Task[Result]:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _result(self, run: Run) -> RunResult:
        context = RunContext(run.approval.approval_id, run.approval.incident_id, self._limits.timeout)
        bound = asyncio.timeout(self._limits.timeout.total_seconds())
        try:
            async with bound:
                return RunResult(
                    succeeded=True, text=_storable(await run.executor.run(run.operation, context))
                )
        except OperationFailedError as exc:
            return RunResult(succeeded=False, text=_storable(exc))
        except Exception as exc:
            if bound.expired():
                seconds = self._limits.timeout.total_seconds()
                return RunResult(succeeded=False, text=f"did not end within {seconds:.0f} s")
            _log.error(
                "executor_bug", executor=run.executor_name, approval_id=run.approval.approval_id, exc_info=exc
            )
            return RunResult(succeeded=False, text=f"internal error of the executor {run.executor_name}")

    @asynccontextmanager
    async def _lease_kept(self, run: Run) -> AsyncIterator[None]:
        heartbeat = asyncio.create_task(self._keep_lease(run))
        try:
            yield
        finally:
            heartbeat.cancel()

    async def _keep_lease(self, run: Run) -> None:
        while True:
            await asyncio.sleep(self._limits.lease.total_seconds() / 3)
            try:
                is_mine = await self._extend_lease(run)
            except Exception as exc:
                _log.warning("heartbeat_failed", error=type(exc).__name__, database_away=is_unavailable(exc))
                continue
            if not is_mine:
                return

    async def _extend_lease(self, run: Run) -> bool:
        async with self._transactions.statement() as connection:
            is_mine = await execution_repository.heartbeat(
                connection, run.approval.approval_id, run.token, lease=self._limits.lease
            )
        if not is_mine:
            _log.error("operation_lease_lost", approval_id=run.approval.approval_id)
        return is_mine

    async def _finish(self, run: Run, result: RunResult) -> None:
        """Record how a run ended; retried while the database is unavailable, so that the outcome is not lost."""
        is_mine = await until_recorded(partial(self._record, run, result))
        _log.info(
            "background_execution_finished" if is_mine else "background_execution_too_late",
            approval_id=run.approval.approval_id,
            incident_id=run.approval.incident_id,
            path="operation",
            succeeded=result.succeeded,
        )

    async def _record(self, run: Run, result: RunResult) -> bool:
        failpoint("operation_done")
        async with self._transactions.begin() as transaction:
            is_mine = await execution_repository.finish_run(
                transaction,
                run.approval.approval_id,
                run.token,
                run.operation,
                result,
                executor=run.executor_name,
                recovery=self._recovery,
            )
            if is_mine:
                transaction.record(background("finished", OWN_ACTOR), run.approval.approval_id)
                ended = await repository.get(transaction.connection, run.approval.approval_id)
                transaction.enqueue(*_jobs(run, ended, result))
        return is_mine

    async def drain(self, within: timedelta) -> None:
        """Wait for running operations; those that take longer are cancelled and become INDETERMINATE."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within.total_seconds()):
                while self._running:
                    await asyncio.wait(self._running)
        late = list(self._running)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)


def _jobs(run: Run, ended: Approval, result: RunResult) -> Sequence[NewJob]:
    if not result.succeeded:
        failed = timeline_entries.entry(
            ended.approval_id,
            ended.incident_id,
            TimelineEvent.EXECUTION_FAILED,
            ended.finish_time,
            summary=result.text,
            attributes={"executor": run.executor_name},
        )
        return [timeline_job(failed)]
    executed = timeline_entries.executed(
        ended.approval_id,
        ended.incident_id,
        ended.finish_time,
        action=ended.action,
        executor=run.executor_name,
    )
    if ended.recovery is Recovery.PENDING:
        # The incident is resolved when its alert is gone.
        return [timeline_job(executed)]
    return [timeline_job(executed), resolve_job(executed_intent(ended, ResolutionType.AUTO_REPAIRED))]


def _storable(output: object) -> str:
    """Return what of an executor's output is stored: text that can be shown and that the database takes, cut at a limit.

    The executor may be anyone's: no output may cost the outcome of its run.
    """
    whole = block(str(output)).replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace")
    return whole[:_MAX_OUTPUT_BYTES].decode("utf-8", "ignore")
