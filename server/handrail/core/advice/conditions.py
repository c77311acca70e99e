"""Conditions that can never be true: they read nothing and are false, or contradict themselves in the plainest way."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import combinations
from operator import ge, gt, le, lt
from typing import Any, NamedTuple

from handrail.core.advice.happenings import happenings
from handrail.core.advice.written import Written, kind_of, name_of
from handrail.core.expressions import Expression
from handrail.core.problems import Problem
from handrail.core.scalars import show
from handrail.core.scope import NOTHING, Scope
from handrail.core.source import Document, Path
from handrail.core.state import State
from handrail.core.syntax import Node

_ORDERS = {"<": lt, "<=": le, ">": gt, ">=": ge}
_FLIPPED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_NAME = re.compile(r"[A-Za-z_][\w.]*")
_NOBODY = Scope(State(user="", epoch="", first_seen=0), {}, NOTHING, 0)  # for what reads nothing


def never_true(written: Written) -> Iterator[Problem]:
    """Every `if` and `where` that cannot hold, and what becomes of it."""
    reasons: dict[Expression, str] = {}  # the same condition often stands in many places
    for document, path, what in written.uses:
        if not isinstance(what, Expression) or path[-1] not in ("if", "where"):
            continue
        if what not in reasons:
            reasons[what] = contradiction(what)
        reason = reasons[what] or _misnamed(document, path, what, written)
        if reason:
            message = f"{reason}, so {_consequence(document, path)}"
            yield document.problem(document.value_place(path), message, severity="warning")


def contradiction(condition: Expression) -> str:
    """Why the condition can never be true, or nothing."""
    if not condition.reads:
        return "" if condition.holds(_NOBODY)[0] else "it reads nothing and is false"
    names = _NAME.findall(condition.source)
    # A contradiction names the same thing twice; most conditions do not, and need no closer look.
    return _conflict(condition) if "&&" in condition.source and len(names) > len(set(names)) else ""


class Comparison(NamedTuple):
    """What a part of a condition asks of `what`, compared with a constant."""

    what: str
    operator: str
    constant: Any

    def __str__(self) -> str:
        return f"{self.operator} {show(self.constant)}"


def _conflict(condition: Expression) -> str:
    parts = list(_conjuncts(condition.tree))
    for one, other in combinations(filter(None, map(_comparison, parts)), 2):
        if one.what == other.what and not _agree(one, other):
            return f"{one.what} cannot be {one} and {other} at once"
    asked = {_bare(part) for part in parts}
    if any(part.name == "!_" and _bare(part.parts[0]) in asked for part in parts):
        return "one part of it is the opposite of another"
    return ""


def _conjuncts(node: Node) -> Iterator[Node]:
    if node.name == "_&&_":
        for part in node.parts:
            yield from _conjuncts(part)
    else:
        yield node


def _comparison(node: Node) -> Comparison | None:
    operator = node.name.strip("_")
    if node.kind != "call" or operator not in _FLIPPED or len(node.parts) != 2:
        return None
    left, right = node.parts
    if left.kind == "constant":
        left, right, operator = right, left, _FLIPPED[operator]
    what = spell(left)
    known = right.kind == "constant" and right.value is not None
    return Comparison(what, operator, right.value) if what and known else None


def spell(node: Node) -> str:
    """The variable or field as an author writes it; empty for anything else."""
    if node.kind == "name":
        return node.name
    if node.kind == "select" and not node.value:
        owner = spell(node.parts[0])
        return owner and f"{owner}.{node.name}"
    return ""


def _agree(one: Comparison, other: Comparison) -> bool:
    """Whether some value could be both."""
    if one.operator == "==":
        return _fits(one.constant, other)
    if other.operator == "==":
        return _fits(other.constant, one)
    if "!=" in (one.operator, other.operator) or one.operator[0] == other.operator[0]:
        return True
    low, high = (one, other) if one.operator[0] == ">" else (other, one)
    strict = "=" not in one.operator or "=" not in other.operator
    return not _comparable(low.constant, high.constant) or bool((lt if strict else le)(low.constant, high.constant))


def _fits(value: Any, asked: Comparison) -> bool:
    if asked.operator in ("==", "!="):
        return bool(value == asked.constant) == (asked.operator == "==")
    return not _comparable(value, asked.constant) or bool(_ORDERS[asked.operator](value, asked.constant))


def _comparable(one: object, other: object) -> bool:
    numbers = all(isinstance(each, int | float) for each in (one, other))
    return numbers or (isinstance(one, str) and isinstance(other, str))


def _bare(node: Node) -> tuple[object, ...]:
    """The node without where it stands, so that equal parts are equal."""
    return (node.kind, node.name, repr(node.value), *map(_bare, node.parts))


def _misnamed(document: Document, path: Path, condition: Expression, written: Written) -> str:
    """Where a trigger's `if` wants an event of another name than those that wake it."""
    if kind_of(document) != "trigger" or path != ("if",) or "event.name" not in condition.reads:
        return ""
    names = [each.name for each in happenings(written.program.triggers[name_of(document)]) or ()]
    for part in _conjuncts(condition.tree):
        asked = _comparison(part)
        if asked and names and asked.what == "event.name" and not any(_fits(name, asked) for name in names):
            return f"the event here is {_either(names)}"
    return ""


def _either(names: Iterable[str]) -> str:
    return " or ".join(f"'{name}'" for name in dict.fromkeys(names))


def _consequence(document: Document, path: Path) -> str:
    kind = kind_of(document)
    if path[-1] == "where":
        return "no event ever fits"
    if kind == "trigger":
        return "the trigger never fires"
    if kind == "segment":
        return "nobody is ever in the segment"
    return "the variant is never chosen" if "variants" in path else "this never holds"
