"""Labels as people type them: `service=api`."""

from collections.abc import Iterable

import typer


def labels_from(pairs: Iterable[str] | None) -> dict[str, str]:
    """Return the labels of `key=value` words. Raises BadParameter."""
    labels: dict[str, str] = {}
    for pair in pairs or ():
        key, separator, value = pair.partition("=")
        if not separator or not key or key in labels:
            problem = "is given twice" if key in labels else "is not key=value"
            raise typer.BadParameter(f"{pair!r} {problem}", param_hint="'--label'")
        labels[key] = value
    return labels
