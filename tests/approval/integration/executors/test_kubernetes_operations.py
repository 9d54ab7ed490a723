"""Kubernetes actions from the proposal to the resolved incident: a real service, the API on a server of the tests."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from awoooi.incident.v1 import incident_pb2
from tests.approval.integration.executors.operated import Operated, allowed_service, healthy_cluster
from tests.approval.repairs import (
    EventType,
    Repairs,
    assert_left_open,
    logged,
    repairs,
    timeline_events,
    until_ended,
)
from tests.approval.unit.executors.kubernetes.cases import DELETE, HEALTHY, RESTART, ROLLBACK
from tests.approval.unit.executors.kubernetes.cluster_faults import afterwards, drop, drop_answer, status
from tests.approval.unit.executors.kubernetes.cluster_server import ClusterServer, Fault
from tests.approval.unit.executors.kubernetes.objects import deployment, progressing
from tests.callers import Incidents, State
from tests.services import RunningService

pytestmark = pytest.mark.asyncio(loop_scope="session")

SCALE = "SCALE deployment/web --replicas=5 -n shop"
WEB = "deployment/web in namespace shop"
STUCK = {"replicas": 4, "updatedReplicas": 1, "availableReplicas": 3}
DEADLINE_EXCEEDED = {
    **STUCK,
    "conditions": [progressing("ProgressDeadlineExceeded", at="2026-05-07T12:10:00Z")],
}


@dataclass(frozen=True)
class Works:
    """An operation that succeeds: the workload's status after it, its message, its request and its effect."""

    action: str
    message: str
    request: tuple[str, str]
    steps: Sequence[Mapping[str, Any]] = ()
    has_changed: Callable[[ClusterServer], bool] = field(default=lambda _cluster: True)


def _image(cluster: ClusterServer) -> str:
    image: str = cluster.get("deployments", "web")["spec"]["template"]["spec"]["containers"][0]["image"]
    return image


_DEPLOYMENT = "/apis/apps/v1/namespaces/shop/deployments/web"
WORKS = {
    "restart": Works(
        RESTART,
        f"restarted {WEB}: 3 of 3 replicas updated and available",
        ("PATCH", _DEPLOYMENT),
        [STUCK, HEALTHY],
        lambda cluster: (
            "kubectl.kubernetes.io/restartedAt"
            in cluster.get("deployments", "web")["spec"]["template"]["metadata"]["annotations"]
        ),
    ),
    "scale": Works(
        SCALE,
        f"scaled {WEB} from 3 to 5: 5 of 5 replicas updated and available",
        ("PATCH", f"{_DEPLOYMENT}/scale"),
        [{"replicas": 5, "updatedReplicas": 5, "availableReplicas": 5}],
        lambda cluster: cluster.get("deployments", "web")["spec"]["replicas"] == 5,
    ),
    "delete_a_pod": Works(
        DELETE,
        "deleted pod/web-7-abcde in namespace shop: it is gone",
        ("DELETE", "/api/v1/namespaces/shop/pods/web-7-abcde"),
        has_changed=lambda cluster: ("pods", "web-7-abcde") not in cluster.objects,
    ),
    "rollback": Works(
        ROLLBACK,
        f"rolled {WEB} back from revision 7 to 6: 3 of 3 replicas updated and available",
        ("PATCH", _DEPLOYMENT),
        [HEALTHY],
        lambda cluster: _image(cluster) == "web:6",
    ),
}


@pytest.mark.parametrize("works", WORKS.values(), ids=WORKS)
async def test_an_operation_that_works_is_on_record_and_resolves_the_incident(
    operated: Operated, incidents: Incidents, works: Works
) -> None:
    approvals, cluster = operated.approvals, operated.cluster
    cluster.steps.extend(dict(step) for step in works.steps)
    before = await repairs(approvals)
    incident_id = await incidents.opened_id()
    approval = await approvals.approved(incident_id, works.action, auto_execute=True)

    done = await approvals.until_delivered(approval.approval_id)
    assert (done.state, done.outcome_message) == (State.STATE_SUCCEEDED, works.message)
    [change] = cluster.changes()
    assert (change.method, change.path) == works.request
    assert works.has_changed(cluster)
    [row] = await logged(approvals, approval.approval_id)
    assert (row.succeeded, row.output, row.error) == (True, works.message, "")
    assert (row.executor, row.operation) == ("kubernetes", approval.operation)
    assert (row.start_time, row.finish_time) == (done.execute_time, done.finish_time)
    assert await repairs(approvals) - before == Repairs(
        samples=1, successes=1, succeeded=1, failed=0, indeterminate=0
    )
    incident = await incidents.get(incident_id)
    assert incident.state == incident_pb2.Incident.STATE_RESOLVED
    assert incident.resolution_type == incident_pb2.RESOLUTION_TYPE_AUTO_REPAIRED
    executed, resolved = await timeline_events(
        incidents, incident_id, EventType.TYPE_EXECUTED, EventType.TYPE_RESOLVED
    )
    assert executed.attributes["executor"] == "kubernetes"
    assert resolved.attributes["approval_id"] == approval.approval_id


async def test_a_change_that_conflicts_with_a_concurrent_one_is_retried_and_succeeds(
    operated: Operated, incidents: Incidents
) -> None:
    operated.cluster.fail("PATCH", "deployments", status(409), status(409))
    operated.cluster.steps.append(HEALTHY)
    done = await operated.approvals.executed(await incidents.opened_id(), RESTART)
    assert done.state == State.STATE_SUCCEEDED
    assert len(operated.cluster.changes()) == 3


@dataclass(frozen=True)
class Fails:
    """An operation that fails: its faults, its message, and how many changes were sent."""

    message: str
    faults: Sequence[tuple[str, str, Fault]] = ()
    action: str = RESTART
    steps: Sequence[Mapping[str, Any]] = ()
    changes: int = 1


def _fault(method: str, fault: Fault, *, times: int = 1) -> Sequence[tuple[str, str, Fault]]:
    return [(method, "deployments", fault)] * times


_LOST = f"the connection to the cluster failed when it was asked to patch {WEB}, ServerDisconnectedError"
FAILS = {
    "a_conflict_without_end": Fails(
        f"conflict: {WEB} was changed at the same time", _fault("PATCH", status(409), times=9), changes=5
    ),
    "forbidden": Fails(f"forbidden: the service may not patch {WEB}", _fault("PATCH", status(403))),
    "not_found": Fails(
        "there is no deployment/lost in namespace shop", action="RESTART deployment/lost -n shop", changes=0
    ),
    "never_healthy": Fails(
        f"restarted {WEB}, but: the progress deadline passed: 1 of 3 replicas updated",
        steps=[DEADLINE_EXCEEDED],
    ),
    "dropped": Fails(f"{_LOST}: it may have happened", _fault("PATCH", drop)),
    "done_and_dropped": Fails(f"{_LOST}: it may have happened", _fault("PATCH", drop_answer)),
    "an_error_inside": Fails(
        f"the cluster answered 500 when asked to patch {WEB}: it may have happened",
        _fault("PATCH", status(500)),
    ),
    "another_namespace": Fails(
        "bank is not allowed: APPROVAL_KUBERNETES_NAMESPACES allows shop",
        action="RESTART deployment/web -n bank",
        changes=0,
    ),
}


@pytest.mark.parametrize("fails", FAILS.values(), ids=FAILS)
async def test_an_operation_that_fails_is_on_record_and_leaves_the_incident_open(
    operated: Operated, incidents: Incidents, fails: Fails
) -> None:
    approvals, cluster = operated.approvals, operated.cluster
    cluster.faults.extend(fails.faults)
    cluster.steps.extend(dict(step) for step in fails.steps)
    before = await repairs(approvals)
    incident_id = await incidents.opened_id()
    approval = await approvals.approved(incident_id, fails.action, auto_execute=True)

    failed = await until_ended(approvals, approval.approval_id)
    assert (failed.state, failed.outcome_message) == (State.STATE_FAILED, fails.message)
    assert len(cluster.changes()) == fails.changes
    [row] = await logged(approvals, approval.approval_id)
    assert (row.succeeded, row.output, row.error) == (False, "", fails.message)
    assert (row.executor, row.operation) == ("kubernetes", approval.operation)
    assert await repairs(approvals) - before == Repairs(
        samples=1, successes=0, succeeded=0, failed=1, indeterminate=0
    )
    [event] = await timeline_events(incidents, incident_id, EventType.TYPE_EXECUTION_FAILED)
    assert event.attributes["approval_id"] == approval.approval_id
    assert event.summary == fails.message
    await assert_left_open(incidents, approvals, failed)
    # Execute is idempotent: the stored failure, and nothing is sent again.
    assert (await approvals.execute(approval.approval_id)).already_executed
    assert len(cluster.changes()) == fails.changes


async def test_a_change_that_was_undone_is_a_failure_and_leaves_the_incident_open(
    operated: Operated, incidents: Incidents
) -> None:
    def scale_back() -> None:
        operated.cluster.add(deployment())

    operated.cluster.fail("PATCH", "deployments", afterwards(scale_back))
    failed = await operated.approvals.executed(await incidents.opened_id(), SCALE)
    assert (failed.state, failed.outcome_message) == (
        State.STATE_FAILED,
        f"scaled {WEB} from 3 to 5, but: it was changed back meanwhile: 3 replicas, not 5",
    )
    await assert_left_open(incidents, operated.approvals, failed)


@pytest.mark.slow
async def test_a_rollout_that_does_not_get_healthy_fails_at_the_timeout_of_the_operation(
    incident_service: RunningService, incidents: Incidents, tmp_path: Path
) -> None:
    async with (
        healthy_cluster() as cluster,
        allowed_service(
            incident_service.address, cluster.kubeconfig(tmp_path), APPROVAL_OPERATION_TIMEOUT="10s"
        ) as approvals,
    ):
        cluster.steps.append(STUCK)
        failed = await approvals.executed(await incidents.opened_id(), RESTART)
        assert failed.state == State.STATE_FAILED
        assert failed.outcome_message == (
            f"restarted {WEB}, but it was not done within 8 s: 1 of 3 replicas updated"
        )
        [row] = await logged(approvals, failed.approval_id)
        assert (row.finish_time.ToDatetime() - row.start_time.ToDatetime()).total_seconds() >= 8
        await assert_left_open(incidents, approvals, failed)
        assert len(cluster.changes()) == 1


async def test_a_plan_is_a_server_side_dry_run(operated: Operated, incidents: Incidents) -> None:
    approval = await operated.approvals.approved(await incidents.opened_id(), SCALE)
    plan = (await operated.approvals.execute(approval.approval_id, validate_only=True)).plan
    assert [(check.name, check.passed, check.message) for check in plan.checks[-2:]] == [
        ("object_exists", True, "3 replicas, revision 7"),
        ("change_accepted", True, f"the cluster would accept: scaled {WEB} from 3 to 5"),
    ]
    assert all(check.passed for check in plan.checks)
    assert operated.cluster.changes() == []
    assert any(request.is_dry_run for request in operated.cluster.seen)
    assert await operated.approvals.get(approval.approval_id) == approval


async def test_a_plan_reports_a_change_that_the_cluster_would_reject(
    operated: Operated, incidents: Incidents
) -> None:
    operated.cluster.fail("PATCH", "deployments", status(403))
    approval = await operated.approvals.approved(await incidents.opened_id(), SCALE)
    plan = (await operated.approvals.execute(approval.approval_id, validate_only=True)).plan
    assert [(check.name, check.message) for check in plan.checks if not check.passed] == [
        ("change_accepted", f"forbidden: the service may not scale {WEB}")
    ]
