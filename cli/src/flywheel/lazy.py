"""Commands whose module is imported when they run: `flywheel --help` and `flywheel up` do without the client."""

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from flywheel.system.signals import StopSignal


@dataclass(frozen=True, slots=True)
class Module:
    """Where a command is: a module with `app`, and its line in the help of `flywheel`."""

    name: str
    help: str


def command() -> typer.Typer:
    """Return the holder of one command that has no group."""
    return typer.Typer(rich_markup_mode=None, add_completion=False)


def group(about: str) -> typer.Typer:
    """Return a group of commands: also with one command it is a group."""
    app = typer.Typer(help=about, no_args_is_help=True, rich_markup_mode=None, add_completion=False)
    app.callback()(lambda: None)
    return app


class LazyCommand(TyperCommand):
    """Stands for a command or a group of commands until it is called."""

    def __init__(self, name: str, module: Module) -> None:
        super().__init__(name, help=module.help)
        self._module = module

    def load(self) -> Any:
        """Import the module and return its command."""
        command = typer.main.get_command(import_module(self._module.name).app)
        command.name = self.name
        return command

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Hand over to the command itself: parsing, help and completion are its own from here on."""
        return self.load().make_context(info_name, args, parent, **extra)


def group_with(modules: Mapping[str, Module]) -> type[TyperGroup]:
    """Return the class of a group that has these commands besides its own."""

    class Group(TyperGroup):
        """The top of the command."""

        def __init__(self, **attributes: Any) -> None:
            super().__init__(**attributes)
            self.commands = {
                **self.commands,
                **{name: LazyCommand(name, module) for name, module in modules.items()},
            }

        def invoke(self, ctx: Any) -> Any:
            """Run a command. A closed pipe is for `main`, which ends as SIGPIPE does; typer would end with 1."""
            try:
                return super().invoke(ctx)
            except BrokenPipeError:
                # What is still in the buffer would fail again at the exit.
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                raise StopSignal(signal.SIGPIPE) from None

    return Group
