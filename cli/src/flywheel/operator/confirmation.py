"""A person agrees before something is changed that cannot be taken back."""

import sys

from flywheel.errors import FlywheelError
from flywheel.operator.exits import ExitStatus


def refuse_without_terminal() -> None:
    """Raise FlywheelError when there is no terminal for the question."""
    if not sys.stdin.isatty():
        raise FlywheelError(
            "this asks before it changes anything, and standard input is no terminal",
            advice="--yes does it without asking",
            exit_status=ExitStatus.USAGE,
        )


def confirm(question: str) -> None:
    """Return when the person agrees. Raises FlywheelError."""
    refuse_without_terminal()
    # Beside the result, which a pipe may read.
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)  # noqa: T201 - for the user
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise FlywheelError("nothing was changed")
