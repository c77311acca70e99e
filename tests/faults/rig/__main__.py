"""`python -m tests.faults [F1 F5 …] [--long] [--rounds N] [--out FILE]`.

Prints a line of figures for each run as it ends, adds it to FILE, and ends with a table. The long lane goes on where an
earlier one was interrupted: rounds that FILE has are not done again. Without names, the faults that the other tests of
this folder do are run as well, by pytest. Exit code 1 when something did not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from .faults import FAULTS
from .figures import Figures, merge, read_lines

HERE = Path(__file__).parent
ASIDE = ("fault", "lane", "round", "at", "broken", "missed")
ALWAYS = ("lost_acked", "doubled", "prompts_lost", "not_converged", "wrong")


def main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    unknown = [name for name in options.names if name not in FAULTS]
    if unknown:
        sys.stderr.write(f"no such fault: {unknown[0]}; there are {' '.join(FAULTS)}\n")
        return 2
    lane = "long" if options.long else "short"
    done = [line for line in read_lines(options.out) if line.get("lane") == "long"] if options.long else []
    lines = [line for line in done if line["fault"] in (options.names or FAULTS)]
    for name in options.names or FAULTS:
        known = {line["round"] for line in done if line["fault"] == name}
        rounds = range(1, min(options.rounds or 1_000, FAULTS[name].rounds if options.long else 1) + 1)
        lines += [_run(name, lane, number, options.out) for number in rounds if number not in known]
    if not options.names:
        lines += _others(lane, options.out)
    _show(lines)
    return 1 if any(line["broken"] for line in lines) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="FAULT", help=" ".join(FAULTS))
    parser.add_argument("--long", action="store_true", help="every round of every fault, about an hour")
    parser.add_argument("--rounds", type=int, help="of the long lane, no more than this of each fault")
    parser.add_argument("--out", type=Path, default=Path(".handrail") / "faults.jsonl", help="default: %(default)s")
    return parser


def _run(name: str, lane: str, number: int, out: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="handrail-fault-") as folder:
        try:
            figures = asyncio.run(FAULTS[name].run(Path(folder), **(FAULTS[name].long if lane == "long" else {})))
        except (AssertionError, OSError) as broken:  # TimeoutError is an OSError: what was waited for did not come
            figures = Figures(name, broken=[f"not measured: {str(broken) or type(broken).__name__}"])
    return _keep(json.loads(figures.line(lane=lane, round=number, at=time.strftime("%Y-%m-%d %H:%M"))), out)


def _keep(line: dict[str, Any], out: Path) -> dict[str, Any]:
    text = json.dumps(line) + "\n"
    sys.stdout.write(text)
    sys.stdout.flush()
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a", encoding="utf-8") as lines:
        lines.write(text)
    return line


def _others(lane: str, out: Path) -> list[dict[str, Any]]:
    """Lines that tests elsewhere in this folder print; one test that fails is a fault of its own."""
    marks = ["-m", "long or not long"] if lane == "long" else []
    command = [sys.executable, "-m", "pytest", str(HERE.parent), f"--ignore={HERE}", "-q", "-s", *marks]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    found = [json.loads(line[line.index('{"fault"') :]) for line in told.stdout.splitlines() if '{"fault"' in line]
    if told.returncode not in (0, 5):  # 5: there are none
        found.append({"fault": "others", "broken": [line for line in told.stdout.splitlines() if "FAILED" in line]})
    at = time.strftime("%Y-%m-%d %H:%M")
    return [_keep({"broken": [], **line, "lane": lane, "round": 1, "at": at}, out) for line in found]


def _show(lines: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("fault", no_wrap=True)
    for heading, share in (("what", 3), ("figures", 5), ("", 2)):
        table.add_column(heading, ratio=share)
    for name in dict.fromkeys(line["fault"] for line in lines):
        rounds = [line for line in lines if line["fault"] == name]
        verdict = [f"BROKEN {what}" for line in rounds for what in line["broken"]]
        verdict += [f"missed: {what}" for line in rounds for what in line.get("missed", ())]
        what = FAULTS[name].what if name in FAULTS else ""
        table.add_row(name, what, _tell(rounds), "; ".join(verdict) or "holds")
    Console(width=None if sys.stdout.isatty() else 160).print(table, highlight=False)


def _tell(rounds: list[dict[str, Any]]) -> str:
    """The figures of all rounds; of those that are 0 only what should be."""
    plain = [{key: line[key] for key in line if key not in ASIDE} for line in rounds]
    figures = merge(plain)
    shown = [key for key in figures if figures[key] or key in ALWAYS]
    return ", ".join(f"{key} {figures[key]}" for key in shown)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
