"""`handrail replay` as a whole: an archive through rules on real processes, and what it prints."""

from __future__ import annotations

import gzip
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from handrail.replaying import Outcome, replay_archive
from handrail.rulebook import read_sources
from handrail.ticker import Ticker
from test_cli import clean, handrail

ROOT = Path(__file__).parents[1]
RULES = read_sources(ROOT / "rules").texts
EXAMPLE = ROOT / "examples" / "replay" / "events.jsonl"


def calls(events: int) -> Iterator[dict[str, Any]]:
    """Forty users over ten days, in no order."""
    chance = Random(7)
    for number in range(events):
        at = 1_767_603_600_000 + chance.randrange(10 * 86_400_000)
        event, key, values = chance.choice(
            [
                ("feature_used", "feature", ("reports", "filters", "alerts", "exports")),
                ("step_viewed", "step", ("welcome", "profile", "workspace")),
                ("step_skipped", "step", ("welcome", "profile", "workspace")),
            ]
        )
        told = {"type": "track", "event": event, "properties": {key: chance.choice(values)}}
        yield {**told, "userId": f"user-{chance.randrange(40)}", "messageId": f"m-{number}", "timestamp": at}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Six hundred calls in two files, with a line in each that is none."""
    lines = [json.dumps(call) for call in calls(600)]
    (tmp_path / "archive").mkdir()
    for number, part in enumerate((lines[:250], lines[250:])):
        (tmp_path / "archive" / f"{number}.jsonl").write_text("\n".join([*part, "{no"]) + "\n")
    return tmp_path / "archive"


def sums(outcome: Outcome) -> bytes:
    return msgspec.json.encode(msgspec.structs.replace(outcome, seconds=0.0))


def test_the_result_is_the_same_on_one_process_and_on_two_and_whatever_the_order_of_lines(archive: Path) -> None:
    against = {name: text.replace("idle: 3m", "idle: 1m") for name, text in RULES.items()}
    one = replay_archive(archive, RULES, against=against, processes=1)
    assert sums(one) == sums(replay_archive(archive, RULES, against=against, processes=2))
    assert (one.archive.files, one.archive.events, one.archive.unread) == (2, 600, 2)
    assert [each.partition(": ")[0] for each in one.archive.refused] == [
        f"{archive}/0.jsonl:251",
        f"{archive}/1.jsonl:351",
    ]
    assert one.shifts["stuck-newcomer"].gained > 0
    for path in archive.iterdir():
        path.write_text("\n".join(reversed(path.read_text().splitlines()[:-1])))
    turned = replay_archive(archive, RULES, against=against, processes=1)
    assert (turned.rules, turned.shifts) == (one.rules, one.shifts)


def test_progress_is_told_and_ends_at_the_end(archive: Path) -> None:
    told: list[tuple[str, int, int]] = []
    replay_archive(archive, RULES, processes=1, progress=lambda *step: told.append(step))
    assert told[0] == ("read", 1, 0)
    assert told[-1] == ("replayed", 600, 600)


class Now:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("out", "after", "shown"),
    [
        (io.StringIO(), 5.0, "replayed 50 of 200 events (25%), 10 a second, about 15s left\n"),
        (Terminal(), 0.5, "\rreplayed 50 of 200 events (25%), 100 a second, about 1s left"),
    ],
    ids=["elsewhere", "terminal"],
)
def test_a_line_tells_how_far_it_is(out: io.StringIO, after: float, shown: str) -> None:
    clock = Now()
    ticker = Ticker(out, clock=clock)
    ticker.tell("replayed", 0, 200)
    clock.now = after
    ticker.tell("replayed", 50, 200)
    ticker.tell("replayed", 51, 200)
    assert out.getvalue() == shown
    ticker.clear()
    assert out.getvalue().endswith("\r") == out.isatty()


# --- the command ---


def test_replay_prints_what_the_rules_would_have_done(tmp_path: Path) -> None:
    done = handrail(ROOT, "replay", "rules", str(EXAMPLE.relative_to(ROOT)))
    assert (done.returncode, done.stderr) == (0, "")
    printed = re.sub(r"\n[^\n]* s, [^\n]* a second\n$", "\n", done.stdout)
    page = (ROOT / "docs" / "rules.md").read_text()
    assert f"$ handrail replay rules examples/replay/events.jsonl\n{printed}```" in page, printed


def test_replay_compares_for_programs_too(tmp_path: Path) -> None:
    before = tmp_path / "before.yaml"
    before.write_text("trigger: tip-any\nwhen: {event: feature_used}\nthen: [{set: {tried: true}}]\n")
    done = handrail(ROOT, "replay", "rules", str(EXAMPLE), "--against", str(before), "--format", "json")
    told = json.loads(done.stdout)
    assert told["against"]["triggers"]["tip-any"]["outcomes"]["fired"]["users"] == 3
    assert told["shifts"]["tip-any"] == {
        "gained": 0,
        "lost": 3,
        "gained_users": [],
        "lost_users": ["ada", "ben", "cyd"],
    }
    done = handrail(ROOT, "replay", "rules", str(EXAMPLE), "--against", str(before))
    assert re.search(r"^tip-any \(removed\) +fired +– +– +3 +8 +0 +3$", done.stdout, re.MULTILINE), done.stdout


def test_replay_of_nothing_readable_is_one_and_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "array.json").write_text('[\n{"type": "track"}\n]')
    done = handrail(ROOT, "replay", "rules", str(tmp_path / "array.json"))
    assert done.returncode == 1
    assert "no events could be read" in done.stdout
    assert "is one JSON array: make it JSON Lines" in done.stdout
    (tmp_path / "empty").mkdir()
    done = handrail(ROOT, "replay", "rules", str(tmp_path / "empty"))
    assert (done.returncode, done.stdout) == (1, "no files to read: their names end in .jsonl, .ndjson, .json\n")


def test_replay_of_faulty_rules_names_the_faults(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("mesage: b\n")
    done = handrail(tmp_path, "replay", "bad.yaml", str(EXAMPLE))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("bad.yaml:1:1: ")


@pytest.mark.parametrize("call", [["nowhere", "a.jsonl"], ["rules", "nowhere.jsonl"], ["rules"]])
def test_a_wrong_call_is_two(call: list[str]) -> None:
    done = handrail(ROOT, "replay", *call)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


def test_replay_reads_what_is_piped_in() -> None:
    command = [sys.executable, "-m", "handrail", "replay", "rules", "-", "--absent"]
    packed = gzip.compress(EXAMPLE.read_bytes())
    done = subprocess.run(command, cwd=ROOT, env=clean(), input=packed, capture_output=True, timeout=60, check=True)
    assert done.stdout.startswith(b"23 events of 4 users")
    assert b"nobody is taken to look" in done.stdout
    assert b"stuck-newcomer" not in done.stdout.partition(b"never woken")[0]
