"""From YAML documents to rule-file models: every fault at its own line and column, in words an author can act on.

`Shape` is the base of every rule-file model: strict, frozen, no unknown keys. What pydantic reports is re-told: a
union's branches become the one the author most likely meant, and the tags of unions leave no trace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import msgspec
from pydantic import BaseModel, ConfigDict, ValidationError

from handrail.core.documents import MAX_BYTES, Document, read
from handrail.core.problems import Problem, choose, suggest
from handrail.core.reader import MAX_DEPTH, MAX_PROBLEMS, Path, Place
from handrail.core.scalars import show

__all__ = ["MAX_BYTES", "MAX_DEPTH", "Document", "Path", "Place", "Shape", "read", "salvage", "validate"]


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
    "clock_type": "a time of day from '00:00' to '23:59'",
    "share_type": "a percentage from 0% to 100%, with two decimals at most, as 5% or 0.25%",
    "union_tag_not_found": "keys and values",
    "union_tag_invalid": "keys and values",
}
# The same for bounds, with pydantic's context filled in.
_BOUNDS = {
    "greater_than_equal": "at least {ge}",
    "greater_than": "more than {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "less than {lt}",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "string_too_short": "text of at least {min_length} characters",
    "string_too_long": "text of at most {max_length} characters",
}


def validate(model: type[M], document: Document, at: Path = ()) -> tuple[M | None, list[Problem]]:
    """The model of the value at a path, or None and everything wrong with it.

    Nothing is said about values that the YAML reader has already reported.
    """
    value = _at(document.value, at)
    try:
        return model.model_validate(value), []
    except ValidationError:
        return _validate_json(model, document, at, value)


def _validate_json(model: type[M], document: Document, at: Path, value: Any) -> tuple[M | None, list[Problem]]:
    """As `validate`, which is the quicker way to what is right; what is wrong pydantic tells of JSON."""
    try:
        return model.model_validate_json(msgspec.json.encode(value)), []
    except ValidationError as error:
        faults = [_Fault(details, value) for details in error.errors(include_url=False)[:MAX_PROBLEMS]]
    problems = {_problem(fault, document, at, model) for fault in _choose(faults)}
    return None, sorted(problem for problem in problems if problem)


def salvage(model: type[M], document: Document, stand_ins: Mapping[str, Any]) -> M | None:
    """What is left of a faulty document without the keys at fault, so that the rest of it can still be checked.

    `stand_ins` take the place of required keys that are missing or at fault.
    """
    try:
        return model.model_validate_json(msgspec.json.encode(document.value))
    except ValidationError as error:
        faulty = {details["loc"][0] for details in error.errors(include_url=False, include_input=False)}
    sound = {key: value for key, value in document.value.items() if key not in faulty}
    try:
        return model.model_validate_json(msgspec.json.encode({**stand_ins, **sound}))
    except ValidationError:
        return None


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


def _problem(fault: _Fault, document: Document, at: Path, model: type[BaseModel]) -> Problem | None:
    path = at + fault.path
    if any(path[:length] in document.faulty for length in range(len(path) + 1)):
        return None
    where = _spell(fault.path)
    if fault.kind == "missing":
        inside = f" in {where}" if where else ""
        return document.problem(document.value_place(path), f"missing key '{fault.key}'{inside}")
    if fault.kind == "extra_forbidden":
        inside = f" in {where}" if where else ""
        known = _likely_keys(fault, model)
        return document.problem(
            document.key_place((*path, fault.key)),
            f"unknown key {show(fault.key)}{inside}{choose(fault.key, known, fault.found)}",
        )
    said = _say(fault, model)
    return document.problem(document.value_place(path), f"{where}: {said}" if where else said)


def _say(fault: _Fault, model: type[BaseModel]) -> str:
    found = show(fault.found)
    if fault.kind in ("union_tag_invalid", "union_tag_not_found") and isinstance(fault.found, dict):
        return _say_tags(fault.context.get("expected_tags", ""), fault.found)
    if "either" in fault.context or fault.kind in _EXPECTED:
        expected = fault.context.get("either") or _EXPECTED[fault.kind]
        return f"expected {expected}{_keys_wanted(fault, model)}, found {found}{_remedy(expected, fault.found)}"
    if fault.kind in _BOUNDS:
        size = f" of {len(fault.found)}" if isinstance(fault.found, list) and fault.found else ""
        return f"expected {_BOUNDS[fault.kind].format(**fault.context)}, found {found}{size}"
    if fault.kind == "string_pattern_mismatch":
        marks = "'-', '_' and '.'" if "-]" in fault.context["pattern"] else "'_', and no digit first"
        return f"expected a name of small letters, digits, {marks}, found {found}"
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


def _keys_wanted(fault: _Fault, model: type[BaseModel]) -> str:
    """Which keys and values were expected."""
    shapes = _models(_at_path(model, fault.path)) if fault.kind.startswith("model") else []
    return f" ({', '.join(_keys(shapes[0]))})" if len(shapes) == 1 else ""


def _remedy(expected: str, found: Any) -> str:
    if expected == "text" and isinstance(found, (bool, int, float)):
        return ": put it in quotes"
    if expected == "a list" and isinstance(found, dict):
        return ": begin each item with '- ', or put them in [ ]"
    return ""


def _spell(path: Path) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")


def _likely_keys(fault: _Fault, model: type[BaseModel]) -> list[str]:
    """The keys of the model that refused one here: of a union's, the one whose other keys fit best."""
    candidates = [keys for keys in map(_keys, _models(_at_path(model, fault.path))) if fault.key not in keys] or [[]]
    return max(candidates, key=lambda keys: (len(fault.found.keys() & keys), -len(keys)))


def _keys(model: type[BaseModel]) -> list[str]:
    return [info.alias or name for name, info in model.model_fields.items()]


def _at_path(annotation: Any, path: Path) -> list[Any]:
    """The annotations that hold for the value at a path."""
    reached = [annotation]
    for step in path:
        reached = [inner for each in reached for part in _branches(each) for inner in _inside(part, step)]
    return reached


def _inside(annotation: Any, step: str | int) -> list[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [info.annotation for name, info in annotation.model_fields.items() if (info.alias or name) == step]
    return list(get_args(annotation)[-1:]) if get_origin(annotation) in (list, dict) else []


def _branches(annotation: Any) -> list[Any]:
    """The members of a union, or the annotation itself."""
    if get_origin(annotation) is Annotated:
        return _branches(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [branch for member in get_args(annotation) for branch in _branches(member)]
    return [annotation]


def _models(annotations: list[Any]) -> list[type[BaseModel]]:
    branches = [branch for annotation in annotations for branch in _branches(annotation)]
    return [each for each in branches if isinstance(each, type) and issubclass(each, BaseModel)]
