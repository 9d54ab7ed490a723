"""The approvals that are decided: proposed by the RPC, read and counted by SQL."""

from collections.abc import Sequence

import asyncpg

from awoooi.approval.v1 import approval_pb2
from awoooi.approval.v1 import approval_service_pb2 as pb
from benchmarks.errors import BenchmarkError
from benchmarks.http2 import Access
from benchmarks.load import Load, make_load
from benchmarks.servers import RunningServer
from benchmarks.waiting import until_not

_SERVICE = "/awoooi.approval.v1.ApprovalService"
APPROVE_PATH = f"{_SERVICE}/Approve"
_PROPOSE_PATH = f"{_SERVICE}/Propose"
_ACTION = "NO_ACTION: observe first. CPU is back below its threshold, no user was hit."
_PROPOSER = Access(metadata={"awoooi-actor": "ai"})
_OUTSTANDING, _CONNECTIONS = 64, 4
_DRAIN_SECONDS = 300.0

_PENDING = """
SELECT approval_id, incident_id FROM approvals WHERE incident_id = ANY ($1) AND state = 'PENDING'
ORDER BY array_position($1, incident_id)
"""
_DELIVERED = """
SELECT
    (SELECT count(*) FROM approvals WHERE state = 'SUCCEEDED' AND incident_resolve_time IS NOT NULL) AS acknowledged,
    (SELECT count(*) FROM approvals) AS proposed
"""
_IS_PENDING = "SELECT EXISTS (SELECT FROM outbox WHERE state = 'PENDING')"
_WILL_RESOLVE = """
SELECT EXISTS (
    SELECT FROM outbox WHERE state = 'PENDING' AND topic IN ('approval.execute', 'incident.resolve'))
"""
_IS_UNTRIED = """
SELECT EXISTS (
    SELECT FROM outbox WHERE state = 'PENDING' AND (topic = 'approval.execute' OR last_error IS NULL))
"""
# What the service itself writes after the tenth attempt.
_AGE_BACKOFFS = """
UPDATE outbox SET attempts = 10, next_attempt_time = now() + random() * interval '60 s'
WHERE state = 'PENDING' AND lease_token IS NULL
"""


class Approvals:
    """Approvals of one approval service, in its database."""

    def __init__(self, server: RunningServer, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self.server = server
        self._connection = connection

    async def propose(self, incident_ids: Sequence[str]) -> Sequence[str]:
        """Propose NO_ACTION with auto_execute for each incident, and return the approvals' ids in the same order."""
        messages = [
            pb.ProposeRequest(
                incident_id=incident_id,
                action=_ACTION,
                risk=approval_pb2.RISK_LOW,
                auto_execute=True,
                request_id=f"bench-{incident_id}",
            ).SerializeToString()
            for incident_id in incident_ids
        ]
        make_load(
            self.server.address,
            _PROPOSE_PATH,
            messages,
            outstanding=_OUTSTANDING,
            connections=_CONNECTIONS,
            access=_PROPOSER,
        )
        rows = await self._connection.fetch(_PENDING, list(incident_ids))
        if [row["incident_id"] for row in rows] != list(incident_ids):
            raise BenchmarkError(f"{len(incident_ids)} approvals were proposed, {len(rows)} are PENDING")
        return [str(row["approval_id"]) for row in rows]

    def approve(self, approval_ids: Sequence[str], *, outstanding: int = _OUTSTANDING) -> Load:
        """Approve each, so many at a time."""
        return make_load(
            self.server.address,
            APPROVE_PATH,
            [pb.ApproveRequest(approval_id=approval_id).SerializeToString() for approval_id in approval_ids],
            outstanding=outstanding,
            connections=min(outstanding, _CONNECTIONS),
            access=self.server.access,
        )

    async def settled(self) -> float:
        """Wait until nothing is left to be executed or delivered, and return the seconds it took."""
        return await until_not(
            self._is_busy, "the deliveries are", within=_DRAIN_SECONDS, log=self.server.log_path
        )

    async def _is_busy(self) -> bool:
        return bool(await self._connection.fetchval(_IS_PENDING))

    async def resolved(self) -> float:
        """Wait until every resolve is acknowledged, and return the seconds it took."""
        return await until_not(
            self._will_resolve, "the resolves are", within=_DRAIN_SECONDS, log=self.server.log_path
        )

    async def _will_resolve(self) -> bool:
        return bool(await self._connection.fetchval(_WILL_RESOLVE))

    async def executed(self) -> float:
        """Wait until every approval is executed and its resolve was tried, and return the seconds it took."""
        return await until_not(
            self._is_untried, "the executions are", within=_DRAIN_SECONDS, log=self.server.log_path
        )

    async def _is_untried(self) -> bool:
        return bool(await self._connection.fetchval(_IS_UNTRIED))

    async def age_backoffs(self) -> None:
        """Make the failed deliveries those of an outage of minutes: so many attempts, and waits of up to 60 s."""
        await self._connection.execute(_AGE_BACKOFFS)

    async def vacuum(self) -> None:
        """Make statistics and visibility those of a database that has run for a while."""
        await self._connection.execute("VACUUM ANALYZE")

    async def expect_acknowledged(self, amount: int) -> None:
        """Raises BenchmarkError unless so many approvals were proposed, and each SUCCEEDED and resolved its incident."""
        row = await self._connection.fetchrow(_DELIVERED)
        assert row is not None
        if (row["acknowledged"], row["proposed"]) != (amount, amount):
            raise BenchmarkError(
                f"{amount} approvals should have resolved their incidents; of {row['proposed']} {row['acknowledged']} have"
            )
