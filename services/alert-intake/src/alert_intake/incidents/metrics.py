"""What the intake counts."""

from prometheus_client import CollectorRegistry, Counter, Histogram

from alert_intake.incidents.outcomes import Result


class IntakeMetrics:
    """The series of the intake."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.alerts = Counter(
            "alert_intake_alerts",
            "Alerts, or groups of alerts, that were posted, by what was done.",
            ("result",),
            registry=registry,
        )
        for result in Result:
            self.alerts.labels(result)
        self.posts = Counter(
            "alert_intake_posts",
            "Posts of Alertmanager, by the status of the response.",
            ("status",),
            registry=registry,
        )
        for status in ("200", "400", "503"):
            self.posts.labels(status)
        self.truncated = Counter(
            "alert_intake_truncated_alerts",
            "Alerts that Alertmanager left out of its posts (its setting max_alerts).",
            registry=registry,
        )
        self.seconds = Histogram(
            "alert_intake_post_seconds",
            "From the headers of a post to its response.",
            registry=registry,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
        )
