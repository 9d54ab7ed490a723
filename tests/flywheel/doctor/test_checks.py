"""Checks that depend on each other."""

import asyncio
import dataclasses
import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from awoooi.flywheel.v1.flywheel_stats_service_pb2 import GetFlywheelStatsResponse
from flywheel.doctor.canary import Canary
from flywheel.doctor.checks import Check, CheckFailedError, Result, Status, run_checks
from flywheel.doctor.deployment import Deployment, UsageError
from flywheel.doctor.gateway import GatewayChecks
from flywheel.doctor.prometheus import PrometheusChecks
from flywheel.doctor.report import is_well, to_json, to_text
from flywheel.doctor.rules import ALERTS
from flywheel.doctor.service import ServiceChecks
from tests.prometheus.alert_rules import RULES


async def passes() -> str:
    return "fine"


async def fails() -> str:
    raise CheckFailedError("it is down", "start it")


async def test_a_check_that_depends_on_a_failed_one_is_not_run() -> None:
    results = await run_checks(
        [
            Check("a", passes),
            Check("b", fails, ["a"]),
            Check("c", passes, ["a", "b"]),
            Check("d", passes, ["c"]),
            Check("e", passes),
        ],
        seconds=10,
    )
    assert [(each.name, each.status) for each in results] == [
        ("a", Status.OK),
        ("b", Status.FAILED),
        ("c", Status.NOT_RUN),
        ("d", Status.NOT_RUN),
        ("e", Status.OK),
    ]
    assert [each.detail for each in results] == ["fine", "it is down", "needs b", "needs c", "fine"]
    assert to_text(results).splitlines() == [
        "ok       a  fine",
        "FAILED   b  it is down",
        "            -> start it",
        "not run  c  needs b",
        "not run  d  needs c",
        "ok       e  fine",
        "2 ok, 1 FAILED, 2 not run",
    ]
    found = json.loads(to_json(results))
    assert not found["ok"]
    assert not is_well(results)
    assert found["checks"][1]["advice"] == "start it"
    assert found["checks"][2]["status"] == "not_run"


async def test_a_check_that_hangs_and_one_with_an_error_fail_alone() -> None:
    async def hangs() -> str:
        await asyncio.Event().wait()
        raise AssertionError

    async def breaks() -> str:
        raise ValueError("odd")

    hanging, broken, fine = await run_checks(
        [Check("a", hangs), Check("b", breaks), Check("c", passes)], seconds=0.05
    )
    assert hanging.detail == "no answer within 0.05 s"
    assert broken.detail == "ValueError: odd"
    assert hanging.advice
    assert broken.advice
    assert fine == Result("c", Status.OK, "fine", seconds=fine.seconds)


def answered(
    *,
    version: str = "1.2.3",
    database: str = "0013",
    code: str = "0013",
    process: timedelta = timedelta(0),
    of_database: timedelta = timedelta(0),
) -> ServiceChecks:
    """The checks of a service that has answered just now, with clocks that are ahead by this."""
    checks = ServiceChecks(Deployment("a:1", "b:2"), "approval", "b:2", version="1.2.3")
    now = datetime.now(UTC)
    stats = GetFlywheelStatsResponse()
    if version:
        stats.server.version, stats.server.code_revision, stats.server.database_revision = (
            version,
            code,
            database,
        )
        stats.server.process_time.FromDatetime(now + process)
    stats.read_time.FromDatetime(now + process + of_database)
    checks._stats, checks._asked = stats, (now.timestamp(), now.timestamp())
    return checks


@pytest.mark.parametrize(
    ("facts", "failed"),
    [
        ({}, {}),
        ({"version": "1.3.0"}, {"version": "1.3.0; this command is 1.2.3"}),
        ({"database": "0012"}, {"migrations": "revision 0012, the service needs 0013"}),
        ({"database": "0014"}, {"migrations": "0014, newer than the service's 0013"}),
        ({"process": timedelta(seconds=30)}, {"clock": "the service and this one differ by 30.0 s"}),
        ({"process": timedelta(seconds=-30)}, {"clock": "the service and this one differ by 30.0 s"}),
        ({"of_database": timedelta(seconds=-30)}, {"clock": "of its database differ by 30.0 s"}),
        ({"version": ""}, {"version": "an older one", "migrations": "older", "clock": "older"}),
    ],
)
async def test_versions_revisions_and_clocks(facts: dict[str, object], failed: dict[str, str]) -> None:
    checks = answered(**facts)  # type: ignore[arg-type]  # the facts above
    own = [
        Check(kind, run)
        for kind, run in (
            ("version", checks._check_version),
            ("migrations", checks._migrations),
            ("clock", checks._clock),
        )
    ]
    results = await run_checks(own, seconds=10)
    found = {each.name: each for each in results if each.status is Status.FAILED}
    assert found.keys() == failed.keys()
    for name, words in failed.items():
        assert words in found[name].detail
        assert found[name].advice


@pytest.mark.parametrize(
    ("deployment", "message"),
    [
        (Deployment("nowhere", "b:2"), "--incident: expected host:port"),
        (Deployment("a:1", "b:x"), "--approval: expected host:port"),
        (Deployment("a:1", "b:2", prometheus="localhost:9090"), "--prometheus: expected a URL"),
        (Deployment("a:1", "b:2", cert_file=RULES), "--cert-file and --key-file: give both"),
        (Deployment("a:1", "b:2", approver_token_file=RULES), "--approver-token-file: give --token-file"),
        (Deployment("a:1", "b:2", ca_file=RULES / "no"), "--ca-file: "),
    ],
)
def test_a_flag_that_cannot_be_used_is_named(deployment: Deployment, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        deployment.check()


def test_the_alerts_are_those_of_the_rules() -> None:
    assert set(re.findall(r"- alert: (\w+)", RULES.read_text(encoding="utf-8"))) == ALERTS


def test_the_document_names_every_check_and_every_flag() -> None:
    document = (RULES.parents[3] / "docs/doctor.md").read_text(encoding="utf-8")
    deployment = Deployment("a:1", "b:2", "c:3", "http://d:4")
    checks = [
        *ServiceChecks(deployment, "incident", "a:1", version="1").checks(),
        *GatewayChecks(deployment, version="1").checks(),
        *PrometheusChecks(deployment).checks(),
        *Canary(deployment).checks(),
    ]
    names = {each.name.replace("incident.", "….") for each in checks}
    assert {name for name in names if f"`{name}`" not in document} == set()
    flags = {f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(Deployment)}
    assert {flag for flag in flags if f"`{flag}`" not in document} == set()
