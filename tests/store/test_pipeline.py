"""The connection itself, against servers that misbehave in ways Valkey does not."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import unquote

import pytest
from turns import turn

from certificates import certify
from handrail.store import Embedded, RedisStore, StoreDown
from handrail.store.address import Address
from handrail.store.pipeline import Pipeline, pack

HELLO = b"%1\r\n$7\r\nversion\r\n$5\r\n9.1.2\r\n"
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def served(path: Path, talk: Talk) -> AsyncIterator[Pipeline]:
    """A pipeline to a server that greets properly and then talks as it is told."""
    done: list[asyncio.Task[None] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        done.append(asyncio.current_task())
        with contextlib.closing(writer):
            await reader.read(65536)
            writer.write(HELLO)
            await talk(reader, writer)

    async with await asyncio.start_unix_server(serve, path):
        pipeline = Pipeline(Address(f"unix://{path}"), deadline=0.2)
        yield pipeline
        pipeline.shut()
        await asyncio.wait([task for task in done if task is not None])


async def test_what_one_tick_asks_leaves_in_one_write(tmp_path: Path) -> None:
    reads: list[int] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            reads.append(data.count(b"PING"))
            writer.write(b"+PONG\r\n" * reads[-1])

    async with served(tmp_path / "s", talk) as pipeline:
        await pipeline.send("PING")
        await asyncio.gather(*(pipeline.send("PING") for _ in range(50)))
        await asyncio.gather(*(pipeline.send("PING") for _ in range(50)))
    assert reads == [1, 50, 50]


async def test_who_is_told_at_once_may_drop_the_connection(tmp_path: Path) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(b":1\r\n:2\r\n:0\r\n-ERR no\r\n+OK\r\n:1\r\n:1\r\n")
        await reader.read()

    async with served(tmp_path / "s", talk) as pipeline:
        told: list[bool] = []
        for _ in range(5):
            pipeline.call(pack(("A",)), told.append)
        dropped: list[bool] = []

        def drop(positive: bool) -> None:
            dropped.append(positive)
            pipeline.drop("somebody wants it so")

        pipeline.call(pack(("A",)), drop)
        pipeline.call(pack(("A",)), dropped.append)
        with pytest.raises(StoreDown, match="wants it so"):
            await pipeline.send("A")
    assert told == [True, True, False, False, False]
    assert dropped == [True, False]


async def test_an_answer_in_pieces(tmp_path: Path) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        for byte in b"$5\r\nhel\r\n\r\n*2\r\n:1\r\n:2\r\n":
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        await reader.read()

    async with served(tmp_path / "s", talk) as pipeline:
        first, second = pipeline.send("A"), pipeline.send("B")
        assert (await first, await second) == (b"hel\r\n", [1, 2])


async def test_not_now_is_the_store_being_away_also_among_many_answers(tmp_path: Path) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(b"-LOADING wait\r\n" + b"*0\r\n-LOADING wait\r\n" + b"*0\r\n-WRONGTYPE no\r\n")
        await reader.read()

    async with served(tmp_path / "s", talk) as pipeline:
        one, away = pipeline.send("A"), pipeline.send_many(pack(("B",)) * 2, 2)
        wrong = pipeline.send_many(pack(("C",)) * 2, 2)
        for answer in (one, away):
            with pytest.raises(StoreDown, match="LOADING"):
                await answer
        assert [str(reply) for reply in await wrong] == ["[]", "WRONGTYPE no"]


async def test_one_answer_that_does_not_come_fails_all_who_wait(tmp_path: Path) -> None:
    asked: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(65536))
        writer.write(b"+OK\r\n")
        asked.append(await reader.read(65536))

    async with served(tmp_path / "s", talk) as pipeline:
        results = await asyncio.gather(*(pipeline.send("INCR", n) for n in range(3)), return_exceptions=True)
        assert results[0] == b"OK"
        assert [str(result) for result in results[1:]] == [f"no answer from unix://{tmp_path}/s within 0.2 s"] * 2
    assert asked[1:] == [b""]  # nothing was sent again


async def test_an_answer_nobody_asked_for_ends_the_connection(tmp_path: Path) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(65536))
        writer.write(b"+A\r\n+B\r\n")
        asked.append(await reader.read())

    asked: list[bytes] = []
    async with served(tmp_path / "s", talk) as pipeline:
        for _ in range(3):
            assert await pipeline.send("GET") == b"A"
    get = b"*1\r\n$3\r\nGET\r\n"
    assert asked == [get, b""] * 3


async def test_who_gave_up_waiting_disturbs_nobody(tmp_path: Path) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        await asyncio.sleep(0.01)
        writer.write(b":1\r\n:2\r\n:3\r\n")
        await reader.read()

    async with served(tmp_path / "s", talk) as pipeline:
        first, second, third = (pipeline.send("A") for _ in range(3))
        await asyncio.sleep(0)
        second.cancel()
        assert (await first, await third) == (1, 3)


async def test_after_a_failure_it_does_not_knock_at_once(tmp_path: Path) -> None:
    pipeline = Pipeline(Address(f"unix://{tmp_path}/none"), deadline=0.2)
    for _ in range(20):
        with pytest.raises(StoreDown, match="cannot be reached"):
            await pipeline.send("PING")
    assert pipeline._failures == 1
    pipeline.shut()


async def test_over_tls(valkey: Embedded, store: RedisStore, tmp_path: Path) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certify(tmp_path))
    tasks: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            while data := await reader.read(65536):
                writer.write(data)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up, down = await asyncio.open_unix_connection(unquote(valkey.url.removeprefix("unix://")))
        tasks.add(asyncio.ensure_future(pump(reader, down)))
        await pump(up, writer)

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        far = await RedisStore.connect(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={tmp_path}/tls.pem")
        assert await far.commit(turn())
        await far.close()
        with pytest.raises(StoreDown, match="is not trusted"):
            await RedisStore.connect(f"rediss://127.0.0.1:{port}/0")
        await asyncio.gather(*tasks)
