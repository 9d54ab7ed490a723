"""The database's own time for a Resolve: the statement that the service sends, sent by pgbench."""

import asyncio
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import BenchmarkError
from flywheel.postgres.binaries import find_binaries, program_environment

# In PostgreSQL's log: a statement as prepared, its continued lines indented, and the values of its parameters.
_LOGGED = re.compile(
    r"LOG:  duration: [0-9.]+ ms  execute [^:]*: (?P<statement>[^\n]*(?:\n\t[^\n]*)*)"
    r"\n\S[^\n]*DETAIL:  [Pp]arameters: (?P<values>[^\n]*)"
)
_VALUE = re.compile(r"\$(\d+) = (NULL|'(?:[^']|'')*')")
_STRING = re.compile(r"'(?:[^']|'')*'")
_PARAMETER = re.compile(r"\$(\d+)")
# pgbench's log has the transaction's microseconds in its third column.
_MICROSECONDS_COLUMN = 2


@dataclass(frozen=True, slots=True)
class Script:
    """A pgbench script that resolves incident `:n`, and what its other variables are set to (`name=value`)."""

    text: str
    variables: Sequence[str]


def find_script(log: str, incident_id: str, id_sql: str) -> Script | None:
    """Return the script of the statement that resolved an incident, found in PostgreSQL's log; None when it is not there.

    It is the service's statement to the letter, with the values it was sent with; only the id, which differs from
    transaction to transaction, becomes the SQL expression `id_sql` of `:n`.
    """
    # Later statements name the incident too: those of its effects.
    found = next((entry for entry in _LOGGED.finditer(log) if incident_id in entry["values"]), None)
    if found is None:
        return None
    names: dict[str, str] = {}
    variables: list[str] = []
    for place, value in _VALUE.findall(found["values"]):
        if incident_id in value:
            names[place] = f"ARRAY[{id_sql}]"
        elif value == "NULL":
            names[place] = value
        else:
            names[place] = f":p{place}"
            variables.append(f"p{place}={_unquoted(value)}")
    statement = _STRING.sub(lambda string: _without_colons(string[0]), found["statement"])
    text = _PARAMETER.sub(lambda parameter: names[parameter[1]], statement).strip()
    return Script(f"\\set n :n + 1\n{text};\n", variables)


async def run_pgbench(database_url: str, script: Script, *, first: int, transactions: int) -> Sequence[float]:
    """Resolve incidents `first`, `first` + 1 … by one client, and return the seconds of each transaction.

    Raises BenchmarkError when pgbench reports an error.
    """
    with tempfile.TemporaryDirectory(prefix="flywheel-benchmarks-") as directory:
        path = Path(directory) / "resolve.pgbench"
        path.write_text(script.text)
        command = [
            str(find_binaries().directory / "pgbench"),
            "--no-vacuum",
            "--client=1",
            # As the service's driver sends it: prepared once.
            "--protocol=prepared",
            f"--transactions={transactions}",
            f"--file={path}",
            "--log",
            f"--log-prefix={directory}/log",
            f"--define=n={first - 1}",
            *(f"--define={variable}" for variable in script.variables),
            database_url,
        ]
        process = await asyncio.create_subprocess_exec(
            *command,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=program_environment(),
        )
        output, _ = await process.communicate()
        lines = _log_lines(Path(directory))
    if process.returncode != 0 or len(lines) != transactions:
        raise BenchmarkError(f"pgbench failed: {output.decode().strip()}")
    return [int(line.split()[_MICROSECONDS_COLUMN]) / 1e6 for line in lines]


def _log_lines(directory: Path) -> Sequence[str]:
    return [line for log in directory.glob("log.*") for line in log.read_text().splitlines()]


def _unquoted(string: str) -> str:
    return string[1:-1].replace("''", "'")


def _without_colons(string: str) -> str:
    """The same SQL string where pgbench sees no variable: to it, a colon before a letter is one even between quotes."""
    if ":" not in string:
        return string
    return "E" + string.replace("\\", "\\\\").replace(":", r"\x3A")
