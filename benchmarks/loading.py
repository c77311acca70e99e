"""What reading rules costs: 10,000 triggers in 500 files, all of them and after a change, and what a live loop feels.

The conditions are of a few kinds and differ in their constants and names, as those of large rule sets do. The loop
turns once a millisecond while the rulebook reads in its thread, as it does in a server.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

from benchmarks.figures import MeasurementFault, Row, row
from handrail.rulebook import Rulebook, compile_sources, read_sources

FILES, QUICK_FILES = 500, 50
TRIGGERS = 20  # a file
LOADS = 3
CHANGES, QUICK_CHANGES = 7, 2
TICK = 0.001  # seconds
AFTER = 0.2
LOAD_GOAL, RELOAD_GOAL = 2.0, 1.0  # seconds
PAUSE_GOAL = 20.0  # ms

COMMON = """counter: used_{area}
of: feature_{area}_used
within: 30d
---
segment: heavy-{area}
if: user.counters.used_{area} > {area}
"""
MESSAGE = """message: tip-{area}-{number}
kind: tooltip
title: "Hello {{{{ user.traits.first_name | default('you') }}}}"
body: "You used area {area} {{{{ user.counters.used_{area} }}}} times, {number} to go."
actions: [{{label: Show me, do: {{url: /area/{area}}}}}, {{label: Later, do: {{snooze: 1h}}}}]
"""
TRIGGER = """trigger: rule-{area}-{number}
when: {when}
if: "{condition}"
then: [{then}]
limit: 1 per session
"""
WHENS = (
    "{{event: feature_{area}_{number}}}",
    "{{event: feature_{area}_{number}, where: event.properties.count > {number}}}",
    "{{idle: {least}m}}",
    "{{count: {{event: feature_{area}_used, at_least: {least}, within: 7d}}}}",
    "{{delay: {{after: {{event: project_{area}_created}}, for: {least}d}}}}",
    "[{{event: page_{area}_viewed}}, {{enters: heavy-{area}}}]",
    "{{absence: {{after: {{event: invite_{area}_sent}}, of: {{event: invite_{area}_taken}}, for: {least}m}}}}",
)
CONDITIONS = (
    "user.traits.plan == 'trial' && user.counters.used_{area} >= {least}",
    "user.traits.role == 'role-{number}' && !('done-{area}' in user.goals)",
    "user.sessions > {least} && user.traits.team_size < {number}",
    "user.steps['step-{area}-{number}'] != 'completed'",
    "'heavy-{area}' in user.segments || user.counters.used_{area} == {number}",
)
THENS = (
    "{{prompt: tip-{area}-{tip}}}",
    "{{content: {{slot: hero, message: tip-{area}-{tip}}}}}",
    "{{set: {{reached_{area}: level-{number}}}}}",
)


def run(quick: bool) -> list[Row]:
    files, changes = (QUICK_FILES, QUICK_CHANGES) if quick else (FILES, CHANGES)
    with TemporaryDirectory() as folder:
        write(Path(folder), files)
        return asyncio.run(_measure(Path(folder), files, changes))


def write(folder: Path, files: int) -> None:
    """Rules of about the shapes that large rule sets have, twenty triggers a file."""
    for area in range(files):
        _path(folder, area).write_text(_file(area))


async def _measure(folder: Path, files: int, changes: int) -> list[Row]:
    loading = [_load(folder) for _ in range(LOADS)]
    pauses: list[float] = []
    ticking = asyncio.create_task(_tick(pauses))
    await asyncio.sleep(1)
    resting = max(pauses)
    book = Rulebook(folder, {})
    _, pause = await _read(book, pauses)
    if book.problems or book.triggers != files * TRIGGERS:
        raise MeasurementFault(f"the rules cannot be loaded: {book.problems[:1]}")
    path = _path(folder, files // 2)
    edited, named = [], []
    for number in range(changes):
        path.write_text(path.read_text().replace(f"within: {30 + number}d", f"within: {31 + number}d"))
        edited.append(await _read(book, pauses))
        path.write_text(f"{path.read_text()}---\nmessage: new-{number}\nkind: toast\ntitle: New\n")
        named.append(await _read(book, pauses))
    ticking.cancel()
    return [
        row(f"loading {files * TRIGGERS:,} triggers", [taken for taken, _ in loading], "s", below=LOAD_GOAL),
        row("advice on them, once they are live", [advice for _, advice in loading], "s"),
        row(f"again, one file of {files} changed", [taken for taken, _ in edited], "s", below=RELOAD_GOAL),
        row("again, with a new message", [taken for taken, _ in named], "s", below=RELOAD_GOAL),
        row("longest pause, at rest", [resting], "ms", places=1),
        row("longest pause, loading", [pause], "ms", places=1, below=PAUSE_GOAL),
        row("longest pause, again", [each for _, each in edited + named], "ms", places=1, below=PAUSE_GOAL),
    ]


def _load(folder: Path) -> tuple[float, float]:
    """Seconds of processor time until the rules can be live, and for the advice on them, with nothing beside it; not
    those of letting go of it all, as no server does."""
    start = process_time()
    loaded = compile_sources(read_sources(folder), {})
    compiled = process_time()
    loaded.advise()
    return compiled - start, process_time() - compiled


async def _read(book: Rulebook, pauses: list[float]) -> tuple[float, float]:
    """Seconds of processor time, and milliseconds of the longest pause until some time after."""
    pauses.clear()
    start = process_time()
    await book.reread()
    taken = process_time() - start
    await asyncio.sleep(AFTER)
    return taken, max(pauses)


async def _tick(pauses: list[float]) -> None:
    """By how many milliseconds each turn came late."""
    while True:
        start = perf_counter()
        await asyncio.sleep(TICK)
        pauses.append((perf_counter() - start - TICK) * 1_000)


def _path(folder: Path, area: int) -> Path:
    return folder / f"area-{area:03}.yaml"


def _file(area: int) -> str:
    messages = [MESSAGE.format(area=area, number=number) for number in range(2)]
    triggers = [_trigger(area, number) for number in range(TRIGGERS)]
    return "---\n".join([COMMON.format(area=area), *messages, *triggers])


def _trigger(area: int, number: int) -> str:
    every = area * TRIGGERS + number
    names = {"area": area, "number": number, "least": every % 9 + 2, "tip": every % 2}
    when, condition, then = (forms[every % len(forms)].format(**names) for forms in (WHENS, CONDITIONS, THENS))
    return TRIGGER.format(when=when, condition=condition, then=then, **names)
