"""Which refusals of an execution end its job, and which have it tried again."""

import uuid
from collections.abc import Sequence
from typing import Any, cast

import pytest

from approval.errors import ApprovalError, ApprovalNotFoundError, TransitionNotAllowedError
from approval.execution.errors import ExecutorMissingError, IncidentUnreachableError
from approval.execution.handler import ExecuteHandler
from approval.execution.use_cases import ExecuteUseCase
from approval.model import State
from servicekit.outbox.queue import Job

ID = "APR-20260507-99ADF2"


class Refusing:
    """Executions that are refused."""

    def __init__(self, error: ApprovalError) -> None:
        self._error = error

    async def execute(self, *_: Any, **__: Any) -> None:
        raise self._error


async def _outcomes(error: ApprovalError) -> Sequence[Exception | None]:
    handler = ExecuteHandler(cast("ExecuteUseCase", Refusing(error)))
    return await handler.deliver([Job(1, "approval.execute", ID, {"approval_id": ID}, 1, uuid.uuid4())])


def _in(state: State) -> ApprovalError:
    return TransitionNotAllowedError(ID, current=state, allowed=(State.APPROVED,))


@pytest.mark.parametrize(
    "error",
    [
        IncidentUnreachableError("INC-20260507-99ADF2"),
        ExecutorMissingError(ID),
        # Its process may give it back.
        _in(State.EXECUTING),
    ],
    ids=str,
)
async def test_what_may_still_be_executed_is_tried_again(error: ApprovalError) -> None:
    assert await _outcomes(error) == [error]


@pytest.mark.parametrize(
    "error",
    [
        ApprovalNotFoundError(ID),
        *(_in(state) for state in State if state not in (State.EXECUTING, State.APPROVED)),
    ],
    ids=lambda error: str(getattr(error, "current", error)),
)
async def test_what_will_never_be_executed_ends_the_job(error: ApprovalError) -> None:
    assert await _outcomes(error) == [None]
