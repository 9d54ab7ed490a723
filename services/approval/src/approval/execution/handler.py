"""The outbox handler that executes approved actions."""

import asyncio
from collections.abc import Sequence

import structlog

from approval.errors import ApprovalError, TransitionNotAllowedError
from approval.execution.errors import ExecutorMissingError, IncidentUnreachableError
from approval.execution.model import ExecuteCommand
from approval.execution.use_cases import ExecuteUseCase
from approval.lifecycle.execution_job import execution_intent
from approval.model import OWN_ACTOR, State
from servicekit.audit.model import background
from servicekit.outbox.handler import Handler
from servicekit.outbox.queue import Job

_log = structlog.get_logger()


class ExecuteHandler(Handler):
    """Executes approvals that were approved with `auto_execute`.

    The execution is a transaction of its own and idempotent, so a worker that dies between it and the mark of the job
    changes nothing.
    """

    def __init__(self, use_case: ExecuteUseCase) -> None:
        self._use_case = use_case

    async def deliver(self, jobs: Sequence[Job]) -> Sequence[Exception | None]:
        """Execute each approval, in one group commit."""
        return await asyncio.gather(*(self._execute(execution_intent(job).approval_id) for job in jobs))

    async def _execute(self, approval_id: str) -> Exception | None:
        try:
            # An operation is only started here: from then on it has a lease of its own.
            await self._use_case.execute(
                ExecuteCommand(approval_id), call=background("execution", OWN_ACTOR), wait=False
            )
        except (IncidentUnreachableError, ExecutorMissingError) as exc:
            # Retried until the approval expires: another replica may have the executor that this one lacks.
            return exc
        except TransitionNotAllowedError as exc:
            if exc.current is State.EXECUTING:
                # Another process runs it, or gives it back when it cannot: then it is APPROVED again.
                return exc
            # Cancelled, expired or changed since it was approved: there is nothing left to do.
            _drop(approval_id, exc)
        except ApprovalError as exc:
            _drop(approval_id, exc)
        except Exception as exc:
            return exc
        return None


def _drop(approval_id: str, reason: ApprovalError) -> None:
    _log.info("background_execution_dropped", approval_id=approval_id, reason=str(reason))
