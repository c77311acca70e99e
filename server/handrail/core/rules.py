"""From rule files to a Program: every document read, checked against all others, and compiled.

Faults never stop the check: what can be told of one run over all files is told, each at its file, line and column.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

from handrail.core.compiler import Compiler
from handrail.core.counters import Counter, CounterShape
from handrail.core.durations import format_duration
from handrail.core.expressions import Expression, Expressions
from handrail.core.flows import Flow, FlowShape, compile_flow
from handrail.core.known import Names, Told
from handrail.core.messages import Message, MessageShape, compile_message
from handrail.core.policy import Policy, PolicyShape, compile_policy
from handrail.core.problems import Problem
from handrail.core.program import Cancel, Program, Segment, Trigger, index_away, index_dwell, index_idle
from handrail.core.rulefiles import Entry, RuleFile, read_file
from handrail.core.segments import SegmentShape, in_order, index_reads, watched
from handrail.core.source import Document, salvage
from handrail.core.templates import Nested
from handrail.core.trigger import compile_trigger
from handrail.core.triggers import Hook, OnIdle
from handrail.core.triggers.count import compile_count
from handrail.core.webhooks import Webhook, WebhookShape, compile_webhook

_Names = dict[str, dict[str, tuple[str, ...]]]  # kind -> name -> names within it


@dataclass(frozen=True, slots=True)
class Loaded:
    """`program` is None when any of the problems is an error. `work` is what it came from, for `load` to go on from."""

    program: Program | None
    problems: tuple[Problem, ...]
    work: Work | None = field(default=None, repr=False, compare=False)


@dataclass(slots=True)
class _Parts:
    """What has been compiled so far."""

    triggers: dict[str, Trigger] = field(default_factory=dict)
    segments: dict[str, Segment] = field(default_factory=dict)
    counters: dict[str, Counter] = field(default_factory=dict)
    messages: dict[str, Message] = field(default_factory=dict)
    flows: dict[str, Flow] = field(default_factory=dict)
    webhooks: dict[str, Webhook] = field(default_factory=dict)
    bodies: dict[str, Nested] = field(default_factory=dict)
    policies: dict[str, Policy] = field(default_factory=dict)

    @property
    def policy(self) -> Policy:
        return next(reversed(self.policies.values()), Policy())

    def add(self, others: _Parts) -> None:
        for kind in self.__slots__:
            getattr(self, kind).update(getattr(others, kind))


@dataclass(frozen=True, slots=True)
class _Compiled:
    """What came of these entries of a file, all but those whose names were taken before; it is good for as long as
    other names tell the same."""

    file: RuleFile
    entries: tuple[Entry, ...]
    parts: _Parts
    problems: list[Problem]
    told: Mapping[str, Told]


@dataclass(slots=True)
class Work:
    """What loading came to on the way, files by path; `made` are how many documents were compiled for it."""

    expressions: Expressions
    variables: Mapping[str, str]  # the environment
    files: dict[str, _Compiled] = field(default_factory=dict)
    made: int = 0

    def give_up(self) -> None:
        """Let go of everything, a file at a time, so that other threads need not wait until all of it is gone."""
        while self.files:
            self.files.popitem()


def load(sources: Mapping[str, str], environ: Mapping[str, str], *, before: Work | None = None) -> Loaded:
    """Compile rule files given as path -> text. `environ` resolves `${NAME}` in webhooks.

    With the work of an earlier loading only what changed is done, and the outcome is the same.
    """
    files = {path: _read(path, sources[path], before) for path in sorted(sources)}
    problems = [problem for file in files.values() for problem in file.problems]
    kept = _unique(files, problems)
    entries = [entry for each in kept.values() for entry in each]
    names = _names(entries)
    work = Work(before.expressions if before else Expressions(), dict(environ))
    parts = _Parts()
    for path, file in files.items():
        known = before.files.get(path) if before and before.variables == environ else None
        good = known and known.file is file and known.entries == kept[path] and _holds(known, names)
        compiled = known if known and good else _compile(file, kept[path], names, work)
        work.files[path] = compiled
        work.made += 0 if compiled is known else len(compiled.entries)
        problems += compiled.problems
        parts.add(compiled.parts)
    places = {f"{kind}:{name}": document for kind, name, document in entries}
    segments, circle = in_order(parts.segments.values())
    straight = dict(parts.segments)
    while circle:
        straight = {name: each for name, each in straight.items() if name not in circle}
        document = places[f"segment:{circle[0]}"]
        message = f"segments test each other in a circle: {' -> '.join(circle)}"
        problems.append(document.problem(document.value_place(("if",)), message))
        segments, circle = in_order(straight.values())
    problems.extend(_never_idle(parts, places))
    problems.sort()
    if any(problem.severity == "error" for problem in problems):
        return Loaded(None, tuple(problems), work)
    return Loaded(_assemble(parts, segments, version_of(sources)), tuple(problems), work)


def _read(path: str, text: str, before: Work | None) -> RuleFile:
    known = before and before.files.get(path)
    return known.file if known and known.file.text == text else read_file(path, text, _COMPILE)


def _holds(compiled: _Compiled, names: _Names) -> bool:
    return all(told.holds(names[kind]) for kind, told in compiled.told.items())


def _compile(file: RuleFile, entries: tuple[Entry, ...], names: _Names, work: Work) -> _Compiled:
    known, parts, problems = Names(names), _Parts(), list[Problem]()
    for order, (kind, _, document) in enumerate(entries):
        compiler = Compiler(document, known, expressions=work.expressions, templates=file.templates, problems=problems)
        _COMPILE[kind](compiler, parts, order, work.variables)
    return _Compiled(file, entries, parts, problems, known.told())


def _never_idle(parts: _Parts, places: Mapping[str, Document]) -> Iterator[Problem]:
    """Idle triggers longer than a session lasts without activity."""
    session_idle = parts.policy.session_idle
    for trigger in parts.triggers.values():
        for index, hook in enumerate(trigger.hooks):
            if isinstance(hook, OnIdle) and hook.span > session_idle:
                document = places[f"trigger:{trigger.name}"]
                listed = isinstance(document.value["when"], list)
                place = document.value_place(("when", index, "idle") if listed else ("when", "idle"))
                span = format_duration(session_idle)
                message = f"never comes true: a session ends after {span} without activity (policy: session, idle)"
                yield document.problem(place, message, severity="warning")


def _unique(files: Mapping[str, RuleFile], problems: list[Problem]) -> dict[str, tuple[Entry, ...]]:
    """What is to be compiled, by path; names are unique within a kind, the later one is at fault."""
    first: dict[tuple[str, str], Document] = {}
    kept = {}
    for path, file in files.items():
        repeated = [
            entry for entry in file.entries if first.setdefault(entry[:2], entry.document) is not entry.document
        ]
        kept[path] = tuple(entry for entry in file.entries if entry not in repeated) if repeated else file.entries
        for kind, name, document in repeated:
            other = first[kind, name]
            message = f"there is a {kind} '{name}' already, at {other.path}:{other.value_place((kind,)).line}"
            problems.append(document.problem(document.value_place((kind,)), message))
    return kept


def _names(kept: list[Entry]) -> _Names:
    """All names by kind, of faulty documents too, so that one fault is not reported again wherever its name is used;
    with a flow's name those of its variants."""
    names: _Names = {kind: {} for kind in _COMPILE}
    for kind, name, document in kept:
        names[kind][name] = _variants(document) if kind == "flow" else ()
    return names


def _variants(document: Document) -> tuple[str, ...]:
    variants = document.value.get("variants")
    ids = [each.get("id") for each in variants if isinstance(each, dict)] if isinstance(variants, list) else []
    return tuple(each for each in ids if isinstance(each, str))


# --- one kind each ---


def _trigger(compiler: Compiler, parts: _Parts, order: int, environ: Mapping[str, str]) -> None:
    trigger = compile_trigger(compiler, order)
    if trigger is not None:
        parts.triggers[trigger.name] = trigger


def _segment(compiler: Compiler, parts: _Parts, order: int, environ: Mapping[str, str]) -> None:
    shape = compiler.shape(SegmentShape) or salvage(SegmentShape, compiler.document, {"segment": "x", "if": "true"})
    if shape is not None:
        parts.segments[shape.segment] = Segment(shape.segment, compiler.condition(shape.condition, "if", event=False))


def _counter(compiler: Compiler, parts: _Parts, order: int, environ: Mapping[str, str]) -> None:
    shape = compiler.shape(CounterShape) or salvage(CounterShape, compiler.document, {"counter": "x", "of": "x"})
    if shape is not None:
        parts.counters[shape.counter] = compile_count(shape, compiler, shape.of, shape.counter)


def _message(compiler: Compiler, parts: _Parts, order: int, environ: Mapping[str, str]) -> None:
    shape = compiler.shape(MessageShape) or salvage(MessageShape, compiler.document, {"message": "x", "kind": "modal"})
    if shape is not None:
        parts.messages[shape.message] = compile_message(shape, compiler)


def _flow(compiler: Compiler, parts: _Parts, order: int, environ: Mapping[str, str]) -> None:
    shape = compiler.shape(FlowShape) or salvage(FlowShape, compiler.document, {"flow": "x"})
    if shape is not None:
        parts.flows[shape.flow] = compile_flow(shape, compiler)


def _webhook(compiler: Compiler, parts: _Parts, order: int, environ: Mapping[str, str]) -> None:
    shape = compiler.shape(WebhookShape) or salvage(
        WebhookShape, compiler.document, {"webhook": "x", "url": "https://stand-in.invalid"}
    )
    if shape is None:
        return
    webhook, flaws = compile_webhook(shape, environ)
    for flaw in flaws:
        note = compiler.error if flaw.severity == "error" else compiler.warn
        note(flaw.message, *flaw.at)
    parts.webhooks[shape.webhook] = webhook
    if shape.body is not None:
        parts.bodies[shape.webhook] = compiler.value_template(shape.body, "body", data=True)


def _policy(compiler: Compiler, parts: _Parts, order: int, environ: Mapping[str, str]) -> None:
    shape = compiler.shape(PolicyShape)
    if shape is None:
        return
    if shape.policy != "default":
        compiler.error("there is one policy, and its name is default", "policy")
    parts.policies[shape.policy] = compile_policy(shape)


_COMPILE: dict[str, Callable[[Compiler, _Parts, int, Mapping[str, str]], None]] = {
    "trigger": _trigger,
    "segment": _segment,
    "counter": _counter,
    "message": _message,
    "flow": _flow,
    "webhook": _webhook,
    "policy": _policy,
}


def _assemble(parts: _Parts, segments: tuple[Segment, ...], version: str) -> Program:
    triggers = list(parts.triggers.values())
    hooks: defaultdict[str, list[tuple[Trigger, Hook]]] = defaultdict(list)
    for trigger in triggers:
        for hook in trigger.hooks:
            for key in hook.wakes:
                hooks[key].append((trigger, hook))
    counting: defaultdict[str, list[Counter]] = defaultdict(list)
    for counter in parts.counters.values():
        counting[f"event:{counter.event}"].append(counter)
    cancels: defaultdict[str, list[Cancel]] = defaultdict(list)
    for trigger in triggers:
        for key, cancel in trigger.cancels:
            cancels[key].append(cancel)
    return Program(
        version=version,
        triggers=parts.triggers,
        hooks={key: tuple(pairs) for key, pairs in hooks.items()},
        cancels={key: tuple(each) for key, each in cancels.items()},
        idle=index_idle(triggers),
        dwell=index_dwell(triggers),
        away=index_away(triggers),
        segments=segments,
        segments_reading=index_reads(segments, parts.counters),
        counters=parts.counters,
        counters_by_event={key: tuple(each) for key, each in counting.items()},
        watched=watched(_followed(segments, parts.flows), parts.counters),
        messages=parts.messages,
        flows=parts.flows,
        webhooks=parts.webhooks,
        bodies=parts.bodies,
        policy=parts.policy,
    )


def _followed(segments: tuple[Segment, ...], flows: dict[str, Flow]) -> Iterator[Expression | None]:
    """The conditions that hold or fail all the time, whatever happens."""
    yield from (segment.condition for segment in segments)
    for flow in flows.values():
        yield from (step.condition for step in flow.modules.values())
        yield from (variant.condition for variant in flow.variants)


def version_of(sources: Mapping[str, str]) -> str:
    """A hash of names and contents: equal in every process that has the same files."""
    digest = blake2b(digest_size=8)
    for path in sorted(sources):
        digest.update(f"{path}\0{sources[path]}\0".encode(errors="surrogatepass"))
    return digest.hexdigest()
