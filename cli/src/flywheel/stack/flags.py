"""The flag of the commands that use the databases of the local stack."""

from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

DataDir: TypeAlias = Annotated[
    Path, typer.Option(envvar="FLYWHEEL_DATA_DIR", help="Of the local stack, running or not.")
]
DEFAULT_DATA_DIR: Final = Path(".flywheel")
