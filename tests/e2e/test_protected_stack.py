"""The stack of `flywheel up` with the certificates of `flywheel certs` and tokens: every connection is protected."""

import asyncio
import shlex
import ssl
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from awoooi.client import (
    CallError,
    IncidentClient,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
)
from awoooi.incident.v1 import incident_pb2
from flywheel.certificates.files import renew
from flywheel.doctor.checks import Status
from flywheel.doctor.deployment import Deployment
from flywheel.doctor.examination import examine
from tests.alert_intake.alerts import TestedAlert
from tests.alert_intake.notifications import body
from tests.e2e.protected_stack import Protected, protected_stack
from tests.eventually import eventually
from tests.metrics_gateway.scrapes import Scrape
from tests.services import TIMEOUT_SECONDS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def protected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Protected]:
    """One for all tests of this file."""
    with protected_stack(tmp_path_factory.mktemp("protected")) as running:
        yield running


async def _heal(protected: Protected, incident_id: str) -> None:
    """Open an incident and resolve it by an approved action."""
    async with (
        protected.incidents("detector") as detector,
        protected.incidents("vera") as viewer,
        protected.approvals("ai") as ai,
        protected.approvals("alice") as alice,
        protected.approvals("olga") as olga,
    ):
        await detector.create(incident_id=incident_id, title="api answers slowly", severity="HIGH")
        proposed = await ai.propose(incident_id=incident_id, action="NO_ACTION: observe first", risk="LOW")
        await alice.approve(proposed.approval_id)
        await olga.execute(proposed.approval_id)
        resolved = await eventually(
            lambda: viewer.get(incident_id),
            lambda found: found.state == incident_pb2.Incident.STATE_RESOLVED,
        )
        assert resolved.resolved_by == "service:approval"


async def test_an_incident_is_healed_and_every_record_names_who_did_it(protected: Protected) -> None:
    await _heal(protected, "INC-20260507-99ADF1")
    scrape = await eventually(
        protected.scrape, lambda found: found.value("awoooi_flywheel_source_up", source="incident") == 1
    )
    assert scrape.value("awoooi_flywheel_source_up", source="approval") == 1


async def test_alerts_are_taken_from_a_detector_and_the_services_know_the_intake_by_its_certificate(
    protected: Protected,
) -> None:
    alert = TestedAlert()
    context = ssl.create_default_context(cafile=str(protected.folder / "ca.crt"))
    async with httpx2.AsyncClient(verify=context, trust_env=False, timeout=TIMEOUT_SECONDS) as client:

        async def post(name: str, report: dict[str, Any]) -> int:
            response = await client.post(
                f"https://{protected.stack.intake.address}/alertmanager",
                content=body(report),
                headers={
                    "Authorization": f"Bearer {protected.tokens[name]}",
                    "Content-Type": "application/json",
                },
            )
            return response.status_code

        assert await post("vera", alert.fires()) == httpx2.codes.FORBIDDEN
        assert await post("detector", alert.fires()) == httpx2.codes.OK
        assert await post("detector", alert.ended(until=5)) == httpx2.codes.OK
    async with protected.incidents("vera") as viewer:
        page = await viewer.list(fingerprint=alert.fingerprint).page()
    (incident,) = page.incidents
    assert (incident.opened_by, incident.resolved_by) == ("service:intake", "service:intake")


async def test_who_proves_nothing_is_refused(protected: Protected) -> None:
    async with protected.incidents() as nobody, protected.incidents("vera") as viewer:
        with pytest.raises(UnauthenticatedError):
            await nobody.get("INC-20260507-99ADF1")
        with pytest.raises(PermissionDeniedError):
            await viewer.create(incident_id="INC-20260507-99ADF9", title="x", severity="LOW")


@pytest.mark.parametrize(
    ("service", "error"),
    [(None, UnavailableError), ("approval", None), ("gateway", PermissionDeniedError)],
)
async def test_services_are_known_by_their_certificates(
    service: str | None, error: type[CallError] | None, protected: Protected
) -> None:
    address = protected.mtls_addresses["incident"]
    async with IncidentClient(address, credentials=protected.credentials(service), timeout=5) as client:
        if error is None:
            with pytest.raises(NotFoundError):
                await client.get("INC-20260507-000000")
        else:
            with pytest.raises(error):
                await client.lookup_incidents([])


async def test_all_certificates_are_renewed_while_it_runs(protected: Protected) -> None:
    before = await protected.scrape()
    await asyncio.to_thread(renew, protected.folder, protected.request)
    certificate = str(protected.folder / "gateway/tls.crt")

    def renewed(scrape: Scrape) -> bool:
        name = "tls_certificate_expiry_timestamp_seconds"
        return scrape.value(name, file=certificate) != before.value(name, file=certificate)

    await eventually(protected.scrape, renewed)
    await _heal(protected, "INC-20260507-99ADF3")
    after = await protected.scrape()
    for failures in (before, after):
        counts = failures.labelled("tls_certificate_reload_failures_total")
        assert set(counts.values()) == {0}


async def test_keys_that_cannot_be_read_are_seen_through_the_gateway(protected: Protected) -> None:
    keys = protected.folder.parent / "jwks.json"
    good = keys.read_bytes()

    def is_usable(scrape: Scrape, *, usable: bool) -> bool:
        of_sources = [
            scrape.value("awoooi_flywheel_identity_source_unusable", source=source, identity_source="jwks")
            for source in protected.addresses
        ]
        own = scrape.value("identity_source_usable", source="jwks")
        return of_sources == [not usable] * len(of_sources) and own == usable

    await eventually(protected.scrape, partial(is_usable, usable=True))
    keys.write_bytes(b"{")
    await eventually(protected.scrape, partial(is_usable, usable=False))
    keys.write_bytes(good)
    await eventually(protected.scrape, partial(is_usable, usable=True))


def test_the_documented_call_with_a_token_works(protected: Protected, tmp_path: Path) -> None:
    """With reflection, which needs the token, too."""
    text = (ROOT / "docs/docker.md").read_text(encoding="utf-8")
    (line,) = [each for each in text.splitlines() if each.startswith("buf curl ")]
    header = tmp_path / "alice.header"
    header.write_text(f"authorization: Bearer {protected.tokens['alice']}\n")
    replaced = {
        "buf": str(Path(sys.executable).with_name("buf")),
        "$secrets/tls/ca.crt": str(protected.folder / "ca.crt"),
        "@alice.header": f"@{header}",
    }
    command = [replaced.get(each, each) for each in shlex.split(line)]
    command = [each.replace("127.0.0.1:50051", protected.addresses["incident"]) for each in command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "INC-20260507-99ADF1" in done.stdout


def _deployment(
    protected: Protected, folder: Path, *, token: str, approver_token: str | None = None
) -> Deployment:
    """The stack as `flywheel doctor` is given it, with these people's tokens."""
    for name in filter(None, (token, approver_token)):
        (folder / name).write_text(protected.tokens[name])
    return Deployment(
        incident=protected.addresses["incident"],
        approval=protected.addresses["approval"],
        gateway=str(protected.stack.gateway.address),
        ca_file=protected.folder / "ca.crt",
        timeout=TIMEOUT_SECONDS,
        token_file=folder / token,
        approver_token_file=None if approver_token is None else folder / approver_token,
    )


async def test_the_doctor_finds_all_well_with_the_tokens_of_two_people(
    protected: Protected, tmp_path: Path
) -> None:
    deployment = _deployment(protected, tmp_path, token="olga", approver_token="alice")
    results = {each.name: each for each in await examine(deployment, with_canary=True)}
    assert [each for each in results.values() if each.status is not Status.OK] == []
    assert results["incident.tls"].detail == "TLSv1.3"
    assert results["canary.remove"].detail.startswith("INC-")


async def test_the_doctor_says_who_has_to_approve_and_leaves_no_canary(
    protected: Protected, tmp_path: Path
) -> None:
    deployment = _deployment(protected, tmp_path, token="olga")
    failed = [each for each in await examine(deployment, with_canary=True) if each.status is Status.FAILED]
    assert [each.name for each in failed] == ["canary.approve"]
    assert "--approver-token-file" in failed[0].advice
    # Self-approval is refused.
    deployment = _deployment(protected, tmp_path, token="olga", approver_token="vera")
    failed = [each for each in await examine(deployment, with_canary=True) if each.status is Status.FAILED]
    assert [each.name for each in failed] == ["canary.approve"]
    async with protected.incidents("olga") as incidents:
        assert [each async for each in incidents.list(labels={"flywheel-canary": "true"})] == []


async def test_the_doctor_says_what_a_caller_without_the_role_needs(
    protected: Protected, tmp_path: Path
) -> None:
    deployment = _deployment(protected, tmp_path, token="ai")
    results = {each.name: each for each in await examine(deployment, with_canary=True)}
    assert results["incident.identity"].status is Status.FAILED
    assert "role operator" in results["incident.identity"].advice
    assert results["gateway.scrape"].detail == "/metrics: 403"
    assert results["canary.open"].status is Status.NOT_RUN
