"""The files that the settings of authentication name: read at the start, and again when they change."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from servicekit.identity.metrics import SourceMetrics
from servicekit.identity.settings import IdentitySettings
from servicekit.identity.watched_file import FileProblemError, WatchedFile
from servicekit.process.settings import SettingsError

T = TypeVar("T")


class SettingsFiles:
    """Opens the files, and gathers the work that keeps what is read from them current."""

    def __init__(self, settings: IdentitySettings, metrics: SourceMetrics) -> None:
        self._settings = settings
        self.metrics = metrics
        self.keeping: list[Callable[[], Awaitable[None]]] = []

    def open(
        self, field: str, path: Path, parse: Callable[[bytes], T], *, unusable: T | None, source: str
    ) -> WatchedFile[T]:
        """Read the file that a field of the settings names. Raises SettingsError for one that cannot be used."""
        file = WatchedFile(path, parse, unusable=unusable, source=source, metrics=self.metrics)
        try:
            file.load()
        except FileProblemError as exc:
            prefix = self._settings.model_config.get("env_prefix", "")
            raise SettingsError(f"{prefix}{field}".upper() + f": {path}: {exc}") from None
        self.keeping.append(file.keep_current)
        return file
