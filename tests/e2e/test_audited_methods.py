"""Each way to prove an identity, granted and refused, is found in the trail that `flywheel audit` exports and verifies."""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from awoooi.approval.v1 import approval_pb2
from awoooi.approval.v1 import approval_service_pb2 as approval
from awoooi.approval.v1.approval_service_pb2_grpc import ApprovalServiceStub
from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1 import incident_service_pb2 as incident
from awoooi.incident.v1.incident_service_pb2_grpc import IncidentServiceStub
from tests.approval.schemas import approval_database, incident_database
from tests.audit_trail import digest, records
from tests.callers import NO_ACTION, caller
from tests.credentials import bearer, confused, signed, unsigned
from tests.e2e.protected_stack import Protected, protected_stack
from tests.eventually import eventually
from tests.services import healthy_service

pytestmark = pytest.mark.asyncio(loop_scope="module")

PACKAGES = {
    "incident": "awoooi.incident.v1.IncidentService",
    "approval": "awoooi.approval.v1.ApprovalService",
}
EXPIRED = "2026-01-02T00:00:00Z"

# actor, method, operation, outcome, code, reason, digest
Row = tuple[str, str, str, str, str, str, str]


@dataclass
class Driver:
    """Calls two services, and notes what must be found in their trails."""

    expected: Mapping[str, Counter[Row]] = field(
        default_factory=lambda: {"incident": Counter(), "approval": Counter()}
    )

    async def granted(
        self, stub: Any, request: Any, metadata: Any = (), *, by: tuple[str, str], of: str = "incident"
    ) -> Any:
        """Make a call that changes something."""
        rpc = _rpc(request)
        response = await getattr(stub, rpc)(request, metadata=metadata, wait_for_ready=True, timeout=30)
        self._note(of, by, rpc, ("CHANGED", "OK", ""), digest(request))
        return response

    async def refused(
        self,
        stub: Any,
        request: Any,
        metadata: Any = (),
        *,
        by: tuple[str, str] = ("", ""),
        code: str = "PERMISSION_DENIED",
        reason: str = "ROLE_MISSING",
        of: str = "incident",
        is_read: bool = False,
    ) -> None:
        """Make a call that is refused."""
        rpc = _rpc(request)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await getattr(stub, rpc)(request, metadata=metadata, wait_for_ready=True, timeout=30)
        assert caught.value.code().name == code
        self._note(of, by, rpc, ("REFUSED", code, reason), digest(request) if is_read else "")

    def _note(
        self, of: str, by: tuple[str, str], rpc: str, ended: tuple[str, str, str], digest_: str
    ) -> None:
        self.expected[of][(*by, f"{PACKAGES[of]}/{rpc}", *ended, digest_)] += 1


def _rpc(request: Any) -> str:
    return str(type(request).__name__).removesuffix("Request")


def assert_found(
    found: Mapping[str, Counter[Row]], expected: Mapping[str, Counter[Row]], *, deliverer: tuple[str, str]
) -> None:
    """Each call is in the trail, and nothing else but what the approval service has delivered by itself."""
    assert found["approval"] == expected["approval"]
    assert not expected["incident"] - found["incident"]
    delivered = found["incident"] - expected["incident"]
    assert {(row[:2], row[3]) for row in delivered} <= {(deliverer, "CHANGED")}


@pytest.fixture(scope="module")
def protected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Protected]:
    """Both services behind TLS."""
    with protected_stack(tmp_path_factory.mktemp("audited")) as running:
        yield running


@asynccontextmanager
async def stubs(protected: Protected, service: str | None, credentials: Any = None) -> AsyncIterator[Any]:
    """Stubs of both services: at the address for people, or with the certificate of a service."""
    addresses = protected.mtls_addresses if service else protected.addresses
    credentials = credentials or protected.credentials(service)
    async with (
        grpc.aio.secure_channel(addresses["incident"], credentials) as incidents,
        grpc.aio.secure_channel(addresses["approval"], credentials) as approvals,
    ):
        yield IncidentServiceStub(incidents), ApprovalServiceStub(approvals)


async def audit(*arguments: object, environment: Mapping[str, str] | None = None) -> str:
    """Run `flywheel audit`."""
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "flywheel", "audit", *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert (process.returncode, errors.decode()) == (0, "")
    return output.decode()


async def exported(
    urls: Mapping[str, str], expected: Mapping[str, Counter[Row]], file: Path
) -> Mapping[str, Counter[Row]]:
    """The calls in a verified export, once each that is expected was written."""
    for service, url in urls.items():
        # Not their number: the approval service's own calls are written between those of this test.
        await eventually(lambda: _written(url), lambda found: not expected[service] - found)  # noqa: B023
    environment = {f"{service.upper()}_DATABASE_URL": url for service, url in urls.items()}
    await audit("export", "-o", file, environment=environment)
    summary = await audit("verify", file)
    assert [line.partition(":")[0] for line in summary.splitlines()][:2] == ["incident", "approval"]
    assert summary.count(", unchanged;") == 2
    found: dict[str, Counter[Row]] = {"incident": Counter(), "approval": Counter()}
    content = await asyncio.to_thread(file.read_bytes)
    for each in map(json.loads, content.splitlines()):
        if each["kind"] == "record" and each["method"] != "system":
            found[each["service"]][_row(each)] += each["calls"]
    return found


async def _written(url: str) -> Counter[Row]:
    """The calls in the trail by now."""
    found: Counter[Row] = Counter()
    for each in await records(url):
        if each["method"] != "system":
            found[_row(each)] += each["calls"]
    return found


def _row(record: Any) -> Row:
    actor, method, operation = record["actor"], record["method"], record["operation"]
    return actor, method, operation, record["outcome"], record["code"], record["reason"], record["digest"]


async def test_every_protected_call_is_in_the_verified_export_with_its_method(
    protected: Protected, tmp_path: Path
) -> None:
    driver = Driver()
    tokens, expired = protected.tokens, protected.token_file.add("eve", "operator", expire_time=EXPIRED)
    # A person with both roles, who may not use both on one proposal.
    both = protected.token_file.add("dora", "proposer", "approver")
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        incidents, approvals = await enter(stubs(protected, None))
        as_approval, approvals_as_approval = await enter(stubs(protected, "approval"))
        as_gateway, approvals_as_gateway = await enter(stubs(protected, "gateway"))
        await eventually(lambda: _is_known(approvals, both))

        created = await driver.granted(
            incidents, create_request(), bearer(tokens["detector"]), by=("detector", "token")
        )
        incident_id = created.incident.incident_id
        await driver.granted(
            incidents,
            incident.StartInvestigationRequest(incident_id=incident_id),
            bearer(signed("Jo", ["operator"])),
            by=("jo", "jwt"),
        )
        await driver.granted(as_approval, note(incident_id), by=("service:approval", "mtls"))
        resolve = incident.ResolveRequest(
            incident_id=incident_id, resolution_type=incident_pb2.RESOLUTION_TYPE_HUMAN
        )
        await driver.refused(incidents, resolve, bearer(tokens["vera"]), by=("vera", "token"))
        await driver.refused(incidents, resolve, bearer(signed("kim", ["viewer"])), by=("kim", "jwt"))
        await driver.refused(as_gateway, resolve, by=("service:gateway", "mtls"))
        reopen = incident.ReopenRequest(incident_id=incident_id, reason="again")
        for metadata, by in (
            (bearer(tokens["olga"]), ("olga", "token")),
            (bearer(signed("jo", ["operator"])), ("jo", "jwt")),
        ):
            await driver.refused(
                incidents, reopen, (*metadata, *caller("alice")), by=by, reason="ACTOR_NOT_AUTHENTICATED"
            )
        await _unauthenticated(driver, "incident", incidents, resolve, expired)

        proposed = await driver.granted(
            approvals, propose(incident_id), bearer(both), by=("dora", "token"), of="approval"
        )
        approve = approval.ApproveRequest(approval_id=proposed.approval.approval_id)
        await driver.refused(
            approvals,
            approve,
            bearer(both),
            by=("dora", "token"),
            reason="OWN_PROPOSAL",
            of="approval",
            is_read=True,
        )
        await driver.refused(approvals, approve, bearer(tokens["ai"]), by=("ai", "token"), of="approval")
        await driver.refused(
            approvals, approve, bearer(signed("kim", ["viewer"])), by=("kim", "jwt"), of="approval"
        )
        await driver.refused(approvals_as_approval, approve, by=("service:approval", "mtls"), of="approval")
        await driver.refused(approvals_as_gateway, approve, by=("service:gateway", "mtls"), of="approval")
        await driver.refused(
            approvals_as_gateway,
            approve,
            caller("alice"),
            by=("service:gateway", "mtls"),
            reason="ACTOR_NOT_AUTHENTICATED",
            of="approval",
        )
        await _unauthenticated(driver, "approval", approvals, approve, expired)
        await driver.granted(
            approvals, approve, bearer(signed("Jo", ["approver"])), by=("jo", "jwt"), of="approval"
        )

    found = await exported(protected.database_urls, driver.expected, tmp_path / "audit.jsonl")
    assert_found(found, driver.expected, deliverer=("service:approval", "mtls"))


async def _unauthenticated(driver: Driver, of: str, stub: Any, request: Any, expired: str) -> None:
    """Make the call in each way that proves nothing."""
    missing, invalid, late = "CREDENTIALS_MISSING", "CREDENTIALS_INVALID", "CREDENTIALS_EXPIRED"
    attempts = [
        ((), missing),
        (bearer("fw_" + "x" * 43), invalid),
        (bearer(unsigned()), invalid),
        (bearer(confused()), invalid),
        (bearer(signed("jo", ["operator"], aud="another")), invalid),
        (bearer(expired), late),
        (bearer(signed("jo", ["operator"], exp=1)), late),
    ]
    for metadata, reason in attempts:
        await driver.refused(stub, request, metadata, code="UNAUTHENTICATED", reason=reason, of=of)


async def _is_known(approvals: Any, token: str) -> bool:
    try:
        await approvals.List(approval.ListRequest(page_size=1), metadata=bearer(token))
    except grpc.aio.AioRpcError:
        return False
    return True


def create_request() -> incident.CreateRequest:
    return incident.CreateRequest(title="api answers slowly", severity=incident_pb2.SEVERITY_HIGH)


def propose(incident_id: str) -> approval.ProposeRequest:
    return approval.ProposeRequest(
        incident_id=incident_id, action=NO_ACTION, risk=approval_pb2.RISK_LOW, auto_execute=False
    )


def note(incident_id: str) -> incident.AddEventRequest:
    return incident.AddEventRequest(
        incident_id=incident_id,
        event_id="note-1",
        type=incident_pb2.IncidentEvent.TYPE_NOTE,
        summary="looked at",
    )


async def test_without_authentication_a_name_is_recorded_as_its_callers_word(tmp_path: Path) -> None:
    driver = Driver()
    async with (
        incident_database() as incident_url,
        approval_database() as approval_url,
        healthy_service("incident", incident_url) as incidents,
        healthy_service(
            "approval", approval_url, variables={"APPROVAL_INCIDENT_TARGET": incidents.address}
        ) as approvals,
        grpc.aio.insecure_channel(incidents.address) as incident_channel,
        grpc.aio.insecure_channel(approvals.address) as approval_channel,
    ):
        created = await driver.granted(
            IncidentServiceStub(incident_channel),
            create_request(),
            caller("Detector"),
            by=("detector", "loopback"),
        )
        stub = ApprovalServiceStub(approval_channel)
        proposed = await driver.granted(
            stub,
            propose(created.incident.incident_id),
            caller("mallory"),
            by=("mallory", "loopback"),
            of="approval",
        )
        await driver.refused(
            stub,
            approval.ApproveRequest(approval_id=proposed.approval.approval_id),
            caller("MALLORY"),
            by=("mallory", "loopback"),
            reason="OWN_PROPOSAL",
            of="approval",
            is_read=True,
        )
        urls = {"incident": incident_url, "approval": approval_url}
        found = await exported(urls, driver.expected, tmp_path / "audit.jsonl")
    assert_found(found, driver.expected, deliverer=("service:approval", "loopback"))
