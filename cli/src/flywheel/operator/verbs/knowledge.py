"""`flywheel knowledge`."""

from typing import Annotated

import typer

from awoooi.client.values import enum_values
from awoooi.incident.v1 import incident_pb2
from flywheel.lazy import group
from flywheel.operator import flags
from flywheel.operator.choices import ResolutionType, names
from flywheel.operator.session import Session
from flywheel.operator.verb import verb
from flywheel.operator.views.knowledge import MATCH

app = group("What resolved similar incidents.")


@verb(app)
def search(
    session: Session,
    query: Annotated[str, typer.Argument(help="The symptoms, such as an incident's title.")],
    *,
    resolution_types: Annotated[
        list[ResolutionType] | None,
        typer.Option("--type", case_sensitive=False, help="Resolved this way; may be repeated."),
    ] = None,
    limit: flags.Limit = 10,
) -> None:
    """Search for what resolved similar incidents, best match first."""
    found = session.incidents.search_knowledge(
        query,
        resolution_types=enum_values(
            incident_pb2.ResolutionType, "RESOLUTION_TYPE_", names(resolution_types)
        ),
        # One more, which tells whether there are more.
        page_size=limit + 1 if limit else 0,
    )
    session.printer.items(found, MATCH, limit=limit)
