"""The benchmarks: the load, the rules that servers are compared by, and what is made of the figures."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest
from benchmarks import job, machine, plot, results
from benchmarks.contest import Contestant, take_turns
from benchmarks.crowd import Crowd, Dialect
from benchmarks.fanout import RULES as NEWS
from benchmarks.fanout import publish
from benchmarks.figures import OURS, VERSIONS, MeasurementFault, Row, quantile, row
from benchmarks.install import PEERS, NotHereError
from benchmarks.ours import handrail, hello, listen
from benchmarks.push import MARK, MESSAGE, SIZE
from benchmarks.servers import Server, ground

from handrail.core.counters import Counter
from handrail.core.expressions import Expressions
from handrail.core.rules import load
from handrail.core.scope import Occurrence, Scope
from handrail.core.state import State, Tally


@pytest.mark.parametrize("rules", [job.RULES, NEWS])
def test_the_rules_have_no_faults(rules: str) -> None:
    assert load({"rules.yaml": rules}, {}).problems == ()


def test_ten_rules_concern_the_event() -> None:
    program = load({"rules.yaml": job.RULES}, {}).program
    assert program is not None
    assert len(program.triggers) == 10


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The Starlette peer, which connects to nothing before it is asked."""
    monkeypatch.setenv("STORE", "redis://127.0.0.1:1")
    monkeypatch.setenv("PORT", "1")
    spec = importlib.util.spec_from_file_location("peer", PEERS / "job.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


VARIED = {
    "plan": ("trial", "pro"),
    "role": ("admin", "developer"),
    "team_size": (12, 51),
    "language": ("de", "en"),
    "tags": (["champion"], []),
}


def test_a_peer_decides_as_handrail_does(peer: ModuleType) -> None:
    conditions = {name: Expressions().compile(source) for name, source in job.CONDITIONS.items()}
    seen = set()
    for values in itertools.product(*VARIED.values()):
        traits = dict(zip(VARIED, values, strict=True))
        moments = itertools.product((2, 3, 21), (5, 100_000_000), (-2, 0), ("billing", "settings", "welcome", "lost"))
        for sessions, moved, n, step in moments:
            counters = {"moved": Tally(moved)}
            state = State(user="u", epoch="e", traits=traits, sessions=sessions, counters=counters)
            event = Occurrence(keys=("event:moved",), name="moved", at=1, properties={"n": n, "step": step})
            scope = Scope(state, {"moved": Counter("moved", "moved")}, event, 1)
            ours = [name for name, condition in conditions.items() if condition.holds(scope)[0]]
            told: dict[str, Any] = {"traits": traits, "sessions": sessions, "counters": {"moved": moved}}
            actions = peer.decide(told, {"n": n, "step": step})
            assert [what["mark"] for kind, what in actions if kind == "set"] == ours
            assert any(kind == "content" for kind, _ in actions) == (n >= 0)
            seen.update(ours)
    assert seen == set(conditions)


@pytest.fixture(scope="module")
def serving() -> Iterator[Server]:
    with ground(sync="everysec") as place, handrail(f"{job.RULES}---{NEWS}")(place) as server:
        yield server


def test_the_load_counts_what_handrail_answers_and_times_it(serving: Server) -> None:
    with closing(Crowd(serving.port, Dialect(job.open_ours, job.MARK, job.EVENT_FRAME))) as crowd:
        crowd.connect(5)
        events, taken = crowd.hurry(0.3)
        assert events > 0
        assert taken >= 0.3
        assert crowd.count == events + crowd.size
        latencies = crowd.pace(50, 0.4)
        assert len(latencies) >= 15
        assert all(0 < each < 5 for each in latencies)
    assert machine.family_seconds(serving.pid) > 0
    assert machine.family_bytes(serving.pid) > 10_000_000


@pytest.mark.parametrize(("opening", "frames"), [(hello, True), (listen, False)])
def test_a_message_reaches_every_tab_of_every_user(serving: Server, opening: Any, frames: bool) -> None:
    dialect = Dialect(lambda number: opening(f"u-{number % 2}"), MARK, frames=frames)
    with closing(Crowd(serving.port, dialect)) as crowd:
        crowd.connect(6)
        for number in (1, 2) if frames else (3, 4):
            publish(crowd, serving.port, number, users=2)
        assert crowd.count == 12


def test_a_message_to_everybody_has_its_size() -> None:
    assert SIZE == 250
    assert len(MESSAGE) == SIZE
    assert MESSAGE.count(MARK) == 1


def _contestant(name: str) -> Contestant:
    return Contestant(name, handrail(""), Dialect(lambda _: [], b"x"), lambda: f"{name} 1.0")


def test_who_is_not_here_or_fails_is_told_and_the_others_go_on() -> None:
    measured = []

    def measure(each: Contestant, found: list[float]) -> None:
        measured.append(each.name)
        if each.name == "absent":
            raise NotHereError("only root may")
        if each.name == "broken" and measured.count("broken") == 2:
            raise MeasurementFault("it fell over")
        found.append(1.0)

    here = [_contestant(name) for name in ("absent", "broken", "sound")]
    found, rows = take_turns(here, 3, list, measure)
    assert found == {"sound": [1.0, 1.0, 1.0]}
    assert measured == ["absent", "broken", "sound", "broken", "sound", "sound"]
    assert [(each.of, each.what, each.value) for each in rows] == [
        ("absent", "", "not here: only root may"),
        ("broken", "", "not measured: it fell over"),
        ("sound", VERSIONS, "sound 1.0"),
    ]


ROWS = [
    row("events/s", [1000.0, 3000.0, 2000.0], "", places=0, of=OURS),
    row("p50", [1.0, 1.5, 2.0], "ms", of=OURS),
    row("events/s", [10.0], "", places=0, of="A <peer>"),
    Row("", "not here: no | root", of="Another"),
    Row(VERSIONS, "handrail 0.1", of=OURS),
    row("to the peer", [100.0, 300.0], "×", above=150),
    row("lateness", [7.0], "ms", below=5),
]


def test_servers_are_compared_in_lines_and_measures_in_columns(tmp_path: Path) -> None:
    part = results.Part(name="job", title="The job", notes=["2026-01-01, quiet"], rows=ROWS)
    results.write(part, tmp_path)
    results.write_tables(tmp_path, ["job", "never run"])
    text = (tmp_path / "README.md").read_text()
    assert "| of | events/s | p50 |" in text
    assert "| Handrail | **2,000** (1,000 – 3,000) | **1.50 ms** (1.00 – 2.00) |" in text
    assert "| Another | not here: no \\| root |  |" in text
    assert "| to the peer | 200.00 × | 100.00 – 300.00 | ≥ 150 ×: met |" in text
    assert "| lateness | 7.00 ms |  | ≤ 5 ms: MISSED |" in text
    assert "- Handrail: handrail 0.1" in text
    assert "- 2026-01-01, quiet" in text
    assert "never run" not in text


def test_the_plot_has_a_bar_for_every_figure_and_a_dot_for_every_round() -> None:
    picture = plot.draw("The job", ROWS, OURS)
    tree = ElementTree.fromstring(picture)
    space = "{http://www.w3.org/2000/svg}"
    bars = [each.attrib for each in tree.iter(f"{space}rect") if "fill" in each.attrib and "x" in each.attrib]
    assert [bar["fill"] for bar in bars] == [plot.OWN, plot.OTHER, plot.OWN]
    assert float(bars[1]["width"]) == pytest.approx(plot.BARS * 10 / 3000, abs=0.1)
    assert len(list(tree.iter(f"{space}circle"))) == 7
    assert "A <peer>" in [each.text for each in tree.iter(f"{space}text")]


def test_a_plot_without_comparison_has_a_panel_for_each_unit() -> None:
    tree = ElementTree.fromstring(plot.draw("Timers", [each for each in ROWS if not each.of], OURS))
    heads = [each.text for each in tree.iter("{http://www.w3.org/2000/svg}text") if each.attrib["class"] == "head"]
    assert heads == ["Timers", "in ×", "in ms"]


def test_a_quantile_is_a_value_that_was_found() -> None:
    assert quantile([3, 1, 2], 0.5) == 2
    assert quantile(range(1, 101), 0.99) == 99
    assert quantile([5], 0.99) == 5
