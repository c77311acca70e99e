"""Events over HTTP, as Segment's SDKs send them; answered when the store has them.

A batch is taken item by item: what is right goes on, what is wrong is listed. The answer is 200 as soon as one item was
taken (an SDK must not send the good ones again), with the refused ones under `errors`; 400 when none was.
"""

from __future__ import annotations

import asyncio
import zlib
from base64 import b64decode
from collections.abc import Callable
from secrets import token_hex
from typing import Any

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from handrail.core.events import Activity, Event
from handrail.core.inputs import BadInput, check_id, check_size
from handrail.identity import Caller, Identity, check_user
from handrail.limits import Limits
from handrail.profiles import PASSING, Profiles
from handrail.quarantine import corrupt_state
from handrail.runner import Runner
from handrail.store.protocol import CorruptState, StoreDown
from handrail.turns import Outcome
from handrail.web.problems import problem, refusal, store_down
from handrail.web.segment import KINDS, MAX_ITEM, Call, Envelope, Item, Presence, decode, translate

MAX_BODY = 512 * 1024
MAX_BATCH = 2_500  # events; SDKs send a hundred or so at a time
MAX_MEMBERS = 16  # of a gzip body; more than one is rare
_ENVELOPE = msgspec.json.Decoder(Envelope)
_ITEM = msgspec.json.Decoder(Item)
_PRESENCE = msgspec.json.Decoder(Presence)


class Sender(Struct, frozen=True):
    """Who posts: a server with the write key (`caller` None: it speaks for anyone), or a page with its user's token."""

    caller: Caller | None = None


class Ingest:
    def __init__(self, runner: Runner, identity: Identity, clock: Callable[[], int], limits: Limits) -> None:
        self._profiles = Profiles(runner)
        self._counts = runner.counts
        self._identity = identity
        self._clock = clock
        self._limits = limits

    def routes(self) -> list[Route]:
        post = ["POST"]
        singles = [
            Route(f"/v1/{path}", self._single(kind), methods=post)
            for short, kind in KINDS.items()
            for path in (kind, short)
        ]
        batches = [Route(path, self._answer(self._batch), methods=post) for path in ("/v1/batch", "/v1/b")]
        return [
            *batches,
            *singles,
            Route("/v1/activity", self._answer(self._activity), methods=post),
            Route("/v1/projects/{key}/settings", segment_settings),
            Route("/sourceConfig/", rudder_settings),
            Route("/sourceConfig", rudder_settings),
        ]

    def _answer(self, handle: Callable[[Request, bytes], Any]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            try:
                response: Response = await handle(request, await read_body(request))
            except BadInput as fault:
                self._counts.add(f"refused.{fault.code}")
                return refusal(fault)
            except PASSING:
                return store_down(request)
            return response

        return endpoint

    def _single(self, kind: str) -> Callable[[Request], Any]:
        async def handle(request: Request, body: bytes) -> Response:
            envelope = decode(body, _ENVELOPE)
            sender = await self._sender(request, envelope.write_key, envelope.token)
            self._check_pace(sender, 1)
            caller, call = self._check(body, kind, sender, Envelope())
            if caller.visitor:
                await self._profiles.merge(caller.visitor, caller.user)
            await self._submit(caller, call.event)
            return _success()

        return self._answer(handle)

    async def _batch(self, request: Request, body: bytes) -> Response:
        envelope = decode(body, _ENVELOPE)
        if envelope.batch is None:
            raise BadInput("bad-field", "The body has no `batch`.", "Send the events as a list under `batch`.")
        if len(envelope.batch) > MAX_BATCH:
            what = f"The batch has {len(envelope.batch)} events; {MAX_BATCH} are allowed."
            raise BadInput("body-too-large", what, "Send smaller batches.")
        sender = await self._sender(request, envelope.write_key, envelope.token)
        self._check_pace(sender, len(envelope.batch))
        taken: list[asyncio.Future[Any]] = []
        places: list[int] = []
        errors: list[dict[str, Any]] = []
        for index, raw in enumerate(envelope.batch):
            try:
                caller, call = self._check(raw, None, sender, envelope)
            except BadInput as fault:
                self._counts.add(f"refused.{fault.code}")
                errors.append(_item_error(index, fault))
                continue
            if caller.visitor and not self._profiles.is_merged(caller.visitor, caller.user):
                await asyncio.gather(*taken, return_exceptions=True)  # what was done before it, and as whom
                try:
                    await self._profiles.merge(caller.visitor, caller.user)
                except CorruptState:
                    errors.append(_item_error(index, corrupt_state()))
                    continue
            taken.append(self._submit(caller, call.event))
            places.append(index)
        errors += await _settle(taken, places)
        return _batch_answer(len(envelope.batch), sorted(errors, key=lambda error: error["index"]))

    def _check_pace(self, sender: Sender, events: int) -> None:
        self._limits.check_posts(sender.caller.user if sender.caller else None, events)

    def _submit(self, caller: Caller, event: Event) -> asyncio.Future[Outcome]:
        return self._profiles.submit(caller.user, event, known=caller.known)

    def _check(self, raw: bytes, kind: str | None, sender: Sender, envelope: Envelope) -> tuple[Caller, Call]:
        check_size(memoryview(raw).nbytes, MAX_ITEM)
        item = decode(raw, _ITEM)
        call = translate(
            item,
            kind or item.type or "",
            now=self._clock(),
            sent_at=envelope.sent_at,
            context=envelope.context,
            new_id=_new_id,
        )
        return _caller(sender, call.user_id, call.anonymous_id, call.visitor), call

    async def _activity(self, request: Request, body: bytes) -> Response:
        given = decode(body, _PRESENCE)
        sender = await self._sender(request, None, given.token)
        self._check_pace(sender, 1)
        caller = _caller(sender, given.user_id, given.anonymous_id, None)
        now = self._clock()
        idle = min(max(given.idle_ms, 0), now)
        edge = Activity(
            id=_new_id(), at=now, connection=check_id(given.connection), visible=given.visible, idle_ms=idle
        )
        await self._submit(caller, edge)
        return _success()

    async def _sender(self, request: Request, write_key: str | None, token: str | None) -> Sender:
        scheme, _, credential = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            token = credential
        if token and self._identity.needs_token:
            caller = self._identity.authenticate(token, None, None)
            await self._profiles.vet(caller)
            return Sender(caller)
        key = _basic_user(credential) if scheme.lower() == "basic" else request.headers.get("x-write-key", write_key)
        self._identity.check_write_key(key)
        return Sender()


def _caller(sender: Sender, user_id: str | None, anonymous_id: str | None, visitor: str | None) -> Caller:
    """Whose event it is; `visitor` is who the user was before, if they are one. Raises BadInput."""
    caller = sender.caller
    if caller is None:
        named = user_id or anonymous_id
        if not named:
            raise BadInput("no-user", "The event names no user.", "Send `userId` or `anonymousId`.")
        caller = Caller(check_user(named), bool(user_id))
    elif user_id is not None and user_id != caller.user:
        raise BadInput("wrong-user", "The event is for another user than the token.", "Leave `userId` out.")
    return caller._replace(visitor=check_user(visitor)) if caller.known and visitor else caller


async def read_body(request: Request, limit: int = MAX_BODY) -> bytes:
    """The body, inflated if it is gzip whatever its headers say. Raises BadInput `body-too-large` or `bad-gzip`.

    `limit` is of the bytes on the wire; inflated they may be MAX_BODY.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    return inflate(bytes(body)) if body[:2] == b"\x1f\x8b" else bytes(body)


def inflate(packed: bytes) -> bytes:
    """Gzip bytes unpacked, never beyond MAX_BODY. Raises BadInput."""
    unpacked = b""
    try:
        for _ in range(MAX_MEMBERS):
            member = zlib.decompressobj(wbits=31)
            unpacked += member.decompress(packed, MAX_BODY + 1 - len(unpacked))
            if len(unpacked) > MAX_BODY:
                raise _too_large()
            if not member.eof:
                raise BadInput("bad-gzip", "The gzip body ends early.", "Send the whole body.")
            packed = member.unused_data
            if not packed:
                return unpacked
    except zlib.error:
        raise BadInput("bad-gzip", "The body begins like gzip but cannot be unpacked.", "Pack it again.") from None
    raise BadInput("bad-gzip", f"The gzip body has over {MAX_MEMBERS} members.", "Pack it as one.")


async def segment_settings(request: Request) -> Response:
    """What Segment's browser SDK asks for before it starts: send everything here, filter nothing."""
    host = request.url.netloc
    source = {"apiKey": request.path_params["key"], "apiHost": f"{host}/v1", "unbundledIntegrations": []}
    plan = {"track": {"__default": {"enabled": True, "integrations": {}}}, "identify": {"__default": {"enabled": True}}}
    return _json(
        {"integrations": {"Segment.io": source}, "plan": plan, "edgeFunction": {}, "metrics": {"sampleRate": 0}}
    )


async def rudder_settings(_request: Request) -> Response:
    """What RudderStack's SDKs ask for before they start: the source is on, and there are no other destinations."""
    source = {"id": "handrail", "name": "handrail", "enabled": True, "config": {}, "destinations": [], "dataplanes": {}}
    return _json({"source": source})


async def _settle(taken: list[asyncio.Future[Any]], places: list[int]) -> list[dict[str, Any]]:
    """Wait until the store has every event; the errors of those it will never have. Raises StoreDown."""
    errors = []
    for index, outcome in zip(places, await asyncio.gather(*taken, return_exceptions=True), strict=True):
        if isinstance(outcome, PASSING):
            raise StoreDown from outcome
        if isinstance(outcome, CorruptState):
            errors.append(_item_error(index, corrupt_state()))
        elif isinstance(outcome, BaseException):
            fault = BadInput(
                "fault", "Handrail could not apply this event. The log says more.", "Do not send it again."
            )
            errors.append(_item_error(index, fault))
    return errors


def _batch_answer(count: int, errors: list[dict[str, Any]]) -> Response:
    if not errors:
        return _success()
    if len(errors) < count:
        return _success(errors=errors)
    return problem(400, f"None of the {count} events could be taken.", code="bad-batch", errors=errors)


def _item_error(index: int, fault: BadInput) -> dict[str, Any]:
    return {"index": index, "code": fault.code, "message": fault.message, "fix": fault.fix}


def _success(**more: Any) -> Response:
    return _json({"success": True, **more})


def _json(body: object) -> Response:
    return Response(msgspec.json.encode(body), media_type="application/json")


def _basic_user(credential: str) -> str | None:
    try:
        return b64decode(credential, validate=True).decode().partition(":")[0]
    except ValueError:
        return None


def _new_id() -> str:
    return token_hex(12)


def _too_large(limit: int = MAX_BODY) -> BadInput:
    return BadInput("body-too-large", f"The body is over {limit} bytes, unpacked.", "Send smaller batches.")
