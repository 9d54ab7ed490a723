"""The error that ends the command, with advice for the user."""


class FlywheelError(Exception):
    """The command cannot continue.

    `message` is the problem in one line, `advice` what to do about it, `details` lines of a log or of a program's output
    that show the cause. The last two may be empty. `exit_status` is that of the command: 2 for what its caller has to
    give it.
    """

    def __init__(self, message: str, *, advice: str = "", details: str = "", exit_status: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice
        self.details = details
        self.exit_status = exit_status
        # Shown in a traceback, when the error is raised outside the command.
        for note in filter(None, (details, advice)):
            self.add_note(note)

    @property
    def text(self) -> str:
        """What the user reads."""
        lines = [f"flywheel: {self.message}", *([self.details] if self.details else [])]
        return "\n".join([*lines, *([f"flywheel: {self.advice}"] if self.advice else [])])
