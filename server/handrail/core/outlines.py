"""Conditions that differ only in their constants are checked once.

A large rule set has thousands of conditions and a few dozen kinds of them. The outline of a source has a stand-in for
every plain text, whole number and entry of an open map; names and types, which are all that the compiler checks, are
the same for all sources of an outline. So it sees one of them, and the others' syntax trees are that one's, filled in.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable

from msgspec import Struct

from handrail.core.syntax import Node

_NAME = "xq_hole_"
_NUMBER = 777_000_000_000_000
_DIGITS = str(_NUMBER)[:-3]
_LONGEST = 15  # digits; longer numbers may be out of range
# Words that cannot be the name of a field, or only with quotes.
_RESERVED = frozenset(
    {
        *("false", "in", "null", "true", "as", "break", "const", "continue", "else", "for", "function", "if"),
        *("import", "let", "loop", "package", "namespace", "return", "var", "void", "while"),
    }
)


class Outline(Struct, frozen=True):
    """`text` is the source with stand-ins; `values` maps these, in order, to what they stand for."""

    text: str
    values: dict[str | int, str | int]

    def fill(self, node: Node) -> Node:
        """The syntax tree of the source, from that of the text."""
        return self._fill(node, self._shifts())

    def meant(self, name: str) -> str:
        """What a name or text of the outline is in the source."""
        return str(self.values.get(name, name))

    def all_meant(self, names: frozenset[str] | None) -> frozenset[str] | None:
        return names and frozenset([self.meant(name) for name in names])

    def offset(self, at: int | None) -> int | None:
        """Where in the source is what stands here in the outline."""
        return _shifted(at, self._shifts())

    def _fill(self, node: Node, shifts: _Shifts) -> Node:
        return Node(
            node.kind,
            self.meant(node.name),
            self._constant(node.value) if node.kind == "constant" else node.value,
            tuple([self._fill(part, shifts) for part in node.parts]),
            _shifted(node.at, shifts),
        )

    def _constant(self, value: object) -> object:
        if type(value) is int and value < 0:  # a sign is part of its number
            meant = self.values.get(-value)
            return value if meant is None else -int(meant)
        return self.values.get(value, value) if type(value) is str or type(value) is int else value

    def _shifts(self) -> _Shifts:
        starts: list[int] = []
        shifts = [0]
        at = 0
        for stand_in, meant in self.values.items():
            at = self.text.index(str(stand_in), at)
            starts.append(at)
            shifts.append(shifts[-1] + len(str(meant)) - len(str(stand_in)))
        return starts, shifts


# Where stand-ins begin, and how much further on in the source it is what comes after each number of them.
_Shifts = tuple[list[int], list[int]]


def _shifted(at: int | None, shifts: _Shifts) -> int | None:
    return None if at is None else at + shifts[1][bisect_left(shifts[0], at)]


class Outliner:
    """Tells outlines of sources in which the entries of these maps may have any name."""

    def __init__(self, maps: Iterable[str]) -> None:
        names = "|".join(re.escape(name) for name in sorted(maps))
        self._token = re.compile(
            # Words are stepped over: a quote after one makes it a prefix, digits in one are no number.
            rf"((?<![\w.])(?:{names})\.[A-Za-z_]\w*(?![\w(]|\s+\()"  # an entry
            r"|(?<!\w)\.?[0-9][\w.]*"  # a number
            r"|(?<![A-Za-z0-9_])(?:'[^'\\\r\n]*'(?!')|\"[^\"\\\r\n]*\"(?!\"))"  # a text
            r"|['\"]|//)",  # what is not so simple
            re.ASCII,
        )

    def outline(self, source: str) -> Outline | None:
        """None where the source has something in it that is not so simple."""
        if _NAME in source or _DIGITS in source:
            return None
        pieces = self._token.split(source)  # every other one is a token
        values: dict[str | int, str | int] = {}
        for index in range(1, len(pieces), 2):
            token = pieces[index]
            number = len(values)
            name = f"{_NAME}{number}"
            if len(token) > 1 and token[0] in "'\"":
                values[name] = token[1:-1]
                pieces[index] = f"'{name}'"
            elif token[0].isalpha():
                owner, _, entry = token.rpartition(".")
                if entry not in _RESERVED:
                    values[name] = entry
                    pieces[index] = f"{owner}.{name}"
            elif token.isdigit() and str(int(token)) == token and len(token) <= _LONGEST:
                values[_NUMBER + number] = int(token)
                pieces[index] = str(_NUMBER + number)
            else:
                return None
        return Outline("".join(pieces), values)
