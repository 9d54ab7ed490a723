"""`flywheel export`."""

from collections import Counter
from typing import Annotated

import typer

from awoooi.approval.v1 import approval_pb2
from awoooi.client import NotFoundError
from awoooi.incident.v1 import incident_pb2
from flywheel.lazy import command
from flywheel.operator import flags
from flywheel.operator.output.json_form import json_line
from flywheel.operator.session import Session
from flywheel.operator.verb import verb
from flywheel.operator.views.import_lines import approval_line, incident_line

app = command()

_PAGE = 1000


class _Incidents:
    """The incidents that were written."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._resolved: dict[str, bool] = {}
        # Why approvals are left out, and how many.
        self.skipped: Counter[str] = Counter()

    def write(self, incident: incident_pb2.Incident) -> None:
        """Write one, unless it only tests the deployment."""
        if not incident.canary:
            self._resolved[incident.incident_id] = incident.state == incident_pb2.Incident.STATE_RESOLVED
            self._session.printer.line(json_line(incident_line(incident)))

    def admit(self, approval: approval_pb2.Approval) -> bool:
        """Return whether an approval can be imported, once its incident is written."""
        if approval.canary:
            return False
        # Older than --since, or opened meanwhile.
        if approval.incident_id not in self._resolved:
            try:
                self.write(self._session.incidents.get(approval.incident_id))
            except NotFoundError:
                self.skipped["do not exist any more"] += 1
                return False
        # An import would resolve the incident once more.
        if approval.HasField("incident_resolve_time") and not self._resolved.get(approval.incident_id):
            self.skipped["were reopened since they were resolved"] += 1
            return False
        return True


@verb(app)
def export(
    session: Session,
    *,
    create_time_start: flags.Since = None,
    incidents_only: Annotated[bool, typer.Option("--incidents-only", help="No approvals.")] = False,
) -> None:
    """Write incidents and approvals as JSON Lines, the format of `flywheel import`; see docs/import.md.

    What the services do meanwhile may be in it or not. Timelines, side effects and deliveries are not: for all that there
    is, back the databases up (docs/operations.md).
    """
    incidents = _Incidents(session)
    for incident in session.incidents.list(create_time_start=create_time_start, page_size=_PAGE):
        incidents.write(incident)
    if incidents_only:
        return
    executors = {
        execution.approval_id: execution.executor
        for execution in session.approvals.list_executions(page_size=_PAGE)
    }
    for approval in session.approvals.list(create_time_start=create_time_start, page_size=_PAGE):
        if incidents.admit(approval):
            executor = executors.get(approval.approval_id, "")
            session.printer.line(json_line(approval_line(approval, executor)))
    for why, count in incidents.skipped.items():
        session.printer.note(f"{count} approvals were left out: their incidents {why}")
