"""What the event survey_answered `{survey, answers: {QUESTION: CHOICE, a list of them, or null}}` does.

Answers count whether or not the survey is on the screen, some of them or all at once. One given later takes the place
of the former, with what that had set.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from handrail.core.effects import Push
from handrail.core.events import Track
from handrail.core.problems import suggest
from handrail.core.scalars import show
from handrail.core.state import SURVEYS_MAX
from handrail.core.surveys import Answer, Question, Survey, text_of
from handrail.core.templates import TemplateFault
from handrail.core.turn import Turn


def take_answers(turn: Turn, event: Track) -> str:
    """Keep the answers that are some and set what they set; the name of the survey if there was any."""
    survey = _survey(turn, event.properties)
    if survey is None:
        return ""
    traits: dict[str, Any] = {}
    taken = list(_answers(turn, survey, event.properties["answers"]))
    for question, answer in taken:
        former = turn.state.answers.get(survey.name, {}).get(question.id)
        _keep(turn, survey.name, question.id, answer)
        if question.sets == "goals":
            traits["goals"] = list(_goals(turn, traits.get("goals"), former, answer))
        elif question.sets:
            trait = question.sets.removeprefix("traits.")
            if answer is not None or turn.state.traits.get(trait) == former:
                traits[trait] = answer
    turn.set_traits(traits)
    return survey.name if taken else ""


def ask_further(turn: Turn, survey: str) -> None:
    """After an answer, if the survey is on the screen: send the questions that apply by now, or take it off when all
    of them are answered."""
    shown = turn.state.prompt
    if shown is None or shown.prompt.survey is None or shown.prompt.survey.id != survey:
        return
    try:
        posed = turn.pose(survey)
    except TemplateFault as fault:
        turn.note(shown.prompt.trigger, "failed", reason="template", detail=str(fault))
        return
    if posed is not None and all(question.id in posed.answers for question in posed.questions):
        turn.withdraw("completed")
    elif posed is not None and posed != shown.prompt.survey:
        prompt = replace(shown.prompt, offset=turn.next_offset(), survey=posed)
        turn.state.prompt = replace(shown, prompt=prompt)
        turn.effects.append(Push(prompt))


def _survey(turn: Turn, properties: dict[str, Any]) -> Survey | None:
    name, surveys = properties.get("survey"), turn.program.surveys
    if not isinstance(name, str) or name not in surveys:
        hint = suggest(name, surveys) if isinstance(name, str) else ""
        turn.note("", "ignored", reason="answer", detail=f"no survey is named {show(name)}{hint}")
        return None
    if not isinstance(properties.get("answers"), dict):
        turn.note("", "ignored", reason="answer", detail=f"'{name}' was answered without answers: {{QUESTION: CHOICE}}")
        return None
    return surveys[name]


def _answers(turn: Turn, survey: Survey, given: dict[str, Any]) -> Iterator[tuple[Question, Answer]]:
    """The valid answers, in the order of the questions."""
    for name in [name for name in given if name not in survey.questions]:
        detail = f"'{survey.name}' has no question {show(name)}{suggest(name, survey.questions)}"
        turn.note("", "ignored", reason="answer", detail=detail)
    for question in survey.questions.values():
        if question.id in given:
            try:
                yield question, question.read(given[question.id])
            except ValueError as error:
                turn.note("", "ignored", reason="answer", detail=f"'{survey.name}': {error}")


def _keep(turn: Turn, survey: str, question: str, answer: Answer) -> None:
    answers = turn.state.answers
    if survey not in answers and len(answers) >= SURVEYS_MAX:
        gone = next((name for name in answers if name not in turn.program.surveys), next(iter(answers)))
        del answers[gone]
    answers[survey] = {**answers.get(survey, {}), question: answer}


def _goals(turn: Turn, goals: list[str] | None, former: Answer, answer: Answer) -> Iterator[str]:
    """The user's goals with those of this answer, and without those of the former that no other answer gives."""
    if goals is None:
        held = turn.state.traits.get("goals")
        goals = held if isinstance(held, list) else []
    given = list(_texts(answer))
    gone = set(_texts(former)) - set(_given(turn))
    yield from (goal for goal in goals if goal not in gone)
    yield from (goal for goal in given if goal not in goals)


def _given(turn: Turn) -> Iterator[str]:
    """The goals that answers give by now, over all surveys."""
    for name, answers in turn.state.answers.items():
        survey = turn.program.surveys.get(name)
        for question, answer in answers.items():
            if survey and question in survey.questions and survey.questions[question].sets == "goals":
                yield from _texts(answer)


def _texts(answer: Answer) -> Iterator[str]:
    if answer is not None:
        yield from map(text_of, answer if isinstance(answer, list) else [answer])
