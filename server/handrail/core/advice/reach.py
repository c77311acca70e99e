"""Triggers whose `when` can never come true, or says the same twice."""

from __future__ import annotations

import re
from collections.abc import Iterator

from handrail.core.advice.conditions import contradiction
from handrail.core.advice.written import Written
from handrail.core.durations import format_duration
from handrail.core.problems import Problem, nearest
from handrail.core.program import Program, Segment, Trigger
from handrail.core.source import Path
from handrail.core.triggers import Hook, OnDwell, OnIdle, OnSequence
from handrail.core.triggers.segment import OnSegment

_DIGITS = re.compile("[0-9]")
Flaw = tuple[str, Path]  # what to say, and where below the form or the trigger


def never_woken(written: Written) -> Iterator[Problem]:
    """Each `when` that cannot come true or is there twice."""
    program = written.program
    steps = frozenset(step for flow in program.flows.values() for step in flow.modules)
    constant = {each.name: _constant(each) for each in program.segments if isinstance(each, Segment)}
    for trigger in program.triggers.values():
        document = f"trigger:{trigger.name}"
        for hook, at in written.hooks(trigger):
            for message, path in (*_too_long(hook, program), *_no_step(hook, steps), *_no_change(hook, constant)):
                yield written.warn(document, message, *at, *path)
        for message, path in (*_cut_off(trigger), *_repeated(written.documents[document].value["when"])):
            yield written.warn(document, message, *path)


def _too_long(hook: Hook, program: Program) -> Iterator[Flaw]:
    if isinstance(hook, OnIdle) and hook.span > program.policy.session_idle:
        span = format_duration(program.policy.session_idle)
        yield f"never comes true: a session ends after {span} without activity (policy: session, idle)", ("idle",)


def _no_step(hook: Hook, steps: frozenset[str]) -> Iterator[Flaw]:
    """Only where a flow has a step of nearly this name: pages may have steps of their own, and number them."""
    if isinstance(hook, OnIdle | OnDwell) and hook.step and hook.step not in steps:
        close = nearest(hook.step, steps, cutoff=0.75)
        if close and _DIGITS.sub("", close) != _DIGITS.sub("", hook.step):
            form = "idle" if isinstance(hook, OnIdle) else "dwell"
            yield f"no flow has a step '{hook.step}'; did you mean '{close}'?", (form, "step")


def _constant(segment: Segment) -> bool | None:
    """Whether everyone is in the segment (True) or nobody (False), for good; None where it may change."""
    if segment.condition is None or contradiction(segment.condition):
        return None if segment.condition is None else False
    return None if segment.condition.reads else True


def _no_change(hook: Hook, constant: dict[str, bool | None]) -> Iterator[Flaw]:
    if not isinstance(hook, OnSegment):
        return
    word, _, segment = hook.wakes[0].partition(":")
    if constant.get(segment) is False:
        yield f"never comes true: nobody is ever in the segment '{segment}'", (word,)
    elif constant.get(segment) is True and word == "leaves":
        yield f"never comes true: everyone is in the segment '{segment}' for good", (word,)


def _cut_off(trigger: Trigger) -> Iterator[Flaw]:
    """A sequence whose later step is an event that also cancels it: the cancelling comes first."""
    if not trigger.cancels:
        return
    waited = {
        (step.wakes[0], step.where) for hook in trigger.hooks if isinstance(hook, OnSequence) for step in hook.steps[1:]
    }
    for index, (key, cancel) in enumerate(trigger.cancels):
        if any(key == wake and cancel.where in (None, where) for wake, where in waited):
            event = key.removeprefix("event:")
            message = f"the sequence waits for '{event}' too, and is ended by it first: it never gets past that step"
            yield message, ("cancel_on", index)


def _repeated(forms: object) -> Iterator[Flaw]:
    for index, form in enumerate(forms if isinstance(forms, list) else ()):
        if isinstance(forms, list) and form in forms[:index]:
            yield "this form stands in the list twice", ("when", index)
