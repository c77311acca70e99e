"""One rule file: its documents, each of a known kind and with a name, and what is wrong with them as such."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from itertools import pairwise
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from handrail.core.problems import Problem, suggest
from handrail.core.scalars import show
from handrail.core.source import Document, read
from handrail.core.templates import Templates

# The first line of a document, but for comments, where it is plain.
_HEAD = re.compile(r"(?:\A|^---.*\n)(?:[ \t]*(?:#.*)?\n)*([a-z]+):[ \t]+([\w.-]+)[ \t]*(?:#.*)?$", re.MULTILINE)


class Entry(NamedTuple):
    kind: str
    name: str
    document: Document


class RuleFile(Struct, frozen=True):
    """`problems` are those that the file has whatever stands in others; `templates` are its own, so that they are
    given up with it. `unread` are (kind, name) of the documents that are no YAML, as far as their first lines tell."""

    text: str
    entries: tuple[Entry, ...]
    problems: tuple[Problem, ...]
    templates: Templates
    unread: tuple[tuple[str, str], ...] = ()


def read_file(path: str, text: str, kinds: Collection[str]) -> RuleFile:
    documents, problems = read(path, text)
    parted = [part for document in documents for part in _parted(document, kinds, problems)]
    entries = [entry for document in parted for entry in _enter(document, kinds, problems)]
    unread = tuple(_unread(text, entries, kinds)) if problems else ()
    return RuleFile(text, tuple(entries), tuple(problems), Templates(), unread)


def _unread(text: str, entries: list[Entry], kinds: Collection[str]) -> Iterator[tuple[str, str]]:
    known = {entry[:2] for entry in entries}
    for kind, name in _HEAD.findall(text):
        if kind in kinds and (kind, name) not in known:
            yield kind, name


def _enter(document: Document, kinds: Collection[str], problems: list[Problem]) -> Iterator[Entry]:
    kind = next(iter(document.value), "")
    name = document.value.get(kind)
    if kind not in kinds:
        problems.append(document.problem(document.key_place((kind,)), _unknown_kind(kind, document, kinds)))
    elif not isinstance(name, str):
        place = document.value_place((kind,))
        problems.append(document.problem(place, f"the name of a {kind} is text, found {show(name)}"))
    else:
        yield Entry(kind, name, document)


def _parted(document: Document, kinds: Collection[str], problems: list[Problem]) -> Iterator[Document]:
    """The document, or the ones that run together in it where a '---' was forgotten: no kind is a key of another."""
    if len(document.value.keys() & kinds) < 2:
        yield document
        return
    keys = list(document.value)
    known = kinds if keys and keys[0] in kinds else ()
    starts = [0, *(index for index, key in enumerate(keys) if index and key in known and not _names_survey(keys, key))]
    if len(starts) == 1:
        yield document
        return
    for start, end in pairwise([*starts, len(keys)]):
        if start:
            message = f"'{keys[start]}' begins another document: put a line '---' before it"
            problems.append(document.problem(document.key_place((keys[start],)), message))
        yield replace(document, value={key: document.value[key] for key in keys[start:end]})


def _names_survey(keys: list[str], key: str) -> bool:
    """Whether this key of a message only names its survey."""
    return keys[0] == "message" and key == "survey" and "questions" not in keys


def _unknown_kind(kind: str, document: Document, kinds: Collection[str]) -> str:
    later = next((key for key in document.value if key in kinds), None)
    if later is not None:
        return f"a document's first key names its kind: put '{later}' before '{kind}'"
    if kind == "test":
        return "tests stand in files of their own, whose names end in .test.yaml"
    known = ", ".join(kinds)
    return f"a document's first key names its kind, and '{kind}' is none{suggest(kind, kinds)}; kinds are {known}"
