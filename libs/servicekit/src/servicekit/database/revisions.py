"""The revisions of a service, read from the names of its migrations: `0001_incidents.py`, `0002_imports.py`.

Alembic would load every migration, and itself, for the same; a test compares the two.
"""

from dataclasses import dataclass
from importlib.resources import files
from typing import Final

# Alembic's name of the newest revision.
HEAD: Final = "head"


@dataclass(frozen=True, slots=True)
class Revisions:
    """The revisions that one version of a service knows: each follows the one before."""

    all: frozenset[str]
    head: str
    # A table by which the service's database is recognized: the first migration has its name, and makes it.
    own_table: str


def read_revisions(script_location: str) -> Revisions:
    """Return the revisions in a script folder inside a package, given as `package:folder`."""
    package, _, folder = script_location.partition(":")
    names = sorted(
        file.name.removesuffix(".py")
        for file in (files(package) / folder / "versions").iterdir()
        if file.name.endswith(".py")
    )
    revisions = [name.partition("_")[0] for name in names]
    return Revisions(frozenset(revisions), revisions[-1], own_table=names[0].partition("_")[2])
