"""`@verb`: a function becomes a command of an operator, with the flags that all of them have.

Its first parameter is the Session; the others are its own arguments and flags, as typer reads them.
"""

import inspect
import sys
from collections.abc import Callable
from typing import Annotated, Any, Final

import typer

from awoooi.client import CallError
from flywheel.errors import FlywheelError
from flywheel.operator.connection import Connection
from flywheel.operator.contexts.store import VARIABLE, ContextStore, context_names
from flywheel.operator.failures import error_object
from flywheel.operator.output.json_form import json_line
from flywheel.operator.output.printer import Format, Printer
from flywheel.operator.session import Session


def _flag(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


_COMMON: Final = (
    inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context),
    _flag(
        "output",
        Annotated[
            Format, typer.Option("--output", "-o", case_sensitive=False, help="The form of the output.")
        ],
        Format.TABLE,
    ),
    _flag("as_json", Annotated[bool, typer.Option("--json", help="As -o json.")], False),
    _flag(
        "context",
        Annotated[
            str | None,
            typer.Option(
                "--context",
                metavar="NAME",
                envvar=VARIABLE,
                autocompletion=context_names,
                help="The deployment; see flywheel context.",
            ),
        ],
        None,
    ),
    _flag(
        "actor",
        Annotated[
            str | None,
            typer.Option(
                help="Your name, where the deployment has no authentication; by default FLYWHEEL_ACTOR, or the user's."
            ),
        ],
        None,
    ),
    _flag(
        "timeout",
        Annotated[
            float,
            typer.Option(
                min=0.1, metavar="SECONDS", envvar="FLYWHEEL_TIMEOUT", help="How long a call may take."
            ),
        ],
        10.0,
    ),
)
_YES: Final = _flag("yes", Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")], False)


def verb(
    app: typer.Typer, name: str | None = None, *, asks: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function as a command of `app`; with `asks` it has --yes."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        own = [*inspect.signature(function).parameters.values()][1:]
        flags = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]

        def run(
            *, ctx: typer.Context, output: Format, as_json: bool, context: str | None, **given: Any
        ) -> None:
            printer = Printer(Format.JSON if as_json else output)
            try:
                _run(function, ctx, printer, context, given)
            except FlywheelError as error:
                if not printer.is_json:
                    raise
                print(json_line(error_object(error)), file=sys.stderr)  # noqa: T201 - for a program
                raise typer.Exit(error.exit_status) from error

        run.__signature__ = inspect.Signature([*flags, *([_YES] if asks else []), *_COMMON])  # type: ignore[attr-defined]
        run.__doc__ = function.__doc__
        app.command(name or function.__name__)(run)
        return function

    return register


def _run(
    function: Callable[..., None],
    ctx: typer.Context,
    printer: Printer,
    context: str | None,
    given: dict[str, Any],
) -> None:
    chosen = ContextStore().chosen(context)
    connection = Connection(chosen, actor=given.pop("actor"), timeout=given.pop("timeout"))
    flags = {parameter.name: _written(parameter) for parameter in ctx.command.params}
    session = Session(
        connection,
        printer,
        assumes_yes=given.pop("yes", False),
        # Of labels[x] and the like, the flag that has them.
        flag_of=lambda field: flags.get(field.partition("[")[0].partition(".")[0], field),
    )
    try:
        function(session, **given)
    except CallError as error:
        raise session.failure(error) from error
    finally:
        connection.close()


def _written(parameter: Any) -> str:
    """Return a parameter as the user writes it."""
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper()).rstrip(".")
    return str(max(parameter.opts, key=len))
