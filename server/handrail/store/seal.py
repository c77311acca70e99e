"""Whether the files of the embedded store are those it left behind, or were put back, mended or cut since.

A small file lies among them. Its time of change, which nobody can set, is noted outside, with the sizes of the others:
a copy has another time, and a file that was mended is shorter. Taking whole files for others costs users a new epoch
and nothing else; so does a seal that is missing.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

_NAME = "handrail.seal"


class _Note(Struct, frozen=True):
    """`changed` is the ctime of the file among the data, in ns; `sizes` are those of the data, in bytes."""

    changed: int
    sizes: dict[str, int]


class Seal:
    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / "appendonlydir"
        self._note = data_dir / _NAME

    def holds(self) -> bool:
        try:
            note = msgspec.json.decode(self._note.read_bytes(), type=_Note)
            changed = (self._folder / _NAME).stat().st_ctime_ns
            sizes = self._sizes()
        except (OSError, msgspec.MsgspecError):
            return False
        return changed == note.changed and all(sizes.get(name, size) >= size for name, size in note.sizes.items())

    def put(self) -> None:
        """The files are as they should be. Raises OSError."""
        inner = self._folder / _NAME
        if not self.holds():
            _write(inner, b"")
        _write(self._note, msgspec.json.encode(_Note(inner.stat().st_ctime_ns, self._sizes())))

    def tear(self) -> None:
        """They may be others when they are next looked at."""
        with suppress(OSError):
            self._note.unlink()

    def _sizes(self) -> dict[str, int]:
        """Of the files that only ever grow until they are replaced by others of another name."""
        return {path.name: path.stat().st_size for path in self._folder.glob("*.aof")}


def _write(path: Path, content: bytes) -> None:
    """In a way that a loss of power leaves the old content or the new one."""
    fresh = path.with_name(f"{path.name}.new")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
