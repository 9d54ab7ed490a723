"""The approval service in front of an incident service that fails."""

from dataclasses import dataclass
from datetime import timedelta

from tests.approval.scripted_incidents import ScriptedIncidents
from tests.callers import Approvals
from tests.services import RunningService


@dataclass(frozen=True)
class Fronted:
    """An approval service that reaches the incident service through a front with scripted failures."""

    front: ScriptedIncidents
    approvals: Approvals
    service: RunningService


# Short, so that what runs into them is soon over.
RESOLVE_TIMEOUT = timedelta(seconds=1)
CHECK_TIMEOUT = timedelta(seconds=1)
