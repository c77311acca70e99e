"""YAML read with care: where every key and value stands, and all that is wrong, in words an author can act on.

The text is a stream of parser events, never composed by the library, so depth is bounded before anything is built.
What makes a file mean something other than what it shows is refused: anchors, aliases, merge keys, tags, repeated keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml
from msgspec import Struct, field

from handrail.core.problems import Problem
from handrail.core.scalars import resolve, show

MAX_DEPTH = 32
MAX_PROBLEMS = 100  # of one file: a file with more is of another kind

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Path = tuple[str | int, ...]


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


class Place(NamedTuple):
    """Line and column, both from 1."""

    line: int
    column: int


class Marks(Struct, frozen=True):
    """Where one document, each of its keys and each of its values stand, by path."""

    place: Place
    keys: dict[Path, Place]
    values: dict[Path, Place]


class Found(Struct, frozen=True):
    """One document. `faulty` are the paths already reported, whose values mean nothing."""

    value: dict[str, Any]
    marks: Marks
    faulty: set[Path]


def _events(chunk: str) -> Iterator[Any]:
    loader = LOADER(chunk)
    try:
        yield from iter(loader.get_event, None)
    finally:
        loader.dispose()


class _StopError(Exception):
    """The document cannot be read any further."""


class _Open(Struct):
    """A mapping or list being filled; `key` is the key whose value comes next, `seen` where each key first stood."""

    path: Path
    items: dict[str, Any] | list[Any]
    key: str | None = None
    seen: dict[str, Place] = field(default_factory=dict)


class Reader:
    """Reads a chunk of a text, which begins after `line` lines: `found` are its documents, `problems` their faults."""

    def __init__(self, path: str, lines: list[str], line: int) -> None:
        self.path, self.lines, self.line = path, lines, line
        self.found: list[Found] = []
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
            self.found.append(Found(value, Marks(place, self.keys, self.values), self.faulty))
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
