"""Verifiers find out whether a repair has helped. This module is the interface for packages that bring their own: docs/recovery.md.

Everything in `__all__` is kept compatible; any other module of the service may change without notice.
"""

from approval.model import Operation, OperationKind
from approval.verifiers.protocol import (
    ENTRY_POINT_GROUP,
    CannotTellError,
    Look,
    Repair,
    Verifier,
    VerifierFactory,
)

__all__ = [
    "ENTRY_POINT_GROUP",
    "CannotTellError",
    "Look",
    "Operation",
    "OperationKind",
    "Repair",
    "Verifier",
    "VerifierFactory",
]
