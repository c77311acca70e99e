"""The two ways a page talks to a server, each until its connection ends."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial

import aiohttp
import msgspec

from .pages import AGAIN, Gone, Message, Page, Talk

BEAT = 1.0  # seconds between pings
SILENCE = 2.5  # seconds without a sign of life
ANSWERS_WITHIN = 2.5  # seconds for a handshake or a post
STREAM_SILENCE = 50.0  # as the browser client has it: a stream has no pings, only a comment every 15 seconds
STAY_AWAY = range(4500, 5000)  # close codes

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def open_session() -> aiohttp.ClientSession:
    limits = aiohttp.ClientTimeout(total=None, sock_connect=ANSWERS_WITHIN, sock_read=ANSWERS_WITHIN)
    return aiohttp.ClientSession(timeout=limits, connector=aiohttp.TCPConnector(limit=0, force_close=True))


def by_socket(session: aiohttp.ClientSession) -> Talk:
    return partial(_converse, session)


def by_stream(session: aiohttp.ClientSession) -> Talk:
    return partial(_listen, session)


# --- WebSocket ---


async def _converse(session: aiohttp.ClientSession, page: Page, base: str) -> None:
    close = aiohttp.ClientWSTimeout(ws_close=0.1)
    async with session.ws_connect(base + "/updates", protocols=("handrail.v1",), timeout=close) as socket:
        await socket.send_str(_encode({"type": "hello", **page.hello()}).decode())
        beside = [asyncio.create_task(_write(socket, page)), asyncio.create_task(_beat(socket))]
        try:
            await _read(socket, page)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.wait(beside)


async def _read(socket: aiohttp.ClientWebSocketResponse, page: Page) -> None:
    async with asyncio.timeout(SILENCE) as lease:
        async for message in socket:
            lease.reschedule(asyncio.get_running_loop().time() + SILENCE)
            page.take(_decode(message.data))
    if socket.close_code in STAY_AWAY:
        page.tally.wrong.append(f"{page.user} was told to stay away ({socket.close_code})")


async def _write(socket: aiohttp.ClientWebSocketResponse, page: Page) -> None:
    with suppress(*Gone):
        while True:
            await socket.send_str(_encode(await page.next()).decode())


async def _beat(socket: aiohttp.ClientWebSocketResponse) -> None:
    with suppress(*Gone):
        while True:
            await asyncio.sleep(BEAT)
            await socket.send_str('{"type":"ping"}')


# --- server-sent events and posts ---


async def _listen(session: aiohttp.ClientSession, page: Page, base: str) -> None:
    query = {key: str(value) for key, value in page.hello().items()}
    limits = aiohttp.ClientTimeout(total=None, sock_connect=ANSWERS_WITHIN, sock_read=STREAM_SILENCE)
    async with session.get(base + "/updates/sse", params=query, timeout=limits) as answer:
        if answer.status != 200:
            return
        posting = asyncio.create_task(_post_all(session, page))
        try:
            async for line in answer.content:
                if line.startswith(b"data: "):
                    page.take(_decode(line[6:]))
        finally:
            posting.cancel()
            await asyncio.wait([posting])


async def _post_all(session: aiohttp.ClientSession, page: Page) -> None:
    """In order, each until it is taken."""
    while True:
        message = await page.next()
        while not await _post(session, page, message):  # noqa: ASYNC110 - the server has no event for it
            await asyncio.sleep(AGAIN)


async def _post(session: aiohttp.ClientSession, page: Page, message: Message) -> bool:
    """Whether that was the end of it. As behind a balancer, any server may be the one that takes it; an answer that
    comes when the epoch has changed says nothing of the data there are now."""
    epoch = page.epoch
    body = {"userId": page.user, "messageId": message["id"], "event": message["name"]}
    limits = aiohttp.ClientTimeout(total=ANSWERS_WITHIN)
    with suppress(*Gone):
        address = page.dial() + "/v1/track"
        async with session.post(address, json=body | {"properties": message["properties"]}, timeout=limits) as answer:
            if page.epoch != epoch:
                return False
            if answer.status == 200:
                page.acknowledge_alone(message["id"])
            elif answer.status < 500:
                page.tally.wrong.append(f"a post was answered {answer.status}: {(await answer.text())[:200]}")
            else:
                page.tally.counts["refused for now"] += 1
            return answer.status < 500
    return False
