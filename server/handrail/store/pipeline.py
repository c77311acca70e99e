"""One connection to Redis on which commands of the same loop tick leave in one write.

A `Pipeline` is down, connecting or open. A command sent while it is down starts a connection; until the greeting is
answered commands wait, then they leave together. Every command has a deadline from the moment it was sent: when the
oldest passes it, the connection is dropped and everyone who waits gets StoreDown. Nothing is ever sent twice: whether
an unanswered write happened is for the caller to find out.

After a failure the connection is made again by itself, after a little while (50 ms, doubling to 1 s, spread by
chance); commands sent during that pause fail at once. After a second of that the breaker is open: every command fails
at once, until an attempt succeeds.

The connection speaks RESP3, so bells arrive on it too, in order with the answers: a SUBSCRIBE sent before a commit is
in force when the commit is made.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, cast

import hiredis
import structlog

from handrail.store.address import Address
from handrail.store.hurdles import tell
from handrail.store.protocol import BreakerOpen, StoreDown

# Answers that say "not now": the command was not carried out, for a reason that may pass.
PASSING = ("LOADING", "BUSY", "MASTERDOWN", "READONLY", "CLUSTERDOWN", "TRYAGAIN", "OOM", "MISCONF", "NOREPLICAS")
# Of these, the ones that say that another server should be asked, or this one later and anew.
USELESS = ("LOADING", "MASTERDOWN", "READONLY")
# And those by which a server that is there and well refuses what is asked of it.
REFUSING = ("BUSY", "OOM", "MISCONF", "NOREPLICAS")
LATE = 0.05  # a loop that was itself held up gets this long to read what has arrived before a deadline counts as missed
BREAK_AFTER = (2, 1.0)  # failures in a row, and seconds since the first of them
INCOMPLETE = object()

Hear = Callable[[bytes, bytes], None]
Lapse = Callable[[bytes], None]
Ask = Callable[[tuple[Any, ...]], Awaitable[Any]]
Greet = Callable[[Ask], Awaitable[bool]]
log = structlog.get_logger(__name__)
pack = cast(Callable[[tuple[Any, ...]], bytes], hiredis.pack_command)


class NotNow(StoreDown):
    """The server answered that it does not carry the command out for now: it was certainly not run."""

    def __init__(self, answer: str) -> None:
        super().__init__(f"the store answered: {answer}")
        self.answer = answer


class Waiter:
    """Someone who waits for `left` more replies; without a future, replies are dropped."""

    __slots__ = ("deadline", "future", "left", "replies")

    def __init__(self, future: asyncio.Future[Any] | None, deadline: float, many: int = 0) -> None:
        self.future = future
        self.deadline = deadline
        self.left = many or 1
        self.replies: list[Any] | None = [] if many else None

    def take(self, reply: Any) -> None:
        """Accept one reply of those that are left."""
        self.left -= 1
        future = self.future
        if self.replies is not None:
            self.replies.append(reply)
        if self.left or future is None or future.done():
            return
        if self.replies is not None:
            self._settle_many(future, self.replies)
        elif isinstance(reply, hiredis.ReplyError):
            future.set_exception(fault(reply))
        else:
            future.set_result(reply)

    @staticmethod
    def _settle_many(future: asyncio.Future[Any], replies: list[Any]) -> None:
        faults = (fault(reply) for reply in replies if isinstance(reply, hiredis.ReplyError))
        down = next((each for each in faults if isinstance(each, StoreDown)), None)
        if down is None:
            future.set_result(replies)
        else:
            future.set_exception(down)

    def fail(self, reason: str, kind: type[StoreDown] = StoreDown) -> None:
        if self.future is not None and not self.future.done():
            self.future.set_exception(kind(reason))


class Listener(Waiter):
    """Someone who only wants to hear whether the reply is a number above 0, in the moment that it comes."""

    __slots__ = ("tell",)

    def __init__(self, tell: Callable[[bool], None], deadline: float) -> None:
        self.tell = tell
        self.deadline = deadline
        self.left = 1

    def take(self, reply: Any) -> None:
        self.tell(type(reply) is int and reply > 0)

    def fail(self, reason: str, kind: type[StoreDown] = StoreDown) -> None:
        self.tell(False)


def fault(reply: hiredis.ReplyError) -> Exception:
    """What an error reply means: StoreDown when it may pass, else the reply itself."""
    text = str(reply)
    return NotNow(text) if text.startswith(PASSING) else reply


class Wire(asyncio.Protocol):
    """The connection itself: bytes in, replies to those who wait, in order."""

    def __init__(
        self, hear: Hear, lapse: Lapse, lost: Callable[[Wire, str, int], None], refuse: Callable[[str], None]
    ) -> None:
        self.waiting: deque[Waiter] = deque()
        self._hear, self._lapse = hear, lapse
        self._lost, self._refuse = lost, refuse
        self._reader = hiredis.Reader(notEnoughData=INCOMPLETE)
        self._transport: asyncio.Transport | None = None
        self._useless = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.drop(f"the connection was lost{f' ({exc})' if exc else ''}")

    @property
    def is_alive(self) -> bool:
        return self._transport is not None

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while self._transport is not None and (reply := self._reader.gets()) is not INCOMPLETE:
                self._take(reply)
        except hiredis.HiredisError as error:
            self.drop(f"the store sent something that is not its protocol ({error})")
        if self._useless:
            self.drop(f"the store answered: {self._useless}")

    def _take(self, reply: Any) -> None:
        if type(reply) is hiredis.PushNotification and reply[0] in (b"smessage", b"sunsubscribe"):
            # Nobody here ever asks to be unsubscribed: it is the server's word that the channel has moved away.
            self._hear(reply[1], reply[2]) if reply[0] == b"smessage" else self._lapse(reply[1])
        elif not self.waiting:
            self.drop("the store answered what nobody asked")
        else:  # confirmations of subscribing are pushes too, in their place
            waiter = self.waiting[0]
            if waiter.left == 1:  # whoever is told at once may do anything, dropping the connection included
                self.waiting.popleft()
            waiter.take(reply)
        if type(reply) is hiredis.ReplyError:
            self._heed(str(reply))

    def _heed(self, answer: str) -> None:
        if answer.startswith(USELESS):
            self._useless = answer
        elif answer.startswith(REFUSING):
            self._refuse(answer)

    def drop(self, reason: str) -> None:
        """Cut the connection and fail everyone who waits."""
        if self._transport is None:
            return
        self._transport.abort()
        self._transport = None
        waiting, self.waiting = self.waiting, deque()
        self._lost(self, reason, len(waiting))
        for waiter in waiting:
            waiter.fail(reason)


class Pipeline:
    """`hear` is given (channel, payload) of each message of a sharded channel, `lapse` a channel that has moved away
    from this server; `opened` is called after each greeting, before anything else leaves; `closed` when an open
    connection was lost. `greet` may ask further things of a server before; where it returns True, what has waited for
    the connection was meant for other data and fails."""

    def __init__(
        self,
        address: Address,
        *,
        deadline: float = 1.0,
        hear: Hear = lambda channel, payload: None,
        lapse: Lapse = lambda channel: None,
        opened: Callable[[], None] = lambda: None,
        closed: Callable[[], None] = lambda: None,
        greet: Greet | None = None,
    ) -> None:
        self.address = address
        self.server: dict[bytes, Any] = {}  # what the server said of itself
        self.lineage = ""  # the history of its data, once that is known
        self._deadline = deadline
        self._hear, self._lapse, self._opened, self._closed_hook, self._greet = hear, lapse, opened, closed, greet
        self._loop = asyncio.get_running_loop()
        self._wire: Wire | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._buffer: list[bytes] = []
        self._queue: list[Waiter] = []
        self._flushing = False
        self._timer: asyncio.TimerHandle | None = None
        self._overdue = False
        self._last: tuple[bytes, Waiter] | None = None
        self._failures = 0
        self._failing_since = 0.0
        self._not_before = 0.0
        self._again: asyncio.TimerHandle | None = None
        self.reason = ""  # why it is down
        self.missed = 0  # commands that failed because it is
        self.refusal = ""  # why the server would not carry out what it was asked last
        self.refused = 0  # how many commands
        self._shut = False

    @property
    def is_open(self) -> bool:
        return self._wire is not None

    @property
    def is_idle(self) -> bool:
        """Nobody waits for anything, a connection included."""
        return self._connecting is None and not self._queue and not (self._wire is not None and self._wire.waiting)

    def send(self, *parts: Any) -> asyncio.Future[Any]:
        """One command; the future ends in its reply, StoreDown, or hiredis.ReplyError."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._enqueue(pack(parts), Waiter(future, self._loop.time() + self._deadline))
        return future

    def send_many(self, packed: bytes, many: int) -> asyncio.Future[list[Any]]:
        """`many` (at least one) commands packed already. Ends in StoreDown when any was answered "not now"; other error
        replies stand in the list."""
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        self._enqueue(packed, Waiter(future, self._loop.time() + self._deadline, many))
        return future

    def call(self, packed: bytes, tell: Callable[[bool], None]) -> None:
        """One command packed already; `tell` is called with whether it was answered with a number above 0."""
        self._enqueue(packed, Listener(tell, self._loop.time() + self._deadline))

    def post(self, *parts: Any) -> None:
        """One command whose reply nobody needs."""
        self._enqueue(pack(parts), Waiter(None, self._loop.time() + self._deadline))

    def knock(self) -> None:
        """Connect, unless that is done or it is too soon; nobody waits for it."""
        if self._wire is None:
            self._wake()

    def confirm(self, *parts: Any) -> asyncio.Future[Any]:
        """A command that leaves right behind what was sent just before it, on the same connection: once for all who ask
        for it until then."""
        if self._last is None:
            future: asyncio.Future[Any] = self._loop.create_future()
            waiter = Waiter(future, self._loop.time() + self._deadline)
            future.add_done_callback(_observe)
            if not self._queue:  # what it belongs to was not taken
                waiter.fail(self.reason)
                return future
            self._last = (pack(parts), waiter)
        assert self._last[1].future is not None
        return asyncio.shield(self._last[1].future)

    def note_refusal(self, reason: str) -> None:
        """The server is there, and does not do what it was asked."""
        self.refused += 1
        self.refusal = reason

    def drop(self, reason: str) -> None:
        """Cut the connection; a new one is made. Everyone who waits gets StoreDown."""
        self._drop(reason)

    def shut(self) -> None:
        """Close for good."""
        self._shut = True
        if self._again is not None:
            self._again.cancel()
        if self._connecting is not None:
            self._connecting.cancel()
        if self._wire is not None:
            self._wire.drop("the store was closed")
        self._fail_queue("the store was closed")
        if self._timer is not None:
            self._timer.cancel()

    def _enqueue(self, packed: bytes, waiter: Waiter) -> None:
        if self._wire is None and (self._is_broken() or not self._wake()):
            self.missed += 1
            waiter.fail(self.reason, BreakerOpen if self._is_broken() else StoreDown)
            return
        self._buffer.append(packed)
        self._queue.append(waiter)
        if not self._flushing and self._wire is not None:
            self._flushing = True
            self._loop.call_soon(self._flush)
        if self._timer is None:
            self._timer = self._loop.call_at(waiter.deadline, self._check)

    def _flush(self) -> None:
        self._flushing = False
        if self._wire is None or not self._buffer:
            return
        if self._last is not None:
            packed, waiter = self._last
            self._last = None
            self._buffer.append(packed)
            self._queue.append(waiter)
        packed = b"".join(self._buffer)
        self._wire.waiting.extend(self._queue)
        self._buffer.clear()
        self._queue.clear()
        self._wire.write(packed)

    def _check(self) -> None:
        """Has the oldest waiter waited too long?"""
        self._timer = None
        waiting = (self._wire.waiting if self._wire is not None else None) or self._queue
        if not waiting:
            self._overdue = False
            return
        now, due = self._loop.time(), waiting[0].deadline
        if due > now:
            self._overdue = False
            self._timer = self._loop.call_at(due, self._check)
        elif not self._overdue:
            self._overdue = True
            self._timer = self._loop.call_later(LATE, self._check)
        else:
            self._overdue = False
            self._count_failure()
            self._drop(f"no answer from {self.address.shown} within {self._deadline:g} s")

    def _drop(self, reason: str) -> None:
        if self._wire is not None:
            self._wire.drop(reason)
        elif self._connecting is not None:
            self._connecting.cancel()
        self._fail_queue(reason)

    def _fail_queue(self, reason: str) -> None:
        queue = self._queue.copy()
        if self._last is not None:
            queue.append(self._last[1])
            self._last = None
        self._queue.clear()
        self._buffer.clear()
        self.missed += len(queue)
        for waiter in queue:
            waiter.fail(reason)

    def _is_broken(self) -> bool:
        often, long = BREAK_AFTER
        return self._failures >= often and self._loop.time() - self._failing_since >= long

    def _count_failure(self) -> None:
        if not self._failures:
            self._failing_since = self._loop.time()
        self._failures += 1

    def _wake_in(self, seconds: float) -> None:
        """Connect by ourselves: who waits for bells asks for nothing, and an open breaker lets nobody ask."""
        if self._again is not None:
            self._again.cancel()
        if not self._shut:
            self._again = self._loop.call_later(seconds, self._wake_now)

    def _wake_now(self) -> None:
        """The pause is over, even where the loop counts whole milliseconds and rings a little before it is."""
        self._not_before = 0.0
        self._wake()

    def _wake(self) -> bool:
        """Start connecting unless that is under way; False while it is too soon after a failure."""
        if self._wire is not None:
            return True
        if self._connecting is not None:
            return True
        if self._shut or self._loop.time() < self._not_before:
            return False
        self._connecting = self._loop.create_task(self._connect())
        return True

    async def _connect(self) -> None:
        wire = Wire(self._hear, self._lapse, self._lost, self.note_refusal)
        try:
            async with asyncio.timeout(self._deadline):
                await self.address.dial(wire)
                for command in self.address.greeting():
                    reply = await self._ask(wire, command)
                    self.server = reply if isinstance(reply, dict) else self.server
                self._refuse_replica()
                if self._greet is not None and await self._greet(partial(self._ask, wire)):
                    self._fail_queue("the store's data are not those it had")
        except asyncio.CancelledError:
            self._failed(wire, "the connection was given up")
            if self._shut:
                raise
        except (OSError, TimeoutError, StoreDown, hiredis.HiredisError) as error:
            self._failed(wire, tell(error, self.address))
        except Exception as error:  # the rim of the attempt: whatever it ends in, there has to be another
            log.exception("what the store said of itself cannot be read", store=self.address.shown)
            self._failed(wire, f"{self.address.shown} cannot be understood ({type(error).__name__})")
        else:
            if wire.is_alive:
                self._open(wire)
            else:
                self._failed(wire, f"{self.address.shown} hung up")

    def _refuse_replica(self) -> None:
        """Only nodes of a cluster may be replicas: they know where everything is."""
        if self.server.get(b"role", b"master") != b"master" and self.server.get(b"mode") != b"cluster":
            raise StoreDown("it is a replica, which takes no writes")

    def _ask(self, wire: Wire, command: tuple[Any, ...]) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        wire.waiting.append(Waiter(future, self._loop.time() + self._deadline))
        wire.write(pack(command))
        return future

    def _open(self, wire: Wire) -> None:
        self._connecting = None
        self._failures = 0
        self._wire = wire
        # What `opened` sends goes ahead of what has waited for the connection.
        waited, self._buffer = self._buffer, []
        waiters, self._queue = self._queue, []
        self._opened()
        self._buffer += waited
        self._queue += waiters
        self._flush()

    def _failed(self, wire: Wire, reason: str) -> None:
        self._connecting = None
        self._count_failure()
        self.reason = reason
        least, most = self.address.backoff
        pause = min(most, least * 2 ** min(self._failures - 1, 10)) * random.uniform(0.5, 1)
        self._not_before = self._loop.time() + pause
        wire.drop(reason)
        self._fail_queue(reason)
        self._wake_in(pause)

    def _lost(self, wire: Wire, reason: str, waiting: int) -> None:
        if wire is not self._wire:  # a connection attempt; its failure is handled where it is made
            return
        self._wire = None
        self.reason = reason
        self.missed += waiting
        self._fail_queue(reason)
        if not self._shut:
            self._closed_hook()
            self._wake_in(0)


def _observe(future: asyncio.Future[Any]) -> None:
    """Those who asked may all be gone."""
    if not future.cancelled():
        future.exception()
