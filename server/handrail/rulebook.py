"""The rules that are live: read from a folder, kept while they are good, read again when a file changes.

Rules go live as soon as they are compiled; advice on them follows. A folder with a fault changes nothing: the last good
program stays and the problems are told (log, `/readyz`, `check`). At the start there is no last good one: the server
starts with an empty program and is not ready until the fault is mended.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import structlog
from msgspec import Struct
from watchfiles import Change, awatch

from handrail.core.problems import Problem
from handrail.core.program import Program
from handrail.core.rules import Loaded, Work, compile_rules, load, version_of

TEST_SUFFIX = ".test.yaml"
DEBOUNCE_MS = 100
LOOK_EVERY_MS = 500
# So many documents made at once are no longer looked through for garbage; they have no cycles. Fewer are: connections
# that live at that moment would be left out with them, and they may have cycles.
MANY = 500
GIVE_WAY = 0.0001  # seconds
Stamp = tuple[tuple[str, int, int], ...]
_log = structlog.get_logger("handrail.rules")


class Sources(Struct, frozen=True):
    """Rule files as text, by the path to show; `unreadable` tells of those that were not read, and whether that is a
    fault. They are the `whole` of the rules, unless a single file was asked for."""

    texts: dict[str, str]
    unreadable: tuple[Problem, ...] = ()
    whole: bool = True

    @property
    def version(self) -> str:
        return version_of(self.texts)


class Rulebook:
    """The live rules of one process. `on_change` is called, in the event loop, after a new program went live."""

    def __init__(
        self, folder: Path, environ: Mapping[str, str], *, on_change: Callable[[], None] = lambda: None
    ) -> None:
        self._folder = folder
        self._environ = environ
        self._on_change = on_change
        self._program = _empty_program()
        self._sources = Sources({})
        self._seen = Sources({})  # as last read, good or bad
        self._work: Work | None = None  # what came of it
        self._unadvised: Loaded | None = None
        self._told: tuple[Problem, ...] = ()  # before those there are now
        self.loaded = False
        self.problems: tuple[Problem, ...] = ()

    @property
    def program(self) -> Program:
        return self._program

    @property
    def version(self) -> str:
        """The version of the program that is live; empty before the first good one."""
        return self._program.version if self.loaded else ""

    @property
    def files(self) -> int:
        return len(self._sources.texts)

    @property
    def triggers(self) -> int:
        return len(self._program.triggers)

    def read(self) -> bool:
        """Read the folder now; whether a new program went live. Advice on it follows with `advise`, or `watch`."""
        sources = read_sources(self._folder)
        if sources == self._seen and self.loaded:
            return False
        return self._adopt(sources, compile_sources(sources, self._environ, before=self._work))

    async def watch(self) -> None:
        """Read again whenever a file changes, for ever; reading and parsing happen in a thread."""
        stamp: Stamp = ()
        async for changes in self._changes():
            await self.advise()  # on what was read at the start
            before, stamp = stamp, await asyncio.to_thread(_stamp, self._folder)
            if changes or stamp != before:
                await self.reread()

    async def reread(self) -> None:
        """Read the folder again in a thread, put what is good live, and advise on it."""
        sources = await asyncio.to_thread(read_sources, self._folder)
        if sources == self._seen:
            return
        before = self._work
        with _taking_turns():
            loaded = await asyncio.to_thread(compile_sources, sources, self._environ, before=before)
        if self._adopt(sources, loaded):
            self._on_change()
        await self.advise()
        if before is not None:
            await asyncio.to_thread(before.give_up)

    async def advise(self) -> None:
        """Look over the rules that went live last, if that was not done yet, and tell of what is odd."""
        loaded, self._unadvised = self._unadvised, None
        if loaded is None:
            return
        with _taking_turns():
            advice = await asyncio.to_thread(loaded.advise, whole=self._sources.whole)
        self._tell(advice)
        self.problems = tuple(sorted((*self.problems, *advice)))

    def _changes(self) -> AsyncIterator[set[tuple[Change, str]]]:
        """What the system tells, and a moment to look for ourselves now and then: it tells nothing of what changed
        before it began to watch, nor on some shared and network folders."""
        return awatch(
            self._folder,
            debounce=DEBOUNCE_MS,
            step=25,
            rust_timeout=LOOK_EVERY_MS,
            yield_on_timeout=True,
            ignore_permission_denied=True,
        )

    def _adopt(self, sources: Sources, loaded: Loaded) -> bool:
        self._seen, self._work = sources, loaded.work
        self._told, self.problems = self.problems, loaded.problems
        self._tell(loaded.problems)
        if loaded.program is None:
            kept = f"version {self.version} stays live" if self.loaded else "none are live until this is mended"
            _log.error(f"rules have faults: {kept}")
            return False
        self._program, self._sources, self.loaded = loaded.program, sources, True
        self._unadvised = loaded
        _log.info("rules are live", folder=_shown(self._folder), triggers=self.triggers, version=self.version)
        return True

    def _tell(self, problems: tuple[Problem, ...]) -> None:
        """Log every error, and the warnings that were not there before."""
        for problem in problems:
            if problem.severity == "error":
                _log.error(str(problem))
            elif problem not in self._told:
                _log.warning(str(problem))


def read_sources(folder: Path) -> Sources:
    """The rule files of a folder (or a single file); tests (`*.test.yaml`) are left out.

    A folder that is gone or cannot be listed is unreadable, not empty: its rules must not end because it was moved.
    """
    faults: list[OSError] = []
    read = _read_files({_shown(path): path for path in rule_files(folder, faults.append)})
    gone = [fault for fault in faults if not isinstance(fault, FileNotFoundError) or Path(fault.filename) == folder]
    return Sources(read.texts, (*read.unreadable, *map(_unlisted, gone), *_misnamed(folder)), not folder.is_file())


def read_tests(folder: Path) -> Sources:
    """The tests (`*.test.yaml`) of a folder, or those beside a single file."""
    return _read_files({_shown(path): path for path in tests_of(folder)})


def _read_files(paths: Mapping[str, Path]) -> Sources:
    """Files by the name to show."""
    texts: dict[str, str] = {}
    unreadable: list[Problem] = []
    for shown, path in paths.items():
        try:
            texts[shown] = path.read_text("utf-8")
        except UnicodeDecodeError as fault:
            unreadable.append(Problem(shown, 1, 1, f"the file is not UTF-8 (byte {fault.start + 1})"))
        except FileNotFoundError:
            continue  # an editor moved it away under our eyes; the watch tells when it is back
        except OSError as fault:
            unreadable.append(Problem(shown, 1, 1, f"the file cannot be read: {fault.strerror}"))
    return Sources(texts, tuple(unreadable))


def _misnamed(folder: Path) -> Iterator[Problem]:
    """Files that were surely meant as rules."""
    for path in sorted(folder.rglob("*.yml")) if folder.is_dir() else ():
        if not any(part.startswith(".") for part in path.relative_to(folder).parts):
            message = "this file is not read: the names of rule files end in .yaml"
            yield Problem(_shown(path), 1, 1, message, "warning")


def _unlisted(fault: OSError) -> Problem:
    return Problem(_shown(Path(fault.filename)), 1, 1, f"the folder cannot be read: {fault.strerror}")


def _shown(path: Path) -> str:
    """The path from where we are, if it is below; that is what an author types and an editor opens."""
    return (path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path).as_posix()


def rule_files(folder: Path, on_fault: Callable[[OSError], None] | None = None) -> list[Path]:
    """`**/*.yaml` without tests and without what is hidden, which is an editor's or where a mounted folder keeps its
    versions. `on_fault` is told of folders that cannot be listed."""
    if folder.is_file():
        return [folder]
    found = []
    for place, folders, names in os.walk(folder, onerror=on_fault):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in names if name.endswith(".yaml") and not name.startswith(".")]
    return sorted(path for path in found if not is_test(path))


def is_test(path: Path) -> bool:
    return path.name.endswith(TEST_SUFFIX)


def tests_of(folder: Path) -> list[Path]:
    if folder.is_dir():
        return sorted(folder.rglob(f"*{TEST_SUFFIX}"))
    beside = folder if is_test(folder) else folder.with_suffix(TEST_SUFFIX)
    return [beside] if beside.exists() else []


def load_sources(sources: Sources, environ: Mapping[str, str]) -> Loaded:
    """The program, or the problems, with all advice. An unreadable file is a fault like any other."""
    loaded = compile_sources(sources, environ)
    advice = loaded.advise(whole=sources.whole)
    return replace(loaded, problems=tuple(sorted((*loaded.problems, *advice))))


def compile_sources(sources: Sources, environ: Mapping[str, str], *, before: Work | None = None) -> Loaded:
    """As `load_sources`, without the advice; `before` is the work of an earlier loading."""
    with _without_collection():
        loaded = compile_rules(sources.texts, environ, before=before)
        if loaded.work and loaded.work.made >= MANY:
            gc.freeze()
    faulty = any(problem.severity == "error" for problem in sources.unreadable)
    return replace(
        loaded,
        program=None if faulty else loaded.program,
        problems=tuple(sorted((*sources.unreadable, *loaded.problems))),
    )


@contextmanager
def _without_collection() -> Iterator[None]:
    """No looking for garbage in the meantime: threads would wait while it goes through all rules, time and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def _taking_turns() -> Iterator[None]:
    """Have the thread that loads give way often: the event loop gives its turn up with every message that it reads or
    writes, and would wait the usual five milliseconds to get it back each time."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(min(usual, GIVE_WAY))
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


def _stamp(folder: Path) -> Stamp:
    """What a change of any rule file changes, without reading them."""
    stamps = []
    for path in rule_files(folder):
        with suppress(OSError):
            status = path.stat()
            stamps.append((path.as_posix(), status.st_mtime_ns, status.st_size))
    return tuple(stamps)


def _empty_program() -> Program:
    program = load({}, {}).program
    assert program is not None, "no rules at all are a good set"
    return program
