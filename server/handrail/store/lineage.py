"""Which history of data a server has: another one whenever what lies in it may not be what was acknowledged.

A marker in the data names the history, so a server that was emptied has another. Behind it stands the replication id of
the server, which changes at every restart and every promotion: whoever connects first after one writes it there. A
server that can lose nothing by a restart (it writes every command to disk before it answers, and nobody replicates it)
keeps its history over restarts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from secrets import token_hex
from typing import Any

import hiredis
from msgspec import Struct

from handrail.store.protocol import StoreDown

NEVER_PROMOTED = "0" * 40

Ask = Callable[[tuple[Any, ...]], Awaitable[Any]]  # one command to the server that is being greeted


class Lineage(Struct, frozen=True):
    """`name` is the history; `replicas` how many there are now; `durable` whether every command is on disk before its
    answer (None: the server does not say)."""

    name: str
    replicas: int
    durable: bool | None


async def trace_lineage(ask: Ask, key: bytes) -> Lineage:
    """The history of the server on this connection, marked in `key`. Raises StoreDown for a replica."""
    facts = _read_info(await ask(("INFO", "replication")))
    if facts.get("role") != "master":
        raise StoreDown("it is a replica, which takes no writes")
    replicas, durable = int(facts.get("connected_slaves", 0)), await _is_durable(ask)
    await ask(("SET", key, token_hex(4), "NX"))
    marker = bytes(await ask(("GET", key))).decode("ascii", "replace")
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


def _read_info(text: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in text.decode().splitlines())
    return {name: value for name, colon, value in lines if colon}
