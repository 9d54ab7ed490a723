"""Runs operations: durably started, kept alive by a heartbeat, finished by the run that holds the lease.

A process that dies in the middle leaves an approval EXECUTING; when its lease ends it becomes INDETERMINATE, and nobody
runs it again unless an operator says so.
"""

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from approval.delivery import repository as deliveries
from approval.delivery.timeline import timeline_job
from approval.errors import (
    ExecutorMissingError,
    IncidentNotFoundError,
    IncidentUnreachableError,
)
from approval.execution import repository as operations_repository
from approval.execution.preconditions import judge
from approval.execution.repository import RecentRuns, RunResult
from approval.executors.protocol import Executor, OperationFailedError, RunContext, kept
from approval.executors.registry import Executors
from approval.lifecycle import repository
from approval.model import (
    Approval,
    Execute,
    Execution,
    ExecutionOutcome,
    IncidentCheck,
    Operation,
    Outcome,
    ResolutionType,
    ResolveIntent,
    State,
    TimelineEvent,
)
from servicekit.database.engine import autocommit, is_unavailable
from servicekit.outbox import queue
from servicekit.outbox.outbox import Outbox
from servicekit.outbox.queue import Job, NewJob
from servicekit.process.failpoints import failpoint

_log = structlog.get_logger()

_ACTOR = "service:approval"
_ABANDONED = "the process that ran it died in the middle: it may or may not have happened"
_ABANDONED_BATCH = 100
_ABANDONED_CHECK_SECONDS = 5.0
_RETRY_SECONDS = 1.0


class IncidentDirectory(Protocol):
    """Knows incidents: the incident service, as far as an execution needs it."""

    async def check(self, incident_id: str) -> IncidentCheck:
        """Return what is known about an incident, within a bounded time. Raises nothing: UNREACHABLE says it."""


@dataclass(frozen=True, slots=True)
class OperationLimits:
    """How long operations may run and how often one target may be operated on."""

    # A dead process's operation is known to be INDETERMINATE after this long.
    lease: timedelta = timedelta(seconds=30)
    timeout: timedelta = timedelta(minutes=10)
    # No operation on a target within this time after the last one on it ended.
    cooldown: timedelta = timedelta(minutes=5)
    per_hour: int = 6

    def refusal(self, recent: RecentRuns) -> str | None:
        """Return why a target has had enough, or None."""
        if recent.running:
            return "another operation on the same target is running"
        if recent.seconds_since is not None and recent.seconds_since < self.cooldown.total_seconds():
            wait = self.cooldown.total_seconds() - recent.seconds_since
            return (
                f"cool-down: the target was operated on {recent.seconds_since:.0f} s ago, wait {wait:.0f} s"
            )
        if recent.last_hour >= self.per_hour:
            return f"limit: the target was operated on {recent.last_hour} times within the last hour"
        return None


@dataclass(frozen=True, slots=True)
class _Run:
    """An operation that this process has started."""

    approval: Approval
    operation: Operation
    executor_name: str
    executor: Executor
    token: uuid.UUID


class Operations:
    """Operations over one database."""

    def __init__(
        self,
        engine: AsyncEngine,
        executors: Executors,
        incidents: IncidentDirectory,
        outbox: Outbox,
        *,
        limits: OperationLimits,
        counter_shard: int,
    ) -> None:
        self._engine = engine
        self._one_statement = autocommit(engine)
        self._executors = executors
        self._incidents = incidents
        self._outbox = outbox
        self._limits = limits
        self._counter_shard = counter_shard
        self._running: set[asyncio.Task[None]] = set()

    async def execute(self, approval: Approval, command: Execute, *, wait: bool) -> Execution:
        """Start the operation of an approval that may be executed; with `wait` return when it has ended.

        A caller that goes away does not stop it. An incident that was resolved meanwhile needs no operation: the
        approval is CANCELLED with that reason. Raises ExecutorMissingError, IncidentNotFoundError,
        IncidentUnreachableError (nothing is run blind) and what `judge` refuses.
        """
        check = await self._incidents.check(approval.incident_id)
        if check is IncidentCheck.UNREACHABLE:
            raise IncidentUnreachableError(approval.incident_id)
        if check is IncidentCheck.UNKNOWN:
            raise IncidentNotFoundError(approval.incident_id)
        async with self._engine.begin() as connection:
            started, jobs = await self._start(connection, command, resolved=check is IncidentCheck.RESOLVED)
        self._outbox.dispatch(jobs)
        if isinstance(started, Execution):
            return started
        failpoint("operation_started")
        task = asyncio.create_task(self._run(started))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        if wait:
            await asyncio.shield(task)
        async with self._one_statement.connect() as connection:
            found = await repository.get(connection, [approval.approval_id])
        return Execution(found[approval.approval_id], already_executed=False)

    async def _start(
        self, connection: AsyncConnection, command: Execute, *, resolved: bool
    ) -> tuple[_Run | Execution, Sequence[Job]]:
        locked = await repository.get_for_update(connection, [command.approval_id])
        approval = judge(locked.get(command.approval_id), command)
        if isinstance(approval, Exception):
            raise approval
        if isinstance(approval, Execution):
            return approval, []
        operation = approval.operation
        found = None if operation is None else self._executors.find(operation.kind)
        if operation is None or found is None:
            raise ExecutorMissingError(approval.approval_id)
        if resolved:
            reason = "not run: the incident was resolved already"
            await repository.cancel(
                connection, approval, actor=_ACTOR, reason=reason, shard=self._counter_shard
            )
            return await self._settled(connection, approval, TimelineEvent.CANCELLED, reason)
        recent = await operations_repository.lock_target(
            connection, operation.target, approval.approval_id, within=self._limits.cooldown
        )
        refusal = self._limits.refusal(recent)
        if refusal is not None:
            outcome = Outcome(State.FAILED, refusal, ExecutionOutcome.FAILED, None)
            await repository.finish(connection, [(approval, outcome)], shard=self._counter_shard)
            return await self._settled(connection, approval, TimelineEvent.EXECUTION_FAILED, refusal)
        token = await operations_repository.start(
            connection, approval, lease=self._limits.lease, shard=self._counter_shard
        )
        name, executor = found
        return _Run(approval, operation, name, executor, token), []

    async def _settled(
        self, connection: AsyncConnection, approval: Approval, event: TimelineEvent, reason: str
    ) -> tuple[Execution, Sequence[Job]]:
        jobs = await queue.enqueue(
            connection, [timeline_job(approval, event, summary=reason)], lease=self._outbox.lease
        )
        found = await repository.get(connection, [approval.approval_id])
        return Execution(found[approval.approval_id], already_executed=False), jobs

    async def _run(self, run: _Run) -> None:
        heartbeat = asyncio.create_task(self._keep_lease(run))
        try:
            result = await self._result(run)
            await self._finish(run, result)
        finally:
            heartbeat.cancel()

    async def _result(self, run: _Run) -> RunResult:
        context = RunContext(run.approval.approval_id, run.approval.incident_id, self._limits.timeout)
        bound = asyncio.timeout(self._limits.timeout.total_seconds())
        try:
            async with bound:
                return RunResult(succeeded=True, text=kept(await run.executor.run(run.operation, context)))
        except OperationFailedError as exc:
            return RunResult(succeeded=False, text=kept(exc))
        except Exception as exc:
            if bound.expired():
                seconds = self._limits.timeout.total_seconds()
                return RunResult(succeeded=False, text=f"did not end within {seconds:.0f} s")
            _log.error(
                "executor_bug", executor=run.executor_name, approval_id=run.approval.approval_id, exc_info=exc
            )
            return RunResult(succeeded=False, text=f"internal error of the executor {run.executor_name}")

    async def _keep_lease(self, run: _Run) -> None:
        while True:
            await asyncio.sleep(self._limits.lease.total_seconds() / 3)
            try:
                async with self._one_statement.connect() as connection:
                    is_mine = await operations_repository.heartbeat(
                        connection, run.approval.approval_id, run.token, lease=self._limits.lease
                    )
            except Exception as exc:
                _log.warning("heartbeat_failed", error=type(exc).__name__, database_away=is_unavailable(exc))
                continue
            if not is_mine:
                _log.error("operation_lease_lost", approval_id=run.approval.approval_id)
                return

    async def _finish(self, run: _Run, result: RunResult) -> None:
        """Record how a run ended, again while the database is away: what was done must not be forgotten."""
        while True:
            failpoint("operation_done")
            try:
                async with self._engine.begin() as connection:
                    mine = await operations_repository.finish(
                        connection,
                        run.approval.approval_id,
                        run.token,
                        run.operation,
                        result,
                        executor=run.executor_name,
                        shard=self._counter_shard,
                    )
                    jobs = (
                        await queue.enqueue(connection, _intents(run, result), lease=self._outbox.lease)
                        if mine
                        else []
                    )
            except Exception as exc:
                if not is_unavailable(exc):
                    raise
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            break
        _log.info(
            "background_execution_finished" if mine else "background_execution_too_late",
            approval_id=run.approval.approval_id,
            incident_id=run.approval.incident_id,
            path="operation",
            succeeded=result.succeeded,
        )
        self._outbox.dispatch(jobs)

    async def keep_marking_abandoned(self) -> None:
        """Bring runs of dead processes to INDETERMINATE, until cancelled."""
        while True:
            await asyncio.sleep(_ABANDONED_CHECK_SECONDS)
            try:
                await self.mark_abandoned()
            except Exception as exc:
                _log.warning(
                    "abandoned_check_failed", error=type(exc).__name__, database_away=is_unavailable(exc)
                )

    async def mark_abandoned(self) -> int:
        """Bring runs whose lease has ended to INDETERMINATE, and tell their timelines; returns how many."""
        async with self._engine.begin() as connection:
            abandoned = await operations_repository.mark_abandoned(
                connection, message=_ABANDONED, limit=_ABANDONED_BATCH, shard=self._counter_shard
            )
            if not abandoned:
                return 0
            found = await repository.get(connection, [approval_id for approval_id, _ in abandoned])
            await queue.enqueue(
                connection,
                [
                    timeline_job(
                        approval, TimelineEvent.EXECUTION_FAILED, summary=f"indeterminate: {_ABANDONED}"
                    )
                    for approval in found.values()
                ],
            )
        for approval_id, incident_id in abandoned:
            _log.error("execution_indeterminate", approval_id=approval_id, incident_id=incident_id)
        self._outbox.wake()
        return len(abandoned)

    async def drain(self, within: timedelta) -> None:
        """Let running operations end; those that do not are cut off and become INDETERMINATE."""
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=within.total_seconds())
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


def _intents(run: _Run, result: RunResult) -> Sequence[NewJob]:
    executor = {"executor": run.executor_name}
    if not result.succeeded:
        return [
            timeline_job(
                run.approval, TimelineEvent.EXECUTION_FAILED, summary=result.text, attributes=executor
            )
        ]
    approval = run.approval
    return [
        timeline_job(approval, TimelineEvent.EXECUTED, summary=approval.action, attributes=executor),
        deliveries.resolve_job(
            ResolveIntent(
                approval.approval_id, approval.incident_id, ResolutionType.AUTO_REPAIRED, approval.action
            )
        ),
    ]
