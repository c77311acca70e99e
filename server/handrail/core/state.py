"""Everything Handrail knows of one user: a value, copied by `step` and never shared.

Times are milliseconds since the epoch, durations milliseconds. The state is stored as msgpack; `seen` (the ids of
events already applied) is stored beside it, one member an id, so that it does not travel with every commit.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any

import msgspec
from msgspec import Struct, field

from handrail.core.frames import Block, Prompt
from handrail.core.seen import Seen

SEEN_FOR = 24 * 3_600_000  # how long an event id is remembered
SEEN_MAX = 2_000  # and how many of them at most, the newest
# What senders name is bounded too: a state travels to the store and back with every event.
TRAITS_MAX = 500
STEPS_MAX = 500
PURPOSES_MAX = 100
SURVEYS_MAX = 100
ABSORBED_MAX = 100  # anonymous visitors whose merging is remembered, the latest
# Kinds of waits that stand for no `when` of their trigger: it came true already, and is decided afresh.
AFRESH, WHEN_FREE = -1, -2


class Connection(Struct, frozen=True, array_like=True):
    """One open connection; `node` is the process that holds it."""

    node: str
    device: str = ""
    tab: str = ""
    visible: bool = True


class Session(Struct, frozen=True, array_like=True):
    """The user's present or latest session; `ended` is 0 while it is open. `newest` is the time of its newest event."""

    id: str
    started: int
    ended: int = 0
    events: int = 0
    newest: int = 0


class Wait(Struct, frozen=True, array_like=True):
    """Something armed to happen at `due`: a trigger's delay or absence (`hook` is its index among the trigger's
    `when`s), a trigger put off (`hook` is AFRESH, or WHEN_FREE while another prompt is on the screen; no later than
    `until`, if not 0), or a snoozed message (`message` set; `trigger` who first showed it; WHEN_FREE likewise).
    `name`, `properties`, `key` and `since` (its time) are those of the event that armed it; a delay has no key and no
    `since`. `entry` is the key under which its trigger was entered (see core/reentry.py); `late` one that a late event
    armed when it was over already."""

    due: int
    trigger: str
    hook: int = 0
    rule: str = ""  # fingerprint of the trigger when it was armed
    name: str = ""
    properties: dict[str, Any] = field(default_factory=dict)
    message: str = ""
    key: str = ""
    since: int = 0
    until: int = 0
    entry: str = ""
    late: bool = False


class Memory(Struct, frozen=True, array_like=True):
    """What a pattern of events remembers: by key, the integers that its kind keeps. `rule` is the fingerprint of its
    trigger when it began."""

    rule: str
    marks: dict[str, tuple[int, ...]] = field(default_factory=dict)


class Stay(Struct, frozen=True, array_like=True):
    """The step viewed last, at `since`; `step` is empty once it was completed or skipped. `spent` is the visible,
    non-idle time on it as counted up to `until`; dwell deadlines up to the length `done` were dealt with."""

    step: str
    since: int
    until: int
    spent: int = 0
    done: int = 0


class Tally(Struct, frozen=True, array_like=True):
    """A counter's memory: `total` for a plain count, `times` (oldest first) for a window, `values` (value -> time last
    seen) for distinct counts."""

    total: int = 0
    times: tuple[int, ...] = ()
    values: dict[str, int] = field(default_factory=dict)


class OnScreen(Struct, frozen=True, array_like=True):
    """The prompt that is on the user's screens; `expires` is 0 for never."""

    prompt: Prompt
    expires: int = 0
    shown: bool = False


class FlowChoice(Struct, frozen=True, array_like=True):
    """The user's flow as last assembled; `chosen` when a trigger or the user chose the variant outright."""

    id: str
    variant: str | None = None
    steps: tuple[str, ...] = ()
    position: int = 0
    chosen: bool = False


class Merger(Struct, frozen=True, array_like=True):
    """An anonymous visitor turned out, at `since`, to be the user `into`. Until that user has everything, the merge is
    taken up again at `due`; from then on `due` is 0 and this state only says where its events belong."""

    into: str
    since: int
    due: int = 0


class State(Struct, kw_only=True, omit_defaults=True):
    user: str
    epoch: str
    version: int = 0  # commits so far
    offset: int = 0  # numbered messages so far, in this epoch
    first_seen: int = 0
    last_activity: int = 0
    last_visit: int = 0  # last activity of the visit before this one; first_seen where there was none
    traits: dict[str, Any] = field(default_factory=dict)
    consents: dict[str, bool] = field(default_factory=dict)
    segments: tuple[str, ...] = ()
    pinned: tuple[str, ...] = ()  # segments held whatever the rules say
    session: Session | None = None
    sessions: int = 0
    connections: dict[str, Connection] = field(default_factory=dict)
    counters: dict[str, Tally] = field(default_factory=dict)
    steps: dict[str, str] = field(default_factory=dict)  # step -> viewed | completed | skipped
    flow: FlowChoice | None = None
    slots: dict[str, Block] = field(default_factory=dict)
    prompt: OnScreen | None = None
    waits: tuple[Wait, ...] = ()
    idle_done: int = 0  # idle deadlines up to this length were dealt with since the last activity
    still_done: int = 0  # the same for those that take a hidden tab for a reader
    away_done: int = 0
    fired: dict[str, tuple[int, ...]] = field(default_factory=dict)  # trigger -> latest firings, oldest first
    prompted: tuple[int, ...] = ()  # latest prompts decided, for the policy's caps
    mailed: tuple[int, ...] = ()
    calls: int = 0  # webhook calls decided so far
    rules: str = ""  # version of the rules it was last stepped with
    stay: Stay | None = None
    memory: dict[str, Memory] = field(default_factory=dict)  # TRIGGER#INDEX of the hook -> what it remembers
    tracked: int = 0  # events tracked so far, without those that happened before the newest of them
    tracked_at: int = 0  # when the newest happened
    answers: dict[str, dict[str, Any]] = field(
        default_factory=dict
    )  # survey -> question -> choice, list, None: skipped
    persona: str = ""  # as last settled
    location: dict[str, str] = field(default_factory=dict)  # country, region, city
    device: dict[str, str] = field(default_factory=dict)  # type, os, browser
    told: dict[str, int] = field(default_factory=dict)  # trait -> when it was last told (see core/traits.py)
    learnt: int = 0  # when the newest event happened that told of place or device
    known: bool = False  # addressed as a user, or merged into: never an anonymous visitor again
    merger: Merger | None = None
    absorbed: tuple[str, ...] = ()  # epochs of the anonymous visitors merged into this user
    unit: str = ""  # the id by which it was first decided whether the user is held out
    revoked: int = 0  # tokens issued by then are refused
    judged: int = 0  # up to when it was seen to what time alone changes of conditions; 0 where none reads the clock
    lineage: str = ""  # the history of the store it was written in: another one means another epoch
    op: str = ""  # of the commit that wrote it; stored beside it, like `seen`
    seen: Mapping[str, int] = field(default_factory=dict)  # ids of events applied, and when

    def fork(self) -> State:
        """A copy that may be changed without touching this one. Values inside the containers are immutable."""
        new: State = self.__copy__()  # type: ignore[attr-defined]
        new.traits = self.traits.copy()
        new.told = self.told.copy()
        new.consents = self.consents.copy()
        new.connections = self.connections.copy()
        new.counters = self.counters.copy()
        new.steps = self.steps.copy()
        new.slots = self.slots.copy()
        new.fired = self.fired.copy()
        new.memory = self.memory.copy()
        new.answers = self.answers.copy()
        return new


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(State)


def dump_state(state: State) -> bytes:
    """The state without `seen` and `op`, as msgpack."""
    bare = copy(state)
    bare.seen, bare.op = {}, ""
    return _encoder.encode(bare)


def load_state(blob: bytes, seen: Mapping[str, int]) -> State:
    """The inverse of `dump_state`; `seen` maps event ids to the times they were applied, oldest first.

    Raises msgspec.DecodeError or msgspec.ValidationError if the bytes are not a state.
    """
    state = _decoder.decode(blob)
    state.seen = Seen.of(seen)
    return state
