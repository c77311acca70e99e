"""Whenever a visitor becomes a user, and whatever the two did before and do after: caps hold over both, nothing counts
twice, nothing is lost, and doing it again changes nothing."""

from __future__ import annotations

from bisect import bisect_right
from functools import cache

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plays import START, compiled

from handrail.core import events as ev
from handrail.core.effects import Decision, Push
from handrail.core.engine import Step, alarm, fresh, step
from handrail.core.merge import heir_of
from handrail.core.program import Program
from handrail.core.state import SEEN_FOR, State, dump_state, load_state

MINUTE = 60_000
RULES = """
trigger: offer
when: {event: a}
then: [{prompt: help}, {emit: {event: offered}}]
limit: [2 per 24h, 1 per session]
---
trigger: nudge
when: [{idle: 3m}, {delay: {after: {event: b}, for: 20m}}, {absence: {after: {event: a}, of: {event: b}, for: 5m}}]
then: [{prompt: note}]
cooldown: 30m
when_blocked: {defer: 15m}
---
trigger: keen
when: [{enters: busy}, {leaves: busy}]
then: [{content: {slot: side, message: note}}]
---
segment: busy
if: user.counters.total >= 3 || user.counters.recent >= 2
---
counter: total
of: a
---
counter: recent
of: b
within: 40m
---
counter: session
of: a
over: session
---
message: help
kind: modal
expires: 10m
actions: [{label: Later, do: {snooze: 10m}}]
---
message: note
kind: toast
---
flow: start
steps: [{id: one}, {id: two, if: "'busy' in user.segments"}]
---
policy: default
prompts: {limit: [4 per 12h]}
"""
PAUSES = st.sampled_from([0, 0, 1_000, MINUTE, 4 * MINUTE, 12 * MINUTE, 40 * MINUTE, 7 * 60 * MINUTE])
DEEDS = st.sampled_from(["a", "a", "b", "dismiss", "snooze", "view", "connect", "leave", "again", "alarm"])
WHO = st.sampled_from(["anon", "user"])
LIVES = st.lists(st.tuples(PAUSES, WHO, DEEDS), max_size=20)


@cache
def program() -> Program:
    return compiled(RULES)


class World:
    """Both of them on one clock, as the runner has them: what reaches the visitor after the merge goes to the user."""

    def __init__(self) -> None:
        self.now = START
        self.states = {name: fresh(program(), name, f"e-{name}", START) for name in ("anon", "user")}
        self.did: dict[str, tuple[str, str, int]] = {}  # event id -> name, whom it named, when, of everything sent
        self.offers: list[int] = []
        self.prompts: list[int] = []
        self.numbers = 0
        self.take("user", ev.Known(at=START))

    def live(self, pause: int, who: str, deed: str) -> None:
        self.pass_time(pause)
        self.numbers += 1
        name = f"i-{self.numbers}"
        match deed:
            case "connect":
                self.take(who, ev.Connected(id=name, at=self.now, connection=f"c-{who}", node="n"))
            case "leave":
                self.take(who, ev.Disconnected(id=name, at=self.now, connection=f"c-{who}"))
            case "alarm":
                self.take(who, ev.Alarm(at=self.now))
            case "again":
                self.repeat(who)
            case "dismiss" | "snooze":
                self.track(who, name, f"prompt_{deed}{'ed' if deed == 'dismiss' else 'd'}")
            case _:
                self.track(who, name, "step_viewed" if deed == "view" else deed)

    def repeat(self, who: str) -> None:
        """Send an event of the last hours again; after the merge it may name either."""
        recent = [(each, *deed) for each, deed in self.did.items() if self.now - deed[2] < 20 * 60 * MINUTE]
        if recent:
            name, event, named, _ = recent[self.numbers % len(recent)]
            self.track(who if self.states["anon"].merger else named, name, event)

    def track(self, who: str, name: str, event: str) -> None:
        self.did.setdefault(name, (event, who, self.now))
        properties = {"message": "help"} if event.startswith("prompt_") else {"step": "one"}
        self.take(who, ev.Track(id=name, at=self.now, name=event, properties=properties))

    def pass_time(self, pause: int) -> None:
        until = self.now + pause
        while True:
            due = [(at, who) for who, state in self.states.items() if (at := alarm(program(), state)) is not None]
            at, who = min(due, default=(until + 1, ""))
            if at > until:
                break
            self.now = max(self.now, at)
            self.take(who, ev.Alarm(at=at))
        self.now = until

    def take(self, who: str, event: ev.Event) -> Step:
        who = heir_of(self.states[who], event) or who
        before = self.states[who]
        frozen = msgspec.msgpack.encode(before, enc_hook=dict)
        done = step(program(), before, event, self.now)
        assert msgspec.msgpack.encode(before, enc_hook=dict) == frozen, "a step changed the state it was given"
        self.states[who] = load_state(dump_state(done.state), dict(done.state.seen))
        self.states[who].version += done.state is not before
        pushed = [effect.frame.offset for effect in done.effects if isinstance(effect, Push)]
        assert pushed == list(range(before.offset + 1, done.state.offset + 1))
        self.note(done)
        return done

    def note(self, done: Step) -> None:
        decided = [effect for effect in done.effects if isinstance(effect, Decision)]
        self.offers += [self.now for effect in decided if effect.trigger == "offer" and effect.action == "prompt"]
        self.prompts += [self.now for effect in decided if effect.action == "prompt"]

    def merge(self, *, twice: bool, stops: int) -> None:
        """`stops`: after which of its steps it was begun again."""
        self.take("anon", ev.Merge(id="m", at=self.now, into="user"))
        for _ in range(1 + (stops > 0)):
            self.absorb()
        self.take("anon", ev.Merged(at=self.now))
        if twice:
            self.take("anon", ev.Merge(id="m", at=self.now, into="user"))
            assert self.states["anon"].merger is not None
            assert not self.states["anon"].merger.due

    def absorb(self) -> None:
        parcel = self.states["anon"]
        event = ev.Absorb(id=f"absorb-{parcel.epoch}", at=self.now, visitor="anon", parcel=parcel)
        if parcel.merger is not None and parcel.merger.due:
            self.take("user", event)


def count_once(world: World) -> None:
    state = world.states["user"]
    tracked = [name for name, _, _ in world.did.values() if name == "a"]
    total = state.counters.get("total")
    assert (total.total if total else 0) == len(tracked), "each event counts once, whoever it named"
    recent = {each for each, (_, _, at) in world.did.items() if world.now - at < SEEN_FOR}
    assert recent <= state.seen.keys()
    assert list(state.seen.values()) == sorted(state.seen.values())


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(LIVES, LIVES, st.booleans(), st.integers(0, 1))
def test_a_merge_at_any_moment(
    before: list[tuple[int, str, str]], after: list[tuple[int, str, str]], twice: bool, stops: int
) -> None:
    world = World()
    for moment in before:
        world.live(*moment)
    offers, prompts = len(world.offers), len(world.prompts)
    world.merge(twice=twice, stops=stops)
    count_once(world)
    for moment in after:
        world.live(*moment)
        count_once(world)
    hold_caps(world.offers, offers, 2, 24 * 60 * MINUTE)
    hold_caps(world.prompts, prompts, 4, 12 * 60 * MINUTE)
    remember_one_wait_a_key(world.states["user"])


def hold_caps(times: list[int], merged_at: int, most: int, window: int) -> None:
    """None is decided after the merge where the two together had reached the cap."""
    for index in range(merged_at, len(times)):
        earlier = sorted(times[:index])
        assert len(earlier) - bisect_right(earlier, times[index] - window) < most


def remember_one_wait_a_key(state: State) -> None:
    held = [wait for wait in state.waits if wait.since]
    assert len({(wait.trigger, wait.hook, wait.key) for wait in held}) == len(held), "one wait a key"
    assert state.waits == tuple(sorted(state.waits, key=lambda wait: wait.due))
