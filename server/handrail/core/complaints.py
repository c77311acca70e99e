"""What the CEL library says of a faulty expression, retold for the author of a rule file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from handrail.core.problems import nearest, suggest

LATER = ("user.cluster", "user.predictions", "user.experiments")  # names of the language this version has no data for
FUNCTIONS = (
    *("has", "all", "exists", "exists_one", "map", "filter", "size", "contains", "startsWith", "endsWith", "matches"),
    *("int", "uint", "double", "string", "bytes", "bool", "type", "dyn", "duration", "timestamp"),
    *("getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear"),
    *("getHours", "getMinutes", "getSeconds", "getMilliseconds"),
)

_FAULT = re.compile(r"ERROR: <input>:(-?\d+):(-?\d+): (.*?)(?=\n \| |\nERROR: |(?: \[[A-Z_]+\])?\Z)", re.DOTALL)
_CODE = re.compile(r"^[A-Z_]+: | \[[A-Z_]+\]$")
_OVERLOAD = re.compile(r"found no matching overload for '(.+?)' applied to '\((.*)\)'", re.DOTALL)
_UNDECLARED = re.compile(r"undeclared reference to '(.*)' \(in container", re.DOTALL)
_SYNTAX = re.compile(
    r"(?:mismatched|extraneous) input '(.*?)' expecting|no viable alternative at input '(.*?)'$", re.DOTALL
)
_TOKEN = re.compile(r"token recognition error at: '(.*?)'?$", re.DOTALL)
_ENGLISH = {"and": "&&", "or": "||", "not": "!", "is": "==", "AND": "&&", "OR": "||", "NOT": "!"}
_SPAN = re.compile(r"[smhd]\b|[smhd][0-9]")
# Where what an author looks for in a part of the scope is mostly kept.
_OWN = {"user": "traits", "event": "properties"}
# The library's names of types, in words.
_TYPES = {
    "string": "text",
    "int": "a whole number",
    "double": "a decimal number",
    "bool": "true or false",
    "null_type": "null",
    "dyn": "a value of any type",
    "google.protobuf.Timestamp": "a time",
    "google.protobuf.Duration": "a duration",
    "list": "a list",
    "map": "a mapping",
}
# Errors of evaluation, by a part of their text.
_RETOLD = (
    ("divide by zero", "division by zero"),
    ("modulus by zero", "division by zero"),
    ("String to Duration", "not a duration: use h, m and s, as '48h' or '1h30m'"),
    ("String to Timestamp", "not a timestamp: write one as '2026-01-31T09:00:00Z'"),
    ("No matching overloads found", "the values are of the wrong type here"),
)


def faults(text: str, source: str, variables: Iterable[str]) -> Iterator[tuple[int, int, str]]:
    """(line, column, message) of every error in what the compiler said of `source`."""
    known = list(variables)
    seen = set()
    found = _FAULT.findall(text)
    broken = [each for each in found if each[2].startswith("Syntax error")]
    for line, column, message in broken[:1] or found:  # past the first slip of syntax the compiler only guesses
        fault = _fault(int(line), int(column), message, source.split("\n"), known)
        if fault not in seen:
            seen.add(fault)
            yield fault
    if not seen:
        yield 1, 1, _deep(text) or retell(text.split("\n")[0])


def type_name(name: str) -> str:
    """A type as the library calls it (`list(string)`, `INT`), in words."""
    plain = name.lower() if name.isupper() else name
    if plain == "list(string)":
        return "a list of text"
    return _TYPES.get(plain, _TYPES.get(plain.partition("(")[0], plain))


def retell(text: str) -> str:
    """An error of evaluation in plain words."""
    if "Key not found in map" in text:
        return _absent(text.rpartition(" : ")[2])
    return next((words for part, words in _RETOLD if part in text), None) or _CODE.sub("", _CODE.sub("", text))


def absent(key: str) -> str:
    """What is said of a key that a mapping has not."""
    return _absent(f'"{key}"')


def _absent(shown: str) -> str:
    return f"there is no {shown} there"


def _deep(message: str) -> str | None:
    if "recursion" in message:
        return "nested too deeply: at most 32 levels; test for one of many values with `in [...]`"
    return None


def _fault(line: int, column: int, message: str, lines: list[str], known: list[str]) -> tuple[int, int, str]:
    if line < 1 or line > len(lines):
        return 1, 1, _deep(message) or message
    row, index = lines[line - 1], max(column, 1) - 1
    undeclared = _UNDECLARED.search(message)
    if undeclared:
        name = undeclared[1]
        called = row[index : index + 1] == "("
        start = _start(row, index, name.rpartition(".")[2] if called else name)
        return line, start + 1, _unknown_function(name, known) if called else unknown_name(name, known)
    return line, index + 1, _overload(message) or _syntax(message, row, index) or _deep(message) or message


def _start(row: str, index: int, name: str) -> int:
    """Where a name begins: the compiler points at its last dot, or at the parenthesis after it."""
    for start in (index - len(name), index - len(name.rpartition(".")[0])):
        if start >= 0 and row.startswith(name, start):
            return start
    return index


def unknown_name(name: str, known: list[str]) -> str:
    """What to say of a name that is no variable."""
    for later in LATER:
        if name == later or name.startswith(f"{later}."):
            return f"'{later}' is not available in this version"
    if name.partition(".")[0] == "event" and not any(each.startswith("event.") for each in known):
        return "there is no event here: only 'user' and 'now' can be used"
    inner = _inner(name, known)
    if inner:
        return f"'{name}' has the fields {', '.join(inner)}: name one, as {name}.{inner[0]}"
    return _unknown_field(name, known) or f"unknown name '{name}'{_suggest(name, known)}"


def _unknown_field(name: str, known: list[str]) -> str | None:
    parent, _, last = name.rpartition(".")
    while parent:
        inner = _inner(parent, known)
        if inner:
            close = nearest(last, inner)
            held = _OWN.get(parent)
            if close:
                return f"unknown field '{last}' of '{parent}'; did you mean '{parent}.{close}'?"
            if held:
                return f"'{parent}' has no '{last}' of its own: {held} are read as {parent}.{held}.{last}"
            return f"unknown field '{last}' of '{parent}'; it has {', '.join(inner)}"
        parent, _, last = parent.rpartition(".")
    return None


def _inner(name: str, known: Iterable[str]) -> list[str]:
    below = (each[len(name) + 1 :].partition(".")[0] for each in known if each.startswith(f"{name}."))
    return list(dict.fromkeys(below))


def _suggest(name: str, known: list[str]) -> str:
    """A bare `traits` means `user.traits`; a bare word in a comparison was perhaps meant as text."""
    bare = {each.rpartition(".")[2]: each for each in reversed(known)} | {each: each for each in known}
    first = name.partition(".")[0]
    word = "." not in name
    close = nearest(first, [*bare, "user", "event"], cutoff=0.75 if word else 0.6)
    if close:
        return f"; did you mean '{bare.get(close, close)}{name[len(first) :]}'?"
    return f"; text needs quotes, as '{name}'" if word else ""


def _unknown_function(name: str, known: list[str]) -> str:
    if name == "has":
        return "has() takes one dotted name, as has(user.traits.plan)"
    if name in FUNCTIONS:
        return f"'{name}' cannot be called like this: it needs other arguments, or a value before it"
    return f"unknown function '{name}'{suggest(name, FUNCTIONS)}"


def _overload(message: str) -> str | None:
    found = _OVERLOAD.search(message)
    if not found:
        return None
    name, types = found[1], [type_name(each) for each in _split(found[2])]
    if name == "_?_:_":
        return f"`? :` needs a condition and two values of one type, found {', '.join(types)}"
    if name == "_[_]":
        return f"{types[0]} cannot be indexed by {types[1]}"
    if name == "@in":
        return f"`in` cannot look for {types[0]} in {types[1]}"
    shown = name.replace("_", "") if name.strip("_") != name or name == "!_" else f"{name}()"
    return f"`{shown}` does not work on {' and '.join(types)}{_remedy(types)}"


def _remedy(types: list[str]) -> str:
    if set(types) == {"a list of text", "text"}:
        return ": test whether it is in the list, as 'text' in list"
    if set(types) == {"a duration", "text"}:
        return ": write duration('48h')"
    if set(types) == {"a time", "text"}:
        return ": write timestamp('2026-01-31T09:00:00Z')"
    if set(types) == {"a whole number", "a decimal number"}:
        return ": write both in the same way, or convert with int() or double()"
    if "a mapping" in types and len(types) > 1:
        return ": name one of its entries"
    return ""


def _split(types: str) -> list[str]:
    """`map(string, dyn), int` at its outer commas."""
    parts, depth = [""], 0
    for char in types:
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip() for part in parts]


def _syntax(message: str, row: str, index: int) -> str | None:
    if not message.startswith("Syntax error"):
        return None
    if index and row[index - 1].isdigit() and _SPAN.match(row, index):
        return "a duration is written duration('48h')"
    token = _TOKEN.search(message)
    if token:
        return _odd_token(token[1])
    found = _SYNTAX.search(message)
    what = (found[1] or found[2] or "") if found else ""
    for word in (what, *re.findall(r"\b(not|NOT)\b", row)):
        if word in _ENGLISH:
            return f"use {_ENGLISH[word]} instead of '{word}'"
    if what == "contains":
        return "whether a list has a member is asked as 'member' in list"
    if what == "<EOF>":
        return "the expression ends too early: a value or a bracket is missing"
    return f"unexpected '{what}'" if what else message.partition(" expecting ")[0].replace("Syntax error: ", "")


def _odd_token(token: str) -> str:
    if token.startswith("="):
        return "use == to compare"
    if token.startswith(("'", '"')):
        return "the text is not closed: a quote is missing"
    return f"unexpected '{token}'"
