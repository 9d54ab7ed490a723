"""The settings of a process's log."""

from pathlib import Path

from pydantic import Field

from servicekit.process.log_stream import LogFile
from servicekit.process.settings import Settings


class LogSettings(Settings):
    """What is logged, and where to."""

    # The lowest level that is logged: DEBUG, INFO, WARNING or ERROR.
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    # A file that the log, and all else that the process would write to standard error, is appended to in place of standard
    # error. It is rotated while the process runs.
    log_file: Path | None = None
    # At this size the file is renamed to `<name>.1`, in place of the one before, and begun anew.
    log_file_max_bytes: int = Field(default=64 << 20, ge=1 << 10)

    @property
    def rotated_log(self) -> LogFile | None:
        """The file of the log; None: standard error."""
        return None if self.log_file is None else LogFile(self.log_file, self.log_file_max_bytes)
