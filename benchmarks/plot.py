"""A small plot of what was measured, as SVG: a bar to the median, a dot for every round, a panel for every measure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from statistics import median

from benchmarks.figures import Row

BARS, FIGURES = 400, 130  # pixels: the longest bar, and for what stands right of it
LETTER, LONGEST = 6.6, 80  # pixels of a letter, about; letters of a name
BAR, GAP, HEAD, MARGIN = 16, 8, 30, 12
OWN, OTHER = "#0b6e4f", "#8d99ae"
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#222}.head{font-weight:600}.end{text-anchor:end}"
    ".dot{fill:#222;fill-opacity:.45}"
)
Panel = tuple[str, Sequence[tuple[str, Row]]]


def draw(title: str, rows: Iterable[Row], own: str) -> str:
    """The whole picture; bars of servers whose name begins with `own` stand out. Rows without figures are left out."""
    panels = _panels([each for each in rows if each.rounds])
    start = MARGIN + GAP + round(max((len(_short(name)) for _, bars in panels for name, _ in bars), default=0) * LETTER)
    width = start + BARS + FIGURES + MARGIN
    body, y = [_text(MARGIN, MARGIN + 12, title, "head")], MARGIN + HEAD
    for measure, bars in panels:
        body.append(_text(MARGIN, y + 12, measure, "head"))
        y += HEAD - GAP
        most = max(max(each.rounds) for _, each in bars) or 1.0
        for name, each in bars:
            body += _bar(start, y, _short(name), each, most, OWN if name.startswith(own) or not each.of else OTHER)
            y += BAR + GAP
        y += GAP
    height = y + MARGIN
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    inside = [
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    return "\n".join([head, *inside, *body, "</svg>", ""])


def _panels(rows: Sequence[Row]) -> list[Panel]:
    """One for each measure that servers are compared by; where none are, one for each unit."""
    found: dict[str, list[tuple[str, Row]]] = {}
    compared = [each for each in rows if each.of]
    for each in compared or rows:
        found.setdefault(each.what if each.of else f"in {each.unit}".rstrip(), []).append((each.of or each.what, each))
    return list(found.items())


def _short(name: str) -> str:
    name = name.strip()
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def _bar(start: int, y: int, name: str, row: Row, most: float, colour: str) -> list[str]:
    scale = BARS / most
    middle, line = y + BAR / 2, y + BAR - 4
    dots = [f'<circle class="dot" cx="{start + each * scale:.1f}" cy="{middle:g}" r="2.5"/>' for each in row.rounds]
    length = max(median(row.rounds) * scale, 1)
    return [
        _text(start - 8, line, name, "end"),
        f'<rect x="{start}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{colour}"/>',
        *dots,
        _text(start + BARS + FIGURES, line, row.value, "end"),
    ]


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{kind}">{escape(text)}</text>'
