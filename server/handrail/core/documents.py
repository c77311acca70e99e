"""Rule files as text: YAML documents whose every key and value knows its line and column.

Documents with nothing to complain about, nearly all, are read for their values alone; where these stand is found by
reading once more with care, when somebody asks. Plain scalars follow YAML 1.2's core schema: `on`, `no`, `1:30` and
dates are text, `012` is twelve.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import yaml
from msgspec import Struct, field

from handrail.core.problems import Problem
from handrail.core.reader import LOADER, MAX_DEPTH, MAX_PROBLEMS, Marks, Path, Place, Reader
from handrail.core.scalars import resolve

MAX_BYTES = 256 * 1024
_DOCUMENT = re.compile(r"^(?=---(?:\s|$))", re.MULTILINE)
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Marking(Struct):
    """The marks of the one document in a chunk of text, which begins after `line` lines; found when first asked for."""

    path: str
    lines: list[str]
    line: int
    chunk: str
    found: Marks | None = None

    def read(self) -> Marks:
        if self.found is None:
            reader = Reader(self.path, self.lines, self.line)
            reader.read(self.chunk)
            self.found = reader.found[0].marks
        return self.found


class Document(Struct, frozen=True):
    """One YAML document as plain data. `marks` say where it all stands.

    Paths are tuples of keys and indexes; places are (line, column), both from 1. `faulty` are the paths already
    reported, whose values mean nothing.
    """

    path: str
    value: dict[str, Any]
    lines: list[str]
    marking: Marking
    faulty: set[Path] = field(default_factory=set)

    @property
    def marks(self) -> Marks:
        return self.marking.read()

    @property
    def place(self) -> Place:
        return self.marks.place

    def value_place(self, at: Path = ()) -> Place:
        """Where the value at a path stands; the nearest enclosing one's place if there is no such value."""
        marks = self.marks
        while at and at not in marks.values:
            at = at[:-1]
        return marks.values.get(at, marks.place)

    def key_place(self, at: Path) -> Place:
        """Where the key at a path stands; for items of a list, where the item does."""
        return self.marks.keys.get(at) or self.value_place(at)

    def inner_place(self, at: Path, text: str, line: int, column: int) -> Place:
        """Where line and column of `text`, the string at a path, stand in the file.

        Where folding or escapes make that unclear it is the place of the whole value.
        """
        top, left = start = self.value_place(at)
        written = text.split("\n")
        if line > len(written) or top > len(self.lines):
            return start
        before, shown = written[line - 1][: column - 1], self.lines[top - 1][left - 1 :]
        if shown[:1] in ("|", ">"):
            return self._block_place(top + line, before) or start
        quote = 1 if shown[:1] in ("'", '"') else 0
        return Place(top, left + quote + len(before)) if line == 1 and shown[quote:].startswith(before) else start

    def _block_place(self, line: int, before: str) -> Place | None:
        shown = self.lines[line - 1] if line <= len(self.lines) else ""
        indent = len(shown) - len(shown.lstrip(" "))
        return Place(line, indent + len(before) + 1) if shown[indent:].startswith(before) else None

    def problem(self, place: Place, message: str, *, severity: str = "error") -> Problem:
        return Problem(self.path, *place, message, severity)


def read(path: str, text: str) -> tuple[list[Document], list[Problem]]:
    """The documents of one file and everything wrong with them as YAML; a faulty document does not hide the others."""
    refused = _refuse(path, text)
    if refused:
        return [], [refused]
    lines = text.split("\n")
    starts = [found.start() for found in _DOCUMENT.finditer(text)]
    chunks = [text[start:end] for start, end in pairwise((0, *starts, len(text)))]
    values = _read_values(text, starts)
    if values is None:
        return _read_apart(path, lines, chunks)
    empty = len(chunks) - len(values)  # what stands before the first '---' is mostly nothing
    line, documents = sum(chunk.count("\n") for chunk in chunks[:empty]), []
    for chunk, value in zip(chunks[empty:], values, strict=True):
        documents.append(Document(path, value, lines, Marking(path, lines, line, chunk)))
        line += chunk.count("\n")
    return documents, []


def _read_apart(path: str, lines: list[str], chunks: list[str]) -> tuple[list[Document], list[Problem]]:
    """A document at a time: a faulty one costs no other its values."""
    documents: list[Document] = []
    problems: list[Problem] = []
    line = 0
    for number, chunk in enumerate(chunks):
        values = _read_values(chunk, [0] if number else [])
        if values is None:
            reader = Reader(path, lines, line)
            reader.read(chunk)
            problems += reader.problems
            for each in reader.found:
                marking = Marking(path, lines, line, "", each.marks)
                documents.append(Document(path, each.value, lines, marking, each.faulty))
        documents += [Document(path, value, lines, Marking(path, lines, line, chunk)) for value in values or ()]
        if len(problems) >= MAX_PROBLEMS:
            return documents, sorted(problems)[:MAX_PROBLEMS]
        line += chunk.count("\n")
    return documents, sorted(problems)


def _refuse(path: str, text: str) -> Problem | None:
    if len(text) > MAX_BYTES or len(text.encode(errors="replace")) > MAX_BYTES:
        return Problem(path, 1, 1, f"the file is larger than {MAX_BYTES // 1024} KB: split it into several")
    if text.replace("\n", "").isprintable():  # as nearly all are, and told at once
        return None
    found = _FORBIDDEN.search(text, 1 if text.startswith("\ufeff") else 0)
    if not found:
        return None
    line = text.count("\n", 0, found.start()) + 1
    column = found.start() - text.rfind("\n", 0, found.start())
    return Problem(
        path, line, column, f"the character U+{ord(found[0]):04X} is not allowed in YAML: write it as an escape"
    )


def _read_values(text: str, starts: list[int]) -> list[dict[str, Any]] | None:
    """The documents of a text as plain data, or None where anything in it must be read with more care: also where other
    places than these offsets begin a document for the parser, but for the first."""
    begun: list[int] = []
    documents: list[dict[str, Any]] = []
    around: list[Any] = []  # the mappings and lists that the one being filled stands in
    items: Any = documents
    key: str | None = None
    scalar, mapping, sequence = yaml.ScalarEvent, yaml.MappingStartEvent, yaml.SequenceStartEvent
    mapping_end, list_end = yaml.MappingEndEvent, yaml.SequenceEndEvent
    loader = LOADER(text)
    try:
        for event in iter(loader.get_event, None):
            kind = type(event)
            if kind is scalar:
                if event.tag is not None or event.anchor is not None:
                    return None
                value = event.value if event.style else resolve(event.value)
            elif kind is mapping_end or kind is list_end:
                items = around.pop()
                continue
            elif kind is mapping or kind is sequence:
                if event.tag is not None or event.anchor is not None or len(around) >= MAX_DEPTH:
                    return None
                value = {} if kind is mapping else []
            elif kind is yaml.DocumentStartEvent:
                if event.version is not None or event.tags:
                    return None
                if event.explicit:
                    begun.append(event.start_mark.index)
                continue
            elif kind is yaml.AliasEvent:
                return None
            else:
                continue
            if type(items) is list:
                if items is documents and type(value) is not dict:
                    return None
                items.append(value)
            elif key is None:
                if type(value) is not str or value in items or value == "<<":
                    return None
                key = value
                continue
            else:
                items[key], key = value, None
            if kind is not scalar:
                around.append(items)
                items = value
    except (yaml.MarkedYAMLError, ValueError):
        return None
    finally:
        loader.dispose()
    return documents if begun == starts else None
