"""Which history of data a server has: another one whenever what lies in it may not be what was acknowledged.

A marker in the data names the history, so a server that was emptied has another. Behind it stands the replication id of
the server, which changes at every restart and every promotion: whoever connects first after one writes it there. A
server that can lose nothing by a restart (it writes every command to disk before it answers, and nobody replicates it)
keeps its history over restarts.

In a cluster the history is that of the master which holds the user's bucket, named by its replication id alone: no
marker would stay with a master whose slots may move. So a slot that moves counts as another history, too, and what was
flushed under a living master is missed at the next commit.
"""

from __future__ import annotations

import asyncio
from functools import partial
from secrets import token_hex
from typing import Any
from weakref import WeakKeyDictionary

import hiredis
import structlog
from msgspec import Struct

from handrail.store.keys import LINEAGE
from handrail.store.pipeline import Ask, Pipeline
from handrail.store.protocol import Ack, StoreDown, StoreUnusable

log = structlog.get_logger(__name__)

NEVER_PROMOTED = "0" * 40


class Lineage(Struct, frozen=True):
    """`name` is the history; `replicas` how many there are now; `durable` whether every command is on disk before its
    answer (None: the server does not say)."""

    name: str
    replicas: int
    durable: bool | None


UNKNOWN = Lineage("", 0, None)


class Lineages:
    """The histories of the servers we are connected to; `ack` is what an answered commit is worth."""

    def __init__(self, ack: Ack) -> None:
        self._ack = ack
        self._examined = False
        self._known: WeakKeyDictionary[Pipeline, Lineage] = WeakKeyDictionary()

    async def trace(self, server: Pipeline, ask: Ask) -> bool:
        """Learn the lineage of a server that is being greeted; True when it is another than before."""
        if server.server.get(b"mode") == b"sentinel":  # whoever connects to it will be told
            return False
        found = await (trace_node(ask) if is_clustered(server) else trace_lineage(ask, LINEAGE))
        if found is None:
            return False
        before = self._known.get(server, UNKNOWN)
        self._known[server], server.lineage = found, found.name
        if self._ack == "durable" and self._examined and not found.durable:
            raise StoreDown("acknowledgements are to be durable, and it answers before it writes to disk")
        if before is UNKNOWN or before.name == found.name:
            return False
        if is_clustered(server) or found.name.startswith(before.name.partition(".")[0]):
            log.warning(
                "the store may have lost what was written last; users get a new epoch", store=server.address.shown
            )
        else:
            log.error(
                "the store is not the one it was, or lost its data; users get a new epoch", store=server.address.shown
            )
        return True

    def check(self, server: Pipeline) -> None:
        """See that the server still has the history it had; where not, it is greeted anew."""
        known = self._known.get(server, UNKNOWN)
        question = ("INFO", "replication") if is_clustered(server) else ("GET", LINEAGE)
        server.send(*question).add_done_callback(partial(self._compare, server, known))

    def _compare(self, server: Pipeline, known: Lineage, future: asyncio.Future[Any]) -> None:
        if future.cancelled() or future.exception() is not None or self._known.get(server, UNKNOWN) is not known:
            return
        told = future.result()
        name = name_node(read_info(told)) if is_clustered(server) else bytes(told or b"").decode("ascii", "replace")
        if name != known.name:
            server.drop("the store's data are not those it had")

    def examine(self, server: Pipeline, *, warn: bool = True) -> None:
        """Raises StoreUnusable where answers cannot be worth what they should; later such a server counts as away."""
        self._examined = True
        known, shown = self._known.get(server, UNKNOWN), server.address.shown
        if known is UNKNOWN:  # it is away; it is examined when it is greeted
            return
        if self._ack == "durable" and not known.durable:
            what = "hides its settings" if known.durable is None else "answers before it writes to disk"
            mend = "set `appendonly yes` and `appendfsync always` there"
            raise StoreUnusable(f"acknowledgements are to be durable (HANDRAIL_ACK), and {shown} {what}: {mend}")
        if warn and self._ack == "replicated" and not known.replicas:
            log.warning("no replica is connected, and nothing is acknowledged without one (HANDRAIL_ACK)", store=shown)


def is_clustered(server: Pipeline) -> bool:
    return bool(server.server.get(b"mode") == b"cluster")


async def trace_node(ask: Ask) -> Lineage | None:
    """The history of a node of a cluster, if it is a master."""
    facts = read_info(await ask(("INFO", "replication")))
    if not (name := name_node(facts)):
        return None
    return Lineage(name, int(facts.get("connected_slaves", 0)), await _is_durable(ask))


def name_node(facts: dict[str, str]) -> str:
    return facts["master_replid"][:16] if facts.get("role") == "master" else ""


async def trace_lineage(ask: Ask, key: bytes) -> Lineage:
    """The history of the server on this connection, marked in `key`. Raises StoreDown for a replica."""
    facts = read_info(await ask(("INFO", "replication")))
    if facts.get("role") != "master":
        raise StoreDown("it is a replica, which takes no writes")
    replicas, durable = int(facts.get("connected_slaves", 0)), await _is_durable(ask)
    fresh = token_hex(4).encode()
    marker = bytes(await ask(("SET", key, fresh, "NX", "GET")) or fresh).decode("ascii", "replace")
    begun, _, server = marker.partition(".")
    present = facts["master_replid"][:8]
    alone = not replicas and facts.get("master_replid2", NEVER_PROMOTED) == NEVER_PROMOTED
    if server != present and not (durable and alone):
        marker = f"{begun}.{present}"
        await ask(("SET", key, marker))  # two that connect at once write the same
    return Lineage(marker, replicas, durable)


async def _is_durable(ask: Ask) -> bool | None:
    try:
        settings = await ask(("CONFIG", "GET", "append*"))
    except hiredis.ReplyError:
        return None
    return bool(settings.get(b"appendonly") == b"yes" and settings.get(b"appendfsync") == b"always")


def read_info(text: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in text.decode().splitlines())
    return {name: value for name, colon, value in lines if colon}
