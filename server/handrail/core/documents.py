"""Rule files as text: YAML documents whose every key and value knows its line and column.

The text is read as a stream of parser events, never composed by the library, so depth is bounded before anything is
built. Documents with nothing to complain about, nearly all, are read for their values alone; where these stand is
found by reading once more, when somebody asks. Plain scalars follow YAML 1.2's core schema: `on`, `no`, `1:30` and
dates are text, `012` is twelve. What makes a file mean something other than what it shows is refused: anchors,
aliases, merge keys, tags, repeated keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import yaml
from msgspec import Struct, field

from handrail.core.problems import Problem
from handrail.core.scalars import resolve, show

MAX_BYTES = 256 * 1024
MAX_DEPTH = 32
MAX_PROBLEMS = 100  # of one file: a file with more is of another kind

Path = tuple[str | int, ...]


class Place(NamedTuple):
    """Line and column, both from 1."""

    line: int
    column: int


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DOCUMENT = re.compile(r"^(?=---(?:\s|$))", re.MULTILINE)
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# What the parser says, in words an author can act on; the first that fits is taken.
_WORDINGS = (
    ("found a tab character", "a tab is used for indentation: use spaces"),
    ("cannot start any token", "this character cannot start a value: put the value in quotes"),
    ("mapping values are not allowed", "a ':' where none can be: indent the line to match, or put the value in quotes"),
    ("did not find expected ',' or '}'", "a '{' is not closed, or a comma is missing"),
    ("did not find expected ',' or ']'", "a '[' is not closed, or a comma is missing"),
    ("expected node content", "a value is missing, or a bracket is not closed"),
    ("expected '-' indicator", "this line does not belong to the list above it: check the indentation"),
    ("did not find expected key", "expected a key here: check the indentation, and quote values that hold quotes"),
    ("block sequence entries are not allowed", "a list item cannot start here: put it on a line of its own"),
    ("could not find expected ':'", "a key without ':' after it"),
    ("while scanning a quoted scalar", "a quoted text is not closed"),
    ("escape", "an unknown escape in a double-quoted text: write \\\\ for a backslash, or use single quotes"),
    ("while scanning a directive", "lines starting with '%' are not supported"),
    ("directive", "lines starting with '%' are not supported"),
    ("expected <document start>", "one document ends here and another starts without '---' between them"),
    ("did not find expected <document start>", "this line belongs to no document: put '---' before it"),
)


class Marks(Struct, frozen=True):
    """Where one document, each of its keys and each of its values stand, by path."""

    place: Place
    keys: dict[Path, Place]
    values: dict[Path, Place]


class Marking(Struct):
    """The marks of the one document in a chunk of text, which begins after `line` lines; found when first asked for."""

    path: str
    lines: list[str]
    line: int
    chunk: str
    found: Marks | None = None

    def read(self) -> Marks:
        if self.found is None:
            reader = _Reader(self.path, self.lines, self.line)
            reader.read(self.chunk)
            self.found = reader.documents[0].marks
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
            reader = _Reader(path, lines, line)
            reader.read(chunk)
            documents += reader.documents
            problems += reader.problems
        for value in values or ():
            documents.append(Document(path, value, lines, Marking(path, lines, line, chunk)))
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


def _events(chunk: str) -> Iterator[Any]:
    loader = _LOADER(chunk)
    try:
        yield from iter(loader.get_event, None)
    finally:
        loader.dispose()


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
    loader = _LOADER(text)
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


class _StopError(Exception):
    """The document cannot be read any further."""


class _Open(Struct):
    """A mapping or list being filled; `key` is the key whose value comes next, `seen` where each key first stood."""

    path: Path
    items: dict[str, Any] | list[Any]
    key: str | None = None
    seen: dict[str, Place] = field(default_factory=dict)


class _Reader:
    """Builds the documents of one chunk of text from parser events."""

    def __init__(self, path: str, lines: list[str], line: int) -> None:
        self.path, self.lines, self.line = path, lines, line
        self.documents: list[Document] = []
        self.problems: list[Problem] = []

    def read(self, chunk: str) -> None:
        try:
            events = _events(chunk)
            for event in events:
                if isinstance(event, yaml.DocumentStartEvent):
                    self._document(events)
        except _StopError:
            pass
        except yaml.MarkedYAMLError as error:
            self._syntax(error)

    def _document(self, events: Iterator[Any]) -> None:
        self.keys: dict[Path, Place] = {}
        self.values: dict[Path, Place] = {}
        self.faulty: set[Path] = set()
        self.odd: list[tuple[dict[str, Any], str]] = []  # values read over, and where they are
        self.joined = False  # a '---' is missing: another document goes on in this one
        root = next(events)
        place = self._place(root)
        value = self._value(root, events)
        for items, name in self.odd:
            del items[name]
        if isinstance(value, dict) and (value or not self.faulty):
            marks = Marks(place, self.keys, self.values)
            marking = Marking(self.path, self.lines, self.line, "", marks)
            self.documents.append(Document(self.path, value, self.lines, marking, self.faulty))
        elif value is not None and not self.faulty:
            self._fault((), place, f"expected keys and values such as 'trigger: NAME', found {show(value)}")

    def _value(self, root: Any, events: Iterator[Any]) -> Any:
        """The node that starts with `root`, without recursion: `stack` holds the open mappings and lists."""
        tops: list[Any] = []
        stack = [_Open((), tops)]
        self._enter(stack, root)
        while len(stack) > 1:
            event = next(events)
            if isinstance(event, yaml.CollectionEndEvent):
                stack.pop()
                stack[-1].key = None
            elif isinstance(stack[-1].items, dict) and stack[-1].key is None:
                self._key(stack[-1], event, events)
            else:
                self._enter(stack, event)
        return tops[0]

    def _enter(self, stack: list[_Open], event: Any) -> None:
        parent = stack[-1]
        at = self._path(stack)
        self.values.setdefault(at, self._place(event))
        self._refuse(at, event)
        if isinstance(event, yaml.CollectionStartEvent):
            if len(stack) > MAX_DEPTH:
                self._fault(at, self._place(event), f"nested deeper than {MAX_DEPTH} levels")
                raise _StopError
            items: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
            self._put(parent, items)
            stack.append(_Open(at, items))
        else:
            self._put(parent, self._scalar(at, event))
            parent.key = None

    def _path(self, stack: list[_Open]) -> Path:
        parent = stack[-1]
        if len(stack) == 1:
            return ()
        return (*parent.path, len(parent.items) if isinstance(parent.items, list) else str(parent.key))

    def _put(self, parent: _Open, value: Any) -> None:
        if isinstance(parent.items, list):
            parent.items.append(value)
        elif parent.key is not None:
            parent.items.setdefault(parent.key, value)

    def _key(self, parent: _Open, event: Any, events: Iterator[Any]) -> None:
        place = self._place(event)
        key = self._scalar((*parent.path, "?"), event) if isinstance(event, yaml.ScalarEvent) else None
        if not isinstance(key, str) or self._merge(key, event):
            parent.key = self._odd_key(parent, event, place, key)
            if not isinstance(event, yaml.ScalarEvent):
                raise _StopError  # a list or mapping as a key: what follows cannot be placed
            return
        self._refuse((*parent.path, key), event)
        parent.key = key
        if key in parent.seen:
            self._repeated(parent, key, place)
        else:
            parent.seen[key] = self.keys[(*parent.path, key)] = place

    def _repeated(self, parent: _Open, key: str, place: Place) -> None:
        """A key for the second time. Where it is the document's first, what follows is another document's."""
        first = next(iter(parent.seen))
        if parent.path == () and (key == first or self.joined):
            if not self.joined:
                self._fault((key,), place, f"a second {show(key)} begins here: put a line '---' before it")
            self.joined = True
        else:
            line = parent.seen[key][0]
            self._fault((*parent.path, key), place, f"the key {show(key)} stands twice, first on line {line}")

    def _merge(self, key: str, event: Any) -> bool:
        return key == "<<" and not event.style

    def _odd_key(self, parent: _Open, event: Any, place: Place, key: Any) -> str:
        """Report a key that is no text, and a name under which its value can be read over."""
        name = f"? {len(parent.seen)}"
        if key == "<<":
            message = "merge keys ('<<') are not supported: write the keys out"
        elif isinstance(event, yaml.ScalarEvent):
            message = f"a key must be text, found {show(key)}: put it in quotes"
        elif isinstance(event, yaml.AliasEvent):
            message = "anchors and aliases ('&', '*') are not supported: write the value out"
        else:
            message = "a key must be text, found a list or a mapping; a value starting with '{' needs quotes"
        self._fault((*parent.path, name), place, message)
        parent.seen[name] = place
        self.faulty.add(parent.path)
        if isinstance(parent.items, dict):
            self.odd.append((parent.items, name))
        return name

    def _refuse(self, at: Path, event: Any) -> None:
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            message = "anchors and aliases ('&', '*') are not supported: write the value out, or put the text in quotes"
            self._fault(at, self._place(event), message)
        if getattr(event, "tag", None) is not None:
            message = f"tags ('{event.tag}') are not supported: leave it out, or put the text in quotes"
            self._fault(at, self._place(event), message)

    def _scalar(self, at: Path, event: Any) -> Any:
        if isinstance(event, yaml.AliasEvent):
            return None
        if event.style or event.tag is not None:
            return event.value
        try:
            return resolve(event.value)
        except ValueError as error:
            self._fault(at, self._place(event), str(error))
            return None

    def _place(self, event: Any) -> Place:
        return self._at(event.start_mark)

    def _at(self, mark: Any) -> Place:
        line = self.line + mark.line + 1
        if line > len(self.lines):  # the parser ends a last line that has no end
            return Place(len(self.lines), len(self.lines[-1]) + 1)
        return Place(line, mark.column + 1)

    def _fault(self, at: Path, place: Place, message: str) -> None:
        self.faulty.add(at)
        self.problems.append(Problem(self.path, *place, message))
        if len(self.problems) >= MAX_PROBLEMS:
            raise _StopError

    def _syntax(self, error: yaml.MarkedYAMLError) -> None:
        said = f"{error.problem or ''} {error.context or ''}"
        wording = next((words for part, words in _WORDINGS if part in said), None)
        opened = error.context_mark if any(part in said for part in ("quoted scalar", "flow", "simple key")) else None
        place = self._at(opened or error.problem_mark or error.context_mark)
        if self.lines[self.line].startswith("%"):
            wording = "lines starting with '%' are not supported"
        elif re.match(" *\t", self.lines[place.line - 1]):
            wording = "a tab is used for indentation: use spaces"
        elif error.problem_mark and "did not find expected key" in said:
            row, column = self.lines[self._at(error.problem_mark).line - 1], error.problem_mark.column
            if row[max(column - 2, 0) : column].strip().endswith(("'", '"')):
                wording = "the text goes on after its closing quote: put the whole value in quotes of the other kind"
        self.problems.append(Problem(self.path, *place, wording or f"not valid YAML: {said.strip()}"))
