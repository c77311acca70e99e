"""The document `trigger: NAME`: its shape, and how it becomes a Trigger with its hooks and actions."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Annotated, Any, Literal

import msgspec
from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from handrail.core.actions import THENS, Action, CallWebhook, PromptThen, ShowPrompt, reaches_user
from handrail.core.compiler import Compiler, Origin
from handrail.core.durations import Duration, Limits
from handrail.core.effects import Considered
from handrail.core.names import Name
from handrail.core.program import Cancel, Trigger
from handrail.core.reentry import ReentryShape, compile_reentry
from handrail.core.scalars import show
from handrail.core.source import Shape
from handrail.core.triggers import WHENS, Hook
from handrail.core.triggers.event import EventWhen

PRIORITIES = ("lowest", "low", "medium", "high", "highest")
Priority = Literal["lowest", "low", "medium", "high", "highest"]


def _check_form(value: Any) -> Any:
    if isinstance(value, dict | list):
        return value
    raise ValueError(f"expected a form such as {{event: NAME}} or {{idle: 3m}}, or a list of them, found {show(value)}")


def _check_drop(value: str) -> str:
    if value != "drop":
        raise ValueError(f"expected drop, or a span such as {{defer: 10m}}, found {show(value)}")
    return value


class DeferShape(Shape):
    defer: Duration


class TriggerShape(Shape):
    trigger: Name
    description: str | None = None
    when: Annotated[dict[str, Any] | list[dict[str, Any]], BeforeValidator(_check_form)]
    condition: str | None = Field(None, alias="if")
    then: list[dict[str, Any]] = Field(min_length=1)
    limit: Limits = ()
    cooldown: Duration = 0
    priority: Priority = "medium"
    cancel_on: list[EventWhen] = Field(default_factory=list)
    on_change: Literal["finish", "restart", "cancel"] = "finish"
    preempt: bool = False
    reentry: ReentryShape | None = None
    when_blocked: Annotated[str, AfterValidator(_check_drop), WithJsonSchema({"const": "drop"})] | DeferShape = "drop"


def compile_trigger(compiler: Compiler, order: int) -> Trigger | None:
    """The trigger, `order` its place in the file; None when its shape is wrong."""
    shape = compiler.shape(TriggerShape)
    if shape is None:
        _check_parts(compiler)
        return None
    rule = _fingerprint(compiler.document.value)
    _check_moment(shape, compiler)
    hooks, condition = _hooks(shape.trigger, shape.when, compiler, rule), compiler.condition(shape.condition, "if")
    actions = _actions(shape.then, compiler)
    return Trigger(
        name=shape.trigger,
        rank=(-PRIORITIES.index(shape.priority), compiler.document.path, order),
        rule=rule,
        hooks=hooks,
        condition=condition,
        actions=actions,
        limits=shape.limit,
        cooldown=shape.cooldown,
        cancels=tuple(
            (f"event:{each.event}", Cancel(shape.trigger, compiler.condition(each.where, "cancel_on", index, "where")))
            for index, each in enumerate(shape.cancel_on)
        ),
        on_change=shape.on_change,
        preempt=shape.preempt,
        reentry=compile_reentry(shape.reentry, compiler),
        defer=shape.when_blocked.defer if isinstance(shape.when_blocked, DeferShape) else 0,
        unmet=Considered(trigger=shape.trigger, outcome="not-met", reason=condition.source if condition else ""),
        prompts=any(isinstance(action, ShowPrompt) for action in actions),
        reaches_user=any(map(reaches_user, actions)),
        webhooks=tuple(action.webhook for action in actions if isinstance(action, CallWebhook)),
    )


def _check_moment(shape: TriggerShape, compiler: Compiler) -> None:
    """Keys that only triggers with a prompt, or a webhook that may be an e-mail, have a use for."""
    deferred = isinstance(shape.when_blocked, DeferShape)
    if not (shape.preempt or deferred) or any(THENS.keys().isdisjoint(form) for form in shape.then):
        return  # an action with a slip in its name may be just the one
    if shape.preempt and not any("prompt" in form for form in shape.then):
        compiler.warn("has no effect: the trigger has no prompt", "preempt")
    if deferred and not any({"prompt", "webhook"} & form.keys() for form in shape.then):
        compiler.warn("has no effect: only prompts and e-mails are ever blocked by the policy", "when_blocked")


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
        if shape is not None:
            hooks.append(shape.hook(compiler.below(*path), Origin(trigger, index, rule)))
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
    noun = "form of when" if path[0] == "when" else "action"
    found = next((key for key in form if key != extra), None)
    if found is None:
        compiler.error(f"expected one of {', '.join(kinds)}", *path)
    else:
        compiler.unknown_key(noun, found, kinds, *path)
    return None


def _fingerprint(value: Any) -> str:
    return blake2b(msgspec.json.encode(value), digest_size=6).hexdigest()
