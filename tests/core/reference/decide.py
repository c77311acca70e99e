"""The history, instant by instant: what comes true, and whether it may act."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from reference.conditions import holds
from reference.history import Decided, Fact, Happening, HeldBack, Shown, Visit
from reference.spans import durations, length, limits
from reference.truth import Form, matches, on_fact, stay, stillness, waits
from reference.world import World

LEVELS = ["highest", "high", "medium", "low", "lowest"]
HANDLED = ("prompt_clicked", "prompt_dismissed", "prompt_completed")
SCREENED = ("prompt", "content", "flow", "webhook")  # what a user who is held out does not get
MOST_EMITS = 8
MOST_ROUNDS = 16
MINUTE = 60_000


@dataclass(frozen=True)
class Wake:
    """A trigger that came true, and the event that woke it."""

    trigger: Form
    event: Fact
    blank: bool = False  # it was about the user doing nothing
    until: int | None = None  # how long it may be put off, when it was already


@dataclass(frozen=True)
class Fired:
    at: int
    trigger: str
    prompts: int
    mails: int


@dataclass(frozen=True)
class PutOff:
    wake: Wake
    reason: str
    activities: int  # how many there had been
    quiet: int | None = None  # the end of the quiet that put it off


@dataclass
class Life:
    world: World
    held_out: bool = False
    decided: list[Decided] = field(default_factory=list)
    held_back: list[HeldBack] = field(default_factory=list)
    fired: list[Fired] = field(default_factory=list)
    put_off: list[PutOff] = field(default_factory=list)
    come_true: set[Any] = field(default_factory=set)
    made: list[Fact] = field(default_factory=list)

    def __post_init__(self) -> None:
        limits = (self.world.session_limit(key) for key in ("idle", "max"))
        self.spans = {*durations(self.world.documents), *limits}

    @property
    def now(self) -> int:
        return self.world.now

    # --- time ---

    def live(self, history: list[Happening], until: int) -> None:
        for each in history:
            self.reach(each.now)
            self.take(each)
        self.reach(until)

    def reach(self, until: int) -> None:
        while (instant := self.next_instant(until)) is not None:
            self.world.now = instant
            self.fall_due()
        if self.now < until:
            self.world.now = until

    def next_instant(self, until: int) -> int | None:
        """The next one at which anything at all could become true: any time that is known plus any span that is."""
        world = self.world
        known = {world.first_seen} | {at for each in world.log for at in (each.arrived, each.at)}
        known |= {at for pair in world.activity for at in pair} | {fired.at for fired in self.fired}
        known |= {visit.start for visit in world.visits}
        known |= {world.screen.at} if world.screen else set()
        instants = {at + span for at in known for span in self.spans} | self.stays_over() | set(self.better_times())
        return min((instant for instant in instants if self.now < instant <= until), default=None)

    def stays_over(self) -> set[int]:
        stays = [(form, stay(form, self.world)) for form in self.forms("dwell")]
        return {self.now + length(form["for"]) - found[1] for form, found in stays if found}

    def better_times(self) -> list[int]:
        days = [self.next_day()] if self.put_off else []
        return days + [each.quiet for each in self.put_off if each.quiet is not None]

    def forms(self, kind: str) -> list[Any]:
        return [form[kind] for trigger in self.world.kind("trigger") for form in when(trigger) if kind in form]

    # --- what falls due ---

    def fall_due(self) -> None:
        """All that comes true by time at this instant, judged together."""
        self.expire()
        wakes = self.wakes_by_time() + self.overdue()
        self.end_visit()
        self.turn(wakes)

    def expire(self) -> None:
        screen = self.world.screen
        if screen is not None:
            message = self.world.named("message", screen.message)
            if "expires" in message and screen.at + length(message["expires"]) <= self.now:
                self.world.screen = None

    def end_visit(self) -> None:
        world = self.world
        over = world.visit_over
        if over is not None and over <= self.now:
            world.visits[-1].ended = over
            self.made.append(Fact(self.now, over, "session_ended", {}, made=True))

    def wakes_by_time(self) -> list[Wake]:
        return [
            wake
            for trigger in self.world.kind("trigger")
            for number, form in enumerate(when(trigger))
            for wake in self.due(trigger, number, form)
        ]

    def due(self, trigger: Form, number: int, form: Form) -> list[Wake]:
        world, found = self.world, []
        if "delay" in form or ("absence" in form and "after" in form["absence"]):
            for place, over in waits(form, trigger, world):
                if over <= self.now and self.is_first((trigger["trigger"], number, place)):
                    found.append(Wake(trigger, waited_for(world.log[place], over)))
        elif "dwell" in form:
            spent = stay(form["dwell"], world)
            reached = spent is not None and spent[1] >= length(form["dwell"]["for"])
            if spent and reached and self.is_first((trigger["trigger"], number, spent[0])):
                found.append(Wake(trigger, Fact(self.now, self.now, "dwell", form["dwell"], made=True)))
        return found

    def is_first(self, what: Any) -> bool:
        new = what not in self.come_true
        self.come_true.add(what)
        return new

    # --- what the user does ---

    def take(self, happening: Happening) -> None:
        wakes: list[Wake] = []
        self.put_off = [each for each in self.put_off if each.wake.until is None or each.wake.until > self.now]
        at = self.now - happening.ago
        late = self.is_late(at)
        if happening.kind == "clock":
            return
        self.move_tab(happening)
        if self.is_activity(happening):
            wakes += self.be_active(at, late)
        if happening.kind == "track":
            fact = Fact(self.now, at, happening.name, happening.properties, late=late)
            wakes += self.apply(fact)
        elif happening.kind == "identify":
            self.change_traits(happening.properties, late, 0)
        self.turn(wakes)
        while silences := self.overdue():
            self.turn(silences)

    def overdue(self) -> list[Wake]:
        """Of the silences that were long enough before they could come true, the shortest."""
        found = [
            (still[1], trigger, number, form, still[0])
            for trigger in self.world.kind("trigger")
            for number, form in enumerate(when(trigger))
            if ("idle" in form or "away" in form) and (still := stillness(form, self.world))
            if still[1] <= self.now and (trigger["trigger"], number, still[0]) not in self.come_true
        ]
        first = min((each[0] for each in found), default=0)
        wakes = []
        for over, trigger, number, form, since in found:
            if over == first and self.is_first((trigger["trigger"], number, since)):
                wakes.append(silence(trigger, form, self.now))
        return wakes

    def is_late(self, at: int) -> bool:
        visit = self.world.visit
        skew = length(self.world.policy.get("skew", "2m"))
        return visit is not None and at < visit.last - skew

    def move_tab(self, happening: Happening) -> None:
        world = self.world
        if happening.kind in ("connect", "visible", "hidden"):
            world.tabs[happening.tab] = happening.kind != "hidden"
        elif happening.kind == "disconnect":
            world.tabs.pop(happening.tab, None)
        world.looks.append((self.now, world.is_looking))

    def is_activity(self, happening: Happening) -> bool:
        if happening.kind == "track":
            return happening.name != "prompt_shown"
        return happening.kind in ("connect", "visible", "activity", "identify")

    def be_active(self, at: int, late: bool) -> list[Wake]:
        world = self.world
        before = world.last_activity
        world.activity.append((self.now, at))
        facts: list[Fact] = []
        if world.visit is None:
            world.visits.append(Visit(at, at))
            facts.append(Fact(self.now, at, "session_started", {}, made=True, late=late))
        else:
            world.visit.last = max(world.visit.last, at)
        if before is not None and at > before:
            facts.append(Fact(self.now, at, "returned", {"gap": at - before}, made=True, late=late))
        return [wake for fact in facts for wake in self.apply(fact)]

    # --- turns ---

    def turn(self, wakes: list[Wake]) -> None:
        """Judges what came true together, then what that made come true, until nothing more does."""
        for _ in range(MOST_ROUNDS):
            facts, self.made = self.made, []
            wakes = wakes + [wake for fact in facts for wake in self.apply(fact)]
            facts = self.judge_segments()
            wakes += [wake for fact in facts for wake in self.apply(fact)]
            wakes += self.wakes_by_time() + self.tried_again()
            if not wakes:
                return
            wakes = once_each(wakes)
            for wake in sorted(wakes, key=self.rank):
                self.consider(wake)
            wakes = []
        if self.made:
            self.made = []
            self.held_back.append(HeldBack(self.now, "", "loop"))

    def rank(self, wake: Wake) -> tuple[int, int]:
        return level(wake.trigger), self.world.kind("trigger").index(wake.trigger)

    def apply(self, fact: Fact) -> list[Wake]:
        """Adds it to what happened; the triggers that come true on it."""
        world = self.world
        world.log.append(fact)
        step = fact.properties.get("step")
        if fact.name in ("step_viewed", "step_completed", "step_skipped") and step is not None:
            furthest = ["viewed", "skipped", "completed"]
            reached = {world.steps.get(step, "viewed"), fact.name.removeprefix("step_")}
            world.steps[step] = max(reached, key=furthest.index)
        on_screen = world.screen.message if world.screen else None
        if fact.name in HANDLED and not fact.made and fact.properties.get("message") == on_screen:
            world.screen = None
        self.put_off = [each for each in self.put_off if not self.is_cancelled(each, fact)]
        return [
            Wake(trigger, fact)
            for trigger in world.kind("trigger")
            if any(on_fact(form, trigger, world, fact) for form in when(trigger))
        ]

    def is_cancelled(self, put_off: PutOff, fact: Fact) -> bool:
        return any(matches(each, self.world, fact) for each in put_off.wake.trigger.get("cancel_on", []))

    def judge_segments(self) -> list[Fact]:
        world = self.world
        before, after = set(world.segments), world.members()
        world.segments = after
        names = [each["segment"] for each in world.kind("segment")]
        moved = [(name, name in after) for name in names if (name in before) != (name in after)]
        return [
            Fact(self.now, self.now, f"segment_{'entered' if inside else 'left'}", {"segment": name}, made=True)
            for name, inside in moved
        ]

    def change_traits(self, traits: dict[str, Any], late: bool, depth: int) -> None:
        for name, value in traits.items():
            before = self.world.traits.get(name)
            if value is None:
                self.world.traits.pop(name, None)
            else:
                self.world.traits[name] = value
            if (type(before), before) != (type(value), value):
                changed = {"trait": name, "from": before, "to": value}
                self.made.append(Fact(self.now, self.now, "trait_changed", changed, True, late, depth))

    # --- may it act? ---

    def consider(self, wake: Wake) -> None:
        if not holds(wake.trigger.get("if"), self.world, wake.event):
            return
        reason = self.hindrance(wake)
        if reason is not None:
            self.held_back.append(HeldBack(self.now, wake.trigger["trigger"], reason))
        if reason is None or reason == "holdout":
            self.act(wake)
        elif reason in ("cap", "gap", "busy", "quiet"):
            self.wait_for_better(wake, reason)

    def hindrance(self, wake: Wake) -> str | None:
        trigger, world = wake.trigger, self.world
        fired = [each for each in self.fired if each.trigger == trigger["trigger"]]
        if any(self.is_used_up(limit, fired) for limit in limits(trigger.get("limit"))):
            return "limit"
        if "cooldown" in trigger and any(self.now - each.at < length(trigger["cooldown"]) for each in fired):
            return "cooldown"
        if self.is_capped(trigger):
            return "cap"
        if self.is_too_soon(trigger):
            return "gap"
        if shows(trigger) and not self.held_out and self.is_busy(trigger):
            return "busy"
        if "quiet_hours" in world.policy and self.is_disturbing(trigger) and self.is_quiet(self.now):
            return "quiet"
        if shows(trigger) and wake.event.late:
            return "late"
        if self.held_out and any(kind in action for action in trigger["then"] for kind in SCREENED):
            return "holdout"
        return None

    def is_used_up(self, limit: tuple[int, str], fired: list[Fired]) -> bool:
        """Whether that many are among these in the limit's span."""
        most, per = limit
        return sum(self.is_counted(each.at, per) for each in fired) >= most

    def is_counted(self, at: int, per: str) -> bool:
        match per:
            case "ever":
                return True
            case "session":
                return not self.world.visits or at >= self.world.visits[-1].start
            case "day":
                return self.day(at) == self.day(self.now)
        return self.now - at < length(per)

    def is_too_soon(self, trigger: Form) -> bool:
        gap = length(self.world.policy.get("prompts", {}).get("gap", "0s"))
        return shows(trigger) and any(each.prompts and self.now - each.at < gap for each in self.fired)

    def is_capped(self, trigger: Form, spans: tuple[str, ...] = ()) -> bool:
        """Whether a cap of the policy is used up, of those with one of these spans if any are given."""
        policy = self.world.policy
        prompts = [each for each in self.fired for _ in range(each.prompts)]
        mails = [each for each in self.fired for _ in range(each.mails)]
        wanted: list[tuple[Any, list[Fired]]] = []
        if shows(trigger):
            wanted.append((policy.get("prompts", {}).get("limit"), prompts))
        if self.mails(trigger):
            wanted.append((policy.get("email", {}).get("limit"), mails))
        if wanted:
            wanted.append((policy.get("budget"), prompts + mails))
        return any(
            self.is_used_up(limit, used)
            for written, used in wanted
            for limit in limits(written)
            if not spans or limit[1] in spans
        )

    def mails(self, trigger: Form) -> int:
        calls = [action["webhook"] for action in trigger["then"] if "webhook" in action]
        return sum(self.world.named("webhook", name).get("channel") == "email" for name in calls)

    def is_busy(self, trigger: Form) -> bool:
        screen = self.world.screen
        if screen is None or (trigger.get("preempt") and level(trigger) < screen.rank):
            return False
        before: list[str] = []
        for action in trigger["then"]:
            if "prompt" in action:
                return screen.message not in before
            before += [action["withdraw"]] if "withdraw" in action else []
        return False

    # --- acting ---

    def act(self, wake: Wake) -> None:
        trigger, name = wake.trigger, wake.trigger["trigger"]
        self.fired.append(Fired(self.now, name, int(shows(trigger)), self.mails(trigger)))
        for action in trigger["then"]:
            kind = next(iter(action))
            if self.held_out and kind in SCREENED:
                continue
            if kind == "emit" and wake.event.depth == MOST_EMITS:
                self.held_back.append(HeldBack(self.now, name, "loop"))
                continue
            self.decided.append(Decided(self.now, name, kind, json.dumps(action[kind], sort_keys=True)))
            self.perform(kind, action[kind], wake)

    def perform(self, kind: str, value: Any, wake: Wake) -> None:
        if kind == "prompt":
            self.world.screen = Shown(self.now, value, level(wake.trigger))
        elif kind == "withdraw" and self.world.screen and self.world.screen.message == value:
            self.world.screen = None
        elif kind == "set":
            self.change_traits(value, wake.event.late, wake.event.depth)
        elif kind == "emit":
            properties = value.get("properties", {})
            late, depth = wake.event.late, wake.event.depth + 1
            self.made.append(Fact(self.now, self.now, value["event"], properties, True, late, depth, own=True))

    # --- a better moment ---

    def wait_for_better(self, wake: Wake, reason: str) -> None:
        quiet = self.world.policy.get("quiet_hours", {})
        blocked = wake.trigger.get("when_blocked", "drop")
        if shows(wake.trigger) and wake.event.late:
            return
        if reason == "quiet" and quiet.get("then", "defer") == "defer":
            self.put_off.append(PutOff(wake, reason, len(self.world.activity), quiet=self.quiet_end()))
        elif reason != "quiet" and blocked != "drop" and not self.is_capped(wake.trigger, ("session",)):
            until = self.now + length(blocked["defer"]) if wake.until is None else wake.until
            self.put_off.append(PutOff(replace(wake, until=until), reason, len(self.world.activity)))

    def tried_again(self) -> list[Wake]:
        """What was put off and is no longer held back by what it was put off for; the rest goes on waiting."""
        self.put_off = [each for each in self.put_off if not self.is_pointless(each)]
        ready = [each for each in self.put_off if self.is_better(each)]
        self.put_off = [each for each in self.put_off if each not in ready]
        seen = [each for each in ready if self.world.is_looking or not shows(each.wake.trigger)]
        return [replace(each.wake, event=replace(each.wake.event, own=True)) for each in seen]

    def is_pointless(self, put_off: PutOff) -> bool:
        too_long = put_off.wake.until is not None and self.now > put_off.wake.until
        return too_long or (put_off.wake.blank and len(self.world.activity) > put_off.activities)

    def is_better(self, put_off: PutOff) -> bool:
        trigger = put_off.wake.trigger
        match put_off.reason:
            case "quiet":
                return put_off.quiet is not None and put_off.quiet <= self.now
            case "cap":
                return not self.is_capped(trigger)
            case "gap":
                return not self.is_too_soon(trigger)
        return not self.is_busy(trigger)

    # --- clocks ---

    def zone(self) -> Any:
        return ZoneInfo(self.world.traits.get("timezone", "UTC"))

    def day(self, at: int) -> date:
        return datetime.fromtimestamp(at / 1000, self.zone()).date()

    def is_disturbing(self, trigger: Form) -> bool:
        applies = self.world.policy["quiet_hours"].get("applies_to", ["email"])
        return ("prompts" in applies and shows(trigger)) or ("email" in applies and self.mails(trigger) > 0)

    def is_quiet(self, at: int) -> bool:
        return any(start <= at < end for start, end in self.nights())

    def quiet_end(self) -> int:
        return next(end for start, end in self.nights() if start <= self.now < end)

    def nights(self) -> list[tuple[int, int]]:
        """The quiet that begins yesterday and today where the user is."""
        quiet, zone, today = self.world.policy["quiet_hours"], self.zone(), self.day(self.now)
        wraps = timedelta(days=int(quiet["to"] < quiet["from"]))
        days = [today - timedelta(days=1), today]
        return [(min(minutes(zone, day, quiet["from"])), max(minutes(zone, day + wraps, quiet["to"]))) for day in days]

    def next_day(self) -> int:
        minute = self.now - self.now % MINUTE + MINUTE
        while self.day(minute) == self.day(self.now):
            minute += 15 * MINUTE - minute % (15 * MINUTE)
        return minute


@cache
def minutes(zone: ZoneInfo, day: date, clock: str) -> list[int]:
    """When clocks there show this time on this day: once, twice, or never; then it is when they went past it."""
    noon = int(datetime.combine(day, time(12), UTC).timestamp()) * 1_000
    whole = range(noon - 36 * 60 * MINUTE, noon + 36 * 60 * MINUTE, MINUTE)
    shown = [(datetime.fromtimestamp(minute / 1000, zone).replace(tzinfo=None), minute) for minute in whole]
    wanted = datetime.combine(day, time.fromisoformat(clock))
    return [at for there, at in shown if there == wanted] or [min(at for there, at in shown if there > wanted)]


def once_each(wakes: list[Wake]) -> list[Wake]:
    """One happening wakes a trigger once, in however many ways; the first is what woke it."""
    kept: list[Wake] = []
    for wake in wakes:
        if not any(wake.trigger is other.trigger and is_one(wake.event, other.event) for other in kept):
            kept.append(wake)
    return kept


def silence(trigger: Form, form: Form, now: int) -> Wake:
    return Wake(trigger, Fact(now, now, next(iter(form)), form, made=True), blank=True)


def is_one(event: Fact, other: Fact) -> bool:
    """Whether two events are, or come with, the same happening."""
    return event is other or not (event.own or other.own)


def waited_for(fact: Fact, over: int) -> Fact:
    """The event that began a wait, once that is over: by time alone, unless it was over from the beginning."""
    return replace(fact, late=False, depth=0, own=True) if over > fact.arrived else fact


def when(trigger: Form) -> list[Form]:
    return trigger["when"] if isinstance(trigger["when"], list) else [trigger["when"]]


def shows(trigger: Form) -> bool:
    return any("prompt" in action for action in trigger["then"])


def level(trigger: Form) -> int:
    return LEVELS.index(trigger.get("priority", "medium"))


def decide(
    documents: list[Form], history: list[Happening], start: int, until: int, *, held_out: bool = False
) -> tuple[list[Decided], list[HeldBack]]:
    """What was decided and what was held back, in order, over the whole history and on until `until`."""
    life = Life(World(documents, start, start), held_out)
    life.world.segments = life.world.members()
    life.live(history, until)
    return life.decided, life.held_back
