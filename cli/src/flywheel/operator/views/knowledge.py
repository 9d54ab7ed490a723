"""Matches of a search for knowledge."""

from typing import Final

from awoooi.client.after_resolution import Match
from flywheel.operator.output.cells import duration
from flywheel.operator.output.view import Column, View
from flywheel.operator.views.incident import resolution


def _mean_time(match: Match) -> str:
    return duration(match.entry.mean_resolution_time.ToTimedelta().total_seconds())


MATCH: Final = View[Match](
    "similar incidents",
    columns=[
        Column("ID", lambda each: each.entry.knowledge_id, wide=True),
        Column("INCIDENT", lambda each: each.entry.incident_id),
        Column("RESOLUTION", lambda each: resolution(each.entry.resolution_type)),
        Column("HELPED", lambda each: f"{each.entry.success_count}/{each.entry.use_count}"),
        Column("MEAN TIME", _mean_time),
        Column("RANK", lambda each: f"{each.rank:.3f}", wide=True),
        Column("ACTION", lambda each: each.entry.action),
        Column("SYMPTOMS", lambda each: each.entry.symptoms),
        Column("WHAT WAS DONE", lambda each: each.entry.resolution),
    ],
)
