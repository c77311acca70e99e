"""The document `survey: NAME`: questions, what their answers set, and which of them apply to one user so far.

Routing is the server's: a page is sent the questions that apply, and is sent them again when an answer changes that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field

from handrail.core import frames
from handrail.core.compiler import Compiler
from handrail.core.expressions import Expression
from handrail.core.locales import fold, in_locale
from handrail.core.names import Identifier, Name
from handrail.core.problems import suggest
from handrail.core.scalars import show
from handrail.core.scope import Scope
from handrail.core.source import Shape
from handrail.core.templates import Template

Choice = str | int | float | bool
Answer = Choice | list[Choice] | None  # None: skipped
QUESTIONS_MAX = 50
CHOICES_MAX = 50


class QuestionShape(Shape):
    id: Identifier
    ask: str
    choose: list[Choice] = Field(min_length=1, max_length=CHOICES_MAX)
    sets: str | None = None
    condition: str | None = Field(None, alias="if")


class WordsShape(Shape):
    ask: str | None = None
    choose: list[Choice] | None = None


class SurveyShape(Shape):
    survey: Name
    description: str | None = None
    questions: list[QuestionShape] = Field(min_length=1, max_length=QUESTIONS_MAX)
    locales: dict[str, dict[str, WordsShape]] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Words:
    """What a locale says instead."""

    ask: Template | None
    labels: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Question:
    """`choices` are its choices by their text; `sets` is `goals`, `traits.NAME` or empty."""

    id: str
    ask: Template
    choices: dict[str, Choice]
    sets: str
    condition: Expression | None
    locales: dict[str, Words] = field(default_factory=dict)

    def read(self, given: Any) -> Answer:
        """The answer in the words of the rules; none at all is a question skipped. Raises ValueError for what is no
        choice."""
        if given is None or given == []:
            return None
        if isinstance(given, list):
            return [self.choices[text] for text in dict.fromkeys(map(self._text, given))]
        return self.choices[self._text(given)]

    def _text(self, given: Any) -> str:
        text = text_of(given) if isinstance(given, Choice) else ""
        if text not in self.choices:
            raise ValueError(f"{show(given)} is no choice of '{self.id}'")
        return text


@dataclass(frozen=True, slots=True)
class Survey:
    name: str
    questions: dict[str, Question]


class _Asked:
    """What the conditions of questions see: the user, and the answers so far."""

    def __init__(self, scope: Scope, answers: Mapping[str, Answer]) -> None:
        self.scope = scope
        self.answers = {name: answer for name, answer in answers.items() if answer is not None}

    def variable(self, name: str, keys: frozenset[str] | None) -> object:
        return self.answers if name == "answers" else self.scope.variable(name, keys)


def pose(survey: Survey, scope: Scope, answers: Mapping[str, Answer]) -> frames.Survey:
    """The questions that apply to this user by their answers so far, and these. Raises TemplateFault."""
    told = dict(_valid(survey, answers))
    applying = []
    for question in survey.questions.values():
        if question.condition is None or question.condition.holds(_Asked(scope, told))[0]:
            applying.append(question)
        else:
            told.pop(question.id, None)  # of a question that is not asked, later ones know no answer
    locale = str(scope.variable("user.locale", None))
    return frames.Survey(
        id=survey.name,
        questions=tuple(_word(question, scope, locale) for question in applying),
        answers={question.id: told[question.id] for question in applying if question.id in told},
    )


def _valid(survey: Survey, answers: Mapping[str, Answer]) -> Iterator[tuple[str, Answer]]:
    """The answers that are still some by the present rules."""
    for question in survey.questions.values():
        if question.id in answers:
            try:
                yield question.id, question.read(answers[question.id])
            except ValueError:
                continue


def _word(question: Question, scope: Scope, locale: str) -> frames.Question:
    words = in_locale(question.locales, locale)
    ask = words.ask if words and words.ask else question.ask
    return frames.Question(
        id=question.id,
        ask=ask.render(scope.context(ask.reads)),
        choose=tuple(question.choices.values()),
        labels=words.labels if words and words.labels else tuple(question.choices),
    )


def text_of(choice: Choice) -> str:
    """A choice as people and pages write it: a browser knows no difference between 1 and 1.0."""
    if isinstance(choice, bool):
        return "true" if choice else "false"
    return str(int(choice)) if isinstance(choice, float) and choice.is_integer() else str(choice)


# --- compiling ---


def compile_survey(shape: SurveyShape, compiler: Compiler) -> Survey:
    ids = [each.id for each in shape.questions]
    questions: dict[str, Question] = {}
    for index, each in enumerate(shape.questions):
        below = compiler.below("questions", index)
        if each.id in questions:
            below.error(f"the survey has a question '{each.id}' already", "id")
        questions[each.id] = Question(
            id=each.id,
            ask=below.template(each.ask, "ask", event=False),
            choices=_choices(each, below),
            sets=_target(each.sets, below),
            condition=_condition(each, ids, index, below),
            locales=dict(_locales(shape, each, compiler)),
        )
    for locale, words in shape.locales.items():
        for name in [name for name in words if name not in ids]:
            compiler.unknown_key("question", name, ids, "locales", locale)
    return Survey(shape.survey, questions)


def _choices(shape: QuestionShape, compiler: Compiler) -> dict[str, Choice]:
    choices: dict[str, Choice] = {}
    for place, choice in enumerate(shape.choose):
        if text_of(choice) in choices:
            compiler.error(f"the question has the choice {show(choice)} already", "choose", place)
        choices[text_of(choice)] = choice
    return choices


def _target(sets: str | None, compiler: Compiler) -> str:
    if sets is None or sets == "goals" or sets.removeprefix("traits.") not in (sets, ""):
        return sets or ""
    hint = suggest(sets, ["goals"]) or (f"; did you mean 'traits.{sets}'?" if "." not in sets and sets else "")
    compiler.error(f"expected goals or traits.NAME, found {show(sets)}{hint}", "sets")
    return ""


def _condition(shape: QuestionShape, ids: list[str], index: int, compiler: Compiler) -> Expression | None:
    condition = compiler.condition(shape.condition, "if", event=False, answers=True)
    if condition is None:
        return None
    for name in sorted(each.removeprefix("answers.") for each in condition.reads if each.startswith("answers.")):
        if name not in ids:
            message = f"the survey has no question '{name}'{suggest(name, ids)}"
            compiler.note_inside(condition, f"answers.{name}", message, "if")
        elif ids.index(name) >= index:
            message = f"'{name}' comes later, so its answer is not known when this question is first reached"
            compiler.note_inside(condition, f"answers.{name}", message, "if", severity="warning")
    return condition


def _locales(shape: SurveyShape, question: QuestionShape, compiler: Compiler) -> Iterator[tuple[str, Words]]:
    for locale, questions in shape.locales.items():
        words = questions.get(question.id)
        if words is None:
            continue
        at = ("locales", locale, question.id)
        if words.choose is not None and len(words.choose) != len(question.choose):
            message = f"expected {len(question.choose)} labels, as there are choices, found {len(words.choose)}"
            compiler.error(message, *at, "choose")
        yield (
            fold(locale),
            Words(
                ask=None if words.ask is None else compiler.template(words.ask, *at, "ask", event=False),
                labels=None if words.choose is None else tuple(map(text_of, words.choose)),
            ),
        )
