"""What stops the command, told so that the user knows what to do next."""


class FlywheelError(Exception):
    """The command cannot go on.

    `message` says what is wrong in one line, `advice` what to do about it, `details` holds lines of a log or of a
    program's output that show the cause. The last two may be empty.
    """

    def __init__(self, message: str, *, advice: str = "", details: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice
        self.details = details
        # A traceback, when something else than the command meets this error, shows the notes.
        for note in filter(None, (details, advice)):
            self.add_note(note)
