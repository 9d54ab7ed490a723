"""`check-scrape`: does a scrape of a gateway have every series that this version exports?"""

import sys
from collections.abc import Sequence

from prometheus_client.parser import text_string_to_metric_families

from metrics_gateway.exposition.catalogue import exported_series

EXIT_MISSING = 1
EXIT_UNREADABLE = 2
# Withheld as long as there are too few samples.
_WITHHELD = frozenset({"awoooi_flywheel_execution_success_rate", "awoooi_flywheel_recovery_rate"})


def missing_series(scrape: str) -> Sequence[str]:
    """Return the names of series without a sample in a scrape, in the text format. Raises ValueError when it is none."""
    found = {sample.name for family in text_string_to_metric_families(scrape) for sample in family.samples}
    if not found:
        raise ValueError("there is no sample in it")
    return sorted(exported_series().keys() - found - _WITHHELD)


def run() -> int:
    """Check standard input, print the missing series, one a line, and return the exit code."""
    try:
        missing = missing_series(sys.stdin.read())
    except ValueError as exc:
        print(f"not a scrape: {exc}", file=sys.stderr)  # noqa: T201 - for the user
        return EXIT_UNREADABLE
    for name in missing:
        print(name)  # noqa: T201 - the command's result
    if missing:
        return EXIT_MISSING
    print(f"{len(exported_series())} series: all are there")  # noqa: T201 - the command's result
    return 0
