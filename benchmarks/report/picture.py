"""The picture of a run: how far each ratio is from its goal, as SVG that reads in light and in dark."""

from collections.abc import Sequence
from html import escape
from math import log10

from benchmarks.result import Goal, Result

_WIDTH, _LABELS, _FIGURES = 960, 420, 170
_ROW, _TOP, _BOTTOM = 26, 44, 34
# Decades to each side of the goal.
_DECADES = 1.0
_LONGEST_LABEL = 66

# Shape and words say it as well: no colour has to be told from another.
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.small { font-size: 11px } .figure { text-anchor: end }
.goal { stroke: #1f2328; stroke-width: 1.5 } .grid { stroke: #d1d9e0 }
.reached { fill: #1a7f64 } .missed { fill: #bf5700 }
@media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .goal { stroke: #e6edf3 } .grid { stroke: #3d444d }
    .reached { fill: #3fb990 } .missed { fill: #f0883e }
}
"""


def svg(results: Sequence[Result]) -> str:
    """Return the picture of the results that have a ratio."""
    measured = [result for result in results if not result.unmeasured]
    height = _TOP + _ROW * len(measured) + _BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
        "<title>Performance ratios against their goals</title>",
        f"<style>{_STYLE}</style>",
        _text(0, 16, "Performance ratios against their goals: right of the line is better than the goal", ""),
    ]
    bottom = height - _BOTTOM
    for factor, label in (
        (0.1, "a tenth"),
        (0.5, "half"),
        (1.0, "the goal"),
        (2.0, "twice"),
        (10.0, "ten times"),
    ):
        kind = "goal" if factor == 1 else "grid"
        parts += [
            f'<line class="{kind}" x1="{_x(factor):.0f}" y1="{_TOP - 12}" x2="{_x(factor):.0f}" y2="{bottom}"/>',
            f'<text class="small" text-anchor="middle" x="{_x(factor):.0f}" y="{bottom + 16}">{label}</text>',
        ]
    for place, result in enumerate(measured):
        parts += _row(_TOP + _ROW * place, result)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _row(top: int, result: Result) -> Sequence[str]:
    better = result.limit / result.ratio if result.goal is Goal.AT_MOST else result.ratio / result.limit
    ends = sorted((_x(1.0), _x(better)))
    kind, word = ("reached", "reached") if result.reached else ("missed", "missed")
    label = f"{result.number}  {result.what.replace('`', '')}"
    if len(label) > _LONGEST_LABEL:
        label = f"{label[: _LONGEST_LABEL - 1].rstrip(' ,;')}…"
    figure = f"{result.ratio:,.2f} (goal {result.goal.value} {result.limit:g}), {word}"
    return [
        _text(0, top + 12, label, "small"),
        f'<rect class="{kind}" x="{ends[0]:.1f}" y="{top}" width="{max(ends[1] - ends[0], 2):.1f}" height="16" rx="2"/>',
        _text(_WIDTH, top + 12, figure, "small figure"),
    ]


def _x(factor: float) -> float:
    """Where a factor of the goal is; what is farther than the picture goes is at its edge."""
    decades = max(-_DECADES, min(_DECADES, log10(factor))) if factor > 0 else -_DECADES
    middle = (_LABELS + _WIDTH - _FIGURES) / 2
    return middle + decades / _DECADES * (_WIDTH - _FIGURES - _LABELS - 40) / 2


def _text(x: int, y: int, content: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x}" y="{y}">{escape(content)}</text>'
