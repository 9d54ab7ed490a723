"""Verifies exports: every edit, deletion, insertion and reordering of lines is found, in one pass and little memory."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flywheel.audit.lines import BEGINNING, CHAINS, FORMAT, BadLineError, parse, record_hash


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, and in which line; 0 when none can be named."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True, order=True)
class Head:
    """The last record of a chain at some time: what an export is anchored by."""

    service: str
    chain: int
    sequence: int
    hash: str


@dataclass(slots=True)
class _Chain:
    number: int
    # Of the last record that was read.
    sequence: int
    hash: str
    # The record of the removal that this chain, which does not begin with 1, has to contain.
    missing_prune: str = ""


@dataclass(slots=True)
class Section:
    """What an export has of one service."""

    service: str
    records: int = 0
    calls: int = 0
    first_time: str = ""
    last_time: str = ""
    # Chains whose beginning was removed, as a record in them says.
    pruned: int = 0
    # Heads that were given, and found or pruned since.
    anchored: int = 0


def read_heads(lines: Iterable[bytes]) -> Iterator[Head]:
    """Yield the heads among the lines of an export, or of a file of heads. Raises BadLineError."""
    for line in lines:
        fields = parse(line)
        if fields["kind"] == "head":
            yield Head(fields["service"], fields["chain"], fields["sequence"], fields["hash"])


class Verifier:
    """Reads an export, whose lines have their line feeds."""

    def __init__(self, anchors: Iterable[Head] = ()) -> None:
        """`anchors` are heads that were kept elsewhere: the export has to contain these records."""
        self.sections: dict[str, Section] = {}
        self._anchors = {(head.service, head.chain, head.sequence): head for head in anchors if head.sequence}
        self._open: _Section | None = None

    def problems(self, lines: Iterable[bytes]) -> Iterator[Problem]:
        """Yield what is wrong."""
        number = 0
        for number, line in enumerate(lines, 1):
            for reason in self._add(line):
                yield Problem(number, reason)
        if self._open is not None:
            yield Problem(number, f"the export of {self._open.found.service} has no end: it is truncated")
        elif not self.sections:
            yield Problem(0, "there is no export in it")
        for head in self._anchors.values():
            yield Problem(
                0,
                f"{head.service}, chain {head.chain}: record {head.sequence}, an expected head, is missing",
            )

    def _add(self, line: bytes) -> Iterator[str]:
        try:
            fields = parse(line)
        except BadLineError as exc:
            yield str(exc)
            if self._open is not None:
                self._open.digest.update(line)
            return
        if fields["kind"] == "header":
            yield from self._begin(fields)
        if self._open is None:
            yield "is before the header or after the end"
            return
        yield from self._open.add(fields)
        self._open.digest.update(line)
        if fields["kind"] == "end":
            self._open = None

    def _begin(self, fields: Mapping[str, Any]) -> Iterator[str]:
        service = fields["service"]
        if self._open is not None:
            yield f"the export of {self._open.found.service} has no end"
        if service in self.sections:
            yield f"{service} is there twice"
        if fields["format"] != FORMAT:
            yield f"format {fields['format']} is not known here"
        self._open = _Section(service, self._anchors)
        self.sections[service] = self._open.found


class _Section:
    """The lines of one service, from its header to its end."""

    def __init__(self, service: str, anchors: dict[tuple[str, int, int], Head]) -> None:
        self.found = Section(service)
        self.digest = hashlib.sha256()
        self._anchors = anchors
        self._chain: _Chain | None = None
        # Every chain that was read, for its head; there are 32.
        self._chains: dict[int, _Chain] = {}
        self._heads = 0

    def add(self, fields: Mapping[str, Any]) -> Iterator[str]:
        """Yield what is wrong with the next line."""
        if fields["service"] != self.found.service:
            yield f"is of {fields['service']}, in the export of {self.found.service}"
        match fields["kind"]:
            case "record":
                yield from self._add_record(fields)
            case "head":
                yield from self._add_head(fields)
            case "end":
                yield from self._add_end(fields)

    def _add_record(self, fields: Mapping[str, Any]) -> Iterator[str]:
        chain = self._chain
        if self._heads:
            yield "is a record behind the heads"
        if chain is None or chain.number != fields["chain"]:
            if chain is not None and fields["chain"] < chain.number:
                yield "is of an earlier chain than the line before"
            chain = self._begin_chain(fields)
        if fields["sequence"] != chain.sequence + 1:
            yield f"has the sequence number {fields['sequence']}, expected {chain.sequence + 1}"
        if fields["previous"] != chain.hash:
            yield "does not follow the record before it"
        if fields["hash"] != record_hash(fields):
            yield "was edited: its hash is not that of its fields"
        chain.sequence, chain.hash = fields["sequence"], fields["hash"]
        if chain.missing_prune and _is_prune(fields) and chain.missing_prune in fields["targets"]:
            chain.missing_prune = ""
            self.found.pruned += 1
        yield from self._check_anchor(fields)
        self.found.records += 1
        self.found.calls += fields["calls"]
        self.found.first_time = min(self.found.first_time or fields["time"], fields["time"])
        self.found.last_time = max(self.found.last_time, fields["time"])

    def _begin_chain(self, fields: Mapping[str, Any]) -> _Chain:
        chain = _Chain(fields["chain"], 0, BEGINNING)
        if fields["sequence"] > 1:
            chain.sequence, chain.hash = fields["sequence"] - 1, fields["previous"]
            chain.missing_prune = f"{chain.number}:{chain.sequence}:{chain.hash}"
            self._forget_pruned_anchors(chain)
        self._chain = self._chains[chain.number] = chain
        return chain

    def _check_anchor(self, fields: Mapping[str, Any]) -> Iterator[str]:
        head = self._anchors.pop((self.found.service, fields["chain"], fields["sequence"]), None)
        if head is not None:
            self.found.anchored += 1
            if head.hash != fields["hash"]:
                yield "is not the record that was there before: an expected head has another hash"

    def _forget_pruned_anchors(self, chain: _Chain) -> None:
        for key in [*self._anchors]:
            service, number, sequence = key
            if service == self.found.service and number == chain.number and sequence <= chain.sequence:
                head = self._anchors[key]
                # The last record that was removed is known by its hash.
                if sequence < chain.sequence or head.hash == chain.hash:
                    del self._anchors[key]
                    self.found.anchored += 1

    def _add_head(self, fields: Mapping[str, Any]) -> Iterator[str]:
        if fields["chain"] != self._heads:
            yield f"is the head of chain {fields['chain']}, expected that of {self._heads}"
        self._heads += 1
        chain = self._chains.get(fields["chain"], _Chain(fields["chain"], 0, BEGINNING))
        if (fields["sequence"], fields["hash"]) != (chain.sequence, chain.hash):
            yield f"is not the last record of chain {fields['chain']}, which is {chain.sequence}"
        if chain.missing_prune:
            yield f"chain {fields['chain']} does not begin with 1, and no record in it says why"

    def _add_end(self, fields: Mapping[str, Any]) -> Iterator[str]:
        if self._heads != CHAINS:
            yield f"comes after {self._heads} heads of {CHAINS}"
        if fields["records"] != self.found.records:
            yield f"says that there are {fields['records']} records, and there are {self.found.records}"
        if fields["sha256"] != self.digest.hexdigest():
            yield "has not the digest of the lines before it"


def _is_prune(fields: Mapping[str, Any]) -> bool:
    return (fields["operation"], fields["method"]) == ("audit/prune", "database")
