"""Flows: the steps of an onboarding, assembled for a user from modules; what is done stays done."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from handrail.core.compiler import Compiler
from handrail.core.expressions import Expression
from handrail.core.frames import FlowView, StepView
from handrail.core.names import Name
from handrail.core.reads import keys_read
from handrail.core.scope import Scope
from handrail.core.source import Shape
from handrail.core.state import FlowChoice

DONE = ("completed", "skipped")
FURTHER = {"": 0, "viewed": 1, "skipped": 2, "completed": 3}  # what is done is not undone by a later view or skip


class StepShape(Shape):
    id: Name
    component: str | None = None
    skippable: bool = False
    condition: str | None = Field(None, alias="if")


class FlowVariantShape(Shape):
    id: Name
    condition: str | None = Field(None, alias="if")
    steps: list[str]


class FlowShape(Shape):
    flow: Name
    description: str | None = None
    steps: list[StepShape] = Field(min_length=1)
    variants: list[FlowVariantShape] = Field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Module:
    """A step that flows are assembled from."""

    id: str
    component: str
    skippable: bool
    condition: Expression | None


@dataclass(frozen=True, slots=True)
class FlowVariant:
    id: str
    condition: Expression | None
    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Flow:
    name: str
    modules: dict[str, Module]
    variants: tuple[FlowVariant, ...] = ()
    reads: frozenset[str] = frozenset()  # what must be touched for the assembled flow to change


def assemble(flow: Flow, scope: Scope, choice: FlowChoice | None) -> FlowChoice:
    """The user's flow at this moment. A variant chosen outright stays; otherwise the first whose `if` holds (one
    without `if` is only ever chosen outright)."""
    outright = _named(flow, choice.variant) if choice and choice.chosen and choice.id == flow.name else None
    variant = outright or _first(flow, scope)
    names = variant.steps if variant else tuple(flow.modules)
    steps = tuple(name for name in names if name in flow.modules and _included(flow.modules[name], scope))
    done = scope.state.steps
    position = next((index for index, step in enumerate(steps) if done.get(step) not in DONE), len(steps))
    return FlowChoice(flow.name, variant.id if variant else None, steps, position, outright is not None)


def view(flow: Flow, choice: FlowChoice, statuses: dict[str, str]) -> FlowView:
    modules = [flow.modules[step] for step in choice.steps if step in flow.modules]
    return FlowView(
        id=choice.id,
        variant=choice.variant,
        steps=tuple(
            StepView(
                id=module.id,
                component=module.component,
                skippable=module.skippable,
                status=statuses.get(module.id, ""),
            )
            for module in modules
        ),
        position=choice.position,
    )


def compile_flow(shape: FlowShape, compiler: Compiler) -> Flow:
    modules: dict[str, Module] = {}
    for index, step in enumerate(shape.steps):
        if step.id in modules:
            compiler.error(f"the flow has a step '{step.id}' already", "steps", index, "id")
        condition = compiler.lasting_condition(step.condition, "steps", index, "if")
        modules[step.id] = Module(step.id, step.component or step.id, step.skippable, condition)
    variants: dict[str, FlowVariant] = {}
    for index, variant in enumerate(shape.variants):
        if variant.id in variants:
            compiler.error(f"the flow has a variant '{variant.id}' already", "variants", index, "id")
        for place, name in enumerate(variant.steps):
            if name not in modules:
                compiler.unknown("step", name, modules, "variants", index, "steps", place)
        condition = compiler.lasting_condition(variant.condition, "variants", index, "if")
        variants[variant.id] = FlowVariant(variant.id, condition, tuple(variant.steps))
    conditions = [*(each.condition for each in modules.values()), *(each.condition for each in variants.values())]
    reads = {key for condition in conditions for key in keys_read(condition, compiler.names.counters)}
    return Flow(shape.flow, modules, tuple(variants.values()), frozenset(reads | {"user.steps"}))


def _named(flow: Flow, name: str | None) -> FlowVariant | None:
    return next((variant for variant in flow.variants if variant.id == name), None)


def _first(flow: Flow, scope: Scope) -> FlowVariant | None:
    return next((each for each in flow.variants if each.condition and each.condition.holds(scope)[0]), None)


def _included(module: Module, scope: Scope) -> bool:
    return module.condition is None or module.condition.holds(scope)[0]
