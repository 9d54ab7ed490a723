"""What a process runs: its version, and the schema of the database that this version knows."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Build:
    """A version of a service. `revision` is its newest migration."""

    version: str
    revision: str
