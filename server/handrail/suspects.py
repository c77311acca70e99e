"""What each process of this machine is deciding, written where a crash cannot take it away.

Evaluating an event may end the process itself: a bug in a C library, memory running out, a watchdog. Its sender then
sends it again, to the next process. So every process has a slot in one small file that all of them map; it writes
there what it is about to evaluate and clears it afterwards, which costs no system call. What is found in the slot of a
process that is gone is a suspect, and its strikes are counted in the same file. The file must outlive the process:
where the data folder is thrown away with it, crashes are not counted.

A slot is held by a lock on its number, which the system lets go of however the process ends. One process opens the file
once: such locks do not tell two openings in one process apart.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import structlog

from handrail.counts import Counts

SLOTS = 64
STRIKES = 192  # remembered, the latest
DIGEST = 8
ENTRY = 2 * DIGEST  # of the user, of the event
SIZE = (SLOTS + STRIKES) * ENTRY
STRUCK = SLOTS * ENTRY  # where the strikes begin
NOTHING = bytes(ENTRY)
NOBODY, NO_STRIKES = bytes(STRUCK), bytes(SIZE - STRUCK)

log = structlog.get_logger(__name__)


# An event of a user, under one version of the rules: when they change, everything may be tried again. The first half
# stands for the user alone.
Mark = bytes


class Strikes(NamedTuple):
    """How often a process died while it decided this event, and any event of this user."""

    event: int
    user: int


def mark_of(version: str, user: str, event: str) -> Mark:
    return _digest(version, user) + blake2b(f"{version}\n{user}\n{event}".encode(), digest_size=DIGEST).digest()


@lru_cache(maxsize=10_000)
def _digest(version: str, user: str) -> bytes:
    return blake2b(f"{version}\n{user}".encode(), digest_size=DIGEST).digest()


class Suspects:
    """Raises OSError when the file cannot be had, or all its slots are taken."""

    def __init__(self, path: Path, counts: Counts | None = None) -> None:
        self._counts = counts or Counts()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(self._file).st_size != SIZE:
                os.ftruncate(self._file, SIZE)
            self._map = mmap.mmap(self._file, SIZE)
            self._at = self._take_slot() * ENTRY
        except BaseException:
            os.close(self._file)
            raise

    def strikes(self, mark: Mark) -> Strikes:
        user = mark[:DIGEST]
        if not self._may_have(user):
            return Strikes(0, 0)
        self._collect()
        struck = [self._map[at : at + ENTRY] for at in range(STRUCK, SIZE, ENTRY)]
        return Strikes(struck.count(mark), sum(entry[:DIGEST] == user for entry in struck))

    def _may_have(self, user: bytes) -> bool:
        """Mostly all is empty, which is seen at once; bytes are searched many times faster than a map."""
        slots, struck = self._map[:STRUCK], self._map[STRUCK:]
        return (slots != NOBODY and user in slots) or (struck != NO_STRIKES and user in struck)

    def enter(self, mark: Mark) -> None:
        """This is evaluated from now on until `leave`: if it ends the process, it is on record."""
        self._map[self._at : self._at + ENTRY] = mark

    def leave(self) -> None:
        self._map[self._at : self._at + ENTRY] = NOTHING

    def close(self) -> None:
        self._map.close()
        os.close(self._file)

    def _take_slot(self) -> int:
        for slot in range(SLOTS):
            if self._lock(slot):
                with self._alone():
                    self._strike(slot)
                return slot
        raise OSError(f"more than {SLOTS} processes use it")

    def _collect(self) -> None:
        """Count what the processes that are gone were at."""
        for slot in range(SLOTS):
            mine = slot * ENTRY == self._at
            if not mine and self._map[slot * ENTRY : slot * ENTRY + ENTRY] != NOTHING and self._lock(slot):
                with self._alone():
                    self._strike(slot)
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, slot)

    def _strike(self, slot: int) -> None:
        at = slot * ENTRY
        found = self._map[at : at + ENTRY]
        if found == NOTHING:
            return
        self._counts.add("crashes_while_deciding")
        log.error("a process died while it decided an event", mark=found.hex())
        self._map[STRUCK + ENTRY : SIZE] = self._map[STRUCK : SIZE - ENTRY]
        self._map[STRUCK : STRUCK + ENTRY] = found
        self._map[at : at + ENTRY] = NOTHING

    def _lock(self, slot: int) -> bool:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, slot)
        except BlockingIOError:
            return False
        return True

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process moves strikes meanwhile."""
        fcntl.lockf(self._file, fcntl.LOCK_EX, 1, SIZE)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, SIZE)
