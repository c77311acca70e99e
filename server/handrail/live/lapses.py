"""Tokens that stop being good while a connection is open: they expire, or the user's are revoked.

The state says up to when a user's tokens are revoked. A process learns of a new revocation by its own commits at once,
and of others' by asking the store every second for what was announced; a lost announcement cannot be, since it is kept.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from handrail.core.inputs import BadInput
from handrail.identity import check_expiry, check_standing
from handrail.live.connection import BAD_TOKEN
from handrail.live.hub import Hub
from handrail.live.reception import turn_away
from handrail.runner import Runner
from handrail.store.protocol import CorruptState, StoreDown
from handrail.turns import Committed

LOOK_EVERY = 1.0  # seconds


class Lapses:
    def __init__(self, hub: Hub, runner: Runner) -> None:
        self._hub = hub
        self._runner = runner
        self._mark = ""
        runner.on_commit(self._committed)

    async def run(self) -> None:
        while True:
            self.close_expired()
            with suppress(StoreDown):  # what was announced is still there when the store is back
                await self.learn()
            await asyncio.sleep(LOOK_EVERY)

    def close_expired(self) -> None:
        now = self._runner.clock()
        for connection in self._hub.connections():
            try:
                check_expiry(connection.expires, now)
            except BadInput as fault:
                turn_away(connection, fault, BAD_TOKEN)

    async def learn(self) -> None:
        """Look at the users whose revocation was announced since. Raises StoreDown; then it is done again."""
        news = await self._runner.store.announced(self._mark)
        for user in dict.fromkeys(user for _, user in news):
            if self._hub.has(user) or self._runner.recall(user) is not None:
                await self._look(user)
        self._mark = news[-1][0] if news else self._mark

    async def _look(self, user: str) -> None:
        try:
            state = await self._runner.read(user)
        except CorruptState:  # it is in quarantine; the others' news are still to be read
            return
        self._close_revoked(user, state.revoked)

    def _committed(self, commit: Committed) -> None:
        if commit.state.revoked:
            self._close_revoked(commit.user, commit.state.revoked)

    def _close_revoked(self, user: str, revoked: int) -> None:
        for connection in self._hub.connections_of(user):
            try:
                check_standing(connection.issued, revoked)
            except BadInput as fault:
                turn_away(connection, fault, BAD_TOKEN)
