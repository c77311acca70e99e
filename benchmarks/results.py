"""The last run of each part, as it is kept in `results/`: figures as JSON, a plot, and the tables of all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from benchmarks import plot
from benchmarks.figures import OURS, VERSIONS, Row

FOLDER = Path(__file__).parent / "results"
QUICK = FOLDER / "quick"  # not for keeping


class Part(msgspec.Struct, kw_only=True):
    """What one part's run gave: `notes` says when, where and in what circumstances."""

    name: str
    title: str
    notes: list[str]
    rows: list[Row]


def write(part: Part, folder: Path) -> None:
    """Keep a part's figures and plot, and write the tables of all parts that are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{part.name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(part)) + b"\n")
    (folder / f"{part.name}.svg").write_text(plot.draw(part.title, part.rows, OURS), encoding="utf-8")


def write_tables(folder: Path, order: Sequence[str]) -> None:
    kept = [folder / f"{name}.json" for name in order]
    parts = [msgspec.json.decode(path.read_bytes(), type=Part) for path in kept if path.exists()]
    head = (
        "# Results\n\nMade by `python -m benchmarks`: the last run of each part. See [what they mean](../README.md).\n"
    )
    (folder / "README.md").write_text("\n".join([head, *map(as_markdown, parts)]), encoding="utf-8")


def as_markdown(part: Part) -> str:
    """A heading, what was compared as one table, the other figures as another, and the circumstances."""
    compared, others = [each for each in part.rows if each.of], [each for each in part.rows if not each.of]
    versions = [f"- {each.of}: {each.value}" for each in compared if each.what == VERSIONS]
    blocks = [f"## {part.title}", _compared(compared), _others(others), "\n".join(versions)]
    blocks += ["\n".join(f"- {note}" for note in part.notes), f"![{part.title}]({part.name}.svg)"]
    return "\n\n".join(filter(None, blocks)) + "\n"


def _compared(rows: Sequence[Row]) -> str:
    """A line for each server, a column for each measure: median (least – greatest)."""
    measures = _unique(each.what for each in rows if each.what not in ("", VERSIONS))
    if not rows:
        return ""
    lines = []
    for name in _unique(each.of for each in rows):
        mine = {each.what: each for each in rows if each.of == name}
        cells = [_cell(mine.get(measure)) for measure in measures]
        lines.append([name, mine[""].value, *[""] * (len(measures) - 1)] if "" in mine else [name, *cells])
    return _table(["of", *measures], lines)


def _cell(row: Row | None) -> str:
    return "" if row is None else f"**{row.value}** ({row.spread})" if row.spread else f"**{row.value}**"


def _others(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    verdict = {None: "", True: ": met", False: ": MISSED"}
    lines = [[each.what.strip(), each.value, each.spread, each.goal + verdict[each.met]] for each in rows]
    return _table(["what", "median", "min – max of the rounds", "goal"], lines)


def _table(heading: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    drawn = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in (heading, *lines)]
    return "\n".join([drawn[0], f"|---|{'---:|' * (len(heading) - 1)}", *drawn[1:]])


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
