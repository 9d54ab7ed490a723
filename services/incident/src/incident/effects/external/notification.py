"""Notifies people of a resolution."""

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from incident.effects.model import ResolutionSnapshot
from servicekit.formatting import as_line, format_duration, shorten
from servicekit.notifications.message import Message

if TYPE_CHECKING:
    from servicekit.notifications.notifier import Notifier

_MAX_NOTE_CHARACTERS = 500


class Notification:
    """Sends a message about each resolution to every receiver."""

    def __init__(self, notifier: "Notifier") -> None:
        self._notifier = notifier

    async def send(
        self,
        resolution: ResolutionSnapshot,
        *,
        delivery_id: str,
        time_to_resolve: timedelta,
        progress: Mapping[str, Any],
    ) -> None:
        """Notify all receivers that no earlier attempt has notified. Raises what `Notifier.send` raises."""
        message = format_message(resolution, time_to_resolve, delivery_id=delivery_id)
        await self._notifier.send(message, progress=progress)


def format_message(
    resolution: ResolutionSnapshot, time_to_resolve: timedelta, *, delivery_id: str
) -> Message:
    """Return the message about a resolution."""
    actor = as_line(resolution.resolved.actor)
    start = "reopened" if resolution.key.resolution_number > 1 else "opened"
    facts = [
        f"{resolution.key.incident_id}, severity {resolution.severity}",
        f"{resolution.resolution_type} by {actor}, {format_duration(time_to_resolve)} after it was {start}",
    ]
    details: list[str] = []
    if action := resolution.resolved.attributes.get("action"):
        details.append(f"Action: {as_line(action)}")
    if note := resolution.resolved.summary.strip():
        details.append(shorten(note, _MAX_NOTE_CHARACTERS))
    return Message(
        f"Resolved: {as_line(resolution.title)}",
        "\n".join(facts),
        "\n".join(details),
        delivery_id,
        level="success",
    )
