"""`handrail replay`: an archive through a rule set, or two, on as many processes as there are cores.

The archive is read once and spread over temporary files by user, so that memory follows the largest of these and not
the archive. They are then replayed one by one, each user on their own, and what came of it is added up: the result does
not depend on how many processes there are.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import ExitStack
from functools import lru_cache
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec import Struct, field

from handrail.core.account import account
from handrail.core.program import Program
from handrail.core.replay import Entry, replay
from handrail.core.rules import load
from handrail.core.scope import iso
from handrail.core.summary import Shift, Summary, compare, merge_shifts
from handrail.recordings import SUFFIXES, Refused, find_files, hint, read_file

PARTS = 64  # temporary files
ALONE = 20_000  # events that one process replays sooner than others have started
TOLD = 10  # refused lines told
EVERY = 2_000  # lines read between two looks at the progress

_PRESENT = (
    "Calls do not say who had a page open: users are taken to look at one from the first event of a session until it\n"
    "ends, and to answer no prompt. So idle and dwell show the most there can be; --absent shows the least."
)
_ABSENT = "Calls do not say who had a page open: nobody is taken to look at one, so idle and dwell never come true."

Rules = tuple[tuple[str, str], ...]  # path and text of each file
Progress = Callable[[str, int, int], None]
"""Told what is under way, how many events are done, and of how many (0 while that is not known)."""

_encode = msgspec.json.Encoder().encode
_entry = msgspec.json.Decoder(Entry)


class Archive(Struct):
    """What was read: `first` and `last` are the times of the earliest and the latest event, `logged` how many came from
    an event log, and `refused` what could not be read, the first few of it in full."""

    files: int = 0
    events: int = 0
    logged: int = 0
    first: int = 0
    last: int = 0
    unread: int = 0
    refused: list[str] = []
    hints: list[str] = []


class Job(Struct, frozen=True):
    """One part of the archive, and how to replay it."""

    path: str
    rules: Rules
    against: Rules | None
    until: int
    present: bool


class Replayed(Struct):
    """Under the rules, and under the others where there are any, with what each trigger gained and lost."""

    summary: Summary = field(default_factory=Summary)
    against: Summary | None = None
    shifts: dict[str, Shift] = field(default_factory=dict)

    def merge(self, other: Replayed) -> None:
        self.summary.merge(other.summary)
        if other.against is not None:
            self.against = self.against or Summary()
            self.against.merge(other.against)
        merge_shifts(self.shifts, other.shifts)


class Outcome(Struct):
    """All that `handrail replay` tells. `present`: users without a log of connections were taken to look at a page
    while their sessions were open."""

    archive: Archive
    present: bool
    seconds: float
    rules: Summary
    against: Summary | None
    shifts: dict[str, Shift]

    def lines(self) -> Iterator[str]:
        yield from _told_of(self.archive, self.rules)
        if not self.archive.events:
            return
        if self.archive.logged < self.archive.events:
            yield _PRESENT if self.present else _ABSENT
        yield ""
        yield from account(self.rules, self.against, self.shifts)
        yield f"{self.seconds:,.1f} s, {self.archive.events / self.seconds:,.0f} events a second"


def replay_archive(
    archive: Path,
    rules: Mapping[str, str],
    *,
    against: Mapping[str, str] | None = None,
    present: bool = True,
    processes: int | None = None,
    progress: Progress = lambda _what, _done, _all: None,
) -> Outcome:
    """Both rule sets are texts by path and have no faults. Nothing is sent to anybody."""
    began = time.monotonic()
    texts = tuple(rules.items()), None if against is None else tuple(against.items())
    with tempfile.TemporaryDirectory(prefix="handrail-replay-") as folder:
        parts = [Path(folder, f"{number:02}.jsonl") for number in range(PARTS)]
        read = _spread(archive, parts, progress)
        jobs = [Job(str(part), *texts, read.last, present) for part in parts]
        many = processes or os.cpu_count() or 1
        run = _alone if many == 1 or (processes is None and read.events < ALONE) else _together
        total = Replayed(against=None if against is None else Summary())
        for done in run(jobs, many, lambda events: progress("replayed", events, read.events)):
            total.merge(done)
    return Outcome(
        archive=read,
        present=present,
        seconds=time.monotonic() - began,
        rules=total.summary.settle(_program(texts[0])),
        against=None if total.against is None or texts[1] is None else total.against.settle(_program(texts[1])),
        shifts=dict(sorted(total.shifts.items())),
    )


def replay_part(job: Job) -> Replayed:
    """Each user of one part on their own, events in order of time; those of the same instant as they were read."""
    users: dict[str, list[Entry]] = {}
    with open(job.path, "rb") as file:
        for line in file:
            entry = _entry.decode(line)
            users.setdefault(entry.user, []).append(entry)
    done = Replayed(against=None if job.against is None else Summary())
    for user, entries in users.items():
        entries.sort(key=lambda entry: entry.now)
        lived = replay(_program(job.rules), entries, until=job.until, present=job.present)
        done.summary.add(lived)
        if job.against is not None and done.against is not None:
            before = replay(_program(job.against), entries, until=job.until, present=job.present)
            done.against.add(before)
            merge_shifts(done.shifts, compare(user, lived, before))
    return done


@lru_cache(maxsize=2)
def _program(rules: Rules) -> Program:
    """Compiled once a process: a program holds what cannot travel between processes. No webhook is called, so what the
    environment says of their addresses does not matter."""
    program = load(dict(rules), {}).program
    assert program is not None, "rules to replay have no faults"
    return program


def _told_of(read: Archive, summary: Summary) -> Iterator[str]:
    if read.events:
        twice = f"; repeated and left out: {summary.duplicates:,}" if summary.duplicates else ""
        yield f"{read.events:,} events of {summary.users:,} users, {iso(read.first)} to {iso(read.last)}{twice}"
    else:
        yield "no events could be read" if read.files else f"no files to read: their names end in {', '.join(SUFFIXES)}"
    if read.unread:
        yield f"{read.unread:,} {'line' if read.unread == 1 else 'lines'} could not be read:"
        yield from (f"  {each}" for each in read.refused)
        if read.unread > len(read.refused):
            yield "  …"
    yield from read.hints


def _spread(archive: Path, parts: Sequence[Path], progress: Progress) -> Archive:
    read = Archive()
    with ExitStack() as stack:
        files = [stack.enter_context(part.open("wb")) for part in parts]
        for path in find_files(archive):
            before, read.files = read.events, read.files + 1
            for number, entry in enumerate(read_file(path)):
                if isinstance(entry, Entry):
                    _keep(read, entry, files)
                elif entry is not None:
                    _refuse(read, entry)
                if number % EVERY == 0:
                    progress("read", read.events, 0)
            if read.events == before and read.unread:
                read.hints.append(hint(path))
    return read


def _keep(read: Archive, entry: Entry, files: Sequence[BinaryIO]) -> None:
    files[zlib.crc32(entry.user.encode()) % len(files)].write(_encode(entry) + b"\n")
    read.first = min(read.first, entry.now) if read.events else entry.now
    read.last = max(read.last, entry.now)
    read.events += 1
    read.logged += entry.logged


def _refuse(read: Archive, refused: Refused) -> None:
    read.unread += 1
    if len(read.refused) < TOLD:
        read.refused.append(str(refused))


def _alone(jobs: Sequence[Job], _processes: int, tell: Callable[[int], None]) -> Iterator[Replayed]:
    events = 0
    for job in jobs:
        done = replay_part(job)
        events += done.summary.events + done.summary.duplicates
        tell(events)
        yield done


def _together(jobs: Sequence[Job], processes: int, tell: Callable[[int], None]) -> Iterator[Replayed]:
    """The parts in their order, whichever were done first."""
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _follow_parent)
    try:
        futures = [pool.submit(replay_part, job) for job in jobs]
        _watch(futures, tell)
        yield from (future.result() for future in futures)
    finally:
        pool.shutdown(cancel_futures=True)


def _watch(futures: Sequence[Future[Replayed]], tell: Callable[[int], None]) -> None:
    pending, events = set(futures), 0
    while pending:
        done, pending = wait(pending, return_when=FIRST_COMPLETED)
        for future in done:
            summary = future.result().summary
            events += summary.events + summary.duplicates
        tell(events)


def _follow_parent() -> None:
    """Leave ctrl-C to the parent, and end when it has ended, however that was."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        wait_for([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
