"""The state of an incident before and after an event."""

from collections.abc import Mapping, Sequence

from incident.model import EventType, State

# The events that change an incident's state, and the state after each.
STATE_AFTER: Mapping[EventType, State] = {
    EventType.OPENED: State.OPEN,
    EventType.INVESTIGATION_STARTED: State.INVESTIGATING,
    EventType.RESOLVED: State.RESOLVED,
    EventType.REOPENED: State.OPEN,
}


def states_around(event: EventType, latest: Sequence[EventType]) -> tuple[State | None, State]:
    """Return the states before and after an event, given the latest changes of state up to and with it, newest first.

    An incident whose opening is not on the timeline counts as opened.
    """
    states: list[State | None] = [STATE_AFTER[each] for each in latest]
    if event is EventType.OPENED:
        return None, State.OPEN
    after = states[0] if states else None
    if event not in STATE_AFTER:
        return after or State.OPEN, after or State.OPEN
    before = states[1] if len(states) > 1 else None
    return before or State.OPEN, STATE_AFTER[event]
