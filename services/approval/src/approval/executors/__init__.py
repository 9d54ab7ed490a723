"""Executors run operations. This module is the interface for packages that bring their own: docs/executors.md.

Everything in `__all__` is kept compatible; any other module of the service may change without notice.
"""

from approval.actions.grammar import format_operation
from approval.executors.protocol import (
    ENTRY_POINT_GROUP,
    Executor,
    ExecutorFactory,
    OperationFailedError,
    PlanCheck,
    RunContext,
)
from approval.model import Operation, OperationKind

__all__ = [
    "ENTRY_POINT_GROUP",
    "Executor",
    "ExecutorFactory",
    "Operation",
    "OperationFailedError",
    "OperationKind",
    "PlanCheck",
    "RunContext",
    "format_operation",
]
