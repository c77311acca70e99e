"""One run: a few processes, users and pages, everything that goes wrong, and what must hold all the while.

From the seed follow the options (how many of each, how bad the weather is, which faults strike) and every choice after
that. A run has two parts. First people act and faults strike; then faults stop, nobody does anything new, and within a
bounded time every page must show what its user's state says, every event be stored, every alarm and webhook call done.
"""

from __future__ import annotations

import asyncio
import gc
import secrets
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, MutableMapping
from contextlib import ExitStack, nullcontext, suppress
from random import Random
from typing import Any, NoReturn
from unittest.mock import patch
from zlib import crc32

import structlog
from msgspec import Struct

from handrail.core import engine
from handrail.core.events import Identify, Track
from handrail.core.program import Program
from handrail.core.webhooks import Webhook
from handrail.edge.handshake import EXTENSION
from handrail.identity import Identity
from handrail.live.live import Live
from handrail.live.presence import name_node
from handrail.outbound.outcomes import Outcome, judge
from handrail.outbound.webhooks import Courier
from handrail.profiles import Profiles
from handrail.runner import Runner
from handrail.store import RedisStore, StoreDown
from handrail.store.keys import BUCKET_KEYS
from handrail.store.protocol import Commit, Job
from handrail.supervise import supervise

from .clients import NAMES, Tab
from .loop import Process, VirtualLoop
from .network import Network, Pipe, Weather
from .oracle import History, Oracle, Violation
from .server import Server

EPOCH = 1_800_000_000_000  # ms since 1970 at which every run begins
CONVERGED_WITHIN = 6.5  # seconds after the last fault: positions are compared every five
SETTLED_WITHIN = 40.0  # a dead process is noticed after ten, a webhook is tried again after five, a lease lasts nine
PUNCTUAL = 4_000  # ms that an alarm may be late once nothing is wrong
AWAKE, ASLEEP = 2.0, 1.0  # seconds before the end between which somebody who is quiet does something
RUNAWAY = 120_000  # steps after which a run is not going anywhere
REFUSED = 60  # percent of webhook calls that fail at the first try, at most

OWNED_UP = {"webhook given up", "the store is not the one it was, or lost its data; users get a new epoch"}

Loop = Callable[[], Coroutine[Any, Any, None]]


class Options(Struct, kw_only=True):
    """What a seed stands for. Spans in seconds, rates a second."""

    workers: int
    users: int
    tabs: int
    lasting: float
    pace: float
    acting: float  # things done a second and page
    striking: float  # faults a second
    faults: dict[str, int]  # kind -> weight
    weather: Weather
    refusing: float  # share of webhook calls refused at the first try
    keeping: float  # how often a second the store makes the copy that it falls back to
    quiet: bool  # the first user does something for a moment only, and that may be lost


KINDS = ("kill", "stop", "pause", "cut", "outage", "forget", "lose", "wipe", "leave", "vanish", "stall")


def options_of(seed: int) -> Options:
    random = Random(seed)
    chance = random.random
    struck = [kind for kind in KINDS if chance() < 0.5]
    weather = Weather(latency=random.choice((0.0003, 0.002, 0.01)), spike=random.choice((0, 0, 0.01)))
    for name in ("cut_before", "cut_after", "cut_within", "silent", "mute_bell"):
        setattr(weather, name, random.choice((0.0, 0.0, 0.004, 0.02)))
    weather.mute_bell *= 25
    return Options(
        workers=random.choice((1, 2, 2, 3)),
        users=random.choice((1, 2, 3)),
        tabs=random.choice((1, 2, 2, 3)),
        lasting=random.choice((6.0, 12.0, 20.0)),
        pace=random.choice((0.05, 0.3, 1.0)),
        acting=random.choice((2.0, 5.0, 12.0)),
        striking=random.choice((0.0, 0.3, 0.8, 1.5)) if struck else 0.0,
        faults={kind: random.choice((1, 2, 5)) for kind in struck},
        weather=weather,
        refusing=random.choice((0.0, 0.3, 0.6)),
        keeping=random.choice((0.5, 0.5, 0.05)),
        quiet=chance() < 0.5,
    )


class World:
    def __init__(self, seed: int, program: Program, server: Server) -> None:
        self.options = options_of(seed)
        self.program = program
        self.server = server
        self.random = Random(f"run {seed}")
        self.tally: Counter[str] = Counter()
        self.fault: BaseException | None = None
        self.healed = False
        self._healed_at = 0
        self._settled_at = 0
        self.slowest = 0  # ms that the pages took to converge
        self.ether = Process("ether", 0)
        self.browsers = Process("browsers", 1)
        self.loop = VirtualLoop(self.random, pace=self.options.pace, failed=self._failed)
        self.network = Network(self.loop, server, self.random, self.tally, self.ether)
        self.network.weather = self.options.weather
        self.oracle = Oracle(program, server, self.clock, self.tally)
        self.network.carried_out = self._carried_out
        self.workers: list[Worker] = []
        self.tabs: list[Tab] = []
        self.graves: list[set[asyncio.Task[Any]]] = []  # tasks of the dead: collected, they would run once more
        self._born = 2

    def clock(self) -> int:
        return EPOCH + int(self.loop.time() * 1000)

    @property
    def digest(self) -> int:
        return crc32(bytes(self.loop.trace))

    # --- the run ---

    def run(self) -> None:
        """Raises Violation."""
        random = self.random
        tokens = Random(random.random())

        def token(size: int | None = None) -> str:
            return f"{tokens.getrandbits(8 * (size or 16)):0{2 * (size or 16)}x}"

        with ExitStack() as stack:
            stack.enter_context(patch.object(engine, "step", self.oracle.step))
            for module in [secrets, *(each for name, each in sys.modules.items() if name.startswith("handrail."))]:
                if hasattr(module, "token_hex"):
                    stack.enter_context(patch.object(module, "token_hex", token))
                if hasattr(module, "getrandbits"):
                    stack.enter_context(patch.object(module, "getrandbits", tokens.getrandbits))
            for name in ("random", "randrange", "uniform", "choice", "shuffle", "sample"):
                stack.enter_context(patch(f"random.{name}", getattr(random, name)))
            structlog.configure(processors=[self._log], cache_logger_on_first_use=False)
            asyncio._set_running_loop(self.loop)
            try:
                self.ether.context.copy().run(self._live)
            finally:
                self.ether.context.copy().run(self._bury)
                asyncio._set_running_loop(None)

    def _live(self) -> None:
        options, random = self.options, self.random
        self.server.clear()
        for _ in range(options.workers):
            self._start_worker()
        gc.disable()
        for number in range(options.users):
            user = f"user-{number}"
            self.oracle.histories[user] = History()
            for tab in range(options.tabs):
                self._open(f"tab-{number}-{tab}", user)
        self.loop.call_later(options.lasting * random.random() / 2, self._keep)
        if options.striking:
            self._strike_later()
        if options.quiet:
            self.loop.call_later(options.lasting - AWAKE, self._wake)
        self._post_later()
        self._advance(options.lasting, lambda: False)
        self._heal()
        began = self.loop.time()
        done = self._advance(CONVERGED_WITHIN, self._converged)
        self.slowest = int((self.loop.time() - began) * 1000)
        self.oracle.expect(done, "L3", self._unconverged())
        self._advance(SETTLED_WITHIN, self._settled)
        self._settled_at = self.clock()
        self._advance(1.0, lambda: False)
        self._advance(1.0, self._converged)  # something may have fallen due this moment
        self._judge_pages(final=True)
        self._judge_rest()

    def _advance(self, seconds: float, over: Callable[[], bool]) -> bool:
        """Let time pass, or until it is over; True if it is."""
        until, looked = self.loop.time() + seconds, 0.0
        while self.loop.time() < until:
            if not self.loop.step():
                break
            if self.fault is not None:
                raise self.fault
            if self.loop.steps > RUNAWAY:
                raise Violation("INV15: the run does not end")
            if self.loop.time() >= looked:
                if over():
                    return True
                looked = self.loop.time() + 0.25
        return over()

    # --- processes and pages ---

    def _start_worker(self) -> None:
        worker = Worker(self, self._born)
        self._born += 1
        self.workers.append(worker)
        worker.process.context.run(self.loop.create_task, worker.main())

    def _open(self, name: str, user: str) -> None:
        tab = Tab(
            name,
            user,
            self.random,
            dial=self._dial,
            acknowledged=self._acknowledged,
            clock=self.clock,
            later=self._browsers_later,
            tally=self.tally,
        )
        self.tabs.append(tab)
        self._browsers_later(self.random.random() * 0.3, tab.connect)
        self._act_later(tab)

    def _browsers_later(self, delay: float, callback: Callable[..., object], *args: Any) -> None:
        self.loop.call_later(delay, callback, *args, context=self.browsers.context)

    def _act_later(self, tab: Tab) -> None:
        self._browsers_later(self.random.expovariate(self.options.acting), self._act, tab)

    def _act(self, tab: Tab) -> None:
        if not self.healed and not self._is_quiet(tab.user):
            tab.act()
            self.tally["things done"] += 1
            self._act_later(tab)

    def _is_quiet(self, user: str) -> bool:
        left = self.options.lasting - self.loop.time()
        return user == "user-0" and self.options.quiet and not ASLEEP < left < AWAKE

    def _dial(self, tab: Tab) -> Pipe | None:
        able = [worker for worker in self.workers if worker.live is not None and not worker.leaving]
        if not able:
            return None
        worker = self.random.choice(able)

        def said(pipe: Pipe, text: str) -> None:
            try:
                self.oracle.said(pipe, tab, text)
            except Violation as fault:
                self.fault = self.fault or fault

        ends = tab.heard, tab.ended, said, self.oracle.received
        pipe = Pipe(self.network, self.browsers, worker.process, *ends)
        pipe.user = tab.user
        worker.receive(pipe)
        return pipe

    def _acknowledged(self, tab: Tab, ids: list[str]) -> None:
        try:
            self.oracle.acknowledged(tab, ids)
        except Violation as fault:
            self.fault = self.fault or fault

    def _post_later(self) -> None:
        self.loop.call_later(self.random.expovariate(1.0), self._post)

    def _post(self) -> None:
        """A team's server sends an event, as it does over HTTP."""
        able = [worker for worker in self.workers if worker.profiles is not None and not worker.leaving]
        if self.healed:
            return
        self._post_later()
        if able:
            user = self.random.choice(list(self.oracle.histories))
            if not self._is_quiet(user):
                self.random.choice(able).take(user)

    # --- what goes wrong ---

    def _strike_later(self) -> None:
        self.loop.call_later(self.random.expovariate(self.options.striking), self._strike)

    def _strike(self) -> None:
        if self.healed:
            return
        self._strike_later()
        kinds = list(self.options.faults)
        kind = self.random.choices(kinds, [self.options.faults[each] for each in kinds])[0]
        worker = self.random.choice(self.workers) if self.workers else None
        tab = self.random.choice(self.tabs)
        if kind in ("kill", "stop", "pause", "cut") and worker is not None:
            self.tally[f"fault: {kind}"] += 1
            getattr(self, f"_{kind}")(worker)
        elif kind in ("leave", "vanish", "stall"):
            self.tally[f"fault: {kind}"] += 1
            getattr(self, f"_{kind}")(tab)
        elif kind in ("outage", "forget", "lose", "wipe"):
            self.tally[f"fault: {kind}"] += 1
            getattr(self, f"_{kind}")()

    def _kill(self, worker: Worker) -> None:
        worker.die()
        self.loop.call_later(self.random.random() * 2, self._start_worker)

    def _stop(self, worker: Worker) -> None:
        if worker.live is not None and not worker.leaving:
            worker.leaving = True
            worker.process.context.run(self.loop.create_task, worker.part())
            self.loop.call_later(self.random.random() * 2, self._start_worker)

    def _pause(self, worker: Worker) -> None:
        if not worker.process.paused:
            self.loop.pause(worker.process)
            worker.process.stale = True
            self.loop.call_later(self.random.choice((0.2, 1.5, 5.0, 13.0)), self.loop.resume, worker.process)

    def _cut(self, worker: Worker) -> None:
        self.network.drop_links(worker.process)

    def _outage(self) -> None:
        self.network.store_up = False
        self.network.drop_links()
        self.loop.call_later(self.random.choice((0.1, 1.0, 4.0)), self._store_up)

    def _store_up(self) -> None:
        self.network.store_up = True

    def _forget(self) -> None:
        self.server.ask(("SCRIPT", "FLUSH"))

    def _keep(self) -> None:
        """From now on this is what the store falls back to."""
        self.server.keep()
        self.oracle.keep()
        if not self.healed:
            self.loop.call_later(self.random.expovariate(self.options.keeping), self._keep)

    def _wake(self) -> None:
        """What the first user does from now on may be lost, and perhaps their page does not read meanwhile."""
        self.server.keep()
        self.oracle.keep()
        if self.random.random() < 0.5:
            self._stall(self.tabs[0])
        if "lose" in self.options.faults:
            self.loop.call_later(AWAKE - ASLEEP, self._lose)

    def _lose(self) -> None:
        self._forget_since(everything=False)

    def _wipe(self) -> None:
        self._forget_since(everything=True)

    def _forget_since(self, *, everything: bool) -> None:
        """The store comes back with older data, or none; now and then nobody is told."""
        if not everything or self.random.random() < 0.6:
            self.network.drop_links()
        self.server.lose(everything=everything)
        self.network.server_id = f"{self.random.getrandbits(160):040x}"
        self.oracle.lose(everything=everything)

    def _leave(self, tab: Tab) -> None:
        tab.drop()

    def _vanish(self, tab: Tab) -> None:
        tab.drop(silently_for=self.random.random() * 12)

    def _stall(self, tab: Tab) -> None:
        if tab.pipe is not None:
            pipe = tab.pipe
            pipe.stall(True)
            self.loop.call_later(self.random.choice((0.5, 3.0, 9.0)), pipe.stall, False)

    def _heal(self) -> None:
        """Nothing goes wrong any more."""
        self.healed, self._healed_at = True, self.clock()
        self.network.weather = Weather(latency=0.0005)
        self.network.store_up = True
        for worker in self.workers:
            self.loop.resume(worker.process)
        for tab in self.tabs:
            if tab.pipe is not None:
                tab.pipe.stall(False)

    # --- what must hold ---

    def _carried_out(self, process: Process, data: bytes) -> None:
        self.loop.trace += crc32(data).to_bytes(4, "big")
        try:
            self.oracle.carried_out(process, data)
        except Violation as fault:
            self.fault = self.fault or fault

    def _converged(self) -> bool:
        return not self._unconverged()

    def _unconverged(self) -> str:
        for tab in self.tabs:
            if why := self.oracle.judge_page(tab, final=False):
                return f"{tab.name} {why}"
        return ""

    def _judge_pages(self, *, final: bool) -> None:
        for tab in self.tabs:
            why = self.oracle.judge_page(tab, final=final)
            self.oracle.expect(why is None, "INV9", tab.name, why)
            self.oracle.judge_settled(tab)

    def _settled(self) -> bool:
        return not self._unsettled()

    def _judge_rest(self) -> None:
        left = self._unsettled()
        self.oracle.expect(not left, "L2, L4, L5", "; ".join(left))

    def _unsettled(self) -> list[str]:
        """What should not be there any more when all has settled."""
        left = []
        jobs = [reply for reply in self.server.ask(*(("HLEN", keys.hookdata) for keys in BUCKET_KEYS)) if reply]
        if jobs:
            left.append(f"{sum(jobs)} webhook calls not done")
        for user, history in self.oracle.histories.items():
            undone = history.calls.keys() - self.oracle.delivered
            if undone:
                left.append(f"calls of {user} nobody made: {sorted(undone)}")
            late = self.clock() - max(history.alarm or self.clock(), self._healed_at)
            self.oracle.expect(late < PUNCTUAL, "L2", f"an alarm of {user} is {late} ms late")
            session = history.state.session if history.state else None
            # One that began since: a process that was off the list had its pages connect again.
            since = self._settled_at and session and session.started >= self._settled_at
            if session and not session.ended and not since:
                left.append(f"the session of {user} does not end")
            held = set(history.state.connections) if history.state else set()
            there = {tab.connection for tab in self.tabs if tab.user == user}
            if held != there:
                left.append(f"connections of {user}: {held}, not {there}")
        nodes = {worker.process.name for worker in self.workers}
        alive = {node.decode() for node in self.server.ask(("ZRANGE", "hr:{nodes}:alive", 0, -1))[0]}
        if alive != nodes:
            left.append(f"processes in the store: {alive}, not {nodes}")
        return left

    def _failed(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, StoreDown):  # nobody was left who waited for it
            self.tally["a StoreDown that nobody took"] += 1
        else:
            self._crashed(str(context.get("message")), error)

    def _log(self, _logger: Any, method: str, entry: MutableMapping[str, Any]) -> NoReturn:
        if self.loop.over:  # the run is being taken apart
            raise structlog.DropEvent
        self.tally[f"log: {entry['event']}"] += 1
        error = entry.get("exc_info")
        if method in ("error", "critical", "exception") and entry["event"] not in OWNED_UP:
            cause = error if isinstance(error, BaseException) else sys.exc_info()[1]
            self._crashed(entry["event"], cause)
        raise structlog.DropEvent

    def _crashed(self, what: str, cause: object) -> None:
        if self.fault is None and not self.loop.over:
            self.fault = Violation(f"crash: {what} {cause!r}")
            self.fault.__cause__ = cause if isinstance(cause, BaseException) else None

    def _bury(self) -> None:
        """Take the run apart without another line of it running."""
        self.loop.over = True
        self.network.close()
        for task in asyncio.all_tasks(self.loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            with suppress(RuntimeError, BaseExceptionGroup):
                task.get_coro().close()
        self.loop.close()


class Worker:
    """A process of the server: runner, live side, timers and courier, put together as the server does."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.process = Process(f"worker-{number}", number % 250)
        self.live: Live | None = None
        self.profiles: Profiles | None = None
        self.leaving = False
        self.pipes: dict[Pipe, None] = {}  # in order, as chance needs it
        self._store: RedisStore | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def main(self) -> None:
        world = self.world
        try:
            store = self._store = await RedisStore.connect("unix:///simulated")
        except StoreDown:
            world.tally["a process could not start"] += 1
            self.die()
            world.loop.call_later(0.5, world._start_worker, context=world.ether.context)
            return
        commit, write = store.commit, store.write

        async def announced(what: Commit, *more: Any) -> Any:
            world.oracle.announce(what)
            return await commit(what, *more)

        def announced_write(what: Commit, told: Callable[[bool], None]) -> None:
            world.oracle.announce(what)
            write(what, told)

        store.commit = announced  # type: ignore[method-assign,assignment]
        store.write = announced_write  # type: ignore[method-assign,assignment]
        self.process.name = name_node(timers=True)
        runner = Runner(store, lambda _: world.program, world.clock, self.process.name)
        live = Live(runner, Identity(world.clock))
        courier = Post(world, self.process, store)
        runner.on_commit(lambda committed: courier.poke() if committed.jobs else None)
        self.profiles = Profiles(runner)
        loops: dict[str, Loop] = live.tasks() | {"webhooks": courier.run}
        self._tasks = [asyncio.create_task(supervise(name, run), name=name) for name, run in loops.items()]
        self.live = live

    def receive(self, pipe: Pipe) -> None:
        assert self.live is not None
        self.pipes[pipe] = None
        pipe.forgotten = lambda: self.pipes.pop(pipe, None)
        self.process.context.run(self.world.loop.create_task, self._converse(self.live, pipe))

    async def _converse(self, live: Live, pipe: Pipe) -> None:
        scope = {
            "type": "websocket",
            "path": "/updates",
            "headers": [],
            "query_string": b"",
            "subprotocols": ["handrail.v1"],
            "client": ("127.0.0.1", 40_000),
            "extensions": {EXTENSION: pipe.accept},
        }

        async def receive() -> dict[str, Any]:
            return {"type": "websocket.connect"}

        async def send(_: object) -> None:
            """It is refused."""
            pipe.end(1006)

        await live.websocket(scope, receive, send)

    def take(self, user: str) -> None:
        """An event from a team's server."""
        self.process.context.run(self.world.loop.create_task, self._take(user))

    async def _take(self, user: str) -> None:
        world, profiles = self.world, self.profiles
        assert profiles is not None
        identity = f"http-{world.random.getrandbits(40):x}"
        at = world.clock() - world.random.choice((0, 0, 500, 4_000))
        name = world.random.choice(NAMES)
        plan = {"plan": world.random.choice(("trial", "team"))}
        event = (
            Identify(id=identity, at=at, traits=plan)
            if world.random.random() < 0.2
            else Track(id=identity, name=name, at=at, properties={"n": identity})
        )
        lost = world.oracle.losses
        try:
            await profiles.submit(user, event, known=True)
        except Exception as fault:  # what a sender would be told; it does not send again here
            world.tally[f"http: {type(fault).__name__}"] += 1
            return
        world.tally["http: accepted"] += 1
        if lost == world.oracle.losses and identity not in world.oracle.ever.get(user, ()):
            world.fault = world.fault or Violation(f"INV2: accepted and not stored {user} {identity}")

    async def part(self) -> None:
        """Stop as SIGTERM makes a server stop."""
        assert self.live is not None
        assert self._store is not None
        await self.live.drain(within=2.0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.live.leave()
        await self._store.close()
        self.world.tally["a process stopped in order"] += 1
        self.die()

    def die(self) -> None:
        world = self.world
        waiting = [pipe for pipe in self.pipes if len(pipe.received) > pipe.acknowledged]
        if any(set(pipe.received[pipe.acknowledged :]) & world.oracle.ever.get(pipe.user, set()) for pipe in waiting):
            world.tally["a process died between commit and acknowledgement"] += 1
        world.graves.append(asyncio.all_tasks(world.loop))
        world.loop.kill(self.process)
        world.network.bury(self.process)
        for pipe in self.pipes:
            pipe.break_off()
        if self in world.workers:
            world.workers.remove(self)


class Post(Courier):
    """A courier whose receivers are simulated; what it does with the store is real."""

    def __init__(self, world: World, process: Process, store: RedisStore) -> None:
        hooks = world.program.webhooks
        super().__init__(store, lambda: hooks, clock=world.clock, chance=world.random.random)
        self._world = world
        self._process = process
        self._answered: Counter[str] = Counter()

    def _open(self) -> Any:
        return nullcontext()

    async def _try(self, job: Job, hook: Webhook, session: Any) -> Outcome:
        world = self._world
        try:
            world.oracle.attempted(job.id, job.body)
        except Violation as fault:
            world.fault = world.fault or fault
        await asyncio.sleep(world.network.delay() * 20)
        world.tally["webhook: tries"] += 1
        world.tally["webhook: tried again"] += job.attempt > 0
        world.tally["webhook: delivered twice"] += job.id in world.oracle.delivered
        refused = job.attempt == 0 and world.random.random() < world.options.refusing
        if not refused:
            world.oracle.delivered.add(job.id)
        await asyncio.sleep(world.network.delay())
        status = 500 if refused else 200
        return judge(status, None, job.attempt, now=world.clock(), chance=world.random.random())
