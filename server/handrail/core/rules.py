"""From rule files to a Program: every document read, checked against all others, and compiled.

Faults never stop the check: what can be told of one run over all files is told, each at its file, line and column.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import pairwise

from msgspec.structs import replace

from handrail.core.advice import Written, advise
from handrail.core.compiler import Compiler, Names, Use
from handrail.core.counters import Counter, CounterShape
from handrail.core.expressions import Expression, Expressions
from handrail.core.flows import Flow, FlowShape, compile_flow
from handrail.core.messages import Message, MessageShape, compile_message
from handrail.core.personas import Persona, Personas, PersonaShape, compile_persona
from handrail.core.policy import Policy, PolicyShape, compile_policy
from handrail.core.problems import Problem, suggest
from handrail.core.program import Cancel, Program, Segment, Trigger, index_away, index_dwell, index_falling, index_idle
from handrail.core.scalars import show
from handrail.core.segments import PERSONA, SegmentShape, conditions_of, in_order, index_reads, watched
from handrail.core.source import Document, read, salvage
from handrail.core.surveys import Survey, SurveyShape, compile_survey
from handrail.core.templates import Nested, Templates
from handrail.core.ticking import ticking
from handrail.core.trigger import compile_trigger
from handrail.core.triggers import Hook
from handrail.core.triggers.count import compile_count
from handrail.core.webhooks import Webhook, WebhookShape, compile_webhook


@dataclass(frozen=True, slots=True)
class Loaded:
    """`program` is None when any of the problems is an error."""

    program: Program | None
    problems: tuple[Problem, ...]


@dataclass(slots=True)
class _Parts:
    """What has been compiled so far."""

    triggers: dict[str, Trigger] = field(default_factory=dict)
    segments: dict[str, Segment] = field(default_factory=dict)
    personas: dict[str, Persona] = field(default_factory=dict)
    counters: dict[str, Counter] = field(default_factory=dict)
    messages: dict[str, Message] = field(default_factory=dict)
    flows: dict[str, Flow] = field(default_factory=dict)
    surveys: dict[str, Survey] = field(default_factory=dict)
    webhooks: dict[str, Webhook] = field(default_factory=dict)
    bodies: dict[str, Nested] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)


def load(sources: Mapping[str, str], environ: Mapping[str, str]) -> Loaded:
    """Compile rule files given as path -> text. `environ` resolves `${NAME}` in webhooks."""
    problems: list[Problem] = []
    documents = [document for path in sorted(sources) for document in _read(path, sources[path], problems)]
    kept = _unique(documents, problems)
    names = _names(kept)
    expressions, templates, parts = Expressions(), Templates(), _Parts()
    uses: list[Use] = []
    places: dict[str, Document] = {}
    for order, (kind, name, document) in enumerate(kept):
        compiler = Compiler(document, names, expressions=expressions, templates=templates, problems=problems, uses=uses)
        places[f"{kind}:{name}"] = document
        _COMPILE[kind](compiler, parts, order, environ)
    personas = Personas(parts.personas)
    segments, circle = in_order(parts.segments.values(), personas)
    straight = dict(parts.segments)
    while circle:
        straight = {name: each for name, each in straight.items() if name not in circle}
        document = places[f"segment:{next(name for name in circle if name != PERSONA)}"]
        message = f"segments test each other in a circle: {' -> '.join(circle)}"
        problems.append(document.problem(document.value_place(("if",)), message))
        segments, circle = in_order(straight.values(), personas)
    if any(problem.severity == "error" for problem in problems):
        return Loaded(None, tuple(sorted(problems)))
    program = _assemble(parts, segments, version_of(sources))
    # Only now: what a fault hides would make other parts look useless.
    problems.extend(advise(Written(program, places, uses)))
    return Loaded(program, tuple(sorted(problems)))


def _read(path: str, text: str, problems: list[Problem]) -> list[Document]:
    documents, found = read(path, text)
    problems.extend(found)
    return documents


def _unique(documents: list[Document], problems: list[Problem]) -> list[tuple[str, str, Document]]:
    """(kind, name, document) of what can be compiled; names are unique within a kind, the later one is at fault."""
    first: dict[tuple[str, str], Document] = {}
    kept = []
    for document in [part for each in documents for part in _parted(each, problems)]:
        kind = next(iter(document.value), "")
        if kind not in _COMPILE:
            problems.append(document.problem(document.key_place((kind,)), _unknown_kind(kind, document)))
            continue
        name = document.value[kind]
        if not isinstance(name, str):
            place = document.value_place((kind,))
            problems.append(document.problem(place, f"the name of a {kind} is text, found {show(name)}"))
            continue
        other = first.setdefault((kind, name), document)
        if other is not document:
            place = other.value_place((kind,))
            message = f"there is a {kind} '{name}' already, at {other.path}:{place.line}"
            problems.append(document.problem(document.value_place((kind,)), message))
            continue
        kept.append((kind, name, document))
    return kept


def _parted(document: Document, problems: list[Problem]) -> Iterator[Document]:
    """The document, or the ones that run together in it where a '---' was forgotten: no kind is a key of another."""
    keys = list(document.value)
    kinds = _COMPILE if keys and keys[0] in _COMPILE else ()
    starts = [0, *(index for index, key in enumerate(keys) if index and key in kinds and not _names_survey(keys, key))]
    for start, end in pairwise([*starts, len(keys)]):
        if start:
            message = f"'{keys[start]}' begins another document: put a line '---' before it"
            problems.append(document.problem(document.key_place((keys[start],)), message))
        yield replace(document, value={key: document.value[key] for key in keys[start:end]})


def _names_survey(keys: list[str], key: str) -> bool:
    """Whether this key of a message only names its survey."""
    return keys[0] == "message" and key == "survey" and "questions" not in keys


def _unknown_kind(kind: str, document: Document) -> str:
    later = next((key for key in document.value if key in _COMPILE), None)
    if later is not None:
        return f"a document's first key names its kind: put '{later}' before '{kind}'"
    if kind == "test":
        return "tests stand in files of their own, whose names end in .test.yaml"
    return (
        f"a document's first key names its kind, and '{kind}' is none{suggest(kind, _COMPILE)}; "
        f"kinds are {', '.join(_COMPILE)}"
    )


def _names(kept: list[tuple[str, str, Document]]) -> Names:
    """All names, of faulty documents too, so that one fault is not reported again wherever its name is used."""
    by_kind: defaultdict[str, set[str]] = defaultdict(set)
    flows: dict[str, tuple[str, ...]] = {}
    for kind, name, document in kept:
        by_kind[kind].add(name)
        if kind == "flow":
            variants = document.value.get("variants")
            ids = [each.get("id") for each in variants if isinstance(each, dict)] if isinstance(variants, list) else []
            flows[name] = tuple(each for each in ids if isinstance(each, str))
    return Names(
        messages=frozenset(by_kind["message"]),
        segments=frozenset(by_kind["segment"]),
        counters=frozenset(by_kind["counter"]),
        webhooks=frozenset(by_kind["webhook"]),
        surveys=frozenset(by_kind["survey"]),
        personas=frozenset(by_kind["persona"]),
        flows=flows,
    )


# --- one kind each ---


def _trigger(compiler: Compiler, parts: _Parts, order: int, environ: Mapping[str, str]) -> None:
    trigger = compile_trigger(compiler, order)
    if trigger is not None:
        parts.triggers[trigger.name] = trigger


def _segment(compiler: Compiler, parts: _Parts, order: int, environ: Mapping[str, str]) -> None:
    shape = compiler.shape(SegmentShape) or salvage(SegmentShape, compiler.document, {"segment": "x", "if": "true"})
    if shape is not None:
        parts.segments[shape.segment] = Segment(shape.segment, compiler.lasting_condition(shape.condition, "if"))


def _persona(compiler: Compiler, parts: _Parts, order: int, environ: Mapping[str, str]) -> None:
    shape = compiler.shape(PersonaShape) or salvage(PersonaShape, compiler.document, {"persona": "x"})
    if shape is not None:
        parts.personas[shape.persona] = compile_persona(shape, compiler)


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


def _survey(compiler: Compiler, parts: _Parts, order: int, environ: Mapping[str, str]) -> None:
    shape = compiler.shape(SurveyShape)
    if shape is not None:
        parts.surveys[shape.survey] = compile_survey(shape, compiler)


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
    parts.policy = compile_policy(shape)


_COMPILE: dict[str, Callable[[Compiler, _Parts, int, Mapping[str, str]], None]] = {
    "trigger": _trigger,
    "segment": _segment,
    "persona": _persona,
    "counter": _counter,
    "message": _message,
    "flow": _flow,
    "survey": _survey,
    "webhook": _webhook,
    "policy": _policy,
}


def _assemble(parts: _Parts, segments: tuple[Segment | Personas, ...], version: str) -> Program:
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
        falling=index_falling(triggers),
        segments=segments,
        segments_reading=index_reads(segments, parts.counters),
        counters=parts.counters,
        counters_by_event={key: tuple(each) for key, each in counting.items()},
        ticking=ticking((each for settled in segments for each in conditions_of(settled)), parts.flows.values()),
        watched=watched(_followed(segments, parts.flows), parts.counters),
        attributes=Personas(parts.personas).attributes(),
        messages=parts.messages,
        flows=parts.flows,
        surveys=parts.surveys,
        webhooks=parts.webhooks,
        bodies=parts.bodies,
        policy=parts.policy,
    )


def _followed(segments: tuple[Segment | Personas, ...], flows: dict[str, Flow]) -> Iterator[Expression | None]:
    """The conditions that hold or fail all the time, whatever happens."""
    for segment in segments:
        yield from conditions_of(segment)
    for flow in flows.values():
        yield from (step.condition for step in flow.modules.values())
        yield from (variant.condition for variant in flow.variants)


def version_of(sources: Mapping[str, str]) -> str:
    """A hash of names and contents: equal in every process that has the same files."""
    digest = blake2b(digest_size=8)
    for path in sorted(sources):
        digest.update(f"{path}\0{sources[path]}\0".encode(errors="surrogatepass"))
    return digest.hexdigest()
