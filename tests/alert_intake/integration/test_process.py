"""The intake as a process: settings, exit codes, refusal to start where strangers would reach it."""

import asyncio
import signal
from pathlib import Path

import pytest

from tests.alert_intake.alerts import TestedAlert
from tests.alert_intake.running_intake import running_intake
from tests.callers import Incidents
from tests.eventually import eventually
from tests.services import RunningService, ServiceProcess

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def refusal(*arguments: str, **variables: str) -> tuple[int, str]:
    """The exit code and the output of an intake that does not start."""
    process = await asyncio.to_thread(ServiceProcess, "alert_intake", ["serve", *arguments], variables)
    return await process.ended(), "".join(process.lines)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"INTAKE_LISTEN": "9465"}, "INTAKE_LISTEN: expected host:port, such as 127.0.0.1:50051"),
        ({"INTAKE_MAX_BODY_BYTES": "10"}, "INTAKE_MAX_BODY_BYTES: expected 1024 to 1073741824"),
        ({"INTAKE_POST_TIMEOUT": "soon"}, "INTAKE_POST_TIMEOUT: expected a duration such as"),
        ({"INTAKE_CONCURRENT_ALERTS": "0"}, "INTAKE_CONCURRENT_ALERTS: expected 1 to 1000"),
        (
            {"INTAKE_SERVICES_TOKEN": "fw_secret", "INTAKE_INCIDENT_TARGET": "incident:50051"},
            "INTAKE_SERVICES_TOKEN: needs INTAKE_SERVICES_TLS_CA_FILE",
        ),
        (
            {"INTAKE_SERVICES_TLS_CERT_FILE": "/tls.crt"},
            "INTAKE_SERVICES_TLS_CERT_FILE: has no effect without INTAKE_SERVICES_TLS_CA_FILE",
        ),
        ({"INTAKE_MAPPING_FILE": "/nowhere"}, "INTAKE_MAPPING_FILE: /nowhere: "),
    ],
    ids=["address", "body", "duration", "concurrency", "token without TLS", "TLS", "mapping"],
)
async def test_a_setting_of_no_use_is_named(variables: dict[str, str], message: str) -> None:
    code, output = await refusal(**variables)
    assert code == 2
    assert output.startswith(message)
    assert "fw_secret" not in output


async def test_every_problem_of_a_mapping_file_has_its_line(tmp_path: Path) -> None:
    path = tmp_path / "mapping.toml"
    path.write_text('[default]\ngroup = "all"\ntitel = []\n')
    code, output = await refusal(INTAKE_MAPPING_FILE=str(path))
    assert code == 2
    assert output.splitlines() == [
        f"INTAKE_MAPPING_FILE: {path}: default.group: expected 'alert' or 'group'",
        f"INTAKE_MAPPING_FILE: {path}: default.titel: is no key of a receiver",
    ]


async def test_beyond_loopback_tls_and_authentication_are_required() -> None:
    code, output = await refusal(INTAKE_LISTEN="0.0.0.0:0")
    assert code == 2
    assert output.startswith(
        "INTAKE_LISTEN: 0.0.0.0:0 can be reached from other machines and has no TLS and auth"
    )


async def test_an_address_that_is_in_use_is_named(incident_service: RunningService) -> None:
    code, output = await refusal(INTAKE_LISTEN=incident_service.address)
    assert code == 1
    assert f"INTAKE_LISTEN: {incident_service.address} is in use" in output


async def test_a_post_in_flight_at_the_stop_is_answered(
    incident_service: RunningService, approval_service: RunningService, incidents: Incidents
) -> None:
    alerts = [TestedAlert() for _ in range(300)]
    async with running_intake(incident_service.address, approval_service.address) as intake:
        posting = asyncio.create_task(intake.post(*(alert.fires() for alert in alerts)))
        await eventually(lambda: alerts[0].incidents(incidents))
        intake.process.send(signal.SIGTERM)
        assert (await posting).status_code == 200
        assert await intake.process.ended() == 0
