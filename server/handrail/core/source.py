"""From YAML documents to rule-file models: every fault at its own line and column, in words an author can act on.

`Shape` is the base of every rule-file model: strict, frozen, no unknown keys. What pydantic reports is re-told: a
union's branches become the one the author most likely meant, and the tags of unions leave no trace.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar, get_args

import msgspec
from pydantic import BaseModel, ConfigDict, ValidationError

from handrail.core.documents import MAX_BYTES, MAX_DEPTH, Document, Path, Place, read, resolve, show
from handrail.core.problems import Problem, suggest

__all__ = ["MAX_BYTES", "MAX_DEPTH", "Document", "Path", "Place", "Shape", "read", "resolve", "show", "validate"]


class Shape(BaseModel):
    """What a mapping of a rule file may hold."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


M = TypeVar("M", bound=BaseModel)

# pydantic's error type -> what a message says was expected there.
_EXPECTED = {
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "keys and values",
    "model_type": "keys and values",
    "model_attributes_type": "keys and values",
    "dataclass_type": "keys and values",
    "none_required": "nothing",
    "duration_type": "a duration such as 90s or 1h30m",
    "limit_type": "a limit such as '1 per session', or a list of them",
    "union_tag_not_found": "keys and values",
    "union_tag_invalid": "keys and values",
}


def validate(model: type[M], document: Document, at: Path = ()) -> tuple[M | None, list[Problem]]:
    """The model of the value at a path, or None and everything wrong with it.

    Nothing is said about values that the YAML reader has already reported.
    """
    value = _at(document.value, at)
    try:
        return model.model_validate_json(msgspec.json.encode(value)), []
    except ValidationError as error:
        faults = [_Fault(details, value) for details in error.errors(include_url=False)]
    names = _field_names(model)
    problems = {_problem(fault, document, at, names) for fault in _choose(faults)}
    return None, sorted(problem for problem in problems if problem)


def _at(value: Any, path: Iterable[Any]) -> Any:
    for step in path:
        value = value[step]
    return value


class _Fault:
    """One of pydantic's errors, its `loc` parted into the path in the data and the tags of unions passed."""

    def __init__(self, details: Any, root: Any) -> None:
        self.kind: str = details["type"]
        self.context: dict[str, Any] = details.get("ctx", {})
        self.message: str = details["msg"]
        loc: tuple[str | int, ...] = details["loc"]
        steps = loc[:-1] if self.kind in ("missing", "extra_forbidden") else loc
        taken = _follow(root, steps, None if steps is loc else loc[-1], self.kind == "extra_forbidden")
        self.path: Path = tuple(steps[index] for index in taken)
        self.key = "" if steps is loc else str(loc[-1])
        self.tags = {
            tuple(steps[i] for i in taken if i < index): steps[index]
            for index in range(len(steps))
            if index not in taken
        }
        self.found = _at(root, self.path)


def _follow(value: Any, steps: Sequence[Any], last: str | int | None, present: bool) -> tuple[int, ...]:
    """Which of the steps lead through the data; the others are tags of unions.

    A tag may be called like a key, so the reading is taken that ends where the fault can be: in a mapping that has
    (`present`) or lacks the key `last`; among those, the one that goes deepest.
    """

    def readings(value: Any, index: int) -> Iterator[tuple[bool, int, tuple[int, ...]]]:
        if index == len(steps):
            fits = last is None or (isinstance(value, dict) and (last in value) is present)
            yield fits, 0, ()
            return
        step = steps[index]
        if (isinstance(value, dict) and step in value) or (
            isinstance(value, list) and isinstance(step, int) and step < len(value)
        ):
            for fits, depth, rest in readings(value[step], index + 1):
                yield fits, depth + 1, (index, *rest)
        for fits, depth, rest in readings(value, index + 1):
            yield fits, depth, rest

    return max(readings(value, 0), key=lambda reading: reading[:2])[2]


def _choose(faults: list[_Fault]) -> list[_Fault]:
    """Of each union's branches, keep the one the author most likely meant."""
    for place in sorted({place for fault in faults for place in fault.tags}, key=len):
        branches: dict[str | int, list[_Fault]] = {}
        for fault in faults:
            if place in fault.tags:
                branches.setdefault(fault.tags[place], []).append(fault)
        if len(branches) > 1:
            best = _best(branches.values(), place)
            faults = [fault for fault in faults if place not in fault.tags or fault in best]
    return faults


def _of_wrong_type(fault: _Fault) -> bool:
    tagless = fault.kind.startswith("union_tag") and isinstance(fault.found, dict)
    return fault.kind in _EXPECTED and not tagless


def _best(branches: Iterable[list[_Fault]], place: Path) -> list[_Fault]:
    def misfit(branch: list[_Fault]) -> tuple[bool, bool, int]:
        wrong_type = any(fault.path == place and _of_wrong_type(fault) for fault in branch)
        return wrong_type, any(fault.kind == "missing" and fault.path == place for fault in branch), len(branch)

    ranked = sorted(branches, key=misfit)
    if misfit(ranked[0])[0]:  # the value fits no branch's type: name them all
        kinds = dict.fromkeys(_EXPECTED[fault.kind] for branch in ranked for fault in branch if fault.kind in _EXPECTED)
        ranked[0][0].context["either"] = " or ".join(kinds)
        return ranked[0][:1]
    return ranked[0]


def _problem(fault: _Fault, document: Document, at: Path, names: list[set[str]]) -> Problem | None:
    path = at + fault.path
    if any(path[:length] in document.faulty for length in range(len(path) + 1)):
        return None
    where = _spell(fault.path)
    if fault.kind == "missing":
        inside = f" in {where}" if where else ""
        return document.problem(document.value_place(path), f"missing key '{fault.key}'{inside}")
    if fault.kind == "extra_forbidden":
        inside = f" in {where}" if where else ""
        known = _likely_names(fault.key, fault.found, names)
        return document.problem(
            document.key_place((*path, fault.key)), f"unknown key '{fault.key}'{inside}{suggest(fault.key, known)}"
        )
    return document.problem(document.value_place(path), f"{where}: {_say(fault)}" if where else _say(fault))


def _say(fault: _Fault) -> str:
    found = show(fault.found)
    if fault.kind in ("union_tag_invalid", "union_tag_not_found") and isinstance(fault.found, dict):
        return _say_tags(fault.context.get("expected_tags", ""), fault.found)
    if "either" in fault.context or fault.kind in _EXPECTED:
        expected = fault.context.get("either") or _EXPECTED[fault.kind]
        quote = ": put it in quotes" if expected == "text" and isinstance(fault.found, (bool, int, float)) else ""
        return f"expected {expected}, found {found}{quote}"
    if fault.kind in ("literal_error", "enum"):
        return _say_choices(str(fault.context["expected"]), fault.found)
    if fault.kind in ("value_error", "assertion_error"):
        return str(fault.context["error"])
    return f"{fault.message[0].lower()}{fault.message[1:]}, found {found}"


def _say_choices(expected: str, found: Any) -> str:
    names = expected.replace(" or ", ", ").replace("'", "").split(", ")
    hint = suggest(found, names) if isinstance(found, str) else ""
    return f"expected one of {', '.join(names)}, found {show(found)}{hint}"


def _say_tags(expected: str, found: dict[str, Any]) -> str:
    """A mapping of no known kind: its first key was to name the kind."""
    names = expected.replace("'", "").split(", ") if expected else []
    first = next(iter(found), "")
    listed = f"expected one of {', '.join(names)}" if names else "expected another kind"
    return f"{listed}, found {f"'{first}'" if first else 'nothing'}{suggest(first, names)}"


def _spell(path: Path) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")


def _field_names(model: type[BaseModel]) -> list[set[str]]:
    """The keys of every model reachable from this one, the outermost first."""
    known: dict[type[BaseModel], set[str]] = {}
    waiting: list[Any] = [model]
    while waiting:
        kind = waiting.pop(0)
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            waiting += get_args(kind)
        elif kind not in known:
            known[kind] = {info.alias or name for name, info in kind.model_fields.items()}
            waiting += [info.annotation for info in kind.model_fields.values()]
    return list(known.values())


def _likely_names(key: str, mapping: dict[str, Any], models: list[set[str]]) -> set[str]:
    """The keys of the model that refused `key` in this mapping: the one whose other keys fit best."""
    candidates = [names for names in models if key not in names] or [set()]
    return max(candidates, key=lambda names: (len(names & mapping.keys()), -len(names)))
