"""The stats on the wire."""

from datetime import UTC, datetime

import pytest

from approval.delivery.model import DeliveryTopic
from approval.stats.mapping import stats_to_proto
from approval.stats.model import ApprovalStats, RecoveryStats, TopicStats
from awoooi.approval.v1 import approval_pb2


def _stats(samples: int) -> ApprovalStats:
    return ApprovalStats(
        read_time=datetime.now(UTC),
        database_revision="0001",
        samples=samples,
        successes=samples // 2,
        executions={},
        noop_resolutions=0,
        approvals={},
        approval_oldest_pending_seconds=0.0,
        approvals_incident_unknown=3,
        approvals_superseded=4,
        deliveries={topic: TopicStats({}, 0.0, 0) for topic in DeliveryTopic},
        recoveries=RecoveryStats(samples, samples // 2, {"VERIFIED": 7, "PENDING": 1}, 5, 0.5),
        details=None,
    )


@pytest.mark.parametrize("samples", range(12))
def test_the_success_rate_is_withheld_below_the_minimum_of_samples(samples: int) -> None:
    executions = stats_to_proto(_stats(samples), min_samples=10).executions
    assert (executions.samples, executions.successes) == (samples, samples // 2)
    assert executions.min_samples == 10
    assert executions.HasField("success_rate") is (samples >= 10)
    if samples >= 10:
        assert executions.success_rate == pytest.approx((samples // 2) / samples)


@pytest.mark.parametrize("samples", range(12))
def test_the_recovery_rate_is_withheld_as_the_success_rate_is(samples: int) -> None:
    recoveries = stats_to_proto(_stats(samples), min_samples=10).recoveries
    assert (recoveries.samples, recoveries.verified) == (samples, samples // 2)
    assert recoveries.HasField("recovery_rate") is (samples >= 10)
    if samples >= 10:
        assert recoveries.recovery_rate == pytest.approx((samples // 2) / samples)


def test_every_outcome_of_a_recovery_is_there_and_pending_ones_are_no_outcome() -> None:
    recoveries = stats_to_proto(_stats(0), min_samples=10).recoveries
    name = approval_pb2.Recovery.Name
    assert {name(each.recovery): each.count for each in recoveries.recoveries_total} == {
        "RECOVERY_VERIFIED": 7,
        "RECOVERY_NOT_RECOVERED": 0,
        "RECOVERY_UNVERIFIED": 0,
    }
    assert (recoveries.pending, recoveries.overdue_seconds) == (5, 0.5)
