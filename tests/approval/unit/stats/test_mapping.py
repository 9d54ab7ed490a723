"""The stats on the wire."""

from datetime import UTC, datetime

import pytest

from approval.delivery.model import DeliveryTopic
from approval.stats.mapping import stats_to_proto
from approval.stats.model import ApprovalStats, TopicStats


@pytest.mark.parametrize("samples", range(12))
def test_the_success_rate_is_withheld_below_the_minimum_of_samples(samples: int) -> None:
    stats = ApprovalStats(
        read_time=datetime.now(UTC),
        samples=samples,
        successes=samples // 2,
        executions={},
        noop_resolutions=0,
        approvals={},
        approval_oldest_pending_seconds=0.0,
        approvals_incident_unknown=3,
        approvals_superseded=4,
        deliveries={topic: TopicStats({}, 0.0, 0) for topic in DeliveryTopic},
        details=None,
    )
    executions = stats_to_proto(stats, min_samples=10).executions
    assert (executions.samples, executions.successes) == (samples, samples // 2)
    assert executions.min_samples == 10
    assert executions.HasField("success_rate") is (samples >= 10)
    if samples >= 10:
        assert executions.success_rate == pytest.approx((samples // 2) / samples)
