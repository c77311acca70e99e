"""Reading archives: what each kind of line becomes, what is refused and where, and what a file turns out to be."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from handrail.core.events import Activity, Alarm, Identify, Track
from handrail.core.replay import Entry
from handrail.recordings import LONGEST, Refused, find_files, hint, read_file, read_line

AT = 1_767_603_600_000
NOON = "2026-01-05T09:00:00Z"
CALL = {"type": "track", "event": "tried", "userId": "ann", "messageId": "m1", "timestamp": NOON}


def read(line: Any) -> Entry | Refused | None:
    return read_line(line if isinstance(line, bytes) else json.dumps(line).encode(), "here:7")


def test_a_call_is_what_it_would_be_over_http() -> None:
    assert read(
        {**CALL, "properties": {"n": 1}, "context": {"locale": "de", "ip": "10.0.0.1"}, "writeKey": "k"}
    ) == Entry("ann", AT, Track(id="m1", name="tried", at=AT, properties={"n": 1}, context={"locale": "de"}))
    assert read({**CALL, "type": "identify", "traits": {"plan": "pro"}}) == Entry(
        "ann", AT, Identify(id="m1", at=AT, traits={"plan": "pro"})
    )


def test_times_were_corrected_when_they_were_recorded() -> None:
    late = {**CALL, "sentAt": "2026-01-05T10:00:00Z", "receivedAt": "2026-01-05T12:00:00Z"}
    assert isinstance(entry := read(late), Entry)
    assert entry.now == AT
    late = {**{key: value for key, value in CALL.items() if key != "timestamp"}, "receivedAt": NOON}
    assert isinstance(entry := read(late), Entry)
    assert entry.now == AT


def test_a_call_without_an_id_is_known_by_its_place() -> None:
    assert isinstance(entry := read({**CALL, "messageId": None, "userId": None, "anonymousId": 12}), Entry)
    assert (entry.user, entry.event.id) == ("12", "here:7")


def test_a_line_of_the_log_keeps_the_time_of_deciding() -> None:
    event = {"type": "track", "id": "m1", "name": "tried", "at": AT}
    line = {
        "at": AT,
        "now": AT + 5,
        "user": "ann",
        "event": event,
        "decisions": [],
        "trace": [],
        "prompts": {"p": "hi"},
    }
    assert read(line) == Entry("ann", AT + 5, Track(id="m1", name="tried", at=AT), True, {"p": "hi"})
    edge = {"type": "activity", "id": "a", "at": AT, "connection": "c", "visible": False}
    assert read({"at": AT, "user": "ann", "event": edge}) == Entry(
        "ann", AT, Activity(id="a", at=AT, connection="c", visible=False), True
    )


def test_an_alarm_of_the_log_says_up_to_when_time_had_passed() -> None:
    assert read({"at": AT, "user": "ann", "event": {"type": "alarm", "at": AT}}) == Entry("ann", AT, Alarm(at=AT), True)
    lost = {"type": "alarm", "at": AT, "lost_nodes": ["n"]}
    assert read({"at": AT, "user": "ann", "event": lost}) == Entry("ann", AT, Alarm(at=AT, lost_nodes=("n",)), True)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "no JSON: Input data was truncated"),
        (b'{"traits":' + b'{"a":' * 100_000, "no JSON: "),
        (b"user,event,time", "no JSON: "),
        (b'{"event": 3, "user" "ann"}', "no JSON: "),
        (b'{"type": "\xff"}', "no JSON: "),
        (b"[1]", "neither a call nor a line of the event log: Expected `object`, got `array`"),
        (
            {**CALL, "event": 3},
            "neither a call nor a line of the event log: Expected `str | null`, got `int` - at `$.event`",
        ),
        ({**CALL, "type": "trak"}, "'trak' is no type of call."),
        ({**CALL, "timestamp": "yesterday"}, "'yesterday' is no ISO 8601 time."),
        ({**CALL, "timestamp": None}, "The call has no timestamp."),
        ({**CALL, "userId": None}, "The user id is missing."),
        ({**CALL, "event": "session_started"}, "'session_started' is made by the server and cannot be sent."),
        (
            {"user": "ann", "at": AT, "event": {"type": "nap"}},
            "neither a call nor a line of the event log: Invalid value 'nap'",
        ),
        ({"user": "", "at": AT, "event": {"type": "alarm", "at": AT}}, "The user id is missing."),
        ({**CALL, "timestamp": 2**53}, "The time lies before 1970 or too far ahead."),
        ({"user": "ann", "at": 2**53, "event": {"type": "alarm", "at": AT}}, "The time lies before 1970 or too far"),
        ({"user": "ann", "at": AT, "event": {"type": "alarm", "at": -1}}, "The time lies before 1970 or too far"),
        (b" " * LONGEST + b"{}", "The line has more than 1048576 bytes."),
    ],
)
def test_what_cannot_be_read_says_where_and_why(line: Any, message: str) -> None:
    refused = read(line)
    assert isinstance(refused, Refused)
    assert str(refused).startswith(f"here:7: {message}")


def test_a_folder_is_read_in_order_gzip_or_not_and_hidden_files_are_not(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    line = json.dumps(CALL).encode() + b"\n"
    (tmp_path / "b" / "2.jsonl.gz").write_bytes(gzip.compress(line * 3))
    (tmp_path / "1.ndjson").write_bytes(b"\n" + line + b"\r\n" + line.strip())
    for name in (".hidden.jsonl", "notes.txt", "rules.yaml"):
        (tmp_path / name).write_bytes(line)
    files = find_files(tmp_path)
    assert [path.name for path in files] == ["1.ndjson", "2.jsonl.gz"]
    assert [sum(isinstance(each, Entry) for each in read_file(path)) for path in files] == [2, 3]
    assert find_files(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]


def test_a_line_too_long_is_one_line_and_the_next_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"x" * (3 * LONGEST) + b"\n" + json.dumps(CALL).encode())
    refused, entry = read_file(path)
    assert str(refused) == f"{path}:1: The line has more than 1048576 bytes."
    assert isinstance(entry, Entry)


def test_damaged_gzip_keeps_what_came_before(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(CALL).encode() + b"\n" + b" " * 100_000)[:-4])
    entry, *_, refused = read_file(path)
    assert isinstance(entry, Entry)
    assert "the gzip data are damaged or end early" in str(refused)


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (b'[\n{"type":', "is one JSON array: make it JSON Lines, one event a line (jq -c '.[]' does)"),
        (b"PAR1\x15\x04", "is Parquet: export it as JSON Lines, one event a line"),
        (gzip.compress(b"PAR1"), "is Parquet: export it as JSON Lines, one event a line"),
        (b"user,event", "each line must be one JSON object, a Segment call or a line of Handrail's event log"),
        (b"", "each line must be one JSON object"),
        (b"\x1f\x8b\x00", "each line must be one JSON object"),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path: Path, start: bytes, said: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(start)
    assert said in hint(path)
