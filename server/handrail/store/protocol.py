"""What a store is: the one place where decisions become durable. Two implementations, one contract suite."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Literal, Protocol

from msgspec import Struct

from handrail.core.state import State
from handrail.counts import Counts

# What an acknowledgement is worth: the master has it, a replica has it too, the master has it on disk.
Ack = Literal["accepted", "replicated", "durable"]


class Job(Struct, frozen=True, kw_only=True):
    """A webhook call to be made. `id` is its message id over all tries; `body` the JSON bytes to POST; `attempt` counts
    tries already made; times are milliseconds since the epoch."""

    id: str
    user: str
    webhook: str
    body: bytes
    created: int
    due: int
    attempt: int = 0


class Commit(Struct, frozen=True, kw_only=True):
    """All that one turn of one user changes, written at once or not at all.

    `state.version` is the version after this commit; the write holds only if what is stored is version `expected`
    (0: the user does not exist yet), written by the commit with the op `base`. `op` is this commit's own: 16 random
    characters by which the store knows it again when it is sent once more ("": it never does). `frames` are (offset,
    JSON) pairs, contiguous. `alarm` is the user's one due time or None. `seen` are the event ids applied, `log` the
    JSON lines for the event log, `node` the writing process.
    """

    state: State
    expected: int
    base: str = ""
    op: str = ""
    frames: tuple[tuple[int, bytes], ...] = ()
    alarm: int | None = None
    jobs: tuple[Job, ...] = ()
    seen: tuple[tuple[str, int], ...] = ()
    log: tuple[bytes, ...] = ()
    node: str = ""
    now: int = 0


class Bell(Struct, frozen=True, array_like=True):
    """Another process committed messages up to `offset` of `epoch` for `user`."""

    user: str
    offset: int
    node: str
    epoch: str = ""  # processes of an older version do not say


class Quarantined(Struct, frozen=True, kw_only=True):
    """Something that was set aside at `at`, by process `node`, for `reason`. `kind` is `state` for a state that cannot
    be read (`id` is then its key), else the type of the event, `id` its id and `event` its JSON bytes."""

    at: int
    node: str
    user: str
    kind: str
    id: str
    reason: str
    event: bytes = b"null"


class Shortfall(Struct, frozen=True):
    """Why commits are not acknowledged though the store answers; `whole`: none are, of no user."""

    text: str
    whole: bool


class StoreDown(Exception):
    """The store could not be reached or did not answer in time; nothing is known to be written."""


class BreakerOpen(StoreDown):
    """The store has been away for a while and was not asked again: it is of no use to try once more right now."""


class CorruptState(Exception):
    """What lies under a key of the store is not what Handrail writes there; the text names the key."""


class StoreUnusable(Exception):
    """The operator has to do something before this store can be used; the text says what."""


class Store(Protocol):
    """What in it could not be read is counted in `counts`, as `unreadable.WHAT`."""

    counts: Counts

    async def load(self, user: str) -> State | None:
        """The user's state with `seen` and the op it was written by, or None. Raises StoreDown."""

    async def load_bare(self, users: Sequence[str]) -> list[State]:
        """As `load` without `seen`, in one round trip, of those of whom a state can be read at once: what is with the
        others, StoreDown included, `load` tells."""

    async def commit(self, commit: Commit) -> bool:
        """Write; False when what is stored is not what the commit builds on (nothing was written). Raises StoreDown:
        the write may or may not have happened. The same commit sent again says so: True, written once, if it had
        happened and nobody has written since; else a reload tells (the event ids are in `seen` if it did)."""

    def write(self, commit: Commit, told: Callable[[bool], None]) -> None:
        """The same without a coroutine: `told` is called once with True when the store has it. False says nothing:
        what became of it is for `commit` to find out, with the same one again. `told` must not raise."""

    async def position(self, user: str) -> tuple[str, int] | None:
        """The mark of the user's epoch (see heads.mark_of) and their newest offset, or None where nothing is stored.
        Raises StoreDown or CorruptState."""

    async def outbox(self, user: str, after: int, limit: int = 1000) -> list[tuple[int, bytes]]:
        """Numbered messages with offset > `after`, in order, as far as they are still kept."""

    async def due(self, before: int, buckets: list[int] | None = None, limit: int = 200) -> list[tuple[int, str]]:
        """(due, user) of armed alarms due at or before `before`, at most `limit` a bucket, oldest first in a bucket."""

    async def claim_jobs(self, now: int, lease: int, limit: int = 50) -> list[Job]:
        """Jobs due by `now`, each hidden from other claims until now + lease. Ordered by due time."""

    async def finish_job(self, job: Job) -> None:
        """Remove a job for good."""

    async def retry_job(self, job: Job, due: int) -> None:
        """Make the job due again at `due`, one attempt further."""

    async def heartbeat(self, node: str, now: int) -> bool:
        """This process is alive. True when it was not among `nodes` before."""

    async def nodes(self) -> dict[str, int]:
        """Processes and their last heartbeat."""

    async def enlist(self, node: str, user: str) -> None:
        """Remember that `node` may hold connections of `user` (written before the connection's own commit). A process
        of which no heartbeat is known is from now on among `nodes`, with 0."""

    async def delist(self, node: str, user: str) -> None: ...

    async def enlisted(self, node: str) -> list[str]:
        """Users that a process may hold connections of."""

    async def forget_node(self, node: str) -> None: ...

    @property
    def confirms(self) -> bool:
        """Whether an answered commit is known to lie in a second place. What was found written may not, so that nothing
        is acknowledged without a commit."""

    def lineage(self, user: str) -> str:
        """The history of the data that the user's are part of: another one after a loss, or where one is possible."""

    async def keep_ticket(self, ticket: str, content: bytes, ttl: int) -> None:
        """Keep this under the ticket for at most `ttl` ms, until it is taken."""

    async def take_ticket(self, ticket: str) -> bytes | None:
        """What was kept under the ticket, to the first who asks; None to all others."""

    async def announce(self, user: str) -> None:
        """Have every process look at the user's state: their tokens were revoked."""

    async def announced(self, after: str = "") -> list[tuple[str, str]]:
        """(mark, user) of what was announced after the mark `after`, oldest first, as far as it is still kept."""

    def listen(self, user: str) -> None:
        """Start hearing bells for the user's bucket (counted: as many `unlisten`s end it)."""

    def unlisten(self, user: str) -> None: ...

    def on_bell(self, hear: Callable[[Bell], None]) -> None:
        """Bells of listened buckets are handed to `hear`, own commits included."""

    def on_reconnect(self, hear: Callable[[], None]) -> None:
        """Called when bells may have been missed, and the lineage may be another: every listener should look."""

    def follow(self, user: str | None, start_ms: int, *, live: bool = True) -> AsyncIterator[dict[str, Any]]:
        """The event log since `start_ms` as decoded JSON lines, of one user or (None) of all; those of one user are in
        order. With `live` it goes on with what comes, else it ends with what there is, or raises StoreDown."""

    async def set_aside(self, entry: Quarantined) -> None:
        """Keep this for the operator to look at; the oldest of too many go. Raises StoreDown."""

    async def quarantine(self) -> list[Quarantined]:
        """What was set aside, newest first. Raises StoreDown."""

    async def time(self) -> int:
        """The store's own clock, in milliseconds since the epoch. Raises StoreDown."""

    async def ping(self) -> float:
        """Round trip in seconds. Raises StoreDown."""

    async def shortfall(self) -> Shortfall | None:
        """What keeps commits from being acknowledged at present, None if nothing does. Raises StoreDown."""

    async def close(self) -> None: ...
