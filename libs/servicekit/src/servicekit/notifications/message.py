"""The text of a notification, and what is left of it for a receiver that takes less."""

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from servicekit.formatting import shorten

# How a receiver colours or marks a message, by the names of Apprise.
Level: TypeAlias = Literal["info", "success", "warning", "failure"]

# Fewer characters of the details than these mean nothing: only the mark is left.
_MIN_DETAILS = 12
# A title is not cut below this while anything else can be.
_MIN_TITLE = 48


@dataclass(frozen=True, slots=True)
class Message:
    """A plain text in parts, by importance: what happened, the facts about it, the details; and its id, the last line.

    The id is the same at every attempt: by it a receiver recognizes a message that it has already.
    """

    title: str
    facts: str
    details: str
    message_id: str
    level: Level = "info"

    def __len__(self) -> int:
        return len(self.title) + len(self.body)

    @property
    def body(self) -> str:
        """The text below the title."""
        return "\n".join(filter(None, (self.facts, self.details, self.message_id)))

    def fit(self, characters: int) -> "Message":
        """Return the message with at most so many characters (10 at least); an ellipsis marks each cut.

        The id is whole, or left out where it would be more than half of the text.
        """
        if len(self) <= characters:
            return self
        message_id = self.message_id if 2 * len(self.message_id) < characters else ""
        title, facts, details = self._cut(characters - len(message_id) - bool(message_id))
        return replace(self, title=title, facts=facts, details=details, message_id=message_id)

    def _cut(self, characters: int) -> tuple[str, str, str]:
        left = characters - len(self.title) - len(self.facts) - 1
        if self.details and left > 0:
            details = shorten(self.details, left) if left >= _MIN_DETAILS else "…"
            return self.title, self.facts, details
        title = shorten(self.title, max(characters - len(self.facts), min(_MIN_TITLE, characters // 2)))
        return title, shorten(self.facts, characters - len(title)), ""
