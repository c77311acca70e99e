"""How a command gets to the server that holds its keys.

A command that reaches the wrong master of a cluster was not run: the answer says where it belongs (MOVED, ASK) and it
is sent there. One that cannot be run for now (TRYAGAIN, CLUSTERDOWN) was not run either and is sent again until the
deadline. A command whose answer was lost is never sent again here: whether it ran is for the caller to find out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import hiredis

from handrail.store.masters import COMMON, Masters, is_elsewhere
from handrail.store.pipeline import NotNow, Pipeline, pack
from handrail.store.protocol import StoreDown

PART = 128  # places of a sweep that are read without letting others have a turn
AGAIN = 0.02  # seconds before a command that could not be run for now is sent again

Send = Callable[..., Awaitable[Any]]  # of a pipeline and a command


class Nodes:
    """A place is the number of a bucket, or COMMON. `deadline` is in seconds."""

    def __init__(self, masters: Masters, *, deadline: float) -> None:
        self._masters = masters
        self._deadline = deadline

    async def send(self, key: bytes, *command: Any, send: Send = Pipeline.send) -> Any:
        """One command on keys of the bucket of `key`, by this way of sending. Raises StoreDown, or
        hiredis.ReplyError."""
        place = place_of(key)
        try:
            return await send(self._masters.owner(place), *command)
        except (hiredis.ReplyError, NotNow) as answer:
            if not self._masters.is_cluster or not is_elsewhere(answer):
                raise
            refusal: Exception = answer
        return await self._pursue(place, command, refusal, send)

    async def read(self, key: bytes, *commands: tuple[Any, ...]) -> list[Any]:
        """Reads of keys of one bucket, in one write and in this order; error replies stand in the list. Raises
        StoreDown."""
        replies: list[Any] = []
        with suppress(NotNow):
            replies = await self._masters.owner(place_of(key)).send_many(b"".join(map(pack, commands)), len(commands))
        if replies and not any(is_elsewhere(reply) for reply in replies):
            return replies
        return [await self._reply(key, command) for command in commands]

    async def _reply(self, key: bytes, command: tuple[Any, ...]) -> Any:
        try:
            return await self.send(key, *command)
        except hiredis.ReplyError as error:
            return error

    async def _pursue(self, place: int, command: tuple[Any, ...], refusal: Exception, send: Send) -> Any:
        """Send a command that was not run to where it belongs, as long as there is time."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._deadline
        while loop.time() < until:
            asking = self._masters.follow(place, refusal)
            if send is not Pipeline.send:
                asking = None  # another way of sending has to wait until the move is over
            if asking is None and not str(refusal).startswith("MOVED"):
                await asyncio.sleep(AGAIN)
            try:
                if asking is None:
                    return await send(self._masters.owner(place), *command)
                [_, reply] = await asking.send_many(pack(("ASKING",)) + pack(command), 2)
                if not isinstance(reply, hiredis.ReplyError):
                    return reply
                refusal = reply
            except (hiredis.ReplyError, NotNow) as answer:
                refusal = answer
            if not is_elsewhere(refusal):
                raise refusal
        raise StoreDown(f"the store keeps sending a command elsewhere: {refusal}")

    async def sweep(
        self, places: Sequence[int], packed: Callable[[Sequence[int]], bytes], *, whole: bool = False
    ) -> AsyncIterator[tuple[int, Any]]:
        """(place, reply) of one command for each place, where the reply is not empty; `packed` packs those of many.

        What lies on a server that is away is left out, unless all is: StoreDown. With `whole`, nothing may be missing.
        """
        for _ in range(2):  # what has moved is asked for where it is now
            moved: list[int] = []
            async for part, replies in self._ask_all(places, packed, whole=whole):
                for place, reply in zip(part, replies, strict=True):
                    if not reply:
                        continue
                    if isinstance(reply, hiredis.ReplyError) and is_elsewhere(reply):
                        self._masters.follow(place, reply)
                        moved.append(place)
                    else:
                        yield place, reply
            if not moved:
                return
            places = moved
        if whole:
            raise StoreDown("a part of the store is being moved")

    async def _ask_all(
        self, places: Sequence[int], packed: Callable[[Sequence[int]], bytes], *, whole: bool
    ) -> AsyncIterator[tuple[list[int], list[Any]]]:
        groups = self._masters.reachable(places)
        if whole and sum(map(len, groups.values())) < len(places):
            raise StoreDown("a part of the store is away")
        parts = [
            (pipeline, held[start : start + PART])
            for pipeline, held in groups.items()
            for start in range(0, len(held), PART)
        ]
        asked = [pipeline.send_many(packed(part), len(part)) for pipeline, part in parts]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        faults = [answer for answer in answers if isinstance(answer, BaseException)]
        if faults and (whole or len(faults) == len(answers)):
            raise faults[0]
        for (_, part), answer in zip(parts, answers, strict=True):
            if not isinstance(answer, BaseException):
                yield part, answer
                await asyncio.sleep(0)  # a hundred thousand at once must not hold up everybody else


def place_of(key: bytes) -> int:
    """The bucket of `hr:{b0417}:…`, or COMMON."""
    return int(key[5:9]) if key[4:5] == b"b" else COMMON
