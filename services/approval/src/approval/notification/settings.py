"""The settings of notifications."""

import re
from datetime import timedelta

from pydantic import Field, SecretStr, field_validator

from servicekit.process.settings import Address, Duration, Settings

_LINK = re.compile(r"https?://[^\s{}]+(?:\{(?:approval_id|incident_id)\}[^\s{}]*)+")


class NotificationSettings(Settings):
    """Fields of ApprovalSettings."""

    # Apprise URLs that are notified, separated by white space or commas, each with the name of its channel before it or
    # without: name=url. None when empty. A secret, for URLs hold tokens.
    notify_urls: SecretStr = SecretStr("")
    # The time between two messages of one process to one receiver.
    notify_interval: Duration = Field(default=timedelta(seconds=1), le=timedelta(seconds=3))
    # An approval that has waited so long for a decision is notified of once more; never when 0.
    notify_remind_after: Duration = timedelta(minutes=15)
    # A link to decide, with {approval_id} in it; messages have the command when empty.
    notify_link: str = ""
    # Where the people who are notified reach this service; its listen address when unset.
    notify_target: Address | None = None

    @field_validator("notify_link")
    @classmethod
    def _check_link(cls, link: str) -> str:
        if link and not (_LINK.fullmatch(link) and "{approval_id}" in link):
            raise ValueError(
                "expected a link with {approval_id}, such as https://ops.example.org/approvals/{approval_id}"
            )
        return link
