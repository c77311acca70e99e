"""What the benchmarks of growth stand on: made-up lives, a cluster, open files; and what their figures come to."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from benchmarks import machine, results
from benchmarks.connections import within_reach
from benchmarks.crowd import Crowd, Dialect
from benchmarks.figures import MeasurementFault, Row, row
from benchmarks.job import EVENT_FRAME, MARK, RULES, open_ours
from benchmarks.lives import A_VISIT, VISITS, live, starter
from benchmarks.ours import SETTINGS
from benchmarks.servers import ground, serving
from benchmarks.shards import MASTERS, storing
from benchmarks.sizing import BEGIN, END, PAGE, Costs, read, renew, tables
from benchmarks.users import Population, name

from handrail.store import RedisStore

NOW = 1_767_603_600_000


async def test_a_life_is_what_a_runner_would_have_left() -> None:
    life, again, other = [await live(starter(), number, NOW) for number in (1, 1, 2)]
    assert len(life.lines) >= VISITS * A_VISIT
    assert [offset for offset, _ in life.past.frames] == list(range(1, life.past.state.offset + 1))
    assert life.past.state.steps or life.past.state.counters
    assert life.past.alarm is not None
    assert min(at for _, at in life.past.seen) > NOW - 3_600_000  # of the last visit only: the others are forgotten
    assert life.coming.expected == life.past.state.version
    assert again.past.seen == life.past.seen != other.past.seen


async def test_users_have_lives_in_turn_and_go_on_with_them() -> None:
    lives = [await live(starter(), number, NOW) for number in range(2)]
    with ground(sync="no") as place:
        store = await RedisStore.connect(place.url, warn=False)
        population = Population(store, lives)
        for size in (3, 5):
            await population.grow(size)
        found = [await store.load(name(number)) for number in range(6)]
        assert [state.version for state in found if state] == [
            lives[number % 2].past.state.version for number in range(5)
        ]
        assert found[5] is None
        assert all(state.lineage == store.lineage(state.user) for state in found if state)
        assert len(await store.due(2**52)) == 5
        coming = population.move(5)
        assert {commit.state.user for commit in coming} == {name(number) for number in range(5)}
        assert [await store.commit(commit) for commit in coming] == [True] * 5
        await store.close()


def test_a_server_works_on_the_cluster_that_is_measured(tmp_path: Path) -> None:
    with (
        ground(sync="no") as place,
        storing(tmp_path, MASTERS, as_cluster=True) as store,
        serving(place, RULES, SETTINGS, store=store.url) as server,
        closing(Crowd(server.port, Dialect(open_ours, MARK, EVENT_FRAME))) as crowd,
    ):
        assert len(store.pids) == MASTERS
        crowd.connect(12)
        assert crowd.hurry(0.2)[0] > 0
        assert all(machine.cpu_seconds(pid) > 0 for pid in store.pids)


@pytest.mark.parametrize(("most", "sizes"), [(30_000, [1_000, 20_000]), (19_000, [1_000, 19_000]), (500, [500])])
def test_no_more_connections_are_made_than_files_may_be_open(most: int, sizes: list[int]) -> None:
    assert within_reach([1_000, 20_000], most) == sizes


def test_what_files_may_be_open_leaves_some_for_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "raise_open_files", lambda wanted: min(wanted, 10_000))
    assert machine.most_connections(5_000) == 5_000
    assert machine.most_connections(50_000) == 10_000 - machine.SPARE_FILES


COSTS = Costs(
    event=40.0,
    event_of_store=8.0,
    connect=200.0,
    idle=1e-6,
    connection=10 * 1024,
    today=10_240.0,
    at_rest=2_048.0,
    line=360.0,
)


def test_the_size_of_a_service_is_what_its_parts_come_to() -> None:
    lines = tables(COSTS).splitlines()
    assert "| an event, server | 40 µs | 25,000 a second on a core | `saturation`: server µs an event, 50 % |" in lines
    assert (
        "| a second of a connection, server | 1.0 µs | 1,000,000 at a time on a core | `connections`: idle |" in lines
    )
    assert "| a connection, server | 10.0 KiB | 100,000 in a GiB | `connections`: memory each |" in lines
    # 200,000 connected, an event every 30 s of each, a new one every 600 s: 6,667 events and 333 connections a second
    assert "| events | 6,667 a second | 0.27 cores of servers, 0.05 of the store |" in lines
    assert "| connecting | 333 a second | 0.07 cores of servers |" in lines
    assert "| staying connected | 200,000 | 0.20 cores, 1.9 GiB |" in lines
    assert "| users at rest | 9,000,000 | 17.2 GiB of the store |" in lines
    assert "| users of the last day | 1,000,000 | 9.5 GiB of the store |" in lines
    assert "| **servers** | cores half used | **2 cores** |" in lines
    assert "| **store** | cores half used, memory half full | **1 core, 54 GiB** |" in lines
    assert "| everybody comes back at once | 200,000 | 40 core-seconds |" in lines


def test_what_was_measured_is_found_in_the_results(tmp_path: Path) -> None:
    measured = {
        "saturation": [
            row("server µs an event", [50.0], "µs", of="10 % of what it carries"),
            row("server µs an event", [41.0, 39.0, 40.0], "µs", of="50 % of what it carries"),
            row("store µs an event", [8.0], "µs", of="50 % of what it carries"),
        ],
        "connections": [
            row("idle, share of a core", [9.0], "%", of="1,000 connections"),
            row("memory each", [10.0], "KiB", of="19,000 connections"),
            row("server CPU to connect", [200.0], "µs", of="19,000 connections"),
            row("idle, share of a core", [1.9], "%", of="19,000 connections"),
        ],
        "users": [
            row("memory each", [1.0], "B", of="10,000 users"),
            row("memory each", [10_240.0], "B", of="100,000 users"),
            Row("", "not here: too little memory", of="1,000,000 users"),
            row("  a state", [2_000.0], "B"),
            row("  a timer", [48.0], "B"),
            row("  a line of the event log", [360.0], "B"),
        ],
    }
    for part, rows in measured.items():
        with pytest.raises(MeasurementFault, match=f"{part} was never measured"):
            read(tmp_path)
        results.write(results.Part(name=part, title=part, notes=[], rows=rows), tmp_path)
    assert read(tmp_path) == COSTS


def test_the_page_has_the_tables_between_its_marks() -> None:
    page = PAGE.read_text(encoding="utf-8")
    renewed = renew(page, tables(COSTS))
    assert renewed.count(BEGIN) == renewed.count(END) == 1
    assert renew(renewed, tables(COSTS)) == renewed
    heads = [[line.split(" | ")[0] for line in text.splitlines() if line[:1] == "|"] for text in (page, renewed)]
    assert heads[0] == heads[1]
