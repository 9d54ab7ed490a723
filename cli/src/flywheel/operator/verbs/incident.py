"""`flywheel incident`."""

from typing import Annotated

import typer

from awoooi.client.values import enum_value, enum_values
from awoooi.incident.v1 import incident_pb2
from awoooi.incident.v1.incident_service_pb2 import ListRequest
from flywheel.lazy import group
from flywheel.operator import flags
from flywheel.operator.choices import EventType, IncidentOrder, IncidentState, ResolutionType, Severity, names
from flywheel.operator.labels import labels_from
from flywheel.operator.session import Session
from flywheel.operator.verb import verb
from flywheel.operator.views.incident import EVENT, INCIDENT, change, resolution, state

app = group("Open, look at and resolve incidents.")

_States = Annotated[
    list[IncidentState] | None,
    typer.Option("--state", case_sensitive=False, help="In this state; may be repeated."),
]
_Severities = Annotated[
    list[Severity] | None,
    typer.Option("--severity", case_sensitive=False, help="Of this severity; may be repeated."),
]


@verb(app, "list")
def list_(
    session: Session,
    *,
    states: _States = None,
    severities: _Severities = None,
    labels: flags.Labels = None,
    fingerprint: flags.Fingerprint = "",
    create_time_start: flags.Since = None,
    create_time_end: flags.Until = None,
    order: Annotated[
        IncidentOrder, typer.Option(case_sensitive=False, help="The order.")
    ] = IncidentOrder.CREATE_TIME_DESC,
    limit: flags.Limit = 50,
) -> None:
    """List incidents that match every given filter, newest first."""
    found = session.incidents.list(
        states=enum_values(incident_pb2.Incident.State, "STATE_", names(states)),
        severities=enum_values(incident_pb2.Severity, "SEVERITY_", names(severities)),
        labels=labels_from(labels),
        fingerprint=fingerprint,
        create_time_start=create_time_start,
        create_time_end=create_time_end,
        order=enum_value(ListRequest.Order, "ORDER_", order.name),
    )
    session.printer.items(found, INCIDENT, limit=limit)


@verb(app)
def stuck(session: Session, severities: _Severities = None, limit: flags.Limit = 50) -> None:
    """List unresolved incidents without progress, longest without it first."""
    found = session.incidents.list(
        stuck=True,
        severities=enum_values(incident_pb2.Severity, "SEVERITY_", names(severities)),
        order="LAST_PROGRESS_TIME_ASC",
    )
    session.printer.items(found, INCIDENT, limit=limit)


@verb(app)
def show(session: Session, incident_id: flags.IncidentId) -> None:
    """Show all of one incident."""
    session.printer.item(session.incidents.get(incident_id), INCIDENT)


@verb(app, "open")
def open_(
    session: Session,
    title: Annotated[str, typer.Argument(help="What is wrong, in one line.")],
    *,
    severity: Annotated[Severity, typer.Option(case_sensitive=False, help="How bad it is.")],
    description: Annotated[str, typer.Option(help="Details.")] = "",
    labels: flags.Labels = None,
    fingerprint: flags.Fingerprint = "",
    source: Annotated[str, typer.Option(help="The reporting system.")] = "",
    incident_id: Annotated[str, typer.Option("--id", metavar="INCIDENT", help="By default a new one.")] = "",
    request_id: Annotated[
        str, typer.Option(help="The idempotency key: the same one again opens no other incident.")
    ] = "",
) -> None:
    """Open an incident, or report the unresolved one with the same fingerprint once more."""
    response = session.incidents.create(
        title=title,
        severity=enum_value(incident_pb2.Severity, "SEVERITY_", severity.name),
        description=description,
        labels=labels_from(labels),
        fingerprint=fingerprint,
        source=source,
        incident_id=incident_id,
        request_id=request_id,
    )
    incident = response.incident
    done = (
        f"is unresolved and was reported {incident.occurrence_count} times"
        if response.deduplicated
        else f"is {state(incident)}"
    )
    session.printer.result(response, f"{incident.incident_id} {done}", incident.incident_id)


@verb(app)
def investigate(session: Session, incident_id: flags.IncidentId) -> None:
    """Start the investigation of an OPEN incident."""
    incident = session.incidents.start_investigation(incident_id)
    session.printer.result(incident, f"{incident_id} is {state(incident)}", incident_id)


@verb(app, asks=True)
def resolve(
    session: Session,
    incident_ids: flags.IncidentIds,
    resolution_type: Annotated[
        ResolutionType, typer.Option("--type", case_sensitive=False, help="How it was resolved.")
    ] = ResolutionType.HUMAN,
    note: Annotated[str, typer.Option(help="What was done and found: later incidents find it.")] = "",
) -> None:
    """Resolve incidents by hand. A resolved one stays as it is."""

    def act(incident_id: str) -> None:
        shown = session.confirmed(
            f"Resolve it as {resolution_type.name}?", lambda: session.incidents.get(incident_id), INCIDENT
        )
        response = session.incidents.resolve(
            incident_id,
            resolution_type=enum_value(incident_pb2.ResolutionType, "RESOLUTION_TYPE_", resolution_type.name),
            note=note,
            etag=shown.etag if shown else "",
        )
        how = resolution(response.incident.resolution_type)
        before = "was resolved before" if response.already_resolved else "is RESOLVED"
        session.printer.result(response, f"{incident_id} {before}{f' as {how}' if how else ''}", incident_id)

    session.each(incident_ids, act)


@verb(app, asks=True)
def reopen(
    session: Session,
    incident_id: flags.IncidentId,
    reason: Annotated[str, typer.Option(help="Why; kept on the timeline.")],
    request_id: Annotated[
        str, typer.Option(help="The idempotency key: the same one again reopens it no second time.")
    ] = "",
) -> None:
    """Open a RESOLVED incident again; its next resolution has its side effects once more."""
    shown = session.confirmed("Reopen it?", lambda: session.incidents.get(incident_id), INCIDENT)
    incident = session.incidents.reopen(
        incident_id, reason=reason, etag=shown.etag if shown else "", request_id=request_id
    )
    session.printer.result(incident, f"{incident_id} is {state(incident)}", incident_id)


@verb(app)
def note(
    session: Session,
    incident_id: flags.IncidentId,
    summary: Annotated[str, typer.Argument(metavar="TEXT", help="The note.")],
) -> None:
    """Add a note to an incident's timeline."""
    event = session.incidents.add_event(incident_id, type="NOTE", summary=summary)
    session.printer.result(event, f"the note is on the timeline of {incident_id}", event.event_id)


@verb(app)
def timeline(
    session: Session,
    incident_id: flags.IncidentId,
    types: Annotated[
        list[EventType] | None,
        typer.Option("--type", case_sensitive=False, help="Of this type; may be repeated."),
    ] = None,
) -> None:
    """Show what happened to an incident, in the order in which it happened."""
    wanted = enum_values(incident_pb2.IncidentEvent.Type, "TYPE_", names(types))
    events = sorted(
        session.incidents.list_events(incident_id, types=wanted, page_size=1000),
        key=lambda event: (event.event_time.seconds, event.event_time.nanos, event.sequence),
    )
    session.printer.items(events, EVENT, limit=0)


@verb(app)
def postmortem(
    session: Session,
    incident_id: flags.IncidentId,
    resolution_number: Annotated[
        int, typer.Option("--number", min=0, help="Of this resolution; 0: the latest.")
    ] = 0,
) -> None:
    """Show the postmortem of a resolution, as Markdown."""
    found = session.incidents.get_postmortem(incident_id, resolution_number=resolution_number)
    session.printer.document(found, found.markdown)


@verb(app)
def watch(
    session: Session,
    incident_id: Annotated[str, typer.Argument(metavar="[INCIDENT]", help="This one alone.")] = "",
    *,
    states: _States = None,
    severities: _Severities = None,
    labels: flags.Labels = None,
    fingerprint: flags.Fingerprint = "",
    include_existing: flags.IncludeExisting = False,
    resume_token: flags.ResumeToken = "",
) -> None:
    """Show changes of incidents as they are committed, until Ctrl-C. A lost connection is opened again."""
    with session.incidents.watch(
        incident_id=incident_id,
        states=enum_values(incident_pb2.Incident.State, "STATE_", names(states)),
        severities=enum_values(incident_pb2.Severity, "SEVERITY_", names(severities)),
        labels=labels_from(labels),
        fingerprint=fingerprint,
        include_existing=include_existing,
        resume_token=resume_token,
    ) as changes:
        session.printer.changes(changes, change)
