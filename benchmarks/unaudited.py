"""The incident service without its audit trail, for one side of P13: `python -m benchmarks.unaudited serve`.

A composition of the benchmarks alone: no setting of the service leaves the trail out. What audit costs is taken away where it
is spent: the layers that note a call and its digest, the records of transactions, and the part of the Resolve statement.
"""

from typing import Any

from servicekit.audit import repository
from servicekit.audit.model import Call
from servicekit.outbox.transaction import Transaction
from servicekit.rpc.audited import begin_call
from servicekit.rpc.interceptors.audit import AuditedRequestLayer, AuditLayer


def leave_out() -> None:
    """Leave the trail out of this process. Before the service is imported: its statements are made then."""

    def append_nothing(chain: str, _source: str) -> str:
        return f"SELECT {chain} AS appended"

    def unary(_layer: object, _method: str, inner: Any) -> Any:
        async def behavior(request: Any, context: Any) -> Any:
            # Handlers hand it on.
            begin_call("")
            return await inner(request, context)

        return behavior

    def record(_transaction: Transaction, _call: Call, *_targets: str) -> None:
        pass

    # By setattr: an assignment is one that the type checker refuses, as it should.
    setattr(repository, "append_changes", append_nothing)  # noqa: B010
    setattr(AuditLayer, "unary", unary)  # noqa: B010
    setattr(AuditedRequestLayer, "unary", lambda _layer, _method, inner: inner)  # noqa: B010
    setattr(Transaction, "record", record)  # noqa: B010


if __name__ == "__main__":
    leave_out()
    from incident.__main__ import main

    main()
