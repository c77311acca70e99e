"""What processes were deciding when they died: found in their slots, counted, forgotten when the rules change."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from handrail.suspects import SIZE, SLOTS, STRIKES, Strikes, Suspects, mark_of

E1, E2, OTHER = mark_of("v1", "ada", "e1"), mark_of("v1", "ada", "e2"), mark_of("v1", "bea", "e1")
DIE = """
import os, sys
from pathlib import Path
from handrail.suspects import Suspects, mark_of
suspects = Suspects(Path(sys.argv[1]))
suspects.enter(mark_of("v1", "ada", sys.argv[2]))
if len(sys.argv) > 3:
    suspects.leave()
print("there", flush=True)
if sys.argv[3:] == ["wait"]:
    sys.stdin.read()
os._exit(9)
"""


def die(path: Path, event: str, *more: str) -> None:
    done = subprocess.run([sys.executable, "-c", DIE, str(path), event, *more], check=False, stdout=subprocess.DEVNULL)
    assert done.returncode == 9


def test_deaths_are_counted_by_event_and_by_user(tmp_path: Path) -> None:
    suspects = Suspects(tmp_path / "at-work")
    assert suspects.strikes(E1) == Strikes(0, 0)
    for count in (1, 2, 3):
        die(tmp_path / "at-work", "e1")
        assert suspects.strikes(E1) == Strikes(count, count)
    die(tmp_path / "at-work", "e2")
    assert (suspects.strikes(E1), suspects.strikes(E2)) == (Strikes(3, 4), Strikes(1, 4))
    assert suspects.strikes(OTHER) == suspects.strikes(mark_of("v2", "ada", "e1")) == Strikes(0, 0)
    suspects.close()


def test_the_next_process_in_the_slot_counts_what_it_finds(tmp_path: Path) -> None:
    for _ in range(2):
        die(tmp_path / "at-work", "e1")
    suspects = Suspects(tmp_path / "at-work")
    assert suspects.strikes(E1).event == 2
    suspects.close()


def test_a_death_in_between_is_nobodys_fault(tmp_path: Path) -> None:
    suspects = Suspects(tmp_path / "at-work")
    die(tmp_path / "at-work", "e1", "left")
    assert suspects.strikes(E1) == Strikes(0, 0)
    suspects.close()


def test_what_a_living_process_is_at_is_no_strike(tmp_path: Path) -> None:
    path = tmp_path / "at-work"
    script = DIE.replace("if len(sys.argv) > 3:\n    suspects.leave()\n", "")
    command = [sys.executable, "-c", script, str(path), "e1", "wait"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"there\n"
        suspects = Suspects(path)
        assert suspects.strikes(E1) == Strikes(0, 0)
        other.communicate(timeout=10)
    assert suspects.strikes(E1) == Strikes(1, 1)
    suspects.close()


def test_only_the_latest_strikes_are_remembered(tmp_path: Path) -> None:
    suspects = Suspects(tmp_path / "at-work")
    for number in range(STRIKES + 5):
        suspects.enter(mark_of("v1", "ada", f"e{number}"))
        suspects.close()
        suspects = Suspects(tmp_path / "at-work")
    assert (tmp_path / "at-work").stat().st_size == SIZE
    assert suspects.strikes(mark_of("v1", "ada", "e4")).event == 0
    assert suspects.strikes(mark_of("v1", "ada", "e5")) == Strikes(1, STRIKES)
    suspects.close()


def test_a_file_that_cannot_be_had_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        Suspects(tmp_path / "file" / "at-work")
    monkeypatch.setattr(Suspects, "_lock", lambda *_: False)
    with pytest.raises(OSError, match=f"more than {SLOTS} processes"):
        Suspects(tmp_path / "at-work")
