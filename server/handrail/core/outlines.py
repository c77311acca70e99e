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
_DIGITS = 15  # longer numbers may be out of range
# Words that cannot be the name of a field, or only with quotes.
_RESERVED = frozenset(
    {
        *("false", "in", "null", "true", "as", "break", "const", "continue", "else", "for", "function", "if"),
        *("import", "let", "loop", "package", "namespace", "return", "var", "void", "while"),
    }
)


class Outline(Struct, frozen=True):
    """`text` is the source with stand-ins and `values` maps these to what they stand for; `starts` are their offsets in
    the text, and `shifts` how much further on in the source it is what comes after each number of them."""

    text: str
    values: dict[str | int, str | int]
    starts: list[int]
    shifts: list[int]

    def fill(self, node: Node) -> Node:
        """The syntax tree of the source, from that of the text."""
        return Node(
            node.kind,
            self.meant(node.name),
            self._constant(node.value) if node.kind == "constant" else node.value,
            tuple([self.fill(part) for part in node.parts]),
            self.offset(node.at),
        )

    def meant(self, name: str) -> str:
        """What a name or text of the outline is in the source."""
        return str(self.values.get(name, name))

    def offset(self, at: int | None) -> int | None:
        """Where in the source is what stands here in the outline."""
        return None if at is None else at + self.shifts[bisect_left(self.starts, at)]

    def _constant(self, value: object) -> object:
        if type(value) is int and value < 0:  # a sign is part of its number
            meant = self.values.get(-value)
            return value if meant is None else -int(meant)
        return self.values.get(value, value) if type(value) is str or type(value) is int else value


class Outliner:
    """Tells outlines of sources in which the entries of these maps may have any name."""

    def __init__(self, maps: Iterable[str]) -> None:
        names = "|".join(re.escape(name) for name in sorted(maps))
        self._token = re.compile(
            # Words are stepped over: a quote after one makes it a prefix, digits in one are no number.
            rf"(?P<entry>(?<![\w.])(?:{names})\.(?P<name>[A-Za-z_]\w*)(?![\w(]|\s+\())"
            r"|(?P<number>(?<!\w)\.?[0-9][\w.]*)"
            r"|(?P<text>(?<![A-Za-z0-9_])(?:'[^'\\\r\n]*'(?!')|\"[^\"\\\r\n]*\"(?!\")))"
            r"|(?P<other>['\"]|//)",
            re.ASCII,
        )

    def outline(self, source: str) -> Outline | None:
        """None where the source has something in it that is not so simple."""
        if _NAME in source or str(_NUMBER)[:-3] in source:
            return None
        pieces: list[str] = []
        values: dict[str | int, str | int] = {}
        starts: list[int] = []
        shifts = [0]
        done = 0
        for found in self._token.finditer(source):
            kind = found.lastgroup
            if kind == "entry" and found["name"] in _RESERVED:
                continue
            stand_in = self._stand_in(found, values)
            if stand_in is None:
                return None
            start, end = found.span("name" if kind == "entry" else 0)
            pieces += (source[done:start], stand_in)
            starts.append(start - shifts[-1])
            shifts.append(shifts[-1] + end - start - len(stand_in))
            done = end
        return Outline("".join([*pieces, source[done:]]), values, starts, shifts)

    def _stand_in(self, found: re.Match[str], values: dict[str | int, str | int]) -> str | None:
        """What to put in the place of a token, its meaning noted; None where the token is not a simple one."""
        number = len(values)
        name = f"{_NAME}{number}"
        match found.lastgroup:
            case "entry":
                values[name] = found["name"]
                return name
            case "text":
                values[name] = found[0][1:-1]
                return f"'{name}'"
            case "number" if found[0].isdigit() and len(found[0]) <= _DIGITS:
                values[_NUMBER + number] = int(found[0])
                return str(_NUMBER + number)
        return None
