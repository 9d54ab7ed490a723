"""Progress bars on a terminal."""

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn


def progress_bars(console: Console, *, label_width: int, amount: ProgressColumn) -> Progress:
    """Return bars that disappear when their block ends: label, bar, `amount`, elapsed time. Silent without a terminal."""
    return Progress(
        TextColumn(f"  {{task.description:<{label_width}}}"),
        BarColumn(),
        amount,
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
