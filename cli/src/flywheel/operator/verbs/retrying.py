"""`retry` of deliveries and of side effects: one by one, or all that are PARKED."""

from collections.abc import Callable, Sequence

from flywheel.errors import FlywheelError
from flywheel.operator.exits import ExitStatus
from flywheel.operator.session import Session


def retry_each_or_all(
    session: Session,
    identities: Sequence[str] | None,
    *,
    every: bool,
    one: Callable[[str], None],
    some: Callable[[], tuple[int, bool]],
) -> None:
    """Call `one` for each id, or `some`, which returns how many it re-queued, as often as it says that there are more."""
    if every == bool(identities):
        raise FlywheelError("give ids or --all, not both", exit_status=ExitStatus.USAGE)
    if identities:
        session.each(identities, one)
        return
    total, has_more = 0, True
    while has_more:
        count, has_more = some()
        total += count
    session.printer.note(f"{total} re-queued")
