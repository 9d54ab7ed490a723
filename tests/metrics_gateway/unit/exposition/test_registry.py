import subprocess
from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from awoooi.flywheel.v1.flywheel_stats_service_pb2 import GetFlywheelStatsResponse
from awoooi.incident.v1.incident_pb2 import Incident, SideEffect
from metrics_gateway.exposition.negotiation import DEFAULT, OPENMETRICS, Format
from metrics_gateway.exposition.registry import Exposition, encode
from metrics_gateway.sources.reading import Reading, Reason
from servicekit.http.limits import HttpRefusals
from tests.metrics_gateway.scrapes import Scrape, read_openmetrics, read_text
from tests.metrics_gateway.valid_responses import READ_TIME, approval_response, incident_response
from tests.prometheus.programs import promtool

# The contract with rules and dashboards: name, type, labels. A change here breaks alerts of operators.
SERIES = {
    ("awoooi_flywheel_execution_success_rate", "gauge", ()),
    ("awoooi_flywheel_execution_samples", "gauge", ()),
    ("awoooi_flywheel_execution_successes", "gauge", ()),
    ("awoooi_flywheel_execution_min_samples", "gauge", ()),
    ("awoooi_flywheel_executions_total", "counter", ("outcome",)),
    ("awoooi_flywheel_noop_executions_total", "counter", ()),
    ("awoooi_flywheel_noop_resolutions_total", "counter", ()),
    ("awoooi_flywheel_resolve_deliveries", "gauge", ("state",)),
    ("awoooi_flywheel_resolve_delivery_oldest_pending_seconds", "gauge", ()),
    ("awoooi_flywheel_deliveries", "gauge", ("state", "topic")),
    ("awoooi_flywheel_delivery_oldest_pending_seconds", "gauge", ("topic",)),
    ("awoooi_flywheel_deliveries_dismissed_total", "counter", ("topic",)),
    ("awoooi_flywheel_approvals", "gauge", ("state",)),
    ("awoooi_flywheel_approval_oldest_pending_seconds", "gauge", ()),
    ("awoooi_flywheel_approvals_incident_unknown", "gauge", ()),
    ("awoooi_flywheel_approvals_superseded_total", "counter", ()),
    ("awoooi_flywheel_incidents", "gauge", ("state",)),
    ("awoooi_flywheel_incidents_stuck", "gauge", ()),
    ("awoooi_flywheel_incidents_stuck_by_reason", "gauge", ("reason",)),
    ("awoooi_flywheel_incidents_opened_total", "counter", ("severity",)),
    ("awoooi_flywheel_incidents_resolved_total", "counter", ("resolution_type",)),
    ("awoooi_flywheel_incident_resolution_seconds_bucket", "histogram", ("le",)),
    ("awoooi_flywheel_incident_resolution_seconds_count", "histogram", ()),
    ("awoooi_flywheel_incident_resolution_seconds_sum", "histogram", ()),
    ("awoooi_flywheel_recovery_rate", "gauge", ()),
    ("awoooi_flywheel_recovery_samples", "gauge", ()),
    ("awoooi_flywheel_recoveries_total", "counter", ("outcome",)),
    ("awoooi_flywheel_recoveries_pending", "gauge", ()),
    ("awoooi_flywheel_recovery_overdue_seconds", "gauge", ()),
    ("awoooi_flywheel_side_effects", "gauge", ("effect", "state")),
    ("awoooi_flywheel_side_effect_oldest_pending_seconds", "gauge", ()),
    ("awoooi_flywheel_side_effects_dismissed_total", "counter", ("effect",)),
    ("awoooi_flywheel_postmortems_24h", "gauge", ("resolution_type",)),
    ("awoooi_flywheel_source_up", "gauge", ("source",)),
    ("awoooi_flywheel_source_last_success_timestamp_seconds", "gauge", ("source",)),
    ("awoooi_flywheel_source_scrape_duration_seconds", "gauge", ("source",)),
    ("awoooi_flywheel_source_stats_timestamp_seconds", "gauge", ("source",)),
    ("awoooi_flywheel_source_errors_total", "counter", ("reason", "source")),
    ("awoooi_flywheel_grpc_refused_total", "counter", ("limit", "source")),
    ("awoooi_flywheel_identity_source_unusable", "gauge", ("identity_source", "source")),
    ("awoooi_flywheel_build_info", "gauge", ("version",)),
}
# The series that exist with all sources down.
GATEWAY_SERIES = {
    "awoooi_flywheel_source_up",
    "awoooi_flywheel_source_last_success_timestamp_seconds",
    "awoooi_flywheel_source_scrape_duration_seconds",
    "awoooi_flywheel_source_errors_total",
    "awoooi_flywheel_build_info",
}


def reading(source: str, response: GetFlywheelStatsResponse | None) -> Reading:
    return Reading(source, response, 0.25, 1_780_000_000.5, {Reason.DEADLINE: 3})


def exposed(*readings: Reading, form: Format = DEFAULT, with_process: bool = False) -> str:
    registry = Exposition("1.2.3", [HttpRefusals()]).registry(readings, with_process=with_process)
    return encode(registry, form)[0].decode()


def scrape(*readings: Reading) -> Scrape:
    return read_text(exposed(*readings))


def both() -> Sequence[Reading]:
    return reading("incident", incident_response()), reading("approval", approval_response())


@pytest.mark.parametrize("form", [DEFAULT, OPENMETRICS], ids=["text", "OpenMetrics"])
def test_every_series_has_its_name_type_and_labels(form: Format) -> None:
    text = exposed(*both(), form=form)
    found = {
        (sample.name, family.type, tuple(sorted(sample.labels)))
        for family in (read_openmetrics(text) if form == OPENMETRICS else read_text(text)).families.values()
        for sample in family.samples
    }
    assert found == SERIES


def test_every_family_has_a_help_text() -> None:
    families = scrape(*both()).families.values()
    assert [family.name for family in families if len(family.documentation) < 20] == []


def test_the_stats_of_the_approval_service_are_exposed() -> None:
    seen = scrape(reading("approval", approval_response()))
    assert seen.value("awoooi_flywheel_execution_success_rate") == 0.75
    assert seen.value("awoooi_flywheel_execution_samples") == 20
    assert seen.value("awoooi_flywheel_execution_successes") == 15
    assert seen.value("awoooi_flywheel_execution_min_samples") == 10
    assert seen.labelled("awoooi_flywheel_executions_total") == {
        ("succeeded",): 40,
        ("failed",): 7,
        ("noop",): 566,
        ("indeterminate",): 1,
    }
    assert seen.value("awoooi_flywheel_recovery_rate") == 0.875
    assert seen.value("awoooi_flywheel_recovery_samples") == 16
    assert seen.labelled("awoooi_flywheel_recoveries_total") == {
        ("verified",): 31,
        ("not_recovered",): 6,
        ("unverified",): 3,
    }
    assert seen.value("awoooi_flywheel_recoveries_pending") == 19
    assert seen.value("awoooi_flywheel_recovery_overdue_seconds") == 1.75
    assert seen.value("awoooi_flywheel_noop_executions_total") == 566
    assert seen.value("awoooi_flywheel_noop_resolutions_total") == 565
    assert seen.labelled("awoooi_flywheel_resolve_deliveries") == {("pending",): 1, ("parked",): 2}
    assert seen.value("awoooi_flywheel_resolve_delivery_oldest_pending_seconds") == 4.25
    assert seen.labelled("awoooi_flywheel_deliveries") == {
        ("pending", "resolve"): 1,
        ("parked", "resolve"): 2,
        ("pending", "timeline"): 7,
        ("parked", "timeline"): 8,
        ("pending", "execution"): 11,
        ("parked", "execution"): 12,
        ("pending", "notification"): 19,
        ("parked", "notification"): 20,
        ("pending", "other"): 15,
        ("parked", "other"): 16,
    }
    assert seen.labelled("awoooi_flywheel_delivery_oldest_pending_seconds") == {
        ("resolve",): 4.25,
        ("timeline",): 9.5,
        ("execution",): 13.5,
        ("notification",): 21.5,
        ("other",): 17.5,
    }
    assert seen.labelled("awoooi_flywheel_deliveries_dismissed_total") == {
        ("resolve",): 5,
        ("timeline",): 10,
        ("execution",): 14,
        ("notification",): 22,
        ("other",): 18,
    }
    assert seen.value("awoooi_flywheel_approvals", state="pending") == 3
    assert seen.value("awoooi_flywheel_approval_oldest_pending_seconds") == 61.5
    assert seen.value("awoooi_flywheel_approvals_incident_unknown") == 26
    assert seen.value("awoooi_flywheel_approvals_superseded_total") == 27


def test_side_effects_of_another_version_are_other() -> None:
    response = incident_response()
    response.side_effects.side_effects.add(state=SideEffect.STATE_PARKED, count=4)
    response.side_effects.dismissed_total.add(count=5)
    seen = scrape(reading("incident", response))
    assert seen.value("awoooi_flywheel_side_effects", effect="other", state="parked") == 4
    assert seen.value("awoooi_flywheel_side_effects_dismissed_total", effect="other") == 5


def test_the_stats_of_the_incident_service_are_exposed() -> None:
    seen = scrape(reading("incident", incident_response()))
    assert seen.labelled("awoooi_flywheel_incidents") == {("open",): 4, ("investigating",): 566}
    assert seen.value("awoooi_flywheel_incidents_stuck") == 567
    assert seen.value("awoooi_flywheel_incidents_stuck_by_reason", reason="executed_not_resolved") == 566
    assert seen.value("awoooi_flywheel_incidents_opened_total", severity="critical") == 70
    assert seen.value("awoooi_flywheel_incidents_resolved_total", resolution_type="no_action") == 8
    assert seen.labelled("awoooi_flywheel_incident_resolution_seconds_bucket") == {
        ("60.0",): 3,
        ("300.0",): 5,
        ("3600.0",): 8,
        ("+Inf",): 9,
    }
    assert seen.value("awoooi_flywheel_incident_resolution_seconds_count") == 9
    assert seen.value("awoooi_flywheel_incident_resolution_seconds_sum") == 9001.5
    assert seen.value("awoooi_flywheel_side_effects", effect="postmortem", state="pending") == 6
    assert seen.value("awoooi_flywheel_side_effects", effect="webhook", state="parked") == 2
    assert seen.value("awoooi_flywheel_side_effect_oldest_pending_seconds") == 12
    assert seen.value("awoooi_flywheel_postmortems_24h", resolution_type="no_action") == 21


def test_the_state_of_each_source_is_exposed() -> None:
    seen = scrape(reading("incident", incident_response()), reading("approval", None))
    assert seen.labelled("awoooi_flywheel_source_up") == {("incident",): 1, ("approval",): 0}
    read_time = incident_response().read_time.seconds
    assert seen.labelled("awoooi_flywheel_source_stats_timestamp_seconds") == {("incident",): read_time}
    assert seen.value("awoooi_flywheel_source_scrape_duration_seconds", source="approval") == 0.25
    assert (
        seen.value("awoooi_flywheel_source_last_success_timestamp_seconds", source="approval")
        == 1_780_000_000.5
    )
    assert seen.value("awoooi_flywheel_source_errors_total", source="approval", reason="deadline") == 3
    assert seen.value("awoooi_flywheel_source_errors_total", source="approval", reason="unavailable") == 0
    assert seen.value("awoooi_flywheel_build_info", version="1.2.3") == 1


def test_a_source_that_is_down_removes_only_its_own_series() -> None:
    seen = scrape(reading("incident", None), reading("approval", approval_response()))
    assert "awoooi_flywheel_incidents_stuck" not in seen.names()
    assert "awoooi_flywheel_incident_resolution_seconds_count" not in seen.names()
    assert "awoooi_flywheel_approvals" in seen.names()


def test_with_all_sources_down_the_gateway_exposes_its_own_series() -> None:
    assert scrape(reading("incident", None), reading("approval", None)).names() == GATEWAY_SERIES


def test_a_withheld_rate_is_absent_and_its_samples_are_exposed() -> None:
    response = approval_response()
    response.executions.ClearField("success_rate")
    seen = scrape(reading("approval", response))
    assert "awoooi_flywheel_execution_success_rate" not in seen.families
    assert seen.value("awoooi_flywheel_execution_samples") == 20
    assert seen.value("awoooi_flywheel_execution_min_samples") == 10


def test_a_rate_of_zero_is_not_withheld() -> None:
    response = approval_response()
    response.executions.success_rate = 0.0
    assert scrape(reading("approval", response)).value("awoooi_flywheel_execution_success_rate") == 0


def test_an_unset_section_has_no_series() -> None:
    response = incident_response()
    response.ClearField("resolutions")
    names = scrape(reading("incident", response)).names()
    assert "awoooi_flywheel_incidents_resolved_total" not in names
    assert "awoooi_flywheel_incidents" in names


def test_an_unset_histogram_has_no_series() -> None:
    response = incident_response()
    response.resolutions.ClearField("resolution_seconds")
    seen = scrape(reading("incident", response))
    assert "awoooi_flywheel_incident_resolution_seconds" not in seen.families
    assert "awoooi_flywheel_incidents_resolved_total" in seen.names()


def test_every_value_of_a_closed_label_exists_from_the_start() -> None:
    response = GetFlywheelStatsResponse(read_time=READ_TIME)
    for section in (
        "executions",
        "recoveries",
        "approvals",
        "deliveries",
        "incidents",
        "resolutions",
        "side_effects",
    ):
        getattr(response, section).SetInParent()
    seen = scrape(reading("incident", response))
    assert seen.labelled("awoooi_flywheel_resolve_deliveries") == {("pending",): 0, ("parked",): 0}
    assert seen.labelled("awoooi_flywheel_incidents") == {("open",): 0, ("investigating",): 0}
    assert set(seen.labelled("awoooi_flywheel_approvals")) == {
        ("pending",),
        ("approved",),
        ("rejected",),
        ("expired",),
        ("cancelled",),
        ("executing",),
        ("succeeded",),
        ("failed",),
        ("indeterminate",),
    }
    assert set(seen.labelled("awoooi_flywheel_incidents_resolved_total")) == {
        ("no_action",),
        ("auto_repaired",),
        ("human",),
        ("duplicate",),
        ("false_positive",),
        ("expired_alert",),
    }
    assert set(seen.labelled("awoooi_flywheel_incidents_stuck_by_reason")) == {
        ("no_approval",),
        ("approval_pending",),
        ("approved_not_executed",),
        ("execution_failed",),
        ("executed_not_resolved",),
        ("not_recovered",),
        ("no_progress",),
    }
    assert len(seen.labelled("awoooi_flywheel_side_effects")) == 5 * 4


def test_values_outside_a_closed_set_are_summed_as_other() -> None:
    response = incident_response()
    for number, count in ((Incident.STATE_UNSPECIFIED, 1), (Incident.STATE_RESOLVED, 10), (77, 100)):
        response.incidents.incidents.add(count=count).state = number  # type: ignore[assignment] # 77: a newer source
    seen = scrape(reading("incident", response)).labelled("awoooi_flywheel_incidents")
    assert seen == {("open",): 4, ("investigating",): 566, ("other",): 111}


def test_a_section_in_two_sources_is_taken_from_the_first_and_logged_once() -> None:
    first, second = approval_response(), approval_response()
    second.executions.samples = 99
    exposition = Exposition("1.2.3", [HttpRefusals()])
    readings = [reading("approval", first), reading("copy", second)]
    with capture_logs() as logs:
        exposition.registry(readings, with_process=False)
        registry = exposition.registry(readings, with_process=False)
    assert read_text(encode(registry, DEFAULT)[0].decode()).value("awoooi_flywheel_execution_samples") == 20
    assert [(line["section"], line["kept"], line["left_out"]) for line in logs] == [
        (section, "approval", "copy") for section in ("executions", "recoveries", "approvals", "deliveries")
    ]


def test_process_series_are_included_on_request() -> None:
    names = read_text(exposed(*both(), with_process=True)).names()
    assert {"process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"} <= names
    assert "http_server_refused_total" in names
    assert names - {name for name in names if name.startswith(("process_", "http_server_"))} == {
        name for name, _, _ in SERIES
    }


@pytest.mark.parametrize("readings", [both(), [reading("incident", None)]], ids=["all up", "all down"])
def test_promtool_check_metrics_passes(readings: Sequence[Reading]) -> None:
    checked = subprocess.run(
        [promtool(), "check", "metrics"],
        input=exposed(*readings, with_process=True),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_what_limits_refused_is_there_for_sources_that_say_so() -> None:
    seen = scrape(reading("approval", approval_response()), reading("incident", None))
    name = "awoooi_flywheel_grpc_refused_total"
    assert seen.value(name, source="approval", limit="write_time") == 3
    assert seen.value(name, source="approval", limit="streams") == 0
    assert {labels[-1] for labels in seen.labelled(name)} == {"approval"}


def test_what_identities_cannot_be_verified_by_is_there_for_sources_that_say_so() -> None:
    seen = scrape(reading("approval", approval_response()), reading("incident", None))
    name = "awoooi_flywheel_identity_source_unusable"
    assert {labels: value for labels, value in seen.labelled(name).items() if value} == {
        ("tokens", "approval"): 1
    }
    assert seen.value(name, source="approval", identity_source="jwks") == 0
    assert {labels[-1] for labels in seen.labelled(name)} == {"approval"}
