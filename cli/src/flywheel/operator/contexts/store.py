"""The contexts in the user's configuration directory: a file each, and the name of the current one."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from flywheel.errors import FlywheelError
from flywheel.operator.contexts.model import LOCAL, NAME, Context, local_context
from flywheel.operator.contexts.secrets import read_secret, write_private
from flywheel.operator.exits import ExitStatus

VARIABLE: Final = "FLYWHEEL_CONTEXT"


class ContextStore:
    """What `flywheel context` writes and every other command reads."""

    def __init__(self, folder: Path | None = None) -> None:
        """By default below `XDG_CONFIG_HOME`, or in `~/.config`."""
        self.folder = folder or _configuration() / "flywheel"

    def names(self) -> Sequence[str]:
        """Return the names of all contexts, the built-in one first."""
        stored = sorted(path.stem for path in self.folder.glob("contexts/*.json"))
        return [LOCAL, *(name for name in stored if name != LOCAL)]

    def chosen(self, name: str | None) -> Context:
        """Return the context of this name, or else the current one. Raises FlywheelError."""
        return self.get(name or self.current())

    def get(self, name: str) -> Context:
        """Return a context. Raises FlywheelError when there is none, or it cannot be used."""
        if name == LOCAL:
            return local_context()
        path = self._path(name)
        if not path.exists():
            raise FlywheelError(
                f"there is no context {name}",
                advice=f"there are {', '.join(self.names())}; flywheel context add {name} makes it",
                exit_status=ExitStatus.USAGE,
            )
        try:
            # Others must not be able to say where the token goes.
            context = Context(**json.loads(read_secret(path)))
        except (ValueError, TypeError) as exc:
            raise FlywheelError(f"{path} was not written by flywheel context") from exc
        context.check()
        return context

    def add(self, context: Context, *, replace: bool = False) -> None:
        """Write a context. Raises FlywheelError when there is one of its name, unless it may be replaced."""
        self.refuse(context, replace=replace)
        content = {key: value for key, value in asdict(context).items() if value}
        write_private(self._path(context.name), json.dumps(content, indent=2).encode() + b"\n")

    def refuse(self, context: Context, *, replace: bool) -> None:
        """Raise FlywheelError when `add` would not write this context."""
        context.check()
        if context.name == LOCAL:
            raise FlywheelError(
                f"the context {LOCAL} is built in",
                advice="give it another name",
                exit_status=ExitStatus.USAGE,
            )
        if self._path(context.name).exists() and not replace:
            raise FlywheelError(
                f"there is a context {context.name} already",
                advice="--replace overwrites it",
                exit_status=ExitStatus.USAGE,
            )

    def remove(self, name: str) -> None:
        """Remove a context, and the token that is kept for it; the current one is then the built-in one."""
        self.get(name)
        if name == LOCAL:
            raise FlywheelError(f"the context {LOCAL} is built in and stays", exit_status=ExitStatus.USAGE)
        if self.current_stored() == name:
            self.use(LOCAL)
        for path in (self._path(name), self.token_path(name)):
            path.unlink(missing_ok=True)

    def current(self) -> str:
        """Return the name of the current context: FLYWHEEL_CONTEXT, or the one that was chosen last."""
        return os.environ.get(VARIABLE) or self.current_stored()

    def current_stored(self) -> str:
        """Return the name that `use` has written."""
        try:
            return (self.folder / "current").read_text(encoding="utf-8").strip() or LOCAL
        except FileNotFoundError:
            return LOCAL
        except (OSError, ValueError) as exc:
            raise FlywheelError(f"{self.folder / 'current'} cannot be read: {exc}") from exc

    def use(self, name: str) -> None:
        """Make a context the current one. Raises FlywheelError when there is none."""
        self.get(name)
        write_private(self.folder / "current", f"{name}\n".encode())

    def token_path(self, name: str) -> Path:
        """Where the token that was read from standard input is kept."""
        return self.folder / "tokens" / name

    def _path(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise FlywheelError(
                f"there is no context {name!r}",
                advice=f"there are {', '.join(self.names())}",
                exit_status=ExitStatus.USAGE,
            )
        return self.folder / "contexts" / f"{name}.json"


def context_names() -> list[str]:
    """Return the names of all contexts, which a shell completes."""
    return list(ContextStore().names())


def _configuration() -> Path:
    folder = os.environ.get("XDG_CONFIG_HOME", "")
    # As the specification says: a relative one is ignored.
    return Path(folder) if os.path.isabs(folder) else Path.home() / ".config"  # noqa: PTH117 - as text, it may be empty
