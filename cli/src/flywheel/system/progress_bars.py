"""Progress bars for work under way."""

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn


def progress_bars(console: Console, *, label_width: int, amount: ProgressColumn) -> Progress:
    """Return bars that go when their block ends: label, bar, `amount`, elapsed time. Silent when there is no terminal."""
    return Progress(
        TextColumn(f"  {{task.description:<{label_width}}}"),
        BarColumn(),
        amount,
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
