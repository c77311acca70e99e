"""Google's CEL library as far as expressions use it: names with their types, compiling, evaluating.

The only module that knows the library. It converts all it is given, and an error is a value of a type of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from cel_expr_python import cel  # type: ignore[import-untyped]  # it ships a .pyi but no py.typed
from msgspec import Struct

from handrail.core.syntax import Node, parse_tree
from handrail.core.usage import MAPS, Use, keys_used, uses_of

_T = cel.Type
_VARIABLES: dict[str, cel.Type] = {
    "user.id": _T.STRING,
    "user.traits": _T.Map(_T.STRING, _T.DYN),
    "user.segments": _T.List(_T.STRING),
    "user.sessions": _T.INT,
    "user.session.id": _T.STRING,
    "user.session.started": _T.TIMESTAMP,
    "user.session.length": _T.DURATION,
    "user.session.events": _T.INT,
    "user.counters": _T.Map(_T.STRING, _T.INT),
    "user.steps": _T.Map(_T.STRING, _T.STRING),
    "user.flow.id": _T.STRING,
    "user.flow.variant": _T.STRING,
    "user.flow.position": _T.INT,
    "user.goals": _T.List(_T.STRING),
    "user.persona": _T.STRING,
    "user.attributes": _T.Map(_T.STRING, _T.DYN),
    "user.consents": _T.Map(_T.STRING, _T.BOOL),
    "user.locale": _T.STRING,
    "user.timezone": _T.STRING,
    "user.location.country": _T.STRING,
    "user.location.region": _T.STRING,
    "user.location.city": _T.STRING,
    "user.device.type": _T.STRING,
    "user.device.os": _T.STRING,
    "user.device.browser": _T.STRING,
    "user.first_seen": _T.TIMESTAMP,
    "user.last_visit": _T.TIMESTAMP,
    "now": _T.TIMESTAMP,
}
_EVENT: dict[str, cel.Type] = {
    "event.name": _T.STRING,
    "event.properties": _T.Map(_T.STRING, _T.DYN),
    "event.context": _T.Map(_T.STRING, _T.DYN),
}
_ANSWERS: dict[str, cel.Type] = {"answers": _T.Map(_T.STRING, _T.DYN)}  # what questions of surveys see besides
# Functions whose literals the compiler lets pass and evaluation would refuse, each time; and how to try one.
_WITH_LITERALS = {"matches": "''.matches(text)", "duration": "duration(text)", "timestamp": "timestamp(text)"}
VARIABLES = frozenset({*_VARIABLES, *_EVENT})

# What the library and its bindings raise on data that CEL cannot hold, such as a lone surrogate.
EVALUATION_ERRORS = (RuntimeError, ValueError, TypeError, OverflowError, SystemError)


class Environment(NamedTuple):
    """The library's environment, and the names that it knows."""

    cel: Any
    names: tuple[str, ...]


def environments() -> dict[str, Environment]:
    """What can be seen: `lonely` the user and the clock, `event` also an event, `answers` also those to a survey."""
    return {name: _environment(more) for name, more in (("lonely", {}), ("event", _EVENT), ("answers", _ANSWERS))}


def _environment(more: Mapping[str, cel.Type]) -> Environment:
    variables = {**_VARIABLES, **more}
    return Environment(cel.NewEnv(variables=variables), tuple(variables))


class Runtime:
    """An expression as the library evaluates it, compiled for that when first asked to."""

    __slots__ = ("_compiled", "_library", "_source")

    def __init__(self, library: Any, source: str) -> None:
        self._library = library
        self._source = source
        self._compiled: cel.Expression | None = None

    @property
    def compiled(self) -> Any:
        if self._compiled is None:
            self._compiled = self._library.compile(self._source)
        return self._compiled

    def eval(self, data: dict[str, object]) -> Any:
        return self.compiled.eval(data=data)


class Checked(Struct, frozen=True):
    """What the compiler tells of a source without faults, or of the outline of many: the syntax tree, the name of its
    type, and what is read off the tree; `variables` are the names in `uses`, sorted, `keys` the constant keys at which
    those with entries of any name are read (None: one is computed), `segments` the names of those tested. Where it is
    `plain` there is nothing in it that the compiler should not have let pass. The library goes through a map in another
    order in each process; what comes `unordered` of it is put in order."""

    tree: Node
    kind: str
    plain: bool
    unordered: bool
    uses: list[Use]
    variables: tuple[str, ...]
    keys: dict[str, frozenset[str] | None]
    segments: frozenset[str]


def check(runtime: Runtime, names: Iterable[str]) -> Checked:
    """Raises RuntimeError with every fault of the source."""
    tree = parse_tree(runtime.compiled.serialize())
    uses = list(uses_of(tree, frozenset(names)))
    variables = sorted({name for name, _, _ in uses})
    return Checked(
        tree,
        kind=runtime.compiled.return_type().name(),
        plain=not any(node.kind == "loop" or node.name in _WITH_LITERALS for node in tree.walk()),
        unordered=tree.kind == "loop" and tree.parts[0].name in MAPS and tree.parts[1].kind == "list",
        uses=uses,
        variables=tuple(variables),
        keys={name: keys_used(name, uses) for name in variables if name in MAPS},
        segments=frozenset(key for name, key, _ in uses if name == "user.segments" and key is not None),
    )


class Literals:
    """Tries the literals of functions that are wrong whatever the data."""

    def __init__(self) -> None:
        library = cel.NewEnv(variables={"text": _T.STRING})
        self._trials = {name: library.compile(source) for name, source in _WITH_LITERALS.items()}

    def fault(self, function: str, text: str) -> str | None:
        """The library's words for what is wrong with this literal of the function, if anything is."""
        trial = self._trials.get(function)
        result = trial.eval(data={"text": text}) if trial else None
        return None if result is None or not is_error(result) else str(result.value())


def is_error(result: Any) -> bool:
    return bool(result.type() == _T.ERROR)
