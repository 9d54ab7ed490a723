"""The stats of the approval service. Knows no database and no wire."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from approval.delivery.model import Delivery, DeliveryTopic
from approval.model import Risk

# The window of the success rate.
WINDOW = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class StatsBounds:
    """How much the stats read at most. A count that reaches its bound means: at least so many."""

    # Approvals whose incident is unknown, and the latest repairs and recoveries of the window.
    counted: int = 100_000
    # Deliveries of one topic in one state, and recoveries that are PENDING.
    jobs: int = 20_000
    # Executions that ended in one hour.
    of_hour: int = 10_000


BOUNDS = StatsBounds()


@dataclass(frozen=True, slots=True)
class PendingApproval:
    """An approval that waits for a decision."""

    approval_id: str
    incident_id: str
    action: str
    risk: Risk
    create_time: datetime
    expire_time: datetime


@dataclass(frozen=True, slots=True)
class ApprovalStatsDetails:
    """The details of VIEW_FULL: at most twenty of each list, and the last 24 hours."""

    pending: Sequence[PendingApproval]
    waiting: Sequence[Delivery]
    # For each hour's beginning, oldest first, the executions that ended in it by outcome.
    hours: Mapping[datetime, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class TopicStats:
    """The deliveries of one topic: PENDING and PARKED ones by state (one without any is not there), and dismissed ones."""

    open: Mapping[str, int]
    oldest_pending_seconds: float
    dismissed: int


@dataclass(frozen=True, slots=True)
class RecoveryStats:
    """Whether repairs have helped: within the window, in all, and those of which it is not known yet."""

    samples: int
    verified: int
    # By outcome; one without any is not there.
    recoveries: Mapping[str, int]
    pending: int
    overdue_seconds: float


@dataclass(frozen=True, slots=True)
class ApprovalStats:
    """All stats of this service; `details` only when requested."""

    # By the database's clock.
    read_time: datetime
    # The newest migration that was run.
    database_revision: str
    samples: int
    successes: int
    executions: Mapping[str, int]
    noop_resolutions: int
    approvals: Mapping[str, int]
    approval_oldest_pending_seconds: float
    # Whose incident is unknown, without those that were accepted as lost.
    approvals_incident_unknown: int
    # That another proposal superseded, ever.
    approvals_superseded: int
    # Of every topic.
    deliveries: Mapping[DeliveryTopic, TopicStats]
    recoveries: RecoveryStats
    details: ApprovalStatsDetails | None
