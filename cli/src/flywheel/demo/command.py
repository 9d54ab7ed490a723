"""`flywheel demo`."""

from pathlib import Path
from typing import Annotated

import typer

from flywheel.lazy import command

app = command()


@app.command()
def demo(
    context: typer.Context,
    *,
    incidents: Annotated[
        int, typer.Option(min=1, max=1000, help="Number of stuck incidents; 566 in production.")
    ] = 566,
    alerts: Annotated[
        bool,
        typer.Option("--alerts", help="The loop from a real alert to its verified recovery: half a minute."),
    ] = False,
    stay: Annotated[
        bool,
        typer.Option(
            "--stay", help="With --alerts: run on at the end, until Ctrl-C, for a look at the pages."
        ),
    ] = False,
    prometheus: Annotated[
        Path | None, typer.Option(help="With --alerts: the program, if it is not on the PATH.")
    ] = None,
    alertmanager: Annotated[Path | None, typer.Option(help="With --alerts: likewise.")] = None,
) -> None:
    """Replay the outage with 566 stuck incidents on a temporary stack: about a minute, nothing is kept.

    With --alerts, Prometheus and Alertmanager fire two alerts beside a temporary stack: a repair that helps, and one that
    does not. They are taken from the PATH, or out of Debian's packages, which are unpacked and not installed.
    """
    _refuse_together(
        context,
        {"incidents"} if alerts else {"stay", "prometheus", "alertmanager"},
        "with" if alerts else "without",
    )
    if alerts:
        from flywheel.demo.alerts import run as run_alerts  # noqa: PLC0415 - only one of the two runs

        run_alerts(prometheus=prometheus, alertmanager=alertmanager, stays=stay)
    else:
        from flywheel.demo.outage import run  # noqa: PLC0415 - only one of the two runs

        run(incidents=incidents)


def _refuse_together(context: typer.Context, names: set[str], how: str) -> None:
    for name in sorted(names):
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(f"it has no effect {how} --alerts", context, param_hint=f"--{name}")
