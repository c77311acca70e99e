"""The whole application and the edge it is served behind."""

from __future__ import annotations

import asyncio
from pathlib import Path

from handrail.app import build
from handrail.counts import Counts
from handrail.edge.counting import find_counts, lend_counts
from handrail.serving import bind
from handrail.settings import Settings
from handrail.store import MemoryStore
from servers import listening


async def test_what_the_edge_refuses_is_counted_where_the_application_looks(
    memory_store: MemoryStore, tmp_path: Path
) -> None:
    application = build(Settings.from_environ({}, rules=tmp_path, demo=False), store=memory_store)
    with bind("127.0.0.1", 0) as listener:
        async with listening(application, listener):
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.getsockname()[1])
            writer.write(b"nonsense\r\n\r\n")
            assert (await reader.readline()) == b"HTTP/1.1 400 Bad Request\r\n"
            writer.close()
    assert application.counts.totals == {"http_refused_bad": 1}


async def test_who_leaves_in_the_midst_of_a_body_is_no_fault_of_the_server(
    memory_store: MemoryStore, tmp_path: Path
) -> None:
    application = build(Settings.from_environ({}, rules=tmp_path, demo=False), store=memory_store)
    with bind("127.0.0.1", 0) as listener:
        async with listening(application, listener):
            _, writer = await asyncio.open_connection("127.0.0.1", listener.getsockname()[1])
            writer.write(b"POST /v1/track HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\n{")
            await writer.drain()
            await asyncio.sleep(0.05)  # for the application to ask for the rest
            writer.close()
    assert application.counts.totals == {"http_left_early": 1}


def test_counters_that_nobody_lent_are_counted_all_the_same() -> None:
    state: dict[str, object] = {}
    find_counts(state).add("x")
    lend_counts(state, counts := Counts())
    assert find_counts(state) is counts
