"""Living recorded events through again: the clock, who is taken to be there, and what is counted."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import count
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from plays import START, compiled
from test_properties import FEW, HAPPENINGS, MINUTE, PAUSES, event_of, program

from handrail import eventlog
from handrail.core.account import account
from handrail.core.engine import FOLLOWS
from handrail.core.events import PROMPT_EVENTS, Alarm, Connected, Disconnected, Event, Track
from handrail.core.program import Program
from handrail.core.replay import Entry, Lived, replay
from handrail.core.summary import Count, Shift, Summary, compare, merge_shifts, quantile
from handrail.recordings import read_line
from handrail.runner import Runner
from handrail.store.memory import MemoryStore
from handrail.turns import Committed

IDLE = """
trigger: stuck
when: {idle: 3m}
then: [{prompt: help}]
limit: 1 per session
---
trigger: gone
when: {away: 10m}
then: [{webhook: mail}]
---
trigger: asked
when: {event: asked}
then: [{prompt: help}]
---
message: help
kind: modal
---
webhook: mail
url: https://mail.example/
channel: email
"""
ids = count(1)


def told(name: str, minutes: float, **more: Any) -> Entry:
    at = START + int(minutes * MINUTE)
    return Entry("ann", at, Track(id=f"e-{next(ids)}", name=name, at=at), **more)


def lived(rules: Program | str, *entries: Entry, until: float, present: bool = True) -> Lived:
    rules = compiled(rules) if isinstance(rules, str) else rules
    return replay(rules, entries, until=START + int(until * MINUTE), present=present)


def test_a_caller_is_taken_to_look_until_the_session_ends() -> None:
    done = lived(IDLE, told("began", 0), until=60)
    assert done.considered == {("stuck", "fired", ""): 1, ("gone", "fired", ""): 1}
    assert (done.events, done.prompts, done.calls, done.emails) == (1, (1,), 1, 1)


def test_time_goes_on_to_the_end_of_the_archive_and_no_further() -> None:
    assert lived(IDLE, told("began", 0), until=3).considered == {("stuck", "fired", ""): 1}
    assert lived(IDLE, told("began", 0), until=2.9).considered == {}
    assert lived(IDLE, told("began", 0), until=29.9).calls == 0, "whoever looks at a page is not away"
    assert lived(IDLE, told("began", 0), until=30).calls == 1


def test_whoever_is_absent_is_never_idle_and_soon_away() -> None:
    done = lived(IDLE, told("began", 0), until=10, present=False)
    assert done.considered == {("gone", "fired", ""): 1}


def test_what_a_log_says_of_connections_goes_before_what_is_assumed() -> None:
    events: list[Event] = [
        Connected(id="c", at=START, connection="one", node="n"),
        Disconnected(id="d", at=START + MINUTE, connection="one"),
    ]
    entries = [Entry("ann", event.at, event, logged=True) for event in events]
    assert lived(IDLE, *entries, until=11).considered == {("gone", "fired", ""): 1}


def test_an_unanswered_prompt_goes_with_the_page() -> None:
    done = lived(IDLE, told("asked", 0), told("asked", 1), told("asked", 60), until=61)
    assert done.considered["asked", "fired", ""] == 2
    assert done.considered["asked", "suppressed", "busy"] == 1
    assert done.prompts == (1, 1)


def test_the_same_call_twice_counts_once() -> None:
    again = told("asked", 0)
    done = lived(IDLE, again, again, until=1)
    assert (done.events, done.duplicates, done.considered) == (1, 1, {("asked", "fired", ""): 1})


def test_a_prompt_while_no_session_is_open_stands_apart() -> None:
    rules = (
        "trigger: later\nwhen: {delay: {after: {event: a}, for: 2h}}\nthen: [{prompt: m}]\n---\nmessage: m\nkind: modal"
    )
    done = lived(rules, told("a", 0), until=200)
    assert (done.prompts, done.apart) == ((0,), 1)


def test_prompts_are_known_by_their_message_whatever_their_id_was() -> None:
    shown = Entry("ann", START, Track(id="1", name="asked", at=START), True, {"old-1": "help"})
    closed = Track(id="2", name="prompt_dismissed", at=START + MINUTE, properties={"prompt": "old-1"})
    entries = [shown, Entry("ann", closed.at, closed, True), told("asked", 2, logged=True)]
    assert lived(IDLE, *entries, until=3).considered == {("asked", "fired", ""): 2}


# --- against what a live server did ---


class Recorded:
    """A user living under a Runner on a clock of ours, and the log it wrote."""

    def __init__(self) -> None:
        self.now = START
        self.store = MemoryStore()
        self.due: int | None = None
        self.runner = Runner(self.store, lambda _user: program(), lambda: self.now, "live", self.hear)

    def hear(self, committed: Committed) -> None:
        self.due = committed.alarm

    async def live(self, history: list[tuple[int, dict[str, Any]]]) -> list[bytes]:
        for number, (pause, happening) in enumerate(history):
            await self.pass_time(pause)
            await self.take(await self.answer(event_of(happening, number, self.now), by_id=number % 3 > 0))
        return [line for log in self.store.shelf.logs for _, _, _, line in log]

    async def pass_time(self, pause: int) -> None:
        until = self.now + pause
        while self.due is not None and self.due <= until:
            self.now = max(self.now, self.due)
            await self.take(Alarm(at=self.now))
        self.now = until

    async def take(self, event: Event) -> None:
        await self.runner.submit("u-1", event)

    async def answer(self, event: Event, *, by_id: bool) -> Event:
        """Pages name a prompt by its id."""
        shown = (await self.runner.read("u-1")).prompt
        if not by_id or shown is None or not isinstance(event, Track) or event.name not in PROMPT_EVENTS:
            return event
        kept = {name: value for name, value in event.properties.items() if name != "message"}
        return msgspec.structs.replace(event, properties={**kept, "prompt": shown.prompt.id})


def read_whole(line: bytes) -> dict[str, Any]:
    """As whoever looks at the log reads it: a trigger that did not hold stands there by name alone."""
    whole: dict[str, Any] = msgspec.to_builtins(eventlog.spell_out(msgspec.json.decode(line), lambda _user: program()))
    return whole


WAITED_FOR = [
    (0, {"kind": "track", "name": "a", "ago": 2_400_000, "properties": {"n": 0}}),
    (1_000, {"kind": "track", "name": "a", "ago": 1_000, "properties": {"n": 0}}),
    (0, {"kind": "disconnect", "tab": "one"}),
    (600_000, {"kind": "disconnect", "tab": "one"}),
]


RUNG_IN_BETWEEN = [
    (0, {"kind": "identify", "ago": 0, "traits": {"plan": None}}),
    (7_200_000, {"kind": "identify", "ago": 2_400_000, "traits": {"plan": None}}),
    (0, {"kind": "alarm", "lost": False}),
]


UNMET = [
    (0, {"kind": "connect", "tab": "one", "visible": True, "idle": 0}),
    *[(7_200_000, {"kind": "track", "name": "a", "ago": 0, "properties": {"n": 0}})] * 6,
    (600_000, {"kind": "alarm", "lost": False}),
]


@FEW
@example(WAITED_FOR)
@example(RUNG_IN_BETWEEN)
@example(UNMET)
@given(st.lists(st.tuples(PAUSES, HAPPENINGS), min_size=1, max_size=25))
def test_a_log_replayed_under_the_same_rules_decides_the_same(history: list[tuple[int, dict[str, Any]]]) -> None:
    recorded = Recorded()
    lines = asyncio.run(recorded.live(history))
    entries = [entry for line in lines if isinstance(entry := read_line(line, "log"), Entry)]
    if not entries:
        return
    done = replay(program(), entries, until=recorded.now)
    kept = [read_whole(line) for line in lines]
    assert done.considered == Counter(
        (each["trigger"], each["outcome"], each["reason"] if each["outcome"] == "suppressed" else "")
        for line in kept
        for each in line["trace"]
    )
    decided = [each["action"] for line in kept for each in line["decisions"]]
    assert sum(done.prompts) + done.apart == decided.count("prompt")
    assert done.calls == decided.count("webhook")


# --- adding up ---


def test_sums_do_not_depend_on_the_order_of_users() -> None:
    rules = compiled(IDLE)
    lives = [
        lived(rules, told("began", 0), until=60),
        lived(rules, told("asked", 0), told("asked", 1), until=60),
        lived(rules, told("asked", 0), until=2),
    ]
    one, other, rest = Summary(), Summary(), Summary()
    for each in lives:
        one.add(each)
    for each in reversed(lives[1:]):
        other.add(each)
    rest.add(lives[0])
    other.merge(rest)
    assert one.settle(rules) == other.settle(rules)
    assert list(one.settle(rules).triggers) == ["stuck", "gone", "asked"]
    assert one.triggers["asked"].fired == Count(2, 2)
    assert one.triggers["asked"].suppressed == {"busy": Count(1, 1)}
    assert (one.users, one.events, one.sessions, one.prompts, one.emails) == (3, 4, 3, {1: 3}, {1: 2, 0: 1})


def test_what_one_set_of_rules_gains_and_loses_against_another() -> None:
    now, then = compiled(IDLE), compiled(IDLE.replace("3m", "40m").replace("event: asked", "event: began"))
    entries = [told("began", 0)]
    shifts: dict[str, Shift] = {}
    for user in ("c", "a", "b", "f", "e", "d"):
        merge_shifts(shifts, compare(user, lived(now, *entries, until=60), lived(then, *entries, until=60)))
    assert shifts == {
        "stuck": Shift(6, 0, ("a", "b", "c", "d", "e"), ()),
        "asked": Shift(0, 6, (), ("a", "b", "c", "d", "e")),
    }


@pytest.mark.parametrize(("share", "expected"), [(0.1, 0), (0.5, 0), (0.51, 1), (0.9, 1), (1, 4)])
def test_a_quantile_is_a_number_that_was_counted(share: float, expected: int) -> None:
    assert quantile({0: 5, 1: 4, 4: 1}, share) == expected
    assert quantile({}, share) == 0


def test_the_account_says_what_is_new_what_is_gone_and_what_never_woke() -> None:
    now, then = compiled(IDLE), compiled(IDLE.replace("trigger: asked", "trigger: inquired"))
    entries = [told("began", 0), told("asked", 1)]
    one, other = lived(now, *entries, until=3), lived(then, *entries, until=3)
    summary, before = Summary(), Summary()
    summary.add(one)
    before.add(other)
    assert list(account(summary.settle(now), before.settle(then), compare("ann", one, other))) == [
        "trigger                    users  times  users before  times before  gained  lost",
        "asked (new)         fired      1      1             –             –       1     0",
        "inquired (removed)  fired      –      –             1             1       0     1",
        "",
        "sessions: 1; before: 1",
        "prompts in a session: 1: 100.0%; median 1, p90 1, most 1; before: 1: 100.0%; median 1, p90 1, most 1",
        "e-mails to a user: 0: 100.0%; median 0, p90 0, most 0; before: 0: 100.0%; median 0, p90 0, most 0",
        "never woken: stuck, gone",
        "asked gained, for instance: ann",
        "inquired lost, for instance: ann",
    ]


async def test_a_log_of_queues_replayed_under_the_same_rules_decides_the_same() -> None:
    rules = compiled("""
trigger: nag
when: {delay: {after: {event: started}, for: 5m}}
then: [{set: {nagged: true}}]
cancel_on: [{event: finished}]
""")
    store, now = MemoryStore(), START
    runner = Runner(store, lambda _user: rules, lambda: now, "live")

    def ago(minutes: int, name: str) -> Track:
        return Track(id=f"{name}-{minutes}-{now}", name=name, at=now - minutes * MINUTE)

    together = (ago(60, "started"), ago(58, "finished"), ago(40, "started"))
    await asyncio.gather(*(runner.submit("u-1", event) for event in together))
    now += FOLLOWS - 1
    await runner.submit("u-1", ago(39, "finished"))
    await runner.submit("u-1", ago(20, "started"))
    now += FOLLOWS
    await runner.submit("u-1", Alarm(at=now))
    assert (await runner.read("u-1")).traits == {"nagged": True}
    lines = [line for log in store.shelf.logs for _, _, _, line in log]
    entries = [entry for line in lines if isinstance(entry := read_line(line, "log"), Entry)]
    done = replay(rules, entries, until=now)
    assert done.considered == Counter(
        (each["trigger"], each["outcome"], each["reason"] if each["outcome"] == "suppressed" else "")
        for line in lines
        for each in msgspec.json.decode(line)["trace"]
    )
    assert done.considered["nag", "fired", ""] == 1
