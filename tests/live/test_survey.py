"""A survey over real sockets: asked on every tab, answered on one or over HTTP, found again after a reconnect."""

from __future__ import annotations

from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from nodes import greet, hear, say
from servers import Serve

RULES = """\
trigger: ask
when: {event: signed_up}
then: [{prompt: goals}]
---
message: goals
kind: survey
title: Two quick questions
---
survey: goals
questions:
  - {id: goal, ask: What brings you here?, choose: [analytics, teamwork], sets: goals}
  - {id: size, ask: How many of you?, choose: [1, 2-10, more], if: "answers.goal == 'teamwork'", sets: traits.team_size}
---
flow: start
steps: [{id: welcome}, {id: invite, if: "'teamwork' in user.goals"}]
"""


async def answer(client: ClientConnection, name: str, **answers: Any) -> None:
    await say(client, "track", id=name, name="survey_answered", properties={"survey": "goals", "answers": answers})


def questions(prompt: dict[str, Any]) -> list[str]:
    return [question["id"] for question in prompt["survey"]["questions"]]


async def test_a_survey_is_the_same_on_every_tab_and_after_a_reconnect(serve: Serve) -> None:
    (serve.folder / "greet.yaml").write_text(RULES)
    http = await serve()
    url = f"ws://{http.base_url.netloc.decode()}/updates"
    async with connect(url, proxy=None) as one, connect(url, proxy=None) as two:
        epoch = (await greet(one, "ada", tab="1"))["epoch"]
        await greet(two, "ada", tab="2")
        await say(one, "track", id="e1", name="signed_up")
        first = await hear(one, "prompt")
        assert await hear(two, "prompt") == first
        assert questions(first) == ["goal"]
        await answer(two, "e2", goal="teamwork")
        assert [step["id"] for step in (await hear(one, "flow"))["steps"]] == ["welcome", "invite"]
        again = await hear(two, "prompt")
        assert (again["id"], questions(again)) == (first["id"], ["goal", "size"])
        assert again["offset"] > first["offset"]
    async with connect(url, proxy=None) as late:
        assert (await greet(late, "ada"))["prompts"] == [again]
    async with connect(url, proxy=None) as back:
        welcome = await greet(back, "ada", epoch=epoch, offset=first["offset"])
        assert welcome["recovered"] is True
        assert await hear(back, "prompt") == again
        over = {"userId": "ada", "event": "survey_answered", "properties": {"survey": "goals", "answers": {"size": 1}}}
        assert (await http.post("/v1/track", json=over)).status_code == 200
        assert (await hear(back, "withdraw"))["reason"] == "completed"
