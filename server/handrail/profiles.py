"""Whose an event is: a known user's, or an anonymous visitor's who may have become one.

A merge takes three commits (see core/merge.py), and each may be repeated: whoever begins one carries it through before
answering; if that process dies, the visitor's alarm makes another one take it up.
"""

from __future__ import annotations

import asyncio

import structlog

from handrail.core.events import Absorb, Event, Known, Merge, Merged
from handrail.core.inputs import BadInput
from handrail.core.merge import is_heritable
from handrail.core.state import State
from handrail.identity import Caller, check_standing
from handrail.runner import Runner, TooManyConflicts
from handrail.store.protocol import CorruptState, Store, StoreDown
from handrail.turns import Outcome

TRIES = 3
PASSING = (StoreDown, TooManyConflicts)  # nothing was written, and the same may be tried again

log = structlog.get_logger(__name__)


class Profiles:
    """Submits events to the right user. Has nothing of its own, so that there may be several on one runner."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def submit(self, user: str, event: Event, *, known: bool) -> asyncio.Future[Outcome]:
        """As `Runner.submit`. An id addressed as a user's (`known`) is nobody else's from now on; what an anonymous
        visitor did goes to the user they became."""
        if known and self._is_known(user):
            return self._runner.submit(user, event)
        if known:
            self._runner.submit(user, self._known()).add_done_callback(_observe)  # in one commit with the event
        return self._runner.look_after(self._follow(self._runner.submit(user, event), user, event, known=known))

    async def _follow(self, first: asyncio.Future[Outcome], user: str, event: Event, *, known: bool) -> Outcome:
        outcome = await first
        if outcome.heir and known:
            await self.recognise(user)
            return await self._runner.submit(user, event)
        if outcome.heir and is_heritable(event):
            if not self.is_merged(user, outcome.heir):  # else the user might not know yet what the visitor had applied
                await self.finish(user)
            return await self._runner.submit(outcome.heir, event)
        return outcome

    async def arrive(self, caller: Caller) -> None:
        """Before a caller is let in: who says which visitor they were is merged with them, and a visitor who has become
        a user is turned away, so that nobody sees that user's things by an old anonymous id.

        Raises BadInput `known-visitor`, StoreDown, TooManyConflicts.
        """
        if caller.visitor:
            await self.merge(caller.visitor, caller.user)
        elif not caller.known and (await self._runner.read(caller.user)).merger is not None:
            raise known_visitor()

    async def vet(self, caller: Caller) -> None:
        """Raises BadInput `token-revoked` where the caller's token is no longer good, StoreDown."""
        if caller.issued:
            state = self._runner.recall(caller.user) or await self._runner.read(caller.user)
            check_standing(caller.issued, state.revoked)

    async def recognise(self, user: str) -> None:
        """Have the store know that this id is a user's. Raises StoreDown or TooManyConflicts."""
        if self._is_known(user):
            return
        for _ in range(TRIES):
            if not (await self._runner.submit(user, self._known())).heir:
                return
            await self.finish(user)  # it stood for a visitor who is being merged: first that, then it begins anew
        raise TooManyConflicts(user)

    async def merge(self, visitor: str, user: str) -> None:
        """The anonymous visitor is this user; returns when the store has it. Raises StoreDown or TooManyConflicts.

        Who is a user is left alone, and the event log says so; who has become another user stays that. What the rules
        cannot digest is in the server's log, and tried again later.
        """
        if self.is_merged(visitor, user):
            return
        await self.recognise(user)
        event = Merge(id=f"merge-{user}", at=self._runner.clock(), into=user)
        await self._runner.apply(visitor, event)
        await self.finish(visitor)

    async def finish(self, visitor: str) -> None:
        """Carry a merge that has begun through to its end. Raises StoreDown or TooManyConflicts: it is still owed."""
        parcel = await self._runner.read(visitor)
        if parcel.merger is None or not parcel.merger.due:
            return
        into, now = parcel.merger.into, self._runner.clock()
        event = Absorb(id=f"absorb-{parcel.epoch}", at=now, visitor=visitor, parcel=parcel)
        await self._runner.apply(into, event)
        state = self._runner.recall(into) or await self._runner.read(into)
        if parcel.epoch in state.absorbed or event.id in state.seen:
            await self._runner.apply(visitor, Merged(at=now))

    def is_merged(self, visitor: str, user: str) -> bool:
        """Whether this process knows that the two are one."""
        state = self._runner.recall(visitor)
        done = state.merger if state is not None else None
        return visitor == user or (done is not None and not done.due and done.into == user)

    def is_owed(self, visitor: str) -> bool:
        """Whether a merge of theirs has begun and not come to its end, as far as this process knows."""
        state = self._runner.recall(visitor)
        return state is not None and state.merger is not None and state.merger.due > 0

    async def carry_on(self, visitor: str) -> None:
        """Finish what another process began; if it cannot be done now, the visitor's alarm rings again."""
        try:
            await self.finish(visitor)
        except (*PASSING, CorruptState) as fault:
            log.warning("a merge could not be finished", fault=type(fault).__name__)

    def _is_known(self, user: str) -> bool:
        state = self._runner.recall(user)
        return state is not None and state.known

    def _known(self) -> Known:
        return Known(at=self._runner.clock())


def known_visitor() -> BadInput:
    return BadInput(
        "known-visitor",
        "This anonymous visitor has become a known user.",
        "Connect as the user, or with a new anonymous id.",
    )


async def find(store: Store, user: str) -> State | None:
    """The state as the store has it, of the user an anonymous visitor became. Raises StoreDown."""
    state = await store.load(user)
    if state is not None and state.merger is not None:
        return await store.load(state.merger.into)
    return state


def _observe(future: asyncio.Future[Outcome]) -> None:
    """The event beside it meets the same fate, and its sender hears of it."""
    if not future.cancelled():
        future.exception()
