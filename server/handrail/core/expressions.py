"""Conditions and values of rule files, in CEL.

`Expressions.compile` refuses, with line and column, what could never work: unknown names, wrong types, bad regex and
duration literals. What an expression reads is taken from its checked syntax tree, so that only that is computed.
An evaluation never raises: a missing property or a wrong type is an outcome with an error text.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol
from weakref import WeakValueDictionary

from msgspec import Struct

from handrail.core.cel import EVALUATION_ERRORS, Checked, Literals, Runtime, check, environments, is_error
from handrail.core.clocks import GROWING, read_clock
from handrail.core.closures import build
from handrail.core.complaints import absent, faults, retell, type_name
from handrail.core.outlines import Outline, Outliner
from handrail.core.syntax import Node
from handrail.core.usage import MAPS, Use, compared_personas
from handrail.core.values import Closure, Doubt, Missing, doubt

MAX_SOURCE = 2_000  # characters; bounds what one expression can cost
MAX_OUTLINES = 2_000  # kept; a rule set has some dozens

_ODD = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_NONE = frozenset[str]()


class Fault(Struct, frozen=True, order=True):
    """Something wrong with an expression; line and column count from 1 within its source."""

    line: int
    column: int
    message: str


class ExpressionError(Exception):
    """An expression that cannot be used; `faults` are all that is wrong with it, at least one."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(f"{fault.line}:{fault.column}: {fault.message}" for fault in self.faults))


class Scope(Protocol):
    """Where expressions get the values of their variables."""

    def variable(self, name: str, keys: frozenset[str] | None) -> object:
        """The value of a variable such as `user.traits`.

        For a map, `keys` are the only entries that will be looked at (None: any); counters must have them all.
        Timestamps are aware datetimes in UTC, durations timedeltas, all else plain JSON values.
        """


class Outcome(Struct, frozen=True):
    """What an expression came to: a plain JSON value, or None and the reason why there is none."""

    value: Any
    error: str | None = None


class Expression:
    """A compiled expression.

    `reads` are the variables it reads, and for a constant key of a map also `user.traits.plan`; `keys` the constant
    keys of each map read (None: a key is computed); `counters` those of `user.counters`; `segments` the names it tests
    with `in user.segments`; `personas` those it compares `user.persona` with; `places` where each of `reads` first
    stands, as (line, column) in the source; `clock` says when time alone may change it (None: never).
    """

    __slots__ = (
        *("__weakref__", "_checked", "_closure", "_outline", "_reads", "_runtime"),
        *("clock", "counters", "keys", "personas", "segments", "source"),
    )

    def __init__(self, source: str, runtime: Runtime, checked: Checked, outline: Outline | None) -> None:
        self.source = source
        self._runtime = runtime
        self._checked = checked
        self._outline = outline
        self._closure: Closure | None = None  # made when first asked for: most rules wait long for their first user
        self.keys, self.segments = checked.keys, checked.segments
        if outline is not None:
            self.keys = {name: outline.all_meant(keys) for name, keys in checked.keys.items()}
            self.segments = outline.all_meant(checked.segments) or _NONE
        self.counters = self.keys.get("user.counters", _NONE)
        self.personas = compared_personas(self.tree) if "user.persona" in checked.variables else _NONE
        self.clock = None if GROWING.keys().isdisjoint(checked.variables) else read_clock(self.tree)
        self._reads: frozenset[str] | None = None

    @property
    def reads(self) -> frozenset[str]:
        if self._reads is None:
            entries = [f"{name}.{key}" for name, key, _ in self._uses if key is not None and name in MAPS]
            self._reads = frozenset((*self._checked.variables, *entries))
        return self._reads

    @property
    def kind(self) -> str:
        """The library's name for the type."""
        return self._checked.kind

    @property
    def plain(self) -> bool:
        return self._checked.plain

    @property
    def tree(self) -> Node:
        """The checked syntax tree."""
        return self._checked.tree if self._outline is None else self._outline.fill(self._checked.tree)

    @property
    def places(self) -> dict[str, tuple[int, int]]:
        places: dict[str, tuple[int, int]] = {}
        for name, key, at in self._uses:
            place = _place(self.source, at)
            places.setdefault(name, place)
            if key is not None and name in MAPS:
                places.setdefault(f"{name}.{key}", place)
        return places

    @property
    def _uses(self) -> list[Use]:
        outline = self._outline
        if outline is None:
            return self._checked.uses
        return [(name, key and outline.meant(key), outline.offset(at)) for name, key, at in self._checked.uses]

    def __repr__(self) -> str:
        return f"Expression({self.source!r})"

    def holds(self, scope: Scope) -> tuple[bool, str]:
        """Whether a condition is true, and if an error made it false, which."""
        try:
            held = (self._closure or self._make())(scope, None)
            if held is True or held is False:
                return held, ""
        except Missing as missing:
            if missing.key.isascii() and missing.key.isidentifier():
                return False, absent(missing.key)
        except Doubt:
            pass
        return self.refer(scope)

    def refer(self, scope: Scope) -> tuple[bool, str]:
        """As `holds`, from the CEL library alone."""
        result = self._evaluate(scope)
        if isinstance(result, str):
            return False, result
        value = result.value()
        if value is True or value is False:
            return value, ""
        return False, retell(str(value))

    def evaluate(self, scope: Scope) -> Outcome:
        """The value as plain JSON: timestamps as ISO 8601, durations as `90s`, bytes as base64."""
        try:
            return self._outcome((self._closure or self._make())(scope, None))
        except (Doubt, ValueError):
            pass
        result = self._evaluate(scope)
        if isinstance(result, str):
            return Outcome(None, result)
        if is_error(result):
            return Outcome(None, retell(str(result.value())))
        try:
            return self._outcome(result.plain_value())
        except EVALUATION_ERRORS as error:
            return Outcome(None, str(error))

    def _make(self) -> Closure:
        self._closure = build(self.tree) or doubt
        return self._closure

    def _outcome(self, result: Any) -> Outcome:
        """The value in JSON. Raises ValueError for what JSON cannot carry."""
        value = _plain(result)
        return Outcome(sorted(value, key=repr) if self._checked.unordered else value)

    def _evaluate(self, scope: Scope) -> Any:
        """The library's value, or the text of what kept it from evaluating."""
        data: dict[str, object] = {}
        for name in self._checked.variables:
            keys = self.keys.get(name)
            value = scope.variable(name, keys)
            # The library converts all it is given: of a map, give it only what can be looked at.
            if keys is not None and isinstance(value, Mapping):
                value = {key: value[key] for key in keys if key in value}
            data[name] = value
        try:
            return self._runtime.eval(data=data)
        except EVALUATION_ERRORS as error:
            return f"a value cannot be used in an expression: {error}"


class Expressions:
    """Compiles expressions against the names of the rule language, each but once."""

    def __init__(self) -> None:
        self._environments = environments()
        self._compiled: WeakValueDictionary[tuple[str, str, str], Expression] = WeakValueDictionary()
        self._outliner = Outliner(MAPS)
        self._checked: dict[tuple[str, str], Checked | None] = {}
        self._literals = Literals()

    def compile(
        self, source: str, *, want: Literal["bool", "any"] = "bool", event: bool = True, answers: bool = False
    ) -> Expression:
        """Check and compile; without `event` there is none to look at, with `answers` those to a survey, but no event.
        Raises ExpressionError with every fault."""
        view = "answers" if answers else "event" if event else "lonely"
        found = self._compiled.get((source, want, view))
        if found is None:
            found = self._compiled[source, want, view] = self._compile(source, want, view)
        return found

    def operands(self, source: str) -> tuple[Expression, ...]:
        """The conditions that `&&` joins in one that compiles, in order; itself alone where it joins none."""
        for at in self._joints(source):
            try:
                return self.operands(source[:at]) + self.operands(source[at + 2 :])
            except ExpressionError:
                continue  # it stands in brackets
        return (self.compile(source.strip()),)

    def _joints(self, source: str) -> Iterator[int]:
        """Offsets of the `&&`s that belong to the outermost ones."""
        pending = [self.compile(source).tree]
        while pending:
            node = pending.pop(0)
            if node.name == "_&&_" and node.at is not None:
                yield node.at
                pending += node.parts

    def _compile(self, source: str, want: str, view: str) -> Expression:
        self._refuse(source)
        library, names = self._environments[view]
        runtime = Runtime(library, source)
        outline = self._outliner.outline(source)
        alike = self._check_outline(outline.text, view) if outline else None
        try:
            expression = Expression(source, runtime, alike or check(runtime, names), outline if alike else None)
        except RuntimeError as error:
            raise ExpressionError(Fault(*each) for each in faults(str(error), source, [*names])) from error
        wrong = [Fault(*_place(source, at), message) for at, message in self._wrong(expression)]
        if want == "bool" and expression.kind != "BOOL":
            wrong.append(Fault(1, 1, _not_a_condition(expression.kind, source)))
        if wrong:
            raise ExpressionError(wrong)
        return expression

    def _check_outline(self, text: str, view: str) -> Checked | None:
        """None where it has faults: the source itself must tell which."""
        if (text, view) not in self._checked:
            if len(self._checked) >= MAX_OUTLINES:
                self._checked.clear()
            library, names = self._environments[view]
            try:
                self._checked[text, view] = check(Runtime(library, text), names)
            except RuntimeError:
                self._checked[text, view] = None
        return self._checked[text, view]

    def _refuse(self, source: str) -> None:
        if not source.strip():
            raise ExpressionError([Fault(1, 1, "the expression is empty")])
        if len(source) > MAX_SOURCE:
            raise ExpressionError([Fault(1, 1, f"longer than {MAX_SOURCE} characters: make it a segment or a counter")])
        odd = None if source.isprintable() else _ODD.search(source)
        if odd:
            raise ExpressionError(
                [Fault(*_place(source, odd.start()), f"the character U+{ord(odd[0]):04X} cannot be used")]
            )

    def _wrong(self, expression: Expression) -> Iterator[tuple[int | None, str]]:
        """What the type checker lets pass: loops in loops and literals that are wrong whatever the data."""
        for node, inside in () if expression.plain else _with_loops(expression.tree, inside=False):
            if node.kind == "loop" and inside:
                yield node.at, "a loop (map, filter, all, exists, exists_one) inside another is not allowed"
            elif node.kind == "call" and node.parts:
                literal = node.parts[-1]
                if literal.kind == "constant" and isinstance(literal.value, str):
                    fault = self._literals.fault(node.name, literal.value)
                    if fault is not None:
                        yield literal.at, f"'{literal.value}': {retell(fault)}"


def _with_loops(node: Node, *, inside: bool) -> Iterator[tuple[Node, bool]]:
    """Every node, and whether a loop would run it many times."""
    yield node, inside
    for index, part in enumerate(node.parts):
        yield from _with_loops(part, inside=inside or (node.kind == "loop" and index > 0))


def _not_a_condition(kind: str, source: str) -> str:
    if kind == "DYN":
        shown = source if len(source) <= 60 else "…"
        return f"this can be of any type, and a condition must be true or false: compare it, as {shown} == true"
    return f"a condition must be true or false, this is {type_name(kind)}: compare it with something"


def _place(source: str, at: int | None) -> tuple[int, int]:
    """Line and column of an offset, both from 1."""
    at = at or 0
    return source.count("\n", 0, at) + 1, at - source.rfind("\n", 0, at)


def _plain(value: Any) -> Any:
    """A CEL value as JSON has it. Raises ValueError for what JSON cannot carry."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("the result is not a finite number")
        return value
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        named = {key if isinstance(key, str) else str(_plain(key)): item for key, item in value.items()}
        return {key: _plain(named[key]) for key in sorted(named)}
    raise ValueError("the result is a type, not a value")
