"""What shapes are compiled with: the document they stand in, the names they may use, and where faults are put."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Mapping
from typing import Any, Literal, NamedTuple, TypeVar

from handrail.core.expressions import Expression, ExpressionError, Expressions
from handrail.core.known import Names
from handrail.core.problems import Problem, choose, suggest
from handrail.core.source import Document, Path, Place, Shape, validate
from handrail.core.templates import Nested, Template, TemplateFault, Templates, templates_in

CONTEXT = ("user", "event", "now")  # what templates may name

Model = TypeVar("Model", bound=Shape)
Result = TypeVar("Result")


class Use(NamedTuple):
    """A condition, value or text that was compiled, and where it stands."""

    document: Document
    path: Path
    what: Expression | Template | Nested


class Origin(NamedTuple):
    """Whose a `when` form is: its trigger, its place among the trigger's, and the trigger's fingerprint."""

    trigger: str
    place: int
    rule: str

    @property
    def name(self) -> str:
        return f"{self.trigger}#{self.place}"


class Bench(NamedTuple):
    """What the compilers of a file share. `problems` and `uses` grow: all that is wrong, and all that compiled."""

    names: Names
    expressions: Expressions
    templates: Templates
    problems: list[Problem]
    uses: list[Use]


class Compiler:
    """Compiles the parts of one document; every fault is noted at its place and compiling goes on.

    A path is a sequence of keys and indexes from the document's root, or from `root` where one was given.
    """

    __slots__ = ("_bench", "_root", "document")

    def __init__(self, bench: Bench, document: Document, root: tuple[str | int, ...] = ()) -> None:
        self.document = document
        self._bench = bench
        self._root = root

    @property
    def names(self) -> Names:
        return self._bench.names

    def below(self, *path: str | int) -> Compiler:
        return Compiler(self._bench, self.document, (*self._root, *path))

    def shape(self, model: type[Model], *path: str | int) -> Model | None:
        """The value at the path as this shape, or None after noting what is wrong with it."""
        value, problems = validate(model, self.document, at=(*self._root, *path))
        self._bench.problems.extend(problems)
        return value

    def condition(
        self, source: str | None, *path: str | int, event: bool = True, answers: bool = False
    ) -> Expression | None:
        return None if source is None else self._expression(source, "bool", path, event=event, answers=answers)

    def lasting_condition(self, source: str | None, *path: str | int) -> Expression | None:
        """One that holds or fails all along, without an event."""
        condition = self.condition(source, *path, event=False)
        if condition is not None and condition.clock is not None and not condition.clock.followed:
            self.warn("judged at the user's events only: when time alone changes it cannot be told", *path)
        return condition

    def expression(self, source: str, *path: str | int) -> Expression | None:
        return self._expression(source, "any", path)

    def template(self, source: str, *path: str | int, event: bool = True) -> Template:
        try:
            names = CONTEXT if event else [name for name in CONTEXT if name != "event"]
            template = self._bench.templates.compile(source, names)
        except TemplateFault as fault:
            self._template_fault(fault, source, path, "error")
            return self._bench.templates.compile("")
        for warning in template.warnings:
            self._template_fault(warning, source, path, "warning")
        self._use(template, path)
        return template

    def value_template(self, value: Any, *path: str | int, data: bool = False) -> Nested:
        """A nested value whose texts are templates; with `data` they may also name the action's data."""
        try:
            nested = self._bench.templates.compile_value(value, (*CONTEXT, "data") if data else CONTEXT)
        except TemplateFault as fault:
            self.error(fault.message, *path, *fault.path)
            return self._bench.templates.compile_value(None)
        for inner, template in templates_in(nested.value):
            for warning in template.warnings:
                self._template_fault(warning, template.source, (*path, *inner), "warning")
        self._use(nested, path)
        return nested

    def attempt(self, parse: Callable[[str], Result], text: str, *path: str | int) -> Result | None:
        try:
            return parse(text)
        except ValueError as error:
            self.error(str(error), *path)
            return None

    def refer(self, kind: str, name: str, names: Collection[str], *path: str | int) -> None:
        if name not in names:
            self.error(f"no {kind} is named '{name}'{suggest(name, names)}", *path)

    def refer_flow(self, name: str, *path: str | int) -> None:
        """Check `flow`, `flow/variant` or the name of a variant that only one flow has."""
        if resolve_flow(name, self.names.flows) is None:
            self.refer("flow or variant", name, self.names.flow_choices(), *path)

    def unknown(self, kind: str, name: str, names: Iterable[str], *path: str | int) -> None:
        self.error(f"unknown {kind} '{name}'{choose(name, list(names))}", *path)

    def unknown_key(self, kind: str, name: str, names: Iterable[str], *path: str | int) -> None:
        """As `unknown`, for a key of the mapping at the path; put where the key stands."""
        place = self.document.key_place((*self._root, *path, name))
        self._bench.problems.append(self.document.problem(place, f"unknown {kind} '{name}'{choose(name, list(names))}"))

    def error(self, message: str, *path: str | int) -> None:
        self._note(message, "error", path)

    def warn(self, message: str, *path: str | int) -> None:
        self._note(message, "warning", path)

    def _use(self, what: Expression | Template | Nested, path: Path) -> None:
        self._bench.uses.append(Use(self.document, (*self._root, *path), what))

    def note_inside(
        self,
        expression: Expression,
        name: str,
        message: str,
        *path: str | int,
        severity: Literal["error", "warning"] = "error",
    ) -> None:
        """A fault of the expression at the path, put where it first reads this name."""
        self._bench.problems.append(
            self.document.problem(self._inside(expression, name, path), message, severity=severity)
        )

    def _note(self, message: str, severity: str, path: tuple[str | int, ...]) -> None:
        place = self.document.value_place((*self._root, *path))
        self._bench.problems.append(Problem(self.document.path, place.line, place.column, message, severity))

    def _template_fault(
        self, fault: TemplateFault, source: str, path: tuple[str | int, ...], severity: Literal["error", "warning"]
    ) -> None:
        place = self.document.inner_place((*self._root, *path), source, fault.line, fault.column)
        self._bench.problems.append(self.document.problem(place, fault.message, severity=severity))

    def _expression(
        self,
        source: str,
        want: Literal["bool", "any"],
        path: tuple[str | int, ...],
        *,
        event: bool = True,
        answers: bool = False,
    ) -> Expression | None:
        if (*self._root, *path) in self.document.faulty:
            return None
        try:
            expression = self._bench.expressions.compile(source, want=want, event=event, answers=answers)
        except ExpressionError as error:
            for fault in error.faults:
                place = self.document.inner_place((*self._root, *path), source, fault.line, fault.column)
                self._bench.problems.append(self.document.problem(place, fault.message))
            return None
        self._use(expression, path)
        self._check_names(expression, path)
        return expression

    def _check_names(self, expression: Expression, path: Path) -> None:
        names = self._bench.names
        for counter in _unknown(expression.counters, names.counters):
            message = f"no counter is named '{counter}'{suggest(counter, names.counters)}"
            self.note_inside(expression, f"user.counters.{counter}", message, *path)
        for segment in _unknown(expression.segments, names.segments):
            message = f"no segment is named '{segment}'{suggest(segment, names.segments)}"
            self.note_inside(expression, "user.segments", message, *path, severity="warning")
        personas = expression.personas - {""} if expression.personas else None
        for persona in _unknown(personas, names.personas) if personas and names.personas else ():
            message = f"no persona is named '{persona}'{suggest(persona, names.personas)}"
            self.note_inside(expression, "user.persona", message, *path, severity="warning")

    def _inside(self, expression: Expression, name: str, path: tuple[str | int, ...]) -> Place:
        """Where in the file the expression first reads this name."""
        line, column = expression.places.get(name, (1, 1))
        return self.document.inner_place((*self._root, *path), expression.source, line, column)


def _unknown(names: Collection[str] | None, known: Container[str]) -> list[str]:
    return sorted([name for name in names if name not in known]) if names else []


def resolve_flow(name: str, flows: Mapping[str, tuple[str, ...]]) -> tuple[str, str | None] | None:
    """(flow, variant or None) that a `flow:` value names, or None when it names nothing or more than one."""
    flow, _, variant = name.partition("/")
    if flow in flows:
        return (flow, variant or None) if not variant or variant in flows[flow] else None
    owners = [each for each, variants in flows.items() if name in variants]
    return (owners[0], name) if len(owners) == 1 else None
