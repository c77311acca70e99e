"""What must hold, checked from outside: after each write to the store, at each message to a page, and in the end.

The oracle sees the events that each process decided, and reads what the store has after each script. It then decides
the same events again, from what the store had before: state, messages, timer, webhook calls and ids must come out the
same. So it knows, at any moment, every user's history, and can judge each message by it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from copy import copy
from itertools import dropwhile, pairwise
from typing import Any

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from handrail.core import engine
from handrail.core.effects import Call, Decision, Effect, Push
from handrail.core.events import Alarm, Event, Track
from handrail.core.frames import encode
from handrail.core.inputs import read_time
from handrail.core.program import Program
from handrail.core.state import State, dump_state, load_state
from handrail.store.heads import read_head
from handrail.store.keys import BUCKET_KEYS, user_keys
from handrail.store.protocol import Commit

from .clients import Tab, decode
from .loop import Process, present_process
from .network import Pipe
from .rules import GAP, LATER
from .server import Server

REMEMBERED = 64  # commits of a user that may still arrive


class Violation(Exception):
    """An invariant does not hold; the text begins with its name."""


class Decided(Struct):
    """A row of steps that one process took, each from the state that the one before came to."""

    root: State
    last: State
    steps: list[tuple[Event, int, bool]]


class Announced(Struct):
    """A commit on its way to the store."""

    commit: Commit
    dump: bytes
    decided: Decided


class History(Struct):
    """What the store has of one user, and how it came to it. Rolled back when the store loses data."""

    state: State | None = None
    dump: bytes = b""
    blob: bytes | None = None
    alarm: int | None = None
    applied: set[str] = field(default_factory=set)
    calls: dict[str, bytes] = field(default_factory=dict)
    fired: list[tuple[int, str, str]] = field(default_factory=list)  # when, trigger, action
    begun: list[tuple[int, str]] = field(default_factory=list)  # events that armed a delay which is not over

    def kept(self) -> History:
        return replace(
            self, applied=set(self.applied), calls=dict(self.calls), fired=list(self.fired), begun=list(self.begun)
        )


class Oracle:
    def __init__(self, program: Program, server: Server, clock: Callable[[], int], tally: Counter[str]) -> None:
        self.program = program
        self.tally = tally
        self.histories: dict[str, History] = {}
        self.ever: dict[str, set[str]] = {}  # ids applied, also those lost since
        self.epochs: dict[str, dict[str, set[str]]] = {}  # user -> epoch, in order -> ids it had
        self.frames: dict[tuple[str, str], dict[int, bytes]] = {}  # (user, epoch) -> offset -> message, for good
        self.views: dict[tuple[str, str, int], State] = {}  # the latest state at that position
        self.delivered: set[str] = set()
        self.calls_ever: dict[str, bytes] = {}
        self.losses = 0  # how often data were lost
        self._server = server
        self._clock = clock
        self._decided: dict[tuple[int, str], Decided] = {}
        self._announced: dict[str, list[Announced]] = {}
        self._kept: dict[str, History] = {}
        self._step = engine.step

    def expect(self, condition: object, name: str, *facts: Any) -> None:
        if not condition:
            raise Violation(f"{name}: {' '.join(map(str, facts))}")

    # --- what processes do ---

    def step(self, program: Program, state: State, event: Event, now: int, *, more: bool = False) -> engine.Step:
        """`engine.step`, overheard."""
        done = self._step(program, state, event, now, more=more)
        key = (present_process().number, state.user)
        row = self._decided.get(key)
        if row is None or row.last is not state:
            row = self._decided[key] = Decided(state, state, [])
        row.steps.append((event, now, more))
        row.last = done.state
        self.tally["steps of the core"] += 1
        return done

    def announce(self, commit: Commit) -> None:
        """A process is about to commit."""
        user = commit.state.user
        waiting = self._announced.setdefault(user, [])
        if any(each.commit is commit for each in waiting):
            self.tally["a commit was sent again"] += 1
            return
        decided = self._decided[present_process().number, user]
        self._decided[present_process().number, user] = Decided(decided.last, decided.last, [])
        self.tally["commits"] += 1
        waiting.append(Announced(commit, dump_state(commit.state), decided))
        del waiting[:-REMEMBERED]
        self._note_race(user, commit, decided)

    def _note_race(self, user: str, commit: Commit, decided: Decided) -> None:
        history = self.histories.get(user)
        if history is None or history.state is None:
            return
        stale = commit.expected != history.state.version
        if any(isinstance(event, Alarm) and not event.lost_nodes for event, _, _ in decided.steps) and (
            stale or history.alarm is None or history.alarm > decided.steps[-1][1]
        ):
            self.tally["an alarm rang that somebody had moved"] += 1

    # --- what the store has ---

    def carried_out(self, process: Process, data: bytes) -> None:
        for user, history in self.histories.items():
            if user.encode() in data:
                self._look(user, history, process)

    def _look(self, user: str, history: History, process: Process) -> None:
        keys = user_keys(user)
        bucket = BUCKET_KEYS[keys.bucket]
        blob, entries, seen, alarm, calls = self._server.ask(
            ("GET", keys.state),
            ("XRANGE", keys.outbox, "-", "+"),
            ("ZRANGE", keys.seen, 0, -1, "WITHSCORES"),
            ("ZSCORE", bucket.timers, user),
            ("HGETALL", bucket.hookdata),
        )
        if blob == history.blob:
            self._note_conflict(user, history, process)
            return
        ids = {event.decode(): int(at) for event, at in seen}
        announced = self._find(user, blob)
        self._judge_base(user, history, announced)
        state, effects = self._decide_again(history, announced)
        state = replace(state, version=announced.commit.state.version)
        self.expect(dump_state(state) == announced.dump, "INV5", "decided again, it comes out otherwise", user)
        self._judge_messages(user, history, state, effects, entries)
        self.expect(ids == state.seen, "INV3", "ids in the store are others", user, ids.items() ^ state.seen.items())
        self._judge_alarm(user, announced, state, None if alarm is None else int(alarm))
        self._judge_calls(effects, announced, calls)
        self._remember(user, history, announced, state, effects, blob)
        process.stale = False

    def _find(self, user: str, blob: bytes) -> Announced:
        """Which commit the store has carried out."""
        op = read_head(blob).op
        for announced in reversed(self._announced.get(user, ())):
            if op == announced.commit.op and blob.endswith(announced.dump):
                return announced
        raise Violation(f"INV4: the store has a state that nobody committed {user}")

    def _note_conflict(self, user: str, history: History, process: Process) -> None:
        version = history.state.version if history.state else 0
        mine = [each.commit for each in self._announced.get(user, ()) if each.commit.node == process.name]
        if mine and mine[-1].expected != version:
            again = history.blob is not None and read_head(history.blob).op == mine[-1].op
            self.tally["a commit sent again met itself" if again else "conflict"] += 1
            if process.stale and not again:
                self.tally["a commit of a process that had been stopped was refused"] += 1

    def _judge_base(self, user: str, history: History, announced: Announced) -> None:
        version = history.state.version if history.state else 0
        commit, root = announced.commit, announced.decided.root
        self.expect(commit.expected == version, "INV11", user, "built on", commit.expected, "but there was", version)
        if history.state is None:
            self.expect(root.version == 0, "INV11", "built on what was lost", user)
            return
        if root.epoch != history.state.epoch:
            self.tally["epoch changed"] += 1
            root = as_before(root, history.state)
        self.expect(dump_state(root) == history.dump, "INV11", "built on a state the store never had", user)
        if any(event.id for event, _, _ in announced.decided.steps):  # an alarm has none, and may be decided without
            self.expect(root.seen == history.state.seen, "INV3", "decided without ids that were applied", user)

    def _decide_again(self, history: History, announced: Announced) -> tuple[State, list[Effect]]:
        root = announced.decided.root
        seen = dict(history.state.seen) if history.state else {}
        state = load_state(dump_state(root), seen)
        effects: list[Effect] = []
        for event, now, more in announced.decided.steps:
            done = self._step(self.program, state, event, now, more=more)
            state = done.state
            effects += done.effects
        return state, effects

    def _judge_messages(
        self, user: str, history: History, state: State, effects: list[Effect], entries: list[Any]
    ) -> None:
        known = self.frames.setdefault((user, state.epoch), {})
        begun = history.state is not None and history.state.epoch == state.epoch
        offset = history.state.offset if history.state is not None and begun else None
        for effect in effects:
            if isinstance(effect, Push):
                frame, data = effect.frame, encode(effect.frame)
                self.expect(frame.offset not in known, "INV1", "an offset is used twice", user, frame.offset)
                self.expect(offset in (None, frame.offset - 1), "INV1", "a gap", user, offset, frame.offset)
                known[frame.offset] = data
                offset = frame.offset
        stored = [(int(entry.partition(b"-")[0]), fields[1]) for entry, fields in entries]
        if stored:
            first = stored[0][0]
            self.tally["outbox trimmed"] += first > 1
            self.expect([at for at, _ in stored] == list(range(first, state.offset + 1)), "INV1", "outbox", user)
            for at, data in stored:
                self.expect(known.get(at, data) == data, "INV1", "the outbox has another message", user, at)
        made = sum(isinstance(effect, Push) for effect in effects)
        self.expect(len(stored) >= min(made, 1), "INV4", "the outbox lacks what was decided", user)

    def _judge_alarm(self, user: str, announced: Announced, state: State, alarm: int | None) -> None:
        due = engine.alarm(self.program, state)
        later = None if due is None else max(due, announced.commit.now + engine.FOLLOWS)
        waits = any(more for _, _, more in announced.decided.steps[-1:])
        self.expect(alarm == due or (waits and alarm == later), "INV4", user, "alarm is", alarm, "and should be", due)
        for event, now, _ in announced.decided.steps:
            self.expect(now <= self._clock(), "INV6", "decided in the future", user, type(event).__name__)

    def _judge_calls(self, effects: list[Effect], announced: Announced, calls: dict[bytes, bytes]) -> None:
        made = [effect.id for effect in effects if isinstance(effect, Call)]
        self.expect(made == [job.id for job in announced.commit.jobs], "INV12", "calls", made)
        for identity in made:
            self.expect(identity not in self.calls_ever, "INV3", "a call is enqueued twice", identity)
            self.expect(identity.encode() in calls, "INV4", "a call is not in the store", identity)

    def _remember(
        self, user: str, history: History, announced: Announced, state: State, effects: list[Effect], blob: bytes
    ) -> None:
        before = history.state.seen if history.state else {}
        new = [event for event, _, _ in announced.decided.steps if event.id and event.id not in before]
        for event in new:
            self.expect(event.id not in history.applied, "INV3", "an event was applied twice", event.id)
        ids = set(state.seen)
        history.applied |= ids
        self.ever.setdefault(user, set()).update(ids)
        self.epochs.setdefault(user, {}).setdefault(state.epoch, set()).update(ids)
        for job in announced.commit.jobs:
            history.calls[job.id] = self.calls_ever[job.id] = job.body
        history.state, history.dump, history.blob = state, announced.dump, blob
        history.alarm = engine.alarm(self.program, state)
        self.views[user, state.epoch, state.offset] = state
        now = announced.decided.steps[-1][1]
        decisions = [effect for effect in effects if isinstance(effect, Decision)]
        self._judge_delays(user, history, now, decisions, [event for event in new if isinstance(event, Track)])
        history.fired += [(now, effect.trigger, effect.action) for effect in decisions]
        if decisions:
            self._judge_bounds(user, history)

    def _judge_bounds(self, user: str, history: History) -> None:
        """The rules' own bounds, counted once more by somebody who has not read the engine."""
        fired = history.fired
        first = [when for when, trigger, action in fired if trigger == "first" and action == "content"]
        self.expect(len(first) <= 1, "INV7", "`once` came twice", user, first)
        prompts = [when for when, _, action in fired if action == "prompt"]
        gaps = [after - before for before, after in pairwise(prompts)]
        self.expect(all(gap >= GAP for gap in gaps), "INV7", "the gap between prompts was not kept", user, prompts)
        self.expect(len(prompts) <= 8, "INV7", "more prompts than the policy allows", user)

    def _judge_delays(
        self, user: str, history: History, now: int, decisions: list[Decision], events: list[Track]
    ) -> None:
        """A delay that is over was armed that long ago, and not called off by what was decided before."""
        cancelled: set[tuple[int, str]] = set()
        for event in events:
            if event.name == "begun":
                history.begun.append((event.at, event.id))
            elif event.name == "cancelled":
                cancelled.update(begun for begun in history.begun if begun[0] <= event.at)
        for decision in decisions:
            if decision.trigger == "later" and decision.action == "content":
                over = [begun for begun in history.begun if begun[0] + LATER <= now]
                self.expect(over, "INV6", "a delay was over early, or twice", user, now, history.begun)
                history.begun.remove(min(over))
        history.begun = [begun for begun in history.begun if begun not in cancelled]

    # --- what pages are told ---

    def said(self, pipe: Pipe, tab: Tab, text: str) -> None:
        """A process hands a message over for a page."""
        frame = decode(text)
        match frame["type"]:
            case "welcome":
                self._judge_welcome(pipe, tab, frame)
            case "ack":
                self._judge_ack(pipe, frame["up_to"])
            case "prompt" | "withdraw" | "content" | "flow":
                self._judge_message(pipe, frame["offset"], text)
            case "error":
                self.tally[f"page: error {frame['code']}"] += 1

    def _judge_welcome(self, pipe: Pipe, tab: Tab, frame: dict[str, Any]) -> None:
        epoch, offset = frame["epoch"], frame["offset"]
        before, pipe.position = pipe.position, (epoch, offset)
        if frame["recovered"]:
            self.expect((epoch, offset) == tab.said, "INV8", "resumed elsewhere", pipe.user, tab.said, epoch, offset)
            self.tally["resumed by suffix"] += 1
            return
        if tab.said[0] and not before[0]:
            self.tally["resumed by snapshot"] += 1
            where = "a new" if tab.said[0] != epoch else "the same"
            self.tally[f"resumed by snapshot in {where} epoch"] += 1
        if before[0]:
            self.tally["greeted a second time"] += 1
            self.expect(before[0] != epoch or offset >= before[1], "INV10", "went back", pipe.user, before, offset)
        if (state := self.views.get((pipe.user, epoch, offset))) is None:
            self.expect(offset == 0, "INV8", "a snapshot of what was never stored", pipe.user, epoch, offset)
            return
        shown, slots, flow = self.view(state)
        told = {prompt["id"]: prompt for prompt in frame["prompts"]}
        for identity in shown.keys() - told.keys():
            self.expect(expired(shown[identity], self._clock()), "INV8", "the snapshot lacks a prompt", pipe.user)
        self.expect(told.items() <= shown.items(), "INV8", "the snapshot has more prompts", pipe.user)
        self.expect((slots, flow) == (frame["slots"], frame["flow"]), "INV8", "the snapshot is another", pipe.user)

    def _judge_message(self, pipe: Pipe, offset: int, text: str) -> None:
        epoch, last = pipe.position
        known = self.frames.get((pipe.user, epoch), {})
        self.expect(offset in known, "INV13", "nobody committed this message for this user", pipe.user, epoch, offset)
        self.expect(known[offset] == text.encode(), "INV8", "another message at this offset", pipe.user, offset)
        self.expect(offset > last, "INV16", "out of order", pipe.user, last, offset)
        for skipped in range(last + 1, offset):
            frame = decode(known.get(skipped, b"{}"))
            self.expect(
                expired(frame, self._clock()), "INV8", "a message was left out", pipe.user, skipped, last, offset
            )
            self.tally["an expired prompt was left out"] += 1
        pipe.position = (epoch, offset)

    def received(self, pipe: Pipe, identity: str) -> None:
        self.tally["an applied event arrived again"] += identity in self.ever.get(pipe.user, ())

    def _judge_ack(self, pipe: Pipe, up_to: str) -> None:
        self.expect(up_to in pipe.received, "INV2", "acknowledged what was never received", up_to)
        upto = max(index for index, each in enumerate(pipe.received) if each == up_to)
        if up_to not in pipe.received[upto + 1 :]:
            missing = set(pipe.received[pipe.acknowledged : pipe.received.index(up_to) + 1])
            missing -= self.ever.get(pipe.user, set())
            self.expect(not missing, "INV2", "acknowledged before the store had it", pipe.user, missing)
            pipe.acknowledged = max(pipe.acknowledged, pipe.received.index(up_to) + 1)

    def acknowledged(self, tab: Tab, ids: list[str]) -> None:
        """A page takes these for stored: they have to be in the epoch it is in, or in one after it."""
        epochs = dropwhile(lambda each: each[0] != tab.epoch, self.epochs.get(tab.user, {}).items())
        lost = set(ids).difference(*(applied for _, applied in epochs))
        self.expect(not lost, "INV2", "acknowledged in an epoch that never had it", tab.name, sorted(lost)[:5])

    def view(self, state: State) -> tuple[dict[str, Any], dict[str, Any], Any]:
        """What a page should show: prompts by id, slots, flow."""
        flow, slots, prompts = engine.snapshot(self.program, state, 0)
        shown = [msgspec.json.decode(encode(prompt)) for prompt in prompts]
        return (
            {prompt["id"]: prompt for prompt in shown},
            {slot: msgspec.json.decode(encode(block)) for slot, block in slots.items()},
            None if flow is None else msgspec.json.decode(encode(flow)),
        )

    # --- webhook calls ---

    def attempted(self, identity: str, body: bytes) -> None:
        self.expect(identity in self.calls_ever, "INV12", "a call before its commit", identity)
        self.expect(self.calls_ever[identity] == body, "INV12", "another body", identity)

    # --- loss ---

    def keep(self) -> None:
        self._kept = {user: history.kept() for user, history in self.histories.items()}

    def lose(self, *, everything: bool) -> None:
        """The store has lost data: what was committed since then is gone, in the store and here."""
        self.losses += 1
        for user in self.histories:
            self.histories[user] = History() if everything or user not in self._kept else self._kept[user].kept()

    # --- in the end ---

    def judge_page(self, tab: Tab, *, final: bool) -> str | None:
        """Why this page is not yet what it should be, or None."""
        history = self.histories[tab.user]
        if not tab.live:
            return "not connected"
        if history.state is None:
            return "its user is not in the store"
        shown, slots, flow = self.view(history.state)
        if (tab.epoch, tab.offset) != (history.state.epoch, history.state.offset):
            return f"at {tab.epoch} {tab.offset}, not {history.state.epoch} {history.state.offset}"
        if (set(tab.prompts), tab.slots) != (set(shown), slots):
            return f"shows {tab.prompts} {tab.slots}, not {shown} {slots}"
        if tab.flow != flow:
            return f"shows the flow {tab.flow}, not {flow}"
        if tab.unacknowledged:
            return f"waits for {list(tab.unacknowledged)}"
        lost = tab.all_acknowledged - history.applied
        if final:
            self.expect(not lost, "INV2", "acknowledged and lost", tab.user, sorted(lost)[:5])
        return f"lost {lost}" if lost else None

    def judge_settled(self, tab: Tab) -> None:
        if not self.losses:
            again = tab.settled & set(tab.prompts)
            self.expect(not again, "INV10", "a dismissed prompt is shown again", tab.user, again)


def expired(frame: dict[str, Any], now: int) -> bool:
    until = frame.get("expires_at")
    return frame.get("type", "prompt") == "prompt" and until is not None and read_time(until) <= now


def as_before(root: State, stored: State) -> State:
    """A state that began a new epoch, as it was before."""
    before = copy(root)
    before.epoch, before.lineage = stored.epoch, stored.lineage
    return before
