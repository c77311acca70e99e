"""The live rules of a process: read, watched, kept while what replaces them is bad."""

from __future__ import annotations

import asyncio
import sys
from collections import UserDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from handrail.rulebook import GIVE_WAY, Rulebook, is_test, read_sources

GOOD = "trigger: {name}\nwhen: {{event: x}}\nthen: [{{set: {{seen: true}}}}]\n"
WITHIN = 5.0  # a bound for a busy machine; on a free one it takes a fifth of a second


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "deep").mkdir()
    (tmp_path / "b.yaml").write_text(GOOD.format(name="b"))
    return tmp_path


@asynccontextmanager
async def watching(folder: Path) -> AsyncIterator[tuple[Rulebook, asyncio.Event]]:
    changed = asyncio.Event()
    book = Rulebook(folder, {}, on_change=changed.set)
    book.read()
    task = asyncio.create_task(book.watch())
    await asyncio.sleep(0)
    yield book, changed
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def until_changed(changed: asyncio.Event) -> None:
    async with asyncio.timeout(WITHIN):
        await changed.wait()
    changed.clear()


def test_rules_are_files_in_order_of_path_without_tests(folder: Path) -> None:
    (folder / "deep" / "a.yaml").write_text("")
    (folder / "b.test.yaml").write_text("")
    (folder / "notes.txt").write_text("")
    assert sorted(read_sources(folder).texts) == [(folder / name).as_posix() for name in ("b.yaml", "deep/a.yaml")]
    assert is_test(folder / "b.test.yaml")


def test_what_is_hidden_is_not_read(folder: Path) -> None:
    (folder / "..2026").mkdir()
    for name in ("..2026/b.yaml", ".b.yaml"):
        (folder / name).write_text(GOOD.format(name="b"))
    assert list(read_sources(folder).texts) == [(folder / "b.yaml").as_posix()]


async def test_a_folder_that_is_gone_changes_nothing(folder: Path) -> None:
    rules = folder / "rules"
    rules.mkdir()
    (rules / "a.yaml").write_text(GOOD.format(name="a"))
    async with watching(rules) as (book, changed):
        rules.rename(folder / "elsewhere")
        async with asyncio.timeout(WITHIN):
            while not book.problems:  # noqa: ASYNC110 - nothing is called when nothing changes
                await asyncio.sleep(0.01)
        assert str(book.problems[0]) == f"{rules.as_posix()}:1:1: the folder cannot be read: No such file or directory"
        assert (list(book.program.triggers), changed.is_set()) == (["a"], False)
        rules.mkdir()
        (rules / "b.yaml").write_text(GOOD.format(name="b"))
        await until_changed(changed)
        assert (list(book.program.triggers), book.problems) == (["b"], ())


def test_a_bad_file_keeps_the_last_good_set(folder: Path) -> None:
    book = Rulebook(folder, {})
    assert book.read()
    version = book.version
    (folder / "deep" / "bad.yaml").write_text("trigger: [\n")
    assert not book.read()
    assert (book.loaded, book.version, list(book.program.triggers)) == (True, version, ["b"])
    assert "bad.yaml" in str(book.problems[0])
    (folder / "deep" / "bad.yaml").write_text(GOOD.format(name="c"))
    assert book.read()
    assert (sorted(book.program.triggers), book.problems) == (["b", "c"], ())
    assert book.version != version


async def test_a_warning_is_logged_when_it_is_new(folder: Path) -> None:
    book = Rulebook(folder, {})
    unused = f"{(folder / 'm.yaml').as_posix()}:1:10: warning: nothing shows this message"
    logged = []
    for text in ("message: m\nkind: toast\n", "message: m\nkind: modal\n", "message: m\nkind: modul\n"):
        (folder / "m.yaml").write_text(text)
        with capture_logs() as lines:
            book.read()
            await book.advise()
        logged.append([line["event"] for line in lines if line["log_level"] != "info"])
    first, second, third = logged
    assert [each.startswith(unused) for each in first] == [True]
    assert second == []
    assert third[0].startswith(f"{(folder / 'm.yaml').as_posix()}:2:7: kind: expected one of")


def test_a_start_with_faults_has_no_rules_and_says_so(folder: Path) -> None:
    (folder / "b.yaml").write_bytes(b"\xff")
    book = Rulebook(folder, {})
    assert not book.read()
    assert (book.loaded, book.version, book.triggers) == (False, "", 0)
    assert "UTF-8" in book.problems[0].message


def test_the_same_files_make_the_same_version(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    first, second = Rulebook(folder, {}), Rulebook(folder, {})
    assert first.read()
    assert second.read()
    assert not second.read()
    assert first.version == second.version


async def test_new_changed_and_removed_files_go_live(folder: Path) -> None:
    async with watching(folder) as (book, changed):
        (folder / "deep" / "c.yaml").write_text(GOOD.format(name="c"))
        await until_changed(changed)
        assert sorted(book.program.triggers) == ["b", "c"]
        (folder / "deep" / "c.yaml").write_text(GOOD.format(name="d"))
        await until_changed(changed)
        assert sorted(book.program.triggers) == ["b", "d"]
        (folder / "deep" / "c.yaml").unlink()
        await until_changed(changed)
        assert sorted(book.program.triggers) == ["b"]


async def test_what_changed_before_the_watch_began_is_seen(folder: Path) -> None:
    changed = asyncio.Event()
    book = Rulebook(folder, {}, on_change=changed.set)
    book.read()
    (folder / "b.yaml").write_text(GOOD.format(name="z"))
    task = asyncio.create_task(book.watch())
    await until_changed(changed)
    assert list(book.program.triggers) == ["z"]
    task.cancel()


def test_a_file_that_was_surely_meant_as_rules_is_told_of(folder: Path) -> None:
    (folder / "late.yml").write_text(GOOD.format(name="late"))
    (folder / ".late.yml").write_text("")
    book = Rulebook(folder, {})
    assert book.read()
    assert [(Path(each.path).name, each.severity) for each in book.problems] == [("late.yml", "warning")]


class Noting(UserDict[str, str]):
    """An environment that notes how long a thread may keep the interpreter while it is read."""

    intervals: tuple[float, ...] = ()

    def __getitem__(self, name: str) -> str:
        self.intervals += (sys.getswitchinterval(),)
        return super().__getitem__(name)


async def test_the_event_loop_gets_its_turn_often_while_rules_are_loaded(folder: Path) -> None:
    (folder / "hook.yaml").write_text("webhook: crm\nurl: ${HOOK}\n")
    usual, environ = sys.getswitchinterval(), Noting(HOOK="https://example.com")
    await Rulebook(folder, environ).reread()
    assert environ.intervals
    assert max(environ.intervals) == pytest.approx(GIVE_WAY)
    assert sys.getswitchinterval() == usual
