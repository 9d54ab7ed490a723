"""What the intake counts."""

from prometheus_client import CollectorRegistry, Counter, Histogram

REPORTED, DEDUPLICATED, RESOLVED, ALREADY_RESOLVED, SUPERSEDED, UNKNOWN, HELD, REJECTED, FAILED = OUTCOMES = (
    # It fires: its incident is committed, or was already.
    "reported",
    # It fires again: counted at its incident, which is not resolved.
    "deduplicated",
    # It ended: its incident is resolved by this, or was already.
    "resolved",
    "already_resolved",
    # It ended, and has begun to fire again since: its incident stays.
    "superseded",
    # It ended, and no incident is about it.
    "unknown",
    # It ended while an approved action is executed: posted again later.
    "held",
    # The services refuse it for good.
    "rejected",
    # Not committed: posted again later.
    "failed",
)


class IntakeMetrics:
    """The series of the intake."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.problems = Counter(
            "alert_intake_problems",
            "Alerts, or groups of alerts, that were posted, by what was done.",
            ("outcome",),
            registry=registry,
        )
        for outcome in OUTCOMES:
            self.problems.labels(outcome)
        self.notifications = Counter(
            "alert_intake_notifications",
            "Posts of Alertmanager, by the status of the response.",
            ("status",),
            registry=registry,
        )
        self.truncated = Counter(
            "alert_intake_truncated_alerts",
            "Alerts that Alertmanager left out of its posts (its setting max_alerts).",
            registry=registry,
        )
        self.seconds = Histogram(
            "alert_intake_post_seconds",
            "From the body of a post to its response.",
            registry=registry,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
        )
