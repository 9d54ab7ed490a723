"""`flywheel reconcile`."""

from typing import Annotated

import typer

from flywheel.lazy import command
from flywheel.operator import flags
from flywheel.operator.session import Session
from flywheel.operator.verb import verb

app = command()


@verb(app, asks=True)
def reconcile(
    session: Session,
    *,
    validate_only: flags.DryRun = False,
    accept_unknown_incidents: Annotated[
        bool,
        typer.Option("--accept-unknown-incidents", help="Accept incidents that are unknown as lost; asks."),
    ] = False,
) -> None:
    """Compare all approvals with the incident service, and queue the resolves that it does not have.

    Safe at any time, and repeated by the approval service itself every few minutes.
    """
    if accept_unknown_incidents and not validate_only:
        session.confirm("Accept the incidents that the incident service does not know as lost?")
    response = session.approvals.reconcile(
        validate_only=validate_only, accept_unknown_incidents=accept_unknown_incidents
    )
    printer = session.printer
    if printer.is_json:
        printer.result(response, "", "")
        return
    printer.line(f"{response.compared_count} approvals were compared")
    printer.line(f"{response.queued_count} resolves {'would be' if validate_only else 'are'} queued")
    for each in response.approval_ids:
        printer.line(f"  {each}")
    printer.line(f"{response.unknown_incident_count} approvals are for incidents that are unknown")
    for each in response.unknown_incident_approval_ids:
        printer.line(f"  {each}")
    if not response.comparison_complete:
        printer.note("not everything was compared, the incident service did not answer: repeat it")
