"""Surveys: what answers set, at once; which questions a page is sent; what is told of faulty ones."""

from __future__ import annotations

from typing import Any

import pytest
from plays import Play

from handrail.core import frames
from handrail.core.engine import snapshot
from handrail.core.problems import Problem
from handrail.core.rules import load
from handrail.core.state import SURVEYS_MAX

SURVEY = """
survey: goals
questions:
  - id: goal
    ask: "What brings you here, {{ user.traits.name | default('friend') }}?"
    choose: [analytics, teamwork]
    sets: goals
  - {id: size, ask: How many of you?, choose: [1, 2-10, more], if: "answers.goal == 'teamwork'", sets: traits.team_size}
  - {id: why, ask: Why so many?, choose: [growth, merger], if: "answers.size == 'more'"}
locales:
  de: {goal: {ask: "Was führt dich her?", choose: [Analyse, Zusammenarbeit]}, size: {ask: Wie viele?}}
"""
RULES = f"""
trigger: ask
when: {{event: signed_up}}
then: [{{prompt: what-brings-you}}]
---
trigger: team
when: {{enters: team-minded}}
then: [{{content: {{slot: hero, message: invite}}}}]
---
trigger: size-known
when: {{changes: traits.team_size}}
then: [{{emit: {{event: sized}}}}]
---
trigger: thanks
when: {{event: survey_answered}}
if: "'teamwork' in user.goals && event.properties.survey == 'goals'"
then: [{{prompt: thanks}}]
---
segment: team-minded
if: "'teamwork' in user.goals"
---
message: what-brings-you
kind: survey
survey: goals
title: Two quick questions
actions: [{{label: Later, do: {{snooze: 1h}}}}]
---
message: thanks
kind: toast
---
message: invite
kind: inline
---
flow: start
steps:
  - {{id: welcome}}
  - {{id: invite, if: "'teamwork' in user.goals"}}
---
{SURVEY}
"""


def answer(play: Play, survey: str = "goals", **answers: Any) -> list[str]:
    return play.track("survey_answered", survey=survey, answers=answers)


def posed(prompt: frames.Prompt | None) -> frames.Survey:
    assert prompt is not None
    assert prompt.survey is not None
    return prompt.survey


def asked(play: Play) -> list[str]:
    """The questions on the screen."""
    return [question.id for question in posed(play.state.prompt.prompt if play.state.prompt else None).questions]


def ignored(play: Play) -> list[str]:
    return [line.detail for line in play.trace if line.outcome == "ignored"]


def test_a_page_is_sent_the_questions_that_apply_and_sent_them_again_as_answers_change_that() -> None:
    play = Play(RULES)
    assert play.track("signed_up") == ["prompt what-brings-you"]
    first = play.pushed(frames.Prompt)[0]
    assert posed(first) == frames.Survey(
        id="goals",
        questions=(
            frames.Question(
                id="goal",
                ask="What brings you here, friend?",
                choose=("analytics", "teamwork"),
                labels=("analytics", "teamwork"),
            ),
        ),
    )
    play.clear()
    answer(play, goal="teamwork")
    (again,) = play.pushed(frames.Prompt)
    assert (again.id, again.title) == (first.id, first.title)
    assert [each.id for each in posed(again).questions] == ["goal", "size"]
    assert posed(again).questions[1].choose == (1, "2-10", "more")
    assert posed(again).questions[1].labels == ("1", "2-10", "more")
    assert posed(again).answers == {"goal": "teamwork"}
    offsets = [frame.offset for frame in play.frames]
    assert offsets == list(range(first.offset + 1, first.offset + 1 + len(offsets)))
    shown = snapshot(play.program, play.state, play.now)[2]
    assert shown == (again,), "who comes back finds the present questions"


def test_answers_set_goals_and_traits_at_once_and_flows_are_assembled_again_in_the_same_step() -> None:
    play = Play(RULES)
    play.track("signed_up")
    play.clear()
    decided = answer(play, goal="teamwork")
    assert decided == ["content {'slot': 'hero', 'message': 'invite'}"]
    assert play.state.traits["goals"] == ["teamwork"]
    (flow,) = play.pushed(frames.Flow)
    assert [step.id for step in flow.steps] == ["welcome", "invite"]
    assert answer(play, size="2-10")[0] == "emit {'event': 'sized', 'properties': {}}"
    assert play.state.traits["team_size"] == "2-10"


def test_the_last_answer_takes_the_survey_off_the_screen_and_leaves_it_free_for_what_the_answer_sets_off() -> None:
    play = Play(RULES)
    play.track("signed_up")
    assert "thanks: busy" not in play.held_back()
    answer(play, goal="teamwork")
    assert "thanks: busy" in play.held_back()
    play.clear()
    assert answer(play, size=1) == ["emit {'event': 'sized', 'properties': {}}", "prompt thanks"]
    assert [frame.reason for frame in play.pushed(frames.Withdraw)] == ["completed"]


def test_all_answers_may_come_at_once() -> None:
    play = Play(RULES)
    play.track("signed_up")
    answer(play, why="growth", size="more", goal="teamwork")
    assert play.state.answers == {"goals": {"goal": "teamwork", "size": "more", "why": "growth"}}
    assert play.on_screen == "thanks"


def test_answers_count_without_the_prompt_and_without_a_connection() -> None:
    play = Play(RULES, connected=False)
    answer(play, goal="teamwork")
    assert play.state.segments == ("team-minded",)
    assert not play.pushed(frames.Prompt)[:-1]
    play = Play(RULES)
    answer(play, goal="teamwork")
    play.track("prompt_dismissed", message="thanks")
    play.track("signed_up")
    assert asked(play) == ["goal", "size"], "the survey goes on where the answers stopped"


def test_a_question_may_be_skipped() -> None:
    play = Play(RULES)
    play.track("signed_up")
    answer(play, goal="teamwork")
    play.clear()
    answer(play, size=None)
    assert [frame.reason for frame in play.pushed(frames.Withdraw)] == ["completed"]
    assert "team_size" not in play.state.traits
    answer(play, size="more")
    answer(play, size=None)
    assert "team_size" not in play.state.traits, "skipped later: what the answer set goes with it"
    assert play.state.answers["goals"]["size"] is None


def test_a_later_answer_takes_the_place_of_the_former() -> None:
    play = Play(RULES)
    play.identify(goals=["reports", "teamwork"])
    play.track("signed_up")
    answer(play, goal="analytics")
    assert play.state.traits["goals"] == ["reports", "teamwork", "analytics"]
    play = Play(RULES)
    play.identify(goals=["reports"])
    play.track("signed_up")
    answer(play, goal="teamwork")
    answer(play, goal="teamwork")
    assert play.state.traits["goals"] == ["reports", "teamwork"]
    answer(play, goal="analytics")
    assert play.state.traits["goals"] == ["reports", "analytics"]
    assert play.state.segments == ()
    assert [step.id for step in play.pushed(frames.Flow)[-1].steps] == ["welcome"]


def test_a_goal_stays_as_long_as_another_question_gives_it() -> None:
    play = Play("""
        survey: one
        questions:
          - {id: a, ask: A?, choose: [x, y], sets: goals}
          - {id: b, ask: B?, choose: [x, z], sets: goals}
    """)
    answer(play, "one", a="x", b="x")
    assert play.state.traits["goals"] == ["x"]
    answer(play, "one", a="y")
    assert play.state.traits["goals"] == ["x", "y"]
    answer(play, "one", b="z")
    assert play.state.traits["goals"] == ["y", "z"]
    answer(play, "one", a=["y", "x", "y"])
    assert play.state.traits["goals"] == ["y", "z", "x"]
    assert play.state.answers["one"]["a"] == ["y", "x"]


def test_an_answer_that_is_none_changes_nothing_and_the_trace_says_so() -> None:
    play = Play(RULES)
    play.track("signed_up")
    before, frames_before = play.state.answers, len(play.frames)
    answer(play, goal="teamwrk")
    answer(play, goals="teamwork", size={"a": 1})
    answer(play, "gaols", goal="teamwork")
    play.track("survey_answered", survey="goals")
    play.track("survey_answered", answers={"goal": "teamwork"})
    assert ignored(play) == [
        "'goals': 'teamwrk' is no choice of 'goal'",
        "'goals' has no question 'goals'; did you mean 'goal'?",
        "'goals': a mapping is no choice of 'size'",
        "no survey is named 'gaols'; did you mean 'goals'?",
        "'goals' was answered without answers: {QUESTION: CHOICE}",
        "no survey is named nothing",
    ]
    assert play.state.answers == before == {}
    assert len(play.frames) == frames_before
    assert play.on_screen == "what-brings-you"


@pytest.mark.parametrize("given", [1, "1", 1.0])
def test_pages_need_not_tell_numbers_from_text(given: Any) -> None:
    play = Play(RULES)
    answer(play, size=given)
    assert play.state.answers["goals"]["size"] == 1
    assert type(play.state.answers["goals"]["size"]) is int


def test_of_a_question_that_no_longer_applies_later_ones_know_no_answer() -> None:
    play = Play(RULES)
    play.track("signed_up")
    answer(play, goal="teamwork")
    answer(play, size="more")
    assert asked(play) == ["goal", "size", "why"]
    answer(play, goal="analytics")
    assert play.on_screen is None


def test_a_survey_already_answered_can_be_shown_again_and_is_over_when_it_is_confirmed() -> None:
    play = Play(RULES)
    answer(play, goal="analytics")
    play.track("signed_up")
    assert posed(play.pushed(frames.Prompt)[-1]).answers == {"goal": "analytics"}
    answer(play, goal="nonsense")
    assert play.on_screen == "what-brings-you"
    answer(play, goal="analytics")
    assert play.on_screen is None


def test_questions_may_test_segments_that_the_answer_itself_changes() -> None:
    play = Play(RULES.replace("answers.goal == 'teamwork'", "'team-minded' in user.segments"))
    play.track("signed_up")
    assert asked(play) == ["goal"]
    answer(play, goal="teamwork")
    assert asked(play) == ["goal", "size"]


def test_a_snoozed_survey_comes_back_with_what_was_answered() -> None:
    play = Play(RULES)
    play.track("signed_up")
    answer(play, goal="teamwork")
    play.track("prompt_snoozed", message="what-brings-you")
    play.wait("1h")
    assert posed(play.state.prompt.prompt if play.state.prompt else None).answers == {"goal": "teamwork"}
    assert asked(play) == ["goal", "size"]


def test_questions_are_asked_in_the_words_of_the_locale_and_answered_in_those_of_the_rules() -> None:
    play = Play(RULES)
    play.identify(locale="de-AT")
    play.track("signed_up")
    question = posed(play.pushed(frames.Prompt)[0]).questions[0]
    assert question.ask == "Was führt dich her?"
    assert question.labels == ("Analyse", "Zusammenarbeit")
    answer(play, goal="Zusammenarbeit")
    assert not play.state.answers
    answer(play, goal="teamwork")
    question = posed(play.pushed(frames.Prompt)[-1]).questions[1]
    assert (question.ask, question.labels) == ("Wie viele?", ("1", "2-10", "more"))


def test_answers_outlive_a_restart_and_a_change_of_the_survey() -> None:
    play = Play(RULES)
    play.track("signed_up")
    answer(play, goal="teamwork")
    play.restart()
    assert asked(play) == ["goal", "size"]
    play.reload(RULES.replace("choose: [analytics, teamwork]", "choose: [analytics, reports]"))
    answer(play, size="more")
    assert asked(play) == ["goal"], "the former choice is none any more: the question is open again"


def test_a_survey_that_was_removed_stays_on_the_screen_until_it_is_handled() -> None:
    play = Play(RULES)
    play.track("signed_up")
    play.reload("message: other\nkind: toast")
    answer(play, goal="teamwork")
    assert play.on_screen == "what-brings-you"
    play.track("prompt_dismissed", message="what-brings-you")
    assert play.on_screen is None


def test_a_question_that_cannot_be_worded_leaves_the_screen_as_it_is() -> None:
    play = Play(RULES.replace("How many of you?", '"{{ user.traits.name | round }}"'))
    play.identify(name="Ann")
    play.track("signed_up")
    answer(play, goal="teamwork")
    assert asked(play) == ["goal"]
    assert [line.trigger for line in play.trace if line.outcome == "failed"] == ["ask"]
    assert play.state.traits["goals"] == ["teamwork"]


def test_answers_to_surveys_of_long_ago_are_forgotten_first() -> None:
    def rules(*numbers: int) -> str:
        return "\n---\n".join(f"survey: s{n}\nquestions: [{{id: q, ask: Q?, choose: [a]}}]" for n in numbers)

    play = Play(rules(*range(SURVEYS_MAX)))
    for number in range(SURVEYS_MAX):
        answer(play, f"s{number}", q="a")
    play.reload(rules(*range(3), *range(4, SURVEYS_MAX + 2)))
    answer(play, f"s{SURVEYS_MAX}", q="a")
    assert len(play.state.answers) == SURVEYS_MAX
    assert "s3" not in play.state.answers
    answer(play, f"s{SURVEYS_MAX + 1}", q="a")
    assert len(play.state.answers) == SURVEYS_MAX
    assert "s0" not in play.state.answers


# --- what is told of faults ---


def told(text: str) -> list[Problem]:
    return list(load({"s.yaml": text}, {}).problems)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("survey: s\nquestions: []", "s.yaml:2:12: questions: expected a list of at least 1, found an empty list"),
        (
            "survey: s\nquestions: [{id: team-size, ask: Q?, choose: [a]}]",
            "s.yaml:2:18: questions[0].id: expected a name of small letters, digits, '_', and no digit first, "
            "found 'team-size'",
        ),
        (
            "survey: s\nquestions: [{id: q, ask: Q?, choose: [a, [b]]}]",
            "s.yaml:2:42: questions[0].choose[1]: expected text or a whole number or a number or true or false, "
            "found a list",
        ),
        (
            "survey: s\nquestions: [{id: q, ask: Q?, choose: [1, '1']}]",
            "s.yaml:2:42: the question has the choice '1' already",
        ),
        (
            "survey: s\nquestions: [{id: q, ask: Q?, choose: [a]}, {id: q, ask: Q?, choose: [a]}]",
            "s.yaml:2:49: the survey has a question 'q' already",
        ),
        (
            "survey: s\nquestions: [{id: q, ask: Q?, choose: [a], sets: gaols}]",
            "s.yaml:2:49: expected goals or traits.NAME, found 'gaols'; did you mean 'goals'?",
        ),
        (
            "survey: s\nquestions: [{id: q, ask: Q?, choose: [a], sets: team_size}]",
            "s.yaml:2:49: expected goals or traits.NAME, found 'team_size'; did you mean 'traits.team_size'?",
        ),
        (
            "survey: s\nquestions: [{id: q, ask: Q, choose: [a]}, {id: r, ask: R, choose: [b], if: answers.qq == 'a'}]",
            "s.yaml:2:76: the survey has no question 'qq'; did you mean 'q'?",
        ),
        (
            "survey: s\nquestions: [{id: q, ask: Q, choose: [a], if: answers.r == 'b'}, {id: r, ask: R, choose: [b]}]",
            "s.yaml:2:46: warning: 'r' comes later, so its answer is not known when this question is first reached",
        ),
        (
            "survey: s\nquestions: [{id: q, ask: Q?, choose: [a], if: event.name == 'b'}]",
            "s.yaml:2:47: there is no event here: only 'user' and 'now' can be used",
        ),
        (
            'survey: s\nquestions: [{id: q, ask: "{{ event.name }}", choose: [a]}]',
            "s.yaml:2:30: unknown name 'event'; there are user, now",
        ),
        (
            "survey: s\nquestions: [{id: q, ask: Q?, choose: [a]}]\nlocales: {de: {r: {ask: R?}}}",
            "s.yaml:3:16: unknown question 'r'; known: q",
        ),
        (
            "survey: s\nquestions: [{id: q, ask: Q?, choose: [a, b]}]\nlocales: {de: {q: {choose: [c]}}}",
            "s.yaml:3:28: expected 2 labels, as there are choices, found 1",
        ),
        (
            "message: m\nkind: survey",
            "s.yaml:2:7: a message of kind survey says which: add a key survey, as survey: NAME",
        ),
        (
            "survey: goals\nquestions: [{id: q, ask: Q?, choose: [a]}]\n---\nmessage: m\nkind: survey\nsurvey: gaols",
            "s.yaml:6:9: no survey is named 'gaols'; did you mean 'goals'?",
        ),
        (
            "survey: goals\nquestions: [{id: q, ask: Q?, choose: [a]}]\n---\nmessage: m\nkind: modal\nsurvey: goals",
            "s.yaml:6:9: only a message of kind survey asks one",
        ),
        (
            "message: m\nkind: toast\nsurvey: goals\nquestions: [{id: q, ask: Q?, choose: [a]}]",
            "s.yaml:3:1: 'survey' begins another document: put a line '---' before it",
        ),
        (
            "trigger: t\nwhen: {event: x}\nthen: [{content: {slot: a, message: m}}]\n---\n"
            "message: m\nkind: survey\n---\nsurvey: m\nquestions: [{id: q, ask: Q?, choose: [a]}]",
            "s.yaml:3:37: warning: a slot asks no survey: show it with prompt",
        ),
        (
            "segment: s\nif: answers.q == 'a'",
            "s.yaml:2:5: unknown name 'answers.q'",
        ),
    ],
)
def test_what_is_told_of_a_fault(text: str, said: str) -> None:
    assert [str(problem) for problem in told(text)] == [said]


def test_a_message_asks_the_survey_of_its_own_name_unless_it_says_otherwise() -> None:
    play = Play("""
        trigger: t
        when: {event: x}
        then: [{prompt: nps}]
        ---
        message: nps
        kind: survey
        ---
        survey: nps
        questions: [{id: score, ask: How likely?, choose: [1, 2, 3], sets: traits.nps}]
    """)
    play.track("x")
    assert asked(play) == ["score"]
    answer(play, "nps", score=3)
    assert play.state.traits["nps"] == 3
    assert play.on_screen is None


def test_a_loop_may_call_its_value_answers_elsewhere() -> None:
    play = Play("segment: s\nif: user.goals.exists(answers, answers == 'x')")
    play.identify(goals=["x"])
    assert play.state.segments == ("s",)
