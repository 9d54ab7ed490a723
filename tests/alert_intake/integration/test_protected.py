"""The intake with TLS and authentication, in front and towards the services."""

import base64
from pathlib import Path

import pytest

from tests.alert_intake.alerts import TestedAlert
from tests.alert_intake.notifications import body
from tests.alert_intake.running_intake import running_intake
from tests.approval.schemas import approval_database, incident_database
from tests.authority import authority
from tests.callers import Incidents
from tests.credentials import TokenFile
from tests.services import RunningService, healthy_service
from tests.tls_clients import client_context

pytestmark = pytest.mark.asyncio(loop_scope="session")


def files(folder: Path, service: str) -> tuple[str, str, str]:
    """Paths of a certificate, its key and its authority."""
    certificate, key = authority().sign("127.0.0.1", service=service).write(folder, service)
    ca = folder / "ca.crt"
    ca.write_bytes(authority().certificate)
    return str(certificate), str(key), str(ca)


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"alertmanager:{password}".encode()).decode()


async def test_who_has_no_role_for_it_posts_no_alerts_and_reads_no_metrics(
    tmp_path: Path, incident_service: RunningService, approval_service: RunningService, incidents: Incidents
) -> None:
    tokens = TokenFile(tmp_path / "tokens.json")
    detector, viewer = tokens.add("alertmanager", "detector"), tokens.add("prometheus", "viewer")
    certificate, key, ca = files(tmp_path, "intake")
    variables = {
        "INTAKE_TOKENS_FILE": str(tokens.path),
        "INTAKE_TLS_CERT_FILE": certificate,
        "INTAKE_TLS_KEY_FILE": key,
        "INTAKE_TLS_CLIENT_CA_FILE": ca,
    }
    services = incident_service.address, approval_service.address
    alert = TestedAlert()
    async with running_intake(*services, variables, tls=client_context(tmp_path)) as intake:

        async def post(authorization: str) -> int:
            headers = {"Authorization": authorization} if authorization else {}
            return (await intake.post_body(body(alert.fires()), **headers)).status_code

        refused = ["", "Bearer wrong", basic("wrong"), f"Bearer {viewer}"]
        assert [await post(each) for each in refused] == [401, 401, 401, 403]
        assert await alert.incidents(incidents) == []
        assert [await post(f"Bearer {detector}"), await post(basic(detector))] == [200, 200]
        assert (await alert.incident(incidents)).occurrence_count == 1

        async def metrics(token: str) -> int:
            headers = {"Authorization": f"Bearer {token}"}
            return (await intake.client.get("/metrics", headers=headers)).status_code

        assert [await metrics(token) for token in ("wrong", detector, viewer)] == [401, 403, 200]
        assert (await intake.client.get("/-/ready")).status_code == 200
        tokens.revoke("alertmanager")
    with_certificate = client_context(tmp_path, authority().sign("alertmanager"))
    async with running_intake(*services, variables, tls=with_certificate) as intake:
        assert (await intake.post(alert.fires())).status_code == 200


async def test_the_services_know_it_by_its_token(tmp_path: Path) -> None:
    tokens = TokenFile(tmp_path / "tokens.json")
    incident_tokens = {"INCIDENT_TOKENS_FILE": str(tokens.path)}
    approval_tokens = {"APPROVAL_TOKENS_FILE": str(tokens.path)}
    detector, own = tokens.add("detector", "detector"), tokens.add("alerts", "intake")
    async with (
        incident_database() as incident_url,
        approval_database() as approval_url,
        healthy_service("incident", incident_url, variables=incident_tokens) as incident,
        healthy_service("approval", approval_url, variables=approval_tokens) as approval,
    ):
        services = incident.address, approval.address
        async with running_intake(*services, {"INTAKE_SERVICES_TOKEN": own}) as intake:
            alert = TestedAlert()
            assert await intake.results(alert.fires(0)) == {"reported": 1}
            assert await intake.results(alert.fires(7)) == {"deduplicated": 1}
            assert await intake.results(alert.ended(0, until=5)) == {"superseded": 1}
            assert await intake.results(alert.ended(7, until=9)) == {"resolved": 1}
        # A detector may open incidents, and resolve none.
        async with running_intake(*services, {"INTAKE_SERVICES_TOKEN": detector}) as intake:
            alert = TestedAlert()
            assert await intake.results(alert.fires(0)) == {"reported": 1}
            assert (await intake.post(alert.ended(0, until=5))).status_code == 503
