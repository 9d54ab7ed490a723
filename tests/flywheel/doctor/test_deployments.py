"""`flywheel doctor` against services that run, and against what is wrong with them."""

import asyncio
import dataclasses
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import pytest
import pytest_asyncio

from flywheel.doctor.checks import Result, Status
from flywheel.doctor.deployment import Deployment
from flywheel.doctor.examination import examine
from tests.approval.schemas import approval_database, incident_database, rows
from tests.authority import authority
from tests.callers import approvals_at, incidents_at
from tests.e2e.protected_stack import free_address
from tests.services import RunningService, ServiceProcess, healthy_service

pytestmark = pytest.mark.asyncio(loop_scope="module")
CANARY = {"flywheel-canary": "true"}


@dataclass(frozen=True)
class Deployed:
    """A deployment, and its services."""

    deployment: Deployment
    incident: RunningService
    approval: RunningService


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def deployed() -> AsyncIterator[Deployed]:
    """One for all tests of this file."""
    async with (
        incident_database() as incident_url,
        approval_database() as approval_url,
        healthy_service("incident", incident_url) as incident,
        healthy_service(
            "approval", approval_url, variables={"APPROVAL_INCIDENT_TARGET": incident.address}
        ) as approval,
    ):
        sources = f"incident={incident.address},approval={approval.address}"
        gateway = await asyncio.to_thread(
            ServiceProcess,
            "metrics_gateway",
            ["serve"],
            {"GATEWAY_LISTEN": "127.0.0.1:0", "GATEWAY_SOURCES": sources},
        )
        try:
            address = (await gateway.logged("serving"))["address"]
            yield Deployed(
                Deployment(incident.address, approval.address, address, timeout=60), incident, approval
            )
        finally:
            await asyncio.to_thread(gateway.kill)


def by_status(results: Sequence[Result], status: Status) -> dict[str, str]:
    return {each.name: each.detail for each in results if each.status is status}


async def test_all_is_well_and_the_canary_leaves_nothing(deployed: Deployed) -> None:
    deployment = deployed.deployment
    command = [
        *(sys.executable, "-m", "flywheel", "doctor", "--json", "--timeout", "60"),
        *("--incident", deployment.incident, "--approval", deployment.approval),
        *("--gateway", deployment.gateway),
    ]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)
    assert [each for each in found["checks"] if each["status"] != "ok"] == []
    assert (found["ok"], done.returncode, done.stderr) == (True, 0, "")
    named = {each["name"] for each in found["checks"]}
    assert {"incident.migrations", "approval.clock", "gateway.series", "canary.remove"} <= named
    for service in (deployed.incident, deployed.approval):
        url = service.database_url
        assert url is not None
        for table in (
            "incidents",
            "incident_events",
            "postmortems",
            "knowledge",
            "approvals",
            "approval_changes",
        ):
            ((exists,),) = await rows(url, f"SELECT to_regclass('{table}') IS NOT NULL")
            assert not exists or await rows(url, f"SELECT FROM {table}") == [], table


async def test_what_an_earlier_run_left_is_removed(deployed: Deployed) -> None:
    deployment = deployed.deployment
    async with incidents_at(deployment.incident) as incidents, approvals_at(deployment.approval) as approvals:
        left = await incidents.opened(labels=CANARY, source="flywheel-doctor")
        proposed = await approvals.proposed(left.incident_id)
        other = await incidents.opened(labels=CANARY, source="another tool")
        url = deployed.incident.database_url
        assert url is not None
        await rows(
            url,
            "UPDATE incidents SET create_time = now() - interval '1 hour' WHERE source = 'flywheel-doctor'",
        )
        results = await examine(deployment, with_canary=True)
        assert by_status(results, Status.FAILED) == {}
        assert "removed 1 of earlier runs" in by_status(results, Status.OK)["canary.open"]
        assert await approvals.remove_canary(proposed.approval_id) is False
        assert [each.incident_id async for each in incidents.list(labels=CANARY)] == [other.incident_id]
        await incidents.resolve(other.incident_id, resolution_type="NO_ACTION")


async def test_addresses_that_are_exchanged_are_noticed(deployed: Deployed) -> None:
    deployment = deployed.deployment
    exchanged = dataclasses.replace(
        deployment, incident=deployment.approval, approval=deployment.incident, gateway=""
    )
    results = await examine(exchanged, with_canary=True)
    assert set(by_status(results, Status.FAILED)) == {"incident.health", "approval.health"}
    assert "canary.open" in by_status(results, Status.NOT_RUN)
    (health,) = [each for each in results if each.name == "incident.health"]
    assert "may be exchanged" in health.advice


async def test_what_does_not_listen_is_named_and_the_rest_is_checked(deployed: Deployed) -> None:
    nowhere = free_address()
    broken = dataclasses.replace(
        deployed.deployment, approval=nowhere, gateway=nowhere, prometheus=f"http://{nowhere}"
    )
    results = await examine(broken, with_canary=True)
    failed = by_status(results, Status.FAILED)
    assert set(failed) == {"approval.address", "gateway.health", "prometheus.health"}
    assert nowhere in failed["approval.address"]
    (address,) = [each for each in results if each.name == "approval.address"]
    assert "`flywheel up`" in address.advice
    assert "--context" in address.advice
    passed = by_status(results, Status.OK)
    assert {"incident.health", "incident.clock"} <= passed.keys()
    assert {"canary.open", "gateway.series", "prometheus.rules"} <= by_status(results, Status.NOT_RUN).keys()
    assert all(each.advice for each in results if each.status is Status.FAILED)


async def test_plain_text_where_tls_is_wanted_is_said(
    deployed: Deployed, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("authority") / "ca.crt"
    file.write_bytes(authority().certificate)
    results = await examine(
        dataclasses.replace(deployed.deployment, ca_file=file, gateway=""), with_canary=False
    )
    assert set(by_status(results, Status.FAILED)) == {"incident.tls", "approval.tls"}
