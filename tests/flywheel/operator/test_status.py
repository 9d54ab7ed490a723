"""The loop at a glance: from the services as they are, and from statistics of a bad day."""

import json

import pytest
from google.protobuf import text_format

from awoooi.flywheel.v1.flywheel_stats_service_pb2 import GetFlywheelStatsResponse
from flywheel.operator.views.status import approval_lines, incident_lines, problems
from tests.flywheel.operator.deployment import Command, Deployment

INCIDENT = """
incidents {
  incidents { state: STATE_OPEN count: 3 }
  incidents { state: STATE_INVESTIGATING count: 1 }
  stuck: 2
  stuck_by_reason { reason: STUCK_REASON_NO_APPROVAL count: 2 }
  stuck_by_reason { reason: STUCK_REASON_NO_PROGRESS }
  stuck_after { seconds: 1800 }
  hours { opened: 4 resolved: 1 }
  hours { opened: 1 resolved: 2 }
}
resolutions { resolution_seconds { count: 4 sum: 2400 } }
side_effects {
  side_effects { effect: EFFECT_WEBHOOK state: STATE_PARKED count: 2 }
  side_effects { effect: EFFECT_WEBHOOK state: STATE_PENDING count: 1 }
  oldest_pending_seconds: 65
}
server { unusable_identity_sources: IDENTITY_SOURCE_TOKENS }
"""
APPROVAL = """
executions {
  success_rate: 0.9755 samples: 41 min_samples: 20 window { seconds: 86400 }
  noop_executions_total: 12 noop_resolutions_total: 11
}
recoveries { samples: 3 min_samples: 10 window { seconds: 86400 } pending: 1 overdue_seconds: 70 }
approvals {
  approvals { state: STATE_PENDING count: 2 }
  approvals { state: STATE_INDETERMINATE count: 1 }
  approvals { state: STATE_FAILED }
  oldest_pending_seconds: 7300
  incident_unknown: 1
}
deliveries {
  topics { topic: TOPIC_RESOLVE deliveries { state: STATE_PARKED count: 1 } deliveries { state: STATE_PENDING } }
}
"""


def stats(text: str) -> GetFlywheelStatsResponse:
    """Statistics as a server sends them."""
    return text_format.Parse(text, GetFlywheelStatsResponse())


def test_every_number_has_its_words() -> None:
    assert [*incident_lines(stats(INCIDENT)), *approval_lines(stats(APPROVAL))] == [
        ("INCIDENTS", "3 OPEN, 1 INVESTIGATING, 5 opened and 3 resolved within 24 h"),
        ("STUCK", "2 without progress for 30m, 2 NO_APPROVAL"),
        ("RESOLUTIONS", "4 in all, after 10m in the mean"),
        ("SIDE EFFECTS", "2 WEBHOOK PARKED, 1 WEBHOOK PENDING, the oldest waits since 1m"),
        ("APPROVALS", "2 PENDING, 1 INDETERMINATE, the oldest waits since 2h"),
        ("REPAIRS", "97.5% of 41 within 24h succeeded; 12 NO_ACTION executed, 11 of them resolved"),
        ("RECOVERIES", "3 within 24h, too few for a rate (10), 1 PENDING"),
        ("DELIVERIES", "1 RESOLVE PARKED"),
    ]


def test_a_step_for_an_operator_is_shown_with_its_command() -> None:
    assert [*problems(stats(INCIDENT)), *problems(stats(APPROVAL))] == [
        "2 incidents are stuck: flywheel incident stuck",
        "2 side effects are PARKED: flywheel effect list --state parked",
        "identities cannot be verified by TOKENS: see the service's log",
        "1 deliveries are PARKED: flywheel delivery list --state parked",
        "the incidents of 1 approvals are unknown: flywheel approval list --incident-unknown",
        "1 executions are INDETERMINATE: flywheel approval list --state indeterminate",
        "recoveries are looked for 1m late",
    ]


def test_nothing_to_do_is_said_of_a_new_deployment() -> None:
    lines = [*incident_lines(stats("")), *approval_lines(stats(""))]
    assert ("SIDE EFFECTS", "nothing waits") in lines
    assert ("APPROVALS", "none") in lines
    noop = "executions { noop_executions_total: 1 noop_resolutions_total: 1 min_samples: 10 window { seconds: 86400 } }"
    assert (
        "REPAIRS",
        "none within 24h, too few for a rate (10); 1 NO_ACTION executed, 1 of them resolved",
    ) in [*approval_lines(stats(noop))]
    assert not [*problems(stats("")), *problems(stats(""))]


def test_the_status_of_a_deployment(flywheel: Command, deployment: Deployment) -> None:
    incident_id = flywheel.done("incident", "open", "is stuck", "--severity", "medium", "-o", "name").strip()
    proposed = flywheel.done(
        "approval", "propose", incident_id, "NO_ACTION: wait", "--risk", "low", "-o", "name"
    ).strip()
    deployment.sql(
        "incident",
        "UPDATE incidents SET last_progress_time = now() - interval '3 days' WHERE incident_id = $1",
        incident_id,
    )
    # Statistics that take the database longer than a second are those from before.
    printed = deployment.until(
        lambda: flywheel.done("status"),
        lambda text: f"\n{incident_id}" in text and f"\n{proposed}" in text,
    )
    assert printed.startswith("CONTEXT:         here\n")
    stuck = next(line for line in printed.splitlines() if line.startswith(incident_id))
    assert stuck.split()[1:3] == ["MEDIUM", "3d"]
    assert stuck.endswith("is stuck")
    assert "incidents are stuck: flywheel incident stuck" in printed
    found = json.loads(
        deployment.until(
            lambda: flywheel.done("status", "--json"), lambda text: incident_id in text and proposed in text
        )
    )
    stuck_incidents = found["incident"]["incidents"]["stuck_incidents"]
    assert incident_id in [each["incident_id"] for each in stuck_incidents]
    assert found["approval"]["approvals"]["pending"]


@pytest.fixture
def half(flywheel: Command) -> Command:
    """A deployment whose approval service is not there."""
    shown = json.loads(flywheel.done("context", "show", "--json"))
    flywheel.done("context", "add", "half", "--incident", shown["incident"], "--approval", "127.0.0.1:1")
    flywheel.done("context", "use", "half")
    return flywheel


def test_a_service_that_is_not_there_does_not_hide_the_other(half: Command) -> None:
    ended = half("status")
    assert ended.status == 3
    assert "INCIDENTS:" in ended.out
    assert "all is well" not in ended.out
    assert "the approval service at 127.0.0.1:1 cannot be reached" in ended.err
    found = json.loads(half("status", "--json").out)
    assert found["incident"]["incidents"]
    assert found["approval"]["error"]["exit_status"] == 3
