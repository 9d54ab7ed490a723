"""Flame graphs of the processes that a missed goal is about, recorded by py-spy in a run of their own; and where their time goes."""

import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path

from benchmarks.environment import Environment

_RATE = 200
_ATTACH_SECONDS = 0.5
_STOP_SECONDS = 30.0
_NAMED = 4
_WIDTH, _ROW = 1200, 17
_LEAST_WIDTH, _CHARACTER = 0.5, 6.6
# In a full path: a package of a distribution, or of this project.
_PACKAGE = re.compile(r"(?:site-packages|src|gen)/(?P<package>[\w]+)")
_FILE = re.compile(r"\((?P<path>[^()]*?)(?::\d+)?\)$")
_NATIVE = "the event loop and gRPC's core"

# Samples by stack, the outermost frame first.
Stacks = Mapping[tuple[str, ...], int]


class Recorder:
    """Records the processes of the measured part of a benchmark, while it is switched on by `benchmark`."""

    def __init__(self, folder: Path, environment: Environment) -> None:
        self._folder = folder
        self._environment = environment
        self._number = ""
        self._notes: dict[str, str] = {}

    @contextmanager
    def benchmark(self, number: str) -> Iterator[dict[str, str]]:
        """Record what `recording` names until the end; the value is filled with a sentence for each process."""
        self._number, self._notes = number, {}
        try:
            yield self._notes
        finally:
            self._number = ""

    @contextmanager
    def recording(self, processes: Mapping[str, int]) -> Iterator[None]:
        """Record processes, by their names and pids, inside the block; nothing at all outside of `benchmark`."""
        if not self._number:
            yield
            return
        program = self._environment.program("py-spy", needed_for="A flame graph")
        self._folder.mkdir(parents=True, exist_ok=True)
        running = {name: self._start(program, name, pid) for name, pid in processes.items()}
        time.sleep(_ATTACH_SECONDS)
        try:
            yield
        finally:
            for name, (process, raw) in running.items():
                # Of several turns the last, which is the warmest.
                self._notes[name] = self._finish(name, process, raw)

    def _start(self, program: str, name: str, pid: int) -> tuple["subprocess.Popen[bytes]", Path]:
        raw = self._folder / f"{self._number}-{name}.txt"
        options = ("--format", "raw", "--full-filenames", "--nonblocking", "--rate", str(_RATE))
        process = subprocess.Popen(
            [program, "record", *options, "--output", str(raw), "--pid", str(pid)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        return process, raw

    def _finish(self, name: str, process: "subprocess.Popen[bytes]", raw: Path) -> str:
        process.send_signal(signal.SIGINT)
        try:
            _, errors = process.communicate(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            _, errors = process.communicate()
        stacks = _stacks(raw) if raw.exists() else {}
        if not stacks:
            said = errors.decode(errors="replace").strip().splitlines()
            return f"{self._number}: no flame graph of {name}: {said[-1] if said else 'py-spy saw nothing'}."
        graph = raw.with_suffix(".svg")
        graph.write_text(flame_graph(stacks, f"{self._number}: {name}"), encoding="utf-8")
        raw.unlink()
        shares = ", ".join(f"{package} {share:.0%}" for package, share in time_by_package(stacks))
        return f"{self._number}: where the time of {name} goes: {shares}. Flame graph: {graph}"


def _stacks(raw: Path) -> Stacks:
    stacks: Counter[tuple[str, ...]] = Counter()
    for line in raw.read_text(encoding="utf-8").splitlines():
        frames, _, samples = line.rpartition(" ")
        stacks[tuple(frames.split(";"))] += int(samples)
    return stacks


def time_by_package(stacks: Stacks) -> Sequence[tuple[str, float]]:
    """Return the packages whose own code takes most of the time, each with its share."""
    by_package: Counter[str] = Counter()
    for stack, samples in stacks.items():
        by_package[_package(stack[-1])] += samples
    total = sum(by_package.values())
    return [(package, samples / total) for package, samples in by_package.most_common(_NAMED)]


def _package(frame: str) -> str:
    file = _FILE.search(frame)
    path = file["path"] if file else ""
    # Native code has no frame of its own: its time is that of the loop that called it.
    if path.endswith("asyncio/runners.py"):
        return _NATIVE
    found = _PACKAGE.search(path)
    return found["package"] if found else f"Python's {Path(path).stem or 'own'}"


def flame_graph(stacks: Stacks, title: str) -> str:
    """Return the flame graph of the stacks as SVG: a frame's width is its share, what it called stands on it."""
    total = sum(stacks.values())
    deepest = max(map(len, stacks))
    rows: list[str] = []
    ordered = sorted(stacks.items())

    def draw(first: int, last: int, depth: int, left: float) -> None:
        place = first
        while place < last:
            if len(ordered[place][0]) <= depth:
                left += ordered[place][1]
                place += 1
                continue
            frame, end, samples = ordered[place][0][depth], place, 0
            while end < last and ordered[end][0][depth : depth + 1] == (frame,):
                samples += ordered[end][1]
                end += 1
            _draw_frame(rows, frame, left / total, samples / total, deepest - depth)
            draw(place, end, depth + 1, left)
            left += samples
            place = end

    draw(0, len(ordered), 0, 0.0)
    height = (deepest + 2) * _ROW
    style = "text { font: 11px ui-monospace, monospace; fill: #1f2328 } rect { fill: #f0a868; stroke: #fff }"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}">',
            f"<style>{style}</style>",
            f'<rect width="{_WIDTH}" height="{height}" style="fill: #fff"/>',
            f'<text x="4" y="12">{escape(title)}, {total} samples of processor time</text>',
            *rows,
            "</svg>\n",
        ]
    )


def _draw_frame(rows: list[str], frame: str, left: float, share: float, row: int) -> None:
    width = share * _WIDTH
    if width < _LEAST_WIDTH:
        return
    x, y = left * _WIDTH, row * _ROW
    shown = frame[: max(int(width / _CHARACTER) - 1, 0)]
    rows.append(
        f'<g><title>{escape(frame)}: {share:.1%}</title><rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_ROW - 1}"/>'
        f'<text x="{x + 2:.1f}" y="{y + 12}">{escape(shown)}</text></g>'
    )
