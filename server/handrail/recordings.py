"""Recorded events: files of JSON Lines as entries to replay.

A line is a call as Segment and RudderStack export it, or a line of Handrail's own event log. What cannot be read is
told and left out; it never ends the reading.
"""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import msgspec
from msgspec import Struct

from handrail.core.events import Event
from handrail.core.inputs import BadInput, read_time
from handrail.core.replay import Entry
from handrail.identity import check_user
from handrail.web.segment import Item, Time, translate

SUFFIXES = (".jsonl", ".ndjson", ".json")
LONGEST = 1024 * 1024  # bytes of a line
_SHAPES = {
    b"PAR1": "Parquet",
    b"PK\x03\x04": "a zip archive",
    b"\x28\xb5\x2f\xfd": "packed with zstd",
    b"Obj\x01": "Avro",
}


class Refused(Struct, frozen=True):
    """A line, or from there on a file, that could not be read."""

    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


class _Call(Item, rename="camel"):
    received_at: Time = None


class _Logged(Struct):
    """A line of the event log; old ones have no `now`, `prompts` and `more`."""

    user: str
    at: int
    event: Event
    now: int | None = None
    prompts: dict[str, str] = {}
    more: bool = False


class _Mark(Struct):
    user: str


_call = msgspec.json.Decoder(_Call)
_logged = msgspec.json.Decoder(_Logged)
_mark = msgspec.json.Decoder(_Mark)


def find_files(archive: Path) -> list[Path]:
    """The files of a folder, or the one file; `-` is standard input."""
    if not archive.is_dir():
        return [archive]
    found = (path for path in sorted(archive.rglob("*")) if path.name.removesuffix(".gz").endswith(SUFFIXES))
    return [path for path in found if path.is_file() and not path.name.startswith(".")]


def read_file(path: Path) -> Iterator[Entry | Refused | None]:
    """One for each line that is not blank; None for one that says nothing new (an alarm: alarms ring
    anyway)."""
    number = 0
    try:
        with _open(path) as file:
            for number, line in enumerate(_lines(file), 1):
                if line and not line.isspace():
                    yield read_line(line, f"{path}:{number}")
    except (EOFError, zlib.error, gzip.BadGzipFile):
        yield Refused(f"{path}:{number + 1}", "the gzip data are damaged or end early; what follows is left out")
    except OSError as fault:
        yield Refused(str(path), f"the file cannot be read: {fault.strerror}")


def hint(path: Path) -> str:
    """What the file seems to be instead of JSON Lines."""
    if str(path) == "-":
        return "each line must be one JSON object, in UTF-8"
    try:
        with _open(path) as file:
            start = file.read(512)
    except (OSError, EOFError, zlib.error):
        start = b""
    shape = next((shape for magic, shape in _SHAPES.items() if start.startswith(magic)), "")
    if shape:
        return f"{path} is {shape}: export it as JSON Lines, one event a line"
    if start.lstrip()[:1] == b"[":
        return f"{path} is one JSON array: make it JSON Lines, one event a line (jq -c '.[]' does)"
    return f"{path}: each line must be one JSON object, a Segment call or a line of Handrail's event log"


def read_line(line: bytes, where: str) -> Entry | Refused | None:
    """What a line holds; None where that is nothing to replay."""
    try:
        if len(line) > LONGEST:
            raise BadInput("too-large", f"The line has more than {LONGEST} bytes.", "Leave it out.")
        return _read_logged(line) if _is_logged(line) else _read_call(_call.decode(line), where)
    except BadInput as fault:
        return Refused(where, fault.message)
    except msgspec.ValidationError as fault:
        return Refused(where, f"neither a call nor a line of the event log: {fault}")
    except (ValueError, RecursionError) as fault:
        return Refused(where, f"no JSON: {fault}")


def _is_logged(line: bytes) -> bool:
    """Handrail begins its lines so; other programs may have put the keys in another order since."""
    if line.startswith(b'{"at":'):
        return True
    try:
        _mark.decode(line)
    except msgspec.ValidationError:
        return False
    return True


def _read_call(call: _Call, where: str) -> Entry:
    """Times of an archive were corrected when it was recorded; where a call has none, when it came in counts."""
    stamps = (call.timestamp, call.original_timestamp, call.received_at, call.sent_at)
    stamp = next((stamp for stamp in stamps if stamp is not None), None)
    if stamp is None:
        raise BadInput("no-time", "The call has no timestamp.", "Export it with `timestamp`.")
    call.timestamp = at = read_time(stamp)
    call.sent_at = None
    told = translate(call, call.type or "", now=at, new_id=lambda: where)
    return Entry(check_user(told.user_id or told.anonymous_id), at, told.event)


def _read_logged(line: bytes) -> Entry:
    told = _logged.decode(line)
    user, now = check_user(told.user), told.at if told.now is None else told.now
    for at in (now, told.event.at):
        read_time(at)
    return Entry(user, now, told.event, True, told.prompts, told.more)


@contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    """The file's bytes, unpacked if they are gzip, whatever its name."""
    with open(sys.stdin.fileno(), "rb", closefd=False) if str(path) == "-" else path.open("rb") as raw:
        assert isinstance(raw, io.BufferedReader)
        if raw.peek(2)[:2] != b"\x1f\x8b":
            yield raw
        else:
            with gzip.GzipFile(fileobj=raw) as unpacked:
                yield cast(BinaryIO, unpacked)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Lines; of one that is too long, only enough to see that it is."""
    while line := file.readline(LONGEST + 1):
        yield line
        while len(line) > LONGEST and not line.endswith(b"\n"):
            line = file.readline(LONGEST + 1)
            if not line:
                return
