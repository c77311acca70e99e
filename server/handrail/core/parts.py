"""What rule files are made of: each kind of document and how it is compiled, joined here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from handrail.core.compiler import Compiler
from handrail.core.counters import Counter, CounterShape
from handrail.core.flows import Flow, FlowShape, compile_flow
from handrail.core.messages import Message, MessageShape, compile_message
from handrail.core.personas import Persona, PersonaShape, compile_persona
from handrail.core.policy import Policy, PolicyShape, compile_policy
from handrail.core.program import Segment, Trigger
from handrail.core.segments import SegmentShape
from handrail.core.source import salvage
from handrail.core.surveys import Survey, SurveyShape, compile_survey
from handrail.core.templates import Nested
from handrail.core.trigger import compile_trigger
from handrail.core.triggers.count import compile_count
from handrail.core.webhooks import Webhook, WebhookShape, compile_webhook


@dataclass(slots=True)
class Parts:
    """What has been compiled, by kind and name."""

    triggers: dict[str, Trigger] = field(default_factory=dict)
    segments: dict[str, Segment] = field(default_factory=dict)
    personas: dict[str, Persona] = field(default_factory=dict)
    counters: dict[str, Counter] = field(default_factory=dict)
    messages: dict[str, Message] = field(default_factory=dict)
    flows: dict[str, Flow] = field(default_factory=dict)
    surveys: dict[str, Survey] = field(default_factory=dict)
    webhooks: dict[str, Webhook] = field(default_factory=dict)
    bodies: dict[str, Nested] = field(default_factory=dict)
    policies: dict[str, Policy] = field(default_factory=dict)

    @property
    def policy(self) -> Policy:
        return next(reversed(self.policies.values()), Policy())

    def add(self, others: Parts) -> None:
        for kind in self.__slots__:
            getattr(self, kind).update(getattr(others, kind))


def _trigger(compiler: Compiler, parts: Parts, order: int, environ: Mapping[str, str]) -> None:
    trigger = compile_trigger(compiler, order)
    if trigger is not None:
        parts.triggers[trigger.name] = trigger


def _segment(compiler: Compiler, parts: Parts, order: int, environ: Mapping[str, str]) -> None:
    shape = compiler.shape(SegmentShape) or salvage(SegmentShape, compiler.document, {"segment": "x", "if": "true"})
    if shape is not None:
        parts.segments[shape.segment] = Segment(shape.segment, compiler.lasting_condition(shape.condition, "if"))


def _persona(compiler: Compiler, parts: Parts, order: int, environ: Mapping[str, str]) -> None:
    shape = compiler.shape(PersonaShape) or salvage(PersonaShape, compiler.document, {"persona": "x"})
    if shape is not None:
        parts.personas[shape.persona] = compile_persona(shape, compiler)


def _counter(compiler: Compiler, parts: Parts, order: int, environ: Mapping[str, str]) -> None:
    shape = compiler.shape(CounterShape) or salvage(CounterShape, compiler.document, {"counter": "x", "of": "x"})
    if shape is not None:
        parts.counters[shape.counter] = compile_count(shape, compiler, shape.of, shape.counter)


def _message(compiler: Compiler, parts: Parts, order: int, environ: Mapping[str, str]) -> None:
    shape = compiler.shape(MessageShape) or salvage(MessageShape, compiler.document, {"message": "x", "kind": "modal"})
    if shape is not None:
        parts.messages[shape.message] = compile_message(shape, compiler)


def _flow(compiler: Compiler, parts: Parts, order: int, environ: Mapping[str, str]) -> None:
    shape = compiler.shape(FlowShape) or salvage(FlowShape, compiler.document, {"flow": "x"})
    if shape is not None:
        parts.flows[shape.flow] = compile_flow(shape, compiler)


def _survey(compiler: Compiler, parts: Parts, order: int, environ: Mapping[str, str]) -> None:
    shape = compiler.shape(SurveyShape)
    if shape is not None:
        parts.surveys[shape.survey] = compile_survey(shape, compiler)


def _webhook(compiler: Compiler, parts: Parts, order: int, environ: Mapping[str, str]) -> None:
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


def _policy(compiler: Compiler, parts: Parts, order: int, environ: Mapping[str, str]) -> None:
    shape = compiler.shape(PolicyShape)
    if shape is None:
        return
    if shape.policy != "default":
        compiler.error("there is one policy, and its name is default", "policy")
    parts.policies[shape.policy] = compile_policy(shape)


COMPILE: dict[str, Callable[[Compiler, Parts, int, Mapping[str, str]], None]] = {
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
