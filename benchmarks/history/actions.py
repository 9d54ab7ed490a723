"""What is proposed: parsed by the approval service itself, so that every row is one that it would execute."""

import json
from dataclasses import dataclass

import asyncpg

from approval.actions.parsed import parse
from approval.execution.log_repository import operation_to_json
from benchmarks.errors import BenchmarkError
from benchmarks.history.shape import Shape

NO_ACTION = "NO_ACTION: observe first"

_CREATE = """
CREATE TEMP TABLE actions (
    action_number int PRIMARY KEY, action text, action_hash text, operation_kind text, resource_kind text, name text,
    namespace text, target text, operation jsonb)
"""


@dataclass(frozen=True, slots=True)
class _Row:
    action: str

    def columns(self) -> tuple[object, ...]:
        parsed = parse(self.action)
        operation = parsed.operation
        if operation is None:
            raise BenchmarkError(f"{self.action}: {parsed.error}")
        return (
            self.action,
            parsed.hash,
            operation.kind,
            operation.resource_kind,
            operation.name,
            operation.namespace,
            operation.target,
            json.dumps(operation_to_json(operation)),
        )


def repair(target: int) -> str:
    """Return the action that repairs the object with this number."""
    return f"RESTART deployment/app-{target} -n prod"


async def create_actions(connection: "asyncpg.Connection[asyncpg.Record]", shape: Shape) -> None:
    """Make the temporary table `actions`: number 0 is NO_ACTION, number n + 1 repairs the n-th object."""
    await connection.execute(_CREATE)
    actions = [NO_ACTION, *map(repair, range(shape.targets))]
    await connection.copy_records_to_table(
        "actions", records=[(number, *_Row(action).columns()) for number, action in enumerate(actions)]
    )
