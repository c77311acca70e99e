"""The demo page: a fictional product's onboarding, and a feed of what the server decided about its one visitor.

Served where the demo is on, which by default is on loopback only: the feed shows anybody any demo visitor's events.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route

from handrail import eventlog
from handrail.core.inputs import BadInput
from handrail.core.program import Program
from handrail.store.protocol import Store, StoreDown
from handrail.web.ingest import read_body
from handrail.web.problems import problem, refusal
from handrail.web.segment import decode
from handrail.web.static import serve_folder

PAGES = Path(__file__).parent / "pages" / "demo"
RULES = PAGES / "rules"
HISTORY_MS = 15 * 60_000  # how far back a feed begins
HEARTBEAT_S = 10.0
LOOK_UP_S = 0.5  # how soon a feed notices that the server wants to stop
WAITING = 100  # what a feed holds for its page; the reader waits beyond that
MAILS = 50  # e-mails kept in memory, the newest; they are for show
MAX_MAIL = 16 * 1024
# What the page may load and talk to: itself. The client library must work under a policy as strict as this.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'"
)


Queue = asyncio.Queue[tuple[str, Any]]
Lines = AsyncIterator[dict[str, Any]]


def is_visitor(user: str) -> bool:
    """Whether the user is one of the demo's, for whom its own rules hold."""
    return user.startswith("demo-")


class Mail(msgspec.Struct):
    """An e-mail as the demo's webhook posts it."""

    user: str
    to: str
    subject: str
    text: str
    at: int = 0


_MAIL = msgspec.json.Decoder(Mail)


class Inbox:
    """The newest e-mails, in memory: they are for show. Feeds hear of those to their user."""

    def __init__(self) -> None:
        self._mails: deque[Mail] = deque(maxlen=MAILS)
        self._feeds: dict[Queue, str] = {}

    def add(self, mail: Mail) -> None:
        self._mails.append(mail)
        for queue, user in self._feeds.items():
            if user == mail.user and not queue.full():
                queue.put_nowait(("mail", mail))

    @contextmanager
    def heard_by(self, queue: Queue, user: str) -> Iterator[None]:
        for mail in [mail for mail in self._mails if mail.user == user][: WAITING // 2]:
            queue.put_nowait(("mail", mail))
        self._feeds[queue] = user
        try:
            yield
        finally:
            del self._feeds[queue]


def routes(
    store: Store, program: Callable[[str], Program], *, clock: Callable[[], int], draining: Callable[[], bool]
) -> list[Route]:
    """`/demo`, its files, `/demo/feed?user_id=…` (server-sent events) and `/demo/inbox`, where its e-mails arrive.

    `program` gives the rules a visitor lives by, `clock` milliseconds since the epoch; once `draining()`
    is true, feeds end.
    """
    inbox = Inbox()

    async def page(_request: Request) -> Response:
        return FileResponse(
            PAGES / "index.html", headers={"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
        )

    async def feed(request: Request) -> Response:
        user = request.query_params.get("user_id", "")
        if not is_visitor(user):
            return problem(404, "The feed is for demo visitors only, whose ids begin with demo-.")
        follow = store.follow(user, clock() - HISTORY_MS)
        lines = (eventlog.spell_out(line, program) async for line in follow)
        events = _events(store, inbox, user, lines, draining)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(events, media_type="text/event-stream", headers=headers)

    async def receive(request: Request) -> Response:
        try:
            mail = decode(await read_body(request, MAX_MAIL), _MAIL)
        except BadInput as fault:
            return refusal(fault)
        mail.at = clock()
        inbox.add(mail)
        return Response(status_code=204)

    return [
        Route("/demo", page),
        Route("/demo/feed", feed),
        Route("/demo/inbox", receive, methods=["POST"]),
        *serve_folder("/demo", PAGES),
    ]


async def _events(
    store: Store, inbox: Inbox, user: str, lines: Lines, draining: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """Log lines as they are committed, each followed by the profile it led to, and e-mails as they arrive."""
    queue: Queue = asyncio.Queue(WAITING)
    with inbox.heard_by(queue, user):
        reader = asyncio.create_task(_read(lines, queue))
        try:
            yield b"retry: 1000\n\n"
            async for kind, value in _arrivals(queue, draining):
                yield _event(kind, value)
                if kind == "line" and queue.empty():
                    yield _event("profile", await _profile(store, user))
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)


async def _arrivals(queue: Queue, draining: Callable[[], bool]) -> AsyncIterator[tuple[str, Any]]:
    """What is put on the queue until its end or the server's, and a `beat` when nothing was for a while."""
    quiet = 0.0
    while not draining():
        try:
            kind, value = await asyncio.wait_for(queue.get(), LOOK_UP_S)
        except TimeoutError:
            quiet += LOOK_UP_S
            if quiet >= HEARTBEAT_S:
                quiet = 0.0
                yield "beat", None
            continue
        if kind == "end":
            return
        yield kind, value


async def _read(lines: Lines, queue: Queue) -> None:
    with suppress(StoreDown):  # the browser opens the feed again
        async for line in lines:
            await queue.put(("line", line))
    await queue.put(("end", None))


async def _profile(store: Store, user: str) -> dict[str, Any]:
    try:
        state = await store.load(user)
    except StoreDown:
        state = None
    if state is None:
        return {}
    session = state.session
    return {
        "segments": state.segments,
        "traits": state.traits,
        "sessions": state.sessions,
        "session": session and {"started": session.started, "ended": session.ended, "events": session.events},
        "tabs": [{"visible": connection.visible} for connection in state.connections.values()],
        "prompt": state.prompt and state.prompt.prompt.message,
    }


def _event(kind: str, value: Any) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + msgspec.json.encode(value) + b"\n\n"
