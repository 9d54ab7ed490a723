"""The text of a notification, and what is left of it for a receiver that takes less."""

from dataclasses import dataclass
from datetime import timedelta

from incident.effects.formatting import as_line, format_duration, shorten
from incident.effects.model import ResolutionSnapshot

_MAX_NOTE_CHARACTERS = 500
# Fewer characters of the action and the note than these mean nothing: only the mark is left.
_MIN_DETAILS = 12
# A title is not cut below this while anything else can be.
_MIN_TITLE = 48


@dataclass(frozen=True, slots=True)
class Message:
    """A plain text in three parts, by importance: what happened to which incident, its title, the action and the note."""

    title: str
    facts: str
    details: str

    def __len__(self) -> int:
        return len(self.title) + len(self.body)

    @property
    def body(self) -> str:
        """The text below the title."""
        return "\n".join(filter(None, (self.facts, self.details)))

    def fit(self, characters: int) -> "Message":
        """Return the message with at most so many characters (10 at least); an ellipsis marks each cut."""
        if len(self) <= characters:
            return self
        left = characters - len(self.title) - len(self.facts) - 1
        if self.details and left > 0:
            details = shorten(self.details, left) if left >= _MIN_DETAILS else "…"
            return Message(self.title, self.facts, details)
        title = shorten(self.title, max(characters - len(self.facts), min(_MIN_TITLE, characters // 2)))
        return Message(title, shorten(self.facts, characters - len(title)), "")


def format_message(resolution: ResolutionSnapshot, time_to_resolve: timedelta) -> Message:
    """Return the message about a resolution."""
    actor = as_line(resolution.resolved.actor)
    facts = [
        f"{resolution.key.incident_id}, severity {resolution.severity}",
        f"{resolution.resolution_type} by {actor}, {format_duration(time_to_resolve)} after it was opened",
    ]
    details: list[str] = []
    if action := resolution.resolved.attributes.get("action"):
        details.append(f"Action: {as_line(action)}")
    if note := resolution.resolved.summary.strip():
        details.append(shorten(note, _MAX_NOTE_CHARACTERS))
    return Message(f"Resolved: {as_line(resolution.title)}", "\n".join(facts), "\n".join(details))
