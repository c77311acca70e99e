"""From YAML documents to rule-file models: every fault at its own line and column, in words an author can act on.

`Shape` is the base of every rule-file model: strict, frozen, no unknown keys. What pydantic reports is re-told: a
union's branches become the one the author most likely meant, and the tags of unions leave no trace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar, get_args

import msgspec
from pydantic import BaseModel, ConfigDict, ValidationError

from handrail.core.documents import MAX_BYTES, MAX_DEPTH, MAX_PROBLEMS, Document, Path, Place, read
from handrail.core.problems import Problem, suggest
from handrail.core.scalars import show

__all__ = ["MAX_BYTES", "MAX_DEPTH", "Document", "Path", "Place", "Shape", "read", "validate"]


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
    "limit_type": "a limit such as '1 per session'",
    "union_tag_not_found": "keys and values",
    "union_tag_invalid": "keys and values",
}
# The same for bounds, with pydantic's context filled in.
_BOUNDS = {
    "greater_than_equal": "at least {ge}",
    "greater_than": "more than {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "less than {lt}",
    "too_short": "at least {min_length} of them",
    "too_long": "at most {max_length} of them",
    "string_too_short": "text of at least {min_length} characters",
    "string_too_long": "text of at most {max_length} characters",
}


def validate(model: type[M], document: Document, at: Path = ()) -> tuple[M | None, list[Problem]]:
    """The model of the value at a path, or None and everything wrong with it.

    Nothing is said about values that the YAML reader has already reported.
    """
    value = _at(document.value, at)
    try:
        return model.model_validate_json(msgspec.json.encode(value)), []
    except ValidationError as error:
        faults = [_Fault(details, value) for details in error.errors(include_url=False)[:MAX_PROBLEMS]]
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
        steps: list[str | int] = list(details["loc"])
        self.key = str(steps.pop()) if self.kind in ("missing", "extra_forbidden") else ""
        taken = _follow(root, steps, self._fits(details["input"]))
        self.path: Path = tuple(steps[index] for index in taken)
        self.found = _at(root, self.path)
        # (where a union stands, how many unions stand around it there) -> the branch that pydantic tried
        self.tags: dict[tuple[Path, int], str | int] = {}
        for index in sorted(set(range(len(steps))) - set(taken)):
            place = tuple(steps[each] for each in taken if each < index)
            self.tags[place, sum(place == other for other, _ in self.tags)] = steps[index]

    def _fits(self, given: Any) -> Callable[[Any], bool]:
        """Whether the fault can be at this value: pydantic says what it was given there."""
        if self.kind == "missing":
            return lambda value: isinstance(value, dict) and self.key not in value
        if self.kind == "extra_forbidden":
            return lambda value: isinstance(value, dict) and self.key in value
        return lambda value: bool(value == given)


def _follow(value: Any, steps: Sequence[Any], fits: Callable[[Any], bool]) -> tuple[int, ...]:
    """Which of the steps lead through the data; the others are tags of unions.

    A tag may be called like a key, so the reading is taken that ends where the fault can be, goes deepest,
    and passes tags before keys.
    """

    def readings(value: Any, index: int) -> Iterator[tuple[bool, int, tuple[int, ...]]]:
        if index == len(steps):
            yield fits(value), 0, ()
            return
        yield from readings(value, index + 1)
        step = steps[index]
        in_list = isinstance(value, list) and isinstance(step, int) and step < len(value)
        if in_list or (isinstance(value, dict) and step in value):
            for fit, depth, rest in readings(value[step], index + 1):
                yield fit, depth + 1, (index, *rest)

    return max(readings(value, 0), key=lambda reading: reading[:2])[2]


def _choose(faults: list[_Fault]) -> list[_Fault]:
    """Of each union's branches, keep the one the author most likely meant."""
    for union in sorted(
        {union for fault in faults for union in fault.tags}, key=lambda union: (len(union[0]), union[1])
    ):
        branches: dict[str | int, list[_Fault]] = {}
        for fault in faults:
            if union in fault.tags:
                branches.setdefault(fault.tags[union], []).append(fault)
        if len(branches) > 1:
            best = _best(branches.values(), union[0])
            faults = [fault for fault in faults if union not in fault.tags or fault in best]
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
            document.key_place((*path, fault.key)), f"unknown key {show(fault.key)}{inside}{suggest(fault.key, known)}"
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
    if fault.kind in _BOUNDS:
        return f"expected {_BOUNDS[fault.kind].format(**fault.context)}, found {found}"
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
    return f"{listed}, found {show(first)}{suggest(first, names)}"


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
