"""What nobody ever meets: messages, webhooks, counters, flows and their variants that nothing names."""

from __future__ import annotations

from collections.abc import Iterator

from handrail.core.actions import CallWebhook
from handrail.core.actions.content import FillSlot
from handrail.core.actions.flow import ChooseFlow
from handrail.core.actions.prompt import ShowPrompt
from handrail.core.advice.written import Written
from handrail.core.compiler import resolve_flow
from handrail.core.expressions import Expression
from handrail.core.messages import Face, Message
from handrail.core.problems import Problem
from handrail.core.program import Program


def unused_parts(written: Written) -> Iterator[Problem]:
    program = written.program
    actions = [action for trigger in program.triggers.values() for action in trigger.actions]
    shown = {action.message for action in actions if isinstance(action, ShowPrompt | FillSlot)}
    for name in program.messages.keys() - shown:
        yield written.warn(
            f"message:{name}", "nothing shows this message: no trigger has it as prompt or content", "message"
        )
    called = {action.webhook for action in actions if isinstance(action, CallWebhook)}
    for name in program.webhooks.keys() - called:
        yield written.warn(f"webhook:{name}", "no trigger calls this webhook", "webhook")
    yield from _uncounted(written)
    yield from _unchosen(written)


def unasked_surveys(written: Written) -> Iterator[Problem]:
    """Messages with a survey in a slot: there only their words are seen. A survey that no message asks may be the
    page's own to ask."""
    program = written.program
    for trigger in program.triggers.values():
        for index, action in enumerate(trigger.actions):
            message = program.messages.get(action.message or "") if isinstance(action, FillSlot) else None
            if message is not None and message.survey:
                at = ("then", index, "content", "message")
                yield written.warn(f"trigger:{trigger.name}", "a slot asks no survey: show it with prompt", *at)


def _uncounted(written: Written) -> Iterator[Problem]:
    unread = set(written.program.counters)
    for _, _, what in written.uses:
        if isinstance(what, Expression):
            unread -= written.program.counters.keys() if what.counters is None else what.counters
        elif not what.reads.isdisjoint(("user", "user.counters")):
            return
        else:
            unread -= {name.split(".")[2] for name in what.reads if name.startswith("user.counters.")}
    for name in unread:
        message = f"nothing reads this counter: no condition and no text has user.counters.{name}"
        yield written.warn(f"counter:{name}", message, "counter")


def _unchosen(written: Written) -> Iterator[Problem]:
    """Flows and flow variants that are only ever chosen outright, and are not."""
    program = written.program
    chosen = set(_choices(program))
    flows = {flow for flow, _ in chosen}
    for place, (name, flow) in enumerate(program.flows.items()):
        if place and name not in flows:
            message = (
                f"nobody is ever on this flow: everyone is on '{next(iter(program.flows))}', the first of the rules, "
            )
            yield written.warn(f"flow:{name}", message + "and no trigger or button chooses this one", "flow")
            continue
        for index, variant in enumerate(flow.variants):
            if variant.condition is None and (name, variant.id) not in chosen:
                message = "this variant is never chosen: it has no 'if', and no trigger or button names it"
                yield written.warn(f"flow:{name}", message, "variants", index)


def _choices(program: Program) -> Iterator[tuple[str, str | None]]:
    """(flow, variant or None) of every trigger's and every button's choice."""
    for trigger in program.triggers.values():
        yield from ((each.flow, each.variant) for each in trigger.actions if isinstance(each, ChooseFlow))
    variants = {name: tuple(each.id for each in flow.variants) for name, flow in program.flows.items()}
    for message in program.messages.values():
        for face in _faces(message):
            for deed in face.actions or ():
                named = isinstance(deed.do, dict) and resolve_flow(deed.do.get("flow", ""), variants)
                if named:
                    yield named


def _faces(message: Message) -> Iterator[Face]:
    yield message.face
    yield from message.locales.values()
    for variant in message.variants:
        yield variant.face
        yield from variant.locales.values()
