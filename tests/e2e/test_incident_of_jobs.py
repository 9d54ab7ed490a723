"""Every job names the incident that it is about, and one of a version that did not is listed with it all the same."""

from tests.approval.schemas import approval_database, incident_database, rows
from tests.callers import NO_ACTION, approvals_at, incidents_at
from tests.e2e.once import outbox_at_rest
from tests.services import healthy_service

NAMED = "SELECT DISTINCT topic, incident_id FROM outbox ORDER BY topic"


async def test_jobs_of_both_services_name_their_incident() -> None:
    async with (
        incident_database() as incident_url,
        approval_database() as approval_url,
        healthy_service("incident", incident_url) as incident,
        healthy_service(
            "approval", approval_url, variables={"APPROVAL_INCIDENT_TARGET": incident.address}
        ) as approval,
        incidents_at(incident.address) as incidents,
        approvals_at(approval.address) as approvals,
    ):
        incident_id = await incidents.opened_id()
        approved = await approvals.approved(incident_id, NO_ACTION, auto_execute=True)
        await approvals.until_delivered(approved.approval_id)
        for url in (incident_url, approval_url):
            await outbox_at_rest(url)
            named = await rows(url, NAMED)
            assert {each for _, each in named} == {incident_id}
            await rows(url, "UPDATE outbox SET incident_id = NULL")
        effects = [each async for each in incidents.list_side_effects(incident_id=incident_id)]
        assert {each.incident_id for each in effects} == {incident_id}
        deliveries = [each async for each in approvals.list_deliveries(approval_id=approved.approval_id)]
        assert {each.incident_id for each in deliveries} == {incident_id}
