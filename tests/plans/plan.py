"""A plan as it was executed: which tables were read and how, and how many rows were touched for it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy.dialects.postgresql import asyncpg


def one_line(statement: str) -> str:
    """Return a statement as it is compared and shown: white space does not count."""
    return " ".join(statement.split())


def compiled(statement: Any) -> str:
    """Return the text that the driver gets for a statement."""
    return one_line(str(statement.compile(dialect=asyncpg.dialect())))  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Plan:
    """What EXPLAIN says about one execution of a statement."""

    text: str
    root: Mapping[str, Any]

    @cached_property
    def statement(self) -> str:
        """The statement on one line, as it is compared."""
        return one_line(self.text)

    @cached_property
    def nodes(self) -> Sequence[Mapping[str, Any]]:
        """Its nodes, those below a node after it."""
        return list(_nodes(self.root))

    @property
    def rows_touched(self) -> int:
        """How many rows were read from tables and indexes, those that were then filtered out included."""
        return round(sum(map(rows_of, self.nodes)))

    def scanned(self) -> Sequence[str]:
        """The tables that were read from end to end."""
        return [node["Relation Name"] for node in self.nodes if node["Node Type"].endswith("Seq Scan")]

    def read(self) -> frozenset[tuple[str, str]]:
        """The tables, each with the index by which it was read; "" without one."""
        return frozenset(
            (node["Relation Name"], node.get("Index Name", ""))
            for node in self.nodes
            if "Relation Name" in node and node["Node Type"] != "ModifyTable"
        )

    def __str__(self) -> str:
        """The statement, and for each table how it was read and how many rows that touched."""
        ways = [
            f"    {node['Node Type']} of {node.get('Relation Name', '')} by {node.get('Index Name', '-')}"
            f" ({node.get('Index Cond', 'no condition')}): {round(rows_of(node))} rows"
            for node in self.nodes
            if rows_of(node)
        ]
        return "\n".join([f"{self.rows_touched} rows: {self.statement[:700]}", *ways])


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def rows_of(node: Mapping[str, Any]) -> float:
    """Return how many rows a scan of a table or an index has read; of no other node any."""
    if not node["Node Type"].endswith("Scan") or not {"Relation Name", "Index Name"} & node.keys():
        return 0
    removed = sum(count for name, count in node.items() if name.startswith("Rows Removed by"))
    rows: float = (node["Actual Rows"] + removed) * node["Actual Loops"]
    return rows
