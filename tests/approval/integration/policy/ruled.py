"""An approval service with rules, and the files that hold them and their kill switch."""

from dataclasses import dataclass
from pathlib import Path

from tests.approval.scripted_incidents import ScriptedIncidents
from tests.callers import Approvals, State
from tests.services import RunningService

POLICY = """
[rules.observe]
actions = ["NO_ACTION"]
risks = ["LOW"]

[rules.repair-staging]
actions = ["RESTART"]
risks = ["LOW"]
namespaces = ["staging"]
severities = ["LOW"]
confidence_at_least = 0.9
"""
# One rule, for a proposal that POLICY does not approve.
OTHER_POLICY = '[rules.other]\nactions = ["NO_ACTION"]\nrisks = ["CRITICAL"]\n'
STAGING = "RESTART deployment/web -n staging"
UNKNOWN = "INC-20200101-00000000DEAD"
PENDING, APPROVED, SUCCEEDED = State.STATE_PENDING, State.STATE_APPROVED, State.STATE_SUCCEEDED


@dataclass(frozen=True)
class Ruled:
    """The service, its files, and the incident service as it reaches it."""

    approvals: Approvals
    service: RunningService
    policy_file: Path
    switch_file: Path
    front: ScriptedIncidents
