"""From a hello to the welcome and what the hello sets off."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from handrail.core.events import Connected
from handrail.core.frames import Hello
from handrail.core.inputs import BadInput
from handrail.core.state import State
from handrail.identity import Caller, check_standing
from handrail.live import inbound
from handrail.live.connection import DRAINING, TOO_MANY
from handrail.live.reception import RECONNECT_MS, dismiss
from handrail.profiles import PASSING, known_visitor
from handrail.quarantine import corrupt_state
from handrail.store.protocol import CorruptState, StoreUnusable

if TYPE_CHECKING:
    from handrail.live.visit import Visit

PENALTY_MS = 10_000  # how long whoever does not stop sending stays away, at least
AWAY = (*PASSING, StoreUnusable)  # whose remedy is the operator's, and who comes back meanwhile does no harm


async def arrive(visit: Visit, hello: Hello) -> None:
    """Find out who it is and let them in. Raises BadInput."""
    inbound.check_hello(hello)
    caller = visit.desk.gate.authenticate(hello.token, hello.user_id, hello.anonymous_id)
    try:
        await visit.desk.profiles.arrive(caller)
    except AWAY:
        visit.store_away()
    except CorruptState:
        raise corrupt_state() from None
    else:
        await enter(visit, caller, hello)


async def enter(visit: Visit, caller: Caller, hello: Hello) -> None:
    """Welcome the user, who has arrived, then let what the hello sets off follow."""
    desk, connection = visit.desk, visit.connection
    if desk.draining:  # it came in before the server began to stop
        dismiss(connection, DRAINING, "draining", RECONNECT_MS)
        return
    if desk.limits.is_barred(caller.user):
        visit.send_off()
        return
    visit.identify(caller)
    desk.hub.attach(visit.user, connection)
    try:
        state = await _join(visit)
        if _is_crowded(visit, state):
            return
        if not state.version:
            return await _begin(visit, state, hello)
        resume_at = hello.offset if await _resumable(visit, hello, state) else None
    except BadInput as fault:
        visit.refuse(fault, None)
    except AWAY:
        visit.store_away()
    except CorruptState as fault:
        await desk.runner.quarantine.take_state(visit.user, fault)
        visit.refuse(corrupt_state(), None)
    else:
        _welcome(visit, state, hello, resume_at)
        visit.open(_connected(visit, hello))


async def _begin(visit: Visit, state: State, hello: Hello) -> None:
    """Welcome somebody whom the store did not know. What their hello sets off is their first commit: it makes the epoch
    lasting that the welcome names, so the welcome waits for it."""
    await asyncio.wait([visit.open(_connected(visit, hello))])
    if visit.connection.closing:  # it could not be stored, and they were told
        return
    runner = visit.desk.runner
    stored = runner.recall(visit.user)
    if stored is None or not stored.version:
        stored = await runner.current(visit.user)
    visit.connection.stale = visit.connection.stale or stored.offset > 0
    _welcome(visit, state if state.epoch == stored.epoch else stored, hello, None)


def _welcome(visit: Visit, state: State, hello: Hello, resume_at: int | None) -> None:
    desk, connection = visit.desk, visit.connection
    if hello.offset is not None:
        desk.runner.counts.add("resumes.snapshot" if resume_at is None else "resumes.suffix")
    offset = state.offset if resume_at is None else resume_at
    connection.greet(desk.hub.welcome(connection, state, resume_at=resume_at), state.epoch, offset)
    connection.stale = connection.stale or offset < state.offset
    desk.hub.greeted(connection)


def _is_crowded(visit: Visit, state: State) -> bool:
    """Whether the user has as many connections as they may, over all processes; then this one is told to stay away,
    which an event stream does only for a time."""
    most = visit.desk.limits.bounds.user_connections
    if not most or len(state.connections) < most:
        return False
    visit.desk.limits.counts.add("connections_refused_user")
    what = f"This user has {most} connections already."
    visit.connection.error(BadInput("too-many-connections", what, "Close some of their tabs."))
    dismiss(visit.connection, TOO_MANY, "too many connections", PENALTY_MS, after_ms=PENALTY_MS)
    return True


async def _join(visit: Visit) -> State:
    """The user's state in an epoch that lasts, or one that is not in the store yet, with this process among those that
    hold their connections.

    Raises BadInput `known-visitor` or `token-revoked`, StoreDown, TooManyConflicts.
    """
    desk, user = visit.desk, visit.user
    runner = desk.runner
    await runner.store.enlist(runner.node, user)
    state = await runner.read(user)
    if state.version and not runner.is_current(state):
        state = await runner.current(user)
    try:
        check_standing(visit.connection.issued, state.revoked)
    except BadInput:
        if len(desk.hub.connections_of(user)) == 1 and not desk.debts.owes(user):
            await runner.store.delist(runner.node, user)
        raise
    if state.merger is None:
        return state
    if not visit.known:  # they became a user while they were being let in
        await runner.store.delist(runner.node, user)
        raise known_visitor()
    await desk.profiles.recognise(user)
    return await runner.current(user)


def _connected(visit: Visit, hello: Hello) -> Connected:
    runner, identity = visit.desk.runner, visit.connection.id
    now = runner.clock()
    return Connected(
        id=f"{identity}.open",
        at=now,
        connection=identity,
        node=runner.node,
        device=hello.device,
        tab=hello.tab,
        visible=hello.visible,
        idle_ms=min(hello.idle_ms, now),
        context=visit.context,
    )


async def _resumable(visit: Visit, hello: Hello, state: State) -> bool:
    """Whether the client can go on where it was: same epoch, and the store still has the next message."""
    after = hello.offset
    if hello.epoch != state.epoch or after is None or after > state.offset:
        return False
    if after == state.offset:
        return True
    found = await visit.desk.runner.store.outbox(visit.user, after, 1)
    return bool(found) and found[0][0] == after + 1
