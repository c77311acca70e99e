"""Messages: microcopy with variants and locales, rendered for one user at the moment of deciding.

What a reader gets is laid in four layers, a later one covering an earlier: the message, its locale, the first variant
whose `if` holds, that variant's locale.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import Field

from handrail.core.compiler import Compiler
from handrail.core.durations import Duration, parse_duration
from handrail.core.events import SERVER_EVENTS
from handrail.core.expressions import Expression
from handrail.core.frames import Button
from handrail.core.locales import fold, in_locale
from handrail.core.names import Name
from handrail.core.scope import Scope
from handrail.core.source import Shape
from handrail.core.templates import Template

Kind = Literal["modal", "tooltip", "hotspot", "banner", "toast", "checklist", "survey", "inline", "email"]
DEEDS = ("dismiss", "snooze", "flow", "url", "emit")


class ButtonShape(Shape):
    label: str
    do: str | dict[str, Any] = "dismiss"


class FaceShape(Shape):
    """What a message, a variant or a locale may say."""

    title: str | None = None
    body: str | None = None
    actions: list[ButtonShape] | None = None
    anchor: str | None = None
    style: dict[str, Any] | None = None


class VariantShape(FaceShape):
    id: Name | None = None
    condition: str | None = Field(None, alias="if")
    locales: dict[str, FaceShape] = Field(default_factory=dict)


class MessageShape(FaceShape):
    message: Name
    description: str | None = None
    kind: Kind
    expires: Duration | None = None
    survey: Name | None = None
    variants: list[VariantShape] = Field(default_factory=list)
    locales: dict[str, FaceShape] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Deed:
    label: Template
    do: str | dict[str, Any]


@dataclass(frozen=True, slots=True)
class Face:
    title: Template | None = None
    body: Template | None = None
    actions: tuple[Deed, ...] | None = None
    anchor: str | None = None
    style: dict[str, Any] | None = None

    def under(self, upper: Face) -> Face:
        """This face with whatever the upper one says instead."""
        said = {name: value for name in Face.__slots__ if (value := getattr(upper, name)) is not None}
        return replace(self, **said)


@dataclass(frozen=True, slots=True)
class Variant:
    id: str
    condition: Expression | None
    face: Face
    locales: dict[str, Face] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Message:
    name: str
    kind: str
    face: Face
    expires: int | None = None  # milliseconds on screen, None for no end
    variants: tuple[Variant, ...] = ()
    locales: dict[str, Face] = field(default_factory=dict)
    survey: str = ""


@dataclass(frozen=True, slots=True)
class Rendered:
    title: str
    body: str
    actions: tuple[Button, ...]
    anchor: str | None
    style: dict[str, Any]
    variant: str | None


def render(message: Message, scope: Scope) -> Rendered:
    """The message in words for this user. Raises TemplateFault when a template cannot be rendered."""
    variant = next((each for each in message.variants if _applies(each, scope)), None)
    face = _localized(message.face, message.locales, scope)
    if variant:
        face = _localized(face.under(variant.face), variant.locales, scope)
    return Rendered(
        title=_fill(face.title, scope),
        body=_fill(face.body, scope),
        actions=tuple(Button(label=_fill(deed.label, scope), do=deed.do) for deed in face.actions or ()),
        anchor=face.anchor,
        style=face.style or {},
        variant=variant.id if variant else None,
    )


def _localized(face: Face, locales: dict[str, Face], scope: Scope) -> Face:
    upper = in_locale(locales, str(scope.variable("user.locale", None))) if locales else None
    return face.under(upper) if upper else face


def _fill(template: Template | None, scope: Scope) -> str:
    if template is None or template.constant:
        return template.source if template else ""
    return template.render(scope.context(template.reads))


def compile_message(shape: MessageShape, compiler: Compiler) -> Message:
    return Message(
        name=shape.message,
        kind=shape.kind,
        face=_face(shape, compiler),
        expires=shape.expires,
        variants=tuple(_variants(shape, compiler)),
        locales=_locales(shape.locales, compiler, "locales"),
        survey=_survey(shape, compiler),
    )


def _survey(shape: MessageShape, compiler: Compiler) -> str:
    """The survey that a message of kind survey asks: the one it names, or else the one that is called like it."""
    surveys = compiler.names.surveys
    if shape.kind != "survey":
        if shape.survey is not None and compiler.document.value.get("kind") == shape.kind:
            compiler.error("only a message of kind survey asks one", "survey")
        return ""
    if shape.survey is not None:
        compiler.refer("survey", shape.survey, surveys, "survey")
    elif shape.message not in surveys:
        compiler.error("a message of kind survey says which: add a key survey, as survey: NAME", "kind")
    return shape.survey or shape.message


def _variants(shape: MessageShape, compiler: Compiler) -> Iterator[Variant]:
    for index, each in enumerate(shape.variants):
        at = ("variants", index)
        yield Variant(
            id=each.id or str(index),
            condition=compiler.condition(each.condition, *at, "if"),
            face=_face(each, compiler, *at),
            locales=_locales(each.locales, compiler, *at, "locales"),
        )


def _locales(shapes: dict[str, FaceShape], compiler: Compiler, *at: str | int) -> dict[str, Face]:
    return {fold(locale): _face(shape, compiler, *at, locale) for locale, shape in shapes.items()}


def _face(shape: FaceShape, compiler: Compiler, *at: str | int) -> Face:
    return Face(
        title=None if shape.title is None else compiler.template(shape.title, *at, "title"),
        body=None if shape.body is None else compiler.template(shape.body, *at, "body"),
        actions=None
        if shape.actions is None
        else tuple(_deed(each, compiler, *at, "actions", index) for index, each in enumerate(shape.actions)),
        anchor=shape.anchor,
        style=shape.style,
    )


def _deed(shape: ButtonShape, compiler: Compiler, *at: str | int) -> Deed:
    _check_deed(shape.do, compiler, *at, "do")
    return Deed(label=compiler.template(shape.label, *at, "label"), do=shape.do)


def _check_deed(do: str | dict[str, Any], compiler: Compiler, *at: str | int) -> None:
    if isinstance(do, str):
        if do != "dismiss":
            compiler.unknown("action", do, DEEDS, *at)
        return
    name = next(iter(do), "")
    if len(do) != 1 or name not in DEEDS[1:]:
        compiler.unknown("action", name, DEEDS, *at)
    elif not isinstance(do[name], str):
        compiler.error(f"'{name}' needs text", *at, name)
    elif name == "snooze":
        compiler.attempt(parse_duration, do[name], *at, name)
    elif name == "flow":
        compiler.refer_flow(do[name], *at, name)
    elif name == "emit" and do[name] in SERVER_EVENTS:
        compiler.error(f"'{do[name]}' is made by the server alone", *at, name)
    elif name == "url" and not do[name].startswith(("https://", "http://", "/", "#", "?", "mailto:")):
        compiler.error("a url is http(s), mailto or a path on the page's own site", *at, name)


def _applies(variant: Variant, scope: Scope) -> bool:
    return variant.condition is None or variant.condition.holds(scope)[0]
