"""From rule files to a Program: every document read, checked against all others, and compiled.

Faults never stop the check: what can be told of one run over all files is told, each at its file, line and column.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Literal

import msgspec
from pydantic import Field

from handrail.core.actions import THENS, Action, PromptThen, ShowPrompt
from handrail.core.compiler import Compiler, Names
from handrail.core.counters import Counter, CounterShape, Name
from handrail.core.durations import Duration, Limits
from handrail.core.expressions import Expression, Expressions
from handrail.core.flows import Flow, FlowShape, compile_flow
from handrail.core.messages import Message, MessageShape, compile_message
from handrail.core.policy import Policy, PolicyShape, compile_policy
from handrail.core.problems import Problem, suggest
from handrail.core.program import Cancel, Program, Segment, Trigger, index_spans
from handrail.core.segments import SegmentShape, in_order, index_reads, watched
from handrail.core.source import Document, Shape, read
from handrail.core.templates import Nested, Templates
from handrail.core.triggers import WHENS, CountWhen, DelayWhen, Hook, OnAway, OnIdle
from handrail.core.triggers.count import compile_count
from handrail.core.triggers.event import EventWhen
from handrail.core.webhooks import Webhook, WebhookShape, compile_webhook

PRIORITIES = ("lowest", "low", "medium", "high", "highest")
Priority = Literal["lowest", "low", "medium", "high", "highest"]


class TriggerShape(Shape):
    trigger: Name
    description: str | None = None
    when: dict[str, Any] | list[dict[str, Any]]
    condition: str | None = Field(None, alias="if")
    then: list[dict[str, Any]] = Field(min_length=1)
    limit: Limits = ()
    cooldown: Duration = 0
    priority: Priority = "medium"
    cancel_on: list[EventWhen] = Field(default_factory=list)
    on_change: Literal["finish", "restart", "cancel"] = "finish"


@dataclass(frozen=True, slots=True)
class Loaded:
    """`program` is None when any of the problems is an error."""

    program: Program | None
    problems: tuple[Problem, ...]


@dataclass(slots=True)
class _Parts:
    """What has been compiled so far."""

    triggers: dict[str, Trigger] = field(default_factory=dict)
    cancels: list[tuple[str, Cancel]] = field(default_factory=list)
    segments: dict[str, Segment] = field(default_factory=dict)
    counters: dict[str, Counter] = field(default_factory=dict)
    messages: dict[str, Message] = field(default_factory=dict)
    flows: dict[str, Flow] = field(default_factory=dict)
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
    places: dict[str, Document] = {}
    for order, (kind, name, document) in enumerate(kept):
        compiler = Compiler(document, names, expressions=expressions, templates=templates, problems=problems)
        places[f"{kind}:{name}"] = document
        _COMPILE[kind](compiler, parts, order, environ)
    segments, circle = in_order(parts.segments.values())
    straight = dict(parts.segments)
    while circle:
        straight = {name: each for name, each in straight.items() if name not in circle}
        document = places[f"segment:{circle[0]}"]
        message = f"segments test each other in a circle: {' -> '.join(circle)}"
        problems.append(document.problem(document.value_place(("if",)), message))
        segments, circle = in_order(straight.values())
    problems.sort()
    if any(problem.severity == "error" for problem in problems):
        return Loaded(None, tuple(problems))
    return Loaded(_assemble(parts, segments, _version(sources)), tuple(problems))


def _read(path: str, text: str, problems: list[Problem]) -> list[Document]:
    documents, found = read(path, text)
    problems.extend(found)
    return documents


def _unique(documents: list[Document], problems: list[Problem]) -> list[tuple[str, str, Document]]:
    """(kind, name, document) of what can be compiled; names are unique within a kind, the later one is at fault."""
    first: dict[tuple[str, str], Document] = {}
    kept = []
    for document in documents:
        kind = next(iter(document.value), "")
        if kind not in _COMPILE:
            problems.append(document.problem(document.key_place((kind,)), _unknown_kind(kind)))
            continue
        name = document.value[kind]
        if not isinstance(name, str):
            problems.append(document.problem(document.value_place((kind,)), f"the name of a {kind} is text"))
            continue
        other = first.setdefault((kind, name), document)
        if other is not document:
            place = other.value_place((kind,))
            message = f"there is a {kind} '{name}' already, at {other.path}:{place.line}"
            problems.append(document.problem(document.value_place((kind,)), message))
            continue
        kept.append((kind, name, document))
    return kept


def _unknown_kind(kind: str) -> str:
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
        flows=flows,
    )


# --- one kind each ---


def _trigger(compiler: Compiler, parts: _Parts, order: int, environ: Mapping[str, str]) -> None:
    shape = compiler.shape(TriggerShape)
    if shape is None:
        _check_parts(compiler)
        return
    rule = _fingerprint(compiler.document.value)
    cancels = [
        (f"event:{each.event}", Cancel(shape.trigger, compiler.condition(each.where, "cancel_on", index, "where")))
        for index, each in enumerate(shape.cancel_on)
    ]
    parts.cancels.extend(cancels)
    parts.triggers[shape.trigger] = Trigger(
        name=shape.trigger,
        rank=(-PRIORITIES.index(shape.priority), order),
        rule=rule,
        hooks=_hooks(shape.trigger, shape.when, compiler, rule),
        condition=compiler.condition(shape.condition, "if"),
        actions=_actions(shape.then, compiler),
        limits=shape.limit,
        cooldown=shape.cooldown,
        on_change=shape.on_change,
    )


def _check_parts(compiler: Compiler) -> None:
    """What can still be told of a trigger that is faulty elsewhere."""
    value = compiler.document.value
    name, when, condition, then = (value.get(key) for key in ("trigger", "when", "if", "then"))
    if isinstance(when, dict) or (isinstance(when, list) and all(isinstance(form, dict) for form in when)):
        _hooks(str(name), when, compiler, "")
    if isinstance(condition, str):
        compiler.condition(condition, "if")
    if isinstance(then, list) and all(isinstance(form, dict) for form in then):
        _actions(then, compiler)


def _hooks(
    trigger: str, when: dict[str, Any] | list[dict[str, Any]], compiler: Compiler, rule: str
) -> tuple[Hook, ...]:
    listed = isinstance(when, list)
    forms = when if isinstance(when, list) else [when]
    if not forms:
        compiler.error(f"when needs at least one of {', '.join(WHENS)}", "when")
    hooks: list[Hook] = []
    for index, form in enumerate(forms):
        path: tuple[str | int, ...] = ("when", index) if listed else ("when",)
        key = _one_key(form, WHENS, compiler, path, extra="where")
        shape = compiler.shape(WHENS[key], *path) if key else None
        below = compiler.below(*path)
        match shape:
            case None:
                continue
            case CountWhen():
                hooks.append(shape.hook(below, name=f"{trigger}#{index}"))
            case DelayWhen():
                hooks.append(shape.hook(below, trigger=trigger, index=index, rule=rule))
            case _:
                hooks.append(shape.hook(below))
    return tuple(hooks)


def _actions(forms: list[dict[str, Any]], compiler: Compiler) -> tuple[Action, ...]:
    actions: list[Action] = []
    for index, form in enumerate(forms):
        path = ("then", index)
        key = _one_key(form, THENS, compiler, path, extra="data")
        then = compiler.shape(THENS[key], *path) if key else None
        if then is None:
            continue
        if isinstance(then, PromptThen) and any(isinstance(action, ShowPrompt) for action in actions):
            compiler.error("a trigger shows one prompt: only one can be on the screen", *path)
        actions.append(then.action(compiler.below(*path)))
    return tuple(actions)


def _one_key(
    form: dict[str, Any], kinds: Mapping[str, Any], compiler: Compiler, path: tuple[str | int, ...], *, extra: str
) -> str | None:
    """The one key of `form` that says its kind, or None after noting what is wrong."""
    known = [key for key in form if key in kinds]
    if len(known) == 1:
        return known[0]
    if len(known) > 1:
        compiler.error(f"'{known[0]}' and '{known[1]}' cannot stand together: make it a list, one each", *path)
        return None
    found = next((key for key in form if key != extra), "")
    compiler.unknown(str(path[0]), found, kinds, *path, found)
    return None


def _segment(compiler: Compiler, parts: _Parts, order: int, environ: Mapping[str, str]) -> None:
    shape = compiler.shape(SegmentShape)
    if shape is not None:
        parts.segments[shape.segment] = Segment(shape.segment, compiler.condition(shape.condition, "if", event=False))


def _counter(compiler: Compiler, parts: _Parts, order: int, environ: Mapping[str, str]) -> None:
    shape = compiler.shape(CounterShape)
    if shape is not None:
        parts.counters[shape.counter] = compile_count(shape, compiler, shape.of, shape.counter)


def _message(compiler: Compiler, parts: _Parts, order: int, environ: Mapping[str, str]) -> None:
    shape = compiler.shape(MessageShape)
    if shape is not None:
        parts.messages[shape.message] = compile_message(shape, compiler)


def _flow(compiler: Compiler, parts: _Parts, order: int, environ: Mapping[str, str]) -> None:
    shape = compiler.shape(FlowShape)
    if shape is not None:
        parts.flows[shape.flow] = compile_flow(shape, compiler)


def _webhook(compiler: Compiler, parts: _Parts, order: int, environ: Mapping[str, str]) -> None:
    shape = compiler.shape(WebhookShape)
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
    for key, cancel in parts.cancels:
        cancels[key].append(cancel)
    return Program(
        version=version,
        triggers=parts.triggers,
        hooks={key: tuple(pairs) for key, pairs in hooks.items()},
        cancels={key: tuple(each) for key, each in cancels.items()},
        idle=index_spans(triggers, OnIdle),
        away=index_spans(triggers, OnAway),
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


def _version(sources: Mapping[str, str]) -> str:
    digest = blake2b(digest_size=8)
    for path in sorted(sources):
        digest.update(f"{path}\0{sources[path]}\0".encode(errors="surrogatepass"))
    return digest.hexdigest()


def _fingerprint(value: Any) -> str:
    return blake2b(msgspec.json.encode(value), digest_size=6).hexdigest()
