"""Texts of messages and webhooks: minijinja templates over `user`, `event` and `now`, checked when rules load.

A missing trait or property is empty, and so is whatever is looked up in it. Rendering is bounded by fuel and by the
length of the result. Nothing is escaped: what comes out is text, and whoever shows it treats it as such.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import Any

import minijinja
from msgspec import Struct

from handrail.core.cel import VARIABLES
from handrail.core.problems import nearest, suggest

FUEL = 20_000  # steps of minijinja's machine; a greeting takes about ten
MAX_TEXT = 64 * 1024  # characters that one template may come to

# What has fields, and which: user, user.session, event, …
_FIELDS: dict[str, frozenset[str]] = {
    owner: frozenset(name[len(owner) + 1 :].partition(".")[0] for name in VARIABLES if name.startswith(f"{owner}."))
    for owner in {name.rpartition(".")[0] for name in VARIABLES if "." in name}
}
_OPEN = {"user": "traits", "event": "properties"}  # where what is not there may have been looked for
_FILTERS = (
    *("default", "upper", "lower", "capitalize", "title", "trim", "replace", "round", "int", "float", "length"),
    *("first", "last", "join", "sort", "reverse", "unique", "list", "sum", "min", "max", "items", "dictsort"),
    *("truncate", "pluralize", "split", "abs", "format", "tojson", "urlencode", "filesizeformat", "string"),
)
_UNCLOSED = (
    ("end of input, expected end of variable block", "a '{{' is not closed by '}}'"),
    ("end of input, expected end of block", "a '{%' is not closed by '%}', or an {% if %} or {% for %} has no end"),
)
_HIDDEN = re.compile(r"\{#.*?#\}|\{%-?\s*raw\s*-?%\}.*?\{%-?\s*endraw\s*-?%\}", re.DOTALL)
_QUOTED = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
_TEXT = re.compile(_QUOTED, re.DOTALL)
_TAG = re.compile(rf"""\{{(?:\{{(?:{_QUOTED}|(?!\}}\}})[^'"])*\}}|%(?:{_QUOTED}|(?!%\}})[^'"])*%)\}}""", re.DOTALL)
_FILTER = re.compile(r"\|\s*([A-Za-z_]\w*)")
_SLICE = re.compile(r"\[[^\]]*:")
# A call on a value would run a method of the Python object behind it; loop.cycle and loop.changed are minijinja's own.
_METHOD = re.compile(r"(?<!loop)\.\s*(\w+)\s*\(|[\])]\s*\(")


class TemplateFault(Exception):
    """A template that cannot be used or rendered; line and column count from 1, within the text at `path`."""

    def __init__(self, line: int, column: int, message: str, *, path: tuple[str | int, ...] = ()) -> None:
        super().__init__(f"{line}:{column}: {message}")
        self.line = line
        self.column = column
        self.message = message
        self.path = path


class Template:
    """A compiled text. `reads` are the dotted names it looks at, `warnings` likely slips that do not keep it from
    rendering."""

    __slots__ = ("_environment", "_name", "constant", "reads", "source", "warnings")

    def __init__(self, source: str, environment: minijinja.Environment, name: str | None) -> None:
        self.source = source
        self.constant = name is None  # nothing in it to fill in
        self.reads: frozenset[str] = frozenset()
        self.warnings: tuple[TemplateFault, ...] = ()
        self._environment = environment
        self._name = name or ""

    def __repr__(self) -> str:
        return f"Template({self.source!r})"

    def place(self, name: str) -> tuple[int, int]:
        """Line and column where a dotted name is first read; the beginning where that is unclear."""
        fault = _at(self.source, _find(_code(self.source), name), "")
        return fault.line, fault.column

    def render(self, context: Mapping[str, object]) -> str:
        """The text for `user`, `event` and `now` as plain nested values. Raises TemplateFault, out of fuel for one."""
        if self.constant:
            return self.source
        try:
            text = self._environment.render_template(self._name, **context)
        except minijinja.TemplateError as error:
            raise _fault(self.source, error) from error
        except (TypeError, ValueError, OverflowError) as error:  # from a value or an argument that a filter cannot take
            raise TemplateFault(1, 1, f"cannot be rendered: {error}") from error
        if len(text) > MAX_TEXT:
            raise TemplateFault(1, 1, f"comes to more than {MAX_TEXT} characters")
        return text


class Nested(Struct, frozen=True):
    """A JSON value whose strings are templates; keys are not."""

    value: Any  # Template for every string
    reads: frozenset[str] = frozenset()

    def render(self, context: Mapping[str, object]) -> Any:
        """The value with every string rendered. Raises TemplateFault with the path of the one at fault."""
        return _render(self.value, context, ())


def _render(value: Any, context: Mapping[str, object], path: tuple[str | int, ...]) -> Any:
    if isinstance(value, Template):
        try:
            return value.render(context)
        except TemplateFault as fault:
            raise TemplateFault(fault.line, fault.column, fault.message, path=path) from fault
    if isinstance(value, dict):
        return {key: _render(item, context, (*path, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_render(item, context, (*path, index)) for index, item in enumerate(value)]
    return value


def templates_in(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Template]]:
    """Every template in a nested value, with its path."""
    if isinstance(value, Template):
        yield path, value
    elif isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from templates_in(item, (*path, key))


class Templates:
    """Compiles templates; those of one rule set share an environment."""

    def __init__(self) -> None:
        self._environment = minijinja.Environment(
            fuel=FUEL,
            undefined_behavior="chainable",
            auto_escape_callback=lambda _name: False,
            keep_trailing_newline=True,
            finalizer=_finalize,
            filters={"default": _default, "d": _default},
        )
        for name in ("debug", "namespace", "dict", "cycler", "joiner"):
            self._environment.remove_global(name)
        self._names = count()

    def compile(self, source: str, names: Iterable[str] = ("user", "event", "now")) -> Template:
        """The template of a source. Raises TemplateFault on bad syntax and on names that are not there."""
        if "{{" not in source and "{%" not in source and "{#" not in source:
            return Template(source, self._environment, None)
        name = str(next(self._names))
        try:
            self._environment.add_template(name, source)
            read = self._environment.undeclared_variables_in_template(name, nested=True)
        except minijinja.TemplateError as error:
            raise _fault(source, error) from error
        code = _code(source)
        self._check_names(code, read, list(names))
        self._check_code(code)
        template = Template(source, self._environment, name)
        self._try(template)
        # minijinja does not report what stands before a slice: then all of it counts as read.
        template.reads = frozenset(names if _SLICE.search(code) else read)
        template.warnings = tuple(_odd_fields(code, read))
        return template

    def compile_value(self, value: Any, names: Iterable[str] = ("user", "event", "now")) -> Nested:
        """Every string in nested mappings and lists as a template. Raises TemplateFault with the path of it."""
        nested = self._nest(value, tuple(names), ())
        return Nested(nested, frozenset().union(*(template.reads for _, template in templates_in(nested))))

    def _nest(self, value: Any, names: tuple[str, ...], path: tuple[str | int, ...]) -> Any:
        if isinstance(value, str):
            try:
                return self.compile(value, names)
            except TemplateFault as fault:
                raise TemplateFault(fault.line, fault.column, fault.message, path=path) from fault
        if isinstance(value, dict):
            return {key: self._nest(item, names, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self._nest(item, names, (*path, index)) for index, item in enumerate(value)]
        return value

    def _check_names(self, code: str, read: set[str], names: list[str]) -> None:
        for name in sorted({dotted.partition(".")[0] for dotted in read} - {*names, "range", "loop", "self"}):
            hint = f"; did you mean 'user.{name}'?" if name in _FIELDS["user"] else suggest(name, names)
            raise _at(code, _find(code, name), f"unknown name '{name}'{hint or '; there are ' + ', '.join(names)}")

    def _check_code(self, code: str) -> None:
        for found in _FILTER.finditer(code):
            if found[1] not in _FILTERS and not self._is_filter(found[1]):
                message = f"unknown filter '{found[1]}'{suggest(found[1], _FILTERS)}"
                raise _at(code, found.start(1), message)
        method = _METHOD.search(code)
        if method:
            hint = f", as '| {method[1]}'" if method[1] in _FILTERS else ""
            raise _at(code, method.start(), f"methods cannot be called in templates: use a filter{hint}")

    def _is_filter(self, name: str) -> bool:
        try:
            self._environment.eval_expr(f"'' | {name}")
        except minijinja.TemplateError as error:
            return error.kind != "UnknownFilter"
        except (TypeError, ValueError):
            return True
        return True

    def _try(self, template: Template) -> None:
        """Render once with nothing known, for what shows only then: unknown functions, includes, endless loops."""
        try:
            self._environment.render_template(template._name)
        except minijinja.TemplateError as error:
            if error.kind in ("UnknownFunction", "UnknownTest", "TemplateNotFound", "OutOfFuel", "SyntaxError"):
                raise _fault(template.source, error) from error
        except (TypeError, ValueError, OverflowError):
            pass  # depends on the data


def _finalize(value: Any) -> Any:
    """How a value is written: nothing for None, true and false as JSON has them."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else value


def _default(value: Any, default_value: Any = "", boolean: bool = False) -> Any:
    """Unlike minijinja's own, it also stands in for None: a trait that was removed is a trait that is missing."""
    return default_value if value is None or (boolean and not value) else value


def _code(source: str) -> str:
    """The source with everything but the code in its tags blanked, offsets kept."""
    source = _HIDDEN.sub(_blank, source)
    kept, at = [], 0
    for tag in _TAG.finditer(source):
        kept += [_blank_text(source[at : tag.start()]), _TEXT.sub(_blank, tag[0])]
        at = tag.end()
    return "".join([*kept, _blank_text(source[at:])])


def _blank(found: re.Match[str]) -> str:
    return _blank_text(found[0])


def _blank_text(text: str) -> str:
    return "\n".join([" " * len(line) for line in text.split("\n")])


def _find(code: str, name: str) -> int:
    found = re.search(rf"(?<![\w.]){re.escape(name)}\b", code)
    return found.start() if found else 0


def _odd_fields(code: str, read: set[str]) -> Iterator[TemplateFault]:
    for owner, field in sorted({found for dotted in read if (found := _odd_field(dotted))}):
        at = _find(code, f"{owner}.{field}")
        close = nearest(field, _FIELDS[owner], cutoff=0.8) or (owner in _OPEN and f"{_OPEN[owner]}.{field}")
        hint = f"did you mean '{owner}.{close}'?" if close else f"known: {', '.join(sorted(_FIELDS[owner]))}"
        yield _at(code, at, f"'{owner}' has no field '{field}', so this is always empty; {hint}")


def _odd_field(dotted: str) -> tuple[str, str] | None:
    """(owner, field) of the first part of a dotted name that is not there."""
    parts = dotted.split(".")
    for length in range(1, len(parts)):
        owner = ".".join(parts[:length])
        if owner in _FIELDS and parts[length] not in _FIELDS[owner]:
            return owner, parts[length]
    return None


def _at(text: str, offset: int, message: str) -> TemplateFault:
    return TemplateFault(text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset), message)


def _fault(source: str, error: minijinja.TemplateError) -> TemplateFault:
    """The library's error at its line and column; its offsets count bytes."""
    message = error.detail or error.message
    for part, words in _UNCLOSED:
        message = words if part in message else message
    if error.kind == "OutOfFuel":
        message = "takes too long to render: too many or too large loops"
    elif error.kind == "TemplateNotFound":
        message = "templates cannot include or extend others"
    if error.range is None:
        return TemplateFault(error.line or 1, 1, message)
    return _at(source, len(source.encode()[: error.range[0]].decode(errors="ignore")), message)
