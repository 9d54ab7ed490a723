"""Attacks the services as a stranger would, with good clients beside: `python -m hostile`, or `python -m hostile 3 7`.

`--minutes 30` is the soak: many attacks together, for so long.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from hostile import report, rounds, soak
from hostile.attacks.catalogue import ATTACKS, INTERIM_ANSWERS
from hostile.errors import HostileError
from hostile.field import open_field
from hostile.rounds import FULL, SHORT, Effort

_NAMES = tuple(
    sorted((*ATTACKS, INTERIM_ANSWERS), key=lambda name: (name.startswith("10 "), int(name.split()[0])))
)


async def one_by_one(names: Sequence[str], effort: Effort, data_dir: Path) -> tuple[str, bool]:
    """Run the named attacks; return the table, and whether every limit held."""
    async with open_field(data_dir, scale=effort.scale, step=_step) as field:
        measured = [await rounds.quiet(field, effort)]
        measured += [await rounds.attacked(field, name, effort) for name in names]
    return report.table(measured), not any(each.faults for each in measured)


async def soaked(names: Sequence[str], minutes: float, data_dir: Path) -> tuple[str, bool]:
    """Run the soak; return its report, and whether every limit held."""
    async with open_field(data_dir, scale=soak.SCALE, step=_step) as field:
        result = await soak.run(field, names, minutes * 60)
    return result.markdown(), result.holds


def _step(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Run the command line and return its exit code: 1 when a limit does not hold."""
    parser = argparse.ArgumentParser(prog="python -m hostile", description=__doc__)
    parser.add_argument("numbers", nargs="*", type=int, metavar="N", help="numbers of attacks (default: all)")
    parser.add_argument("--short", action="store_true", help="a second each, in small: shows that it works")
    parser.add_argument("--minutes", type=float, help="the soak: so long in all")
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=Path(".flywheel/hostile"),
        help="made for the run and removed after it (default: %(default)s)",
    )
    arguments = parser.parse_args()
    names = [name for name in _NAMES if not arguments.numbers or int(name.split()[0]) in arguments.numbers]
    if not names:
        parser.error("no attack has this number; there are 1 to 13")
    data_dir = arguments.data_dir.resolve()
    try:
        if arguments.minutes:
            text, holds = asyncio.run(soaked(names, arguments.minutes, data_dir))
        else:
            text, holds = asyncio.run(one_by_one(names, SHORT if arguments.short else FULL, data_dir))
    except HostileError as exc:
        print(f"hostile: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(text, end="")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
