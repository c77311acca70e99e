"""Planted faults: each is one change to the server's source that breaks a promise; the simulation has to notice it."""

from __future__ import annotations

from .patches import Patch

COMMIT, CLAIM, RETRY, FINISH = "commit.lua", "claim.lua", "retry.lua", "finish.lua"
RUNNER, TURNS, HUB, CONNECTION = "runner", "turns", "live.hub", "live.connection"
VISIT, ARRIVAL = "live.visit", "live.arrival"

MUTANTS: dict[str, tuple[Patch, ...]] = {
    # --- the commit ---
    "version-unchecked": (Patch(COMMIT, "if version .. op ~= ARGV[1] then return 0 end", ""),),
    "outbox-unwritten": (
        Patch(
            COMMIT,
            "for i = FIRST, at_ids - 1, 2 do\n    call('XADD'",
            "for i = FIRST + 2, at_ids - 1, 2 do\n    call('XADD'",
        ),
    ),
    "outbox-emptied": (Patch(COMMIT, "call('PEXPIRE', outbox, OUTBOX_FOR)", "call('XTRIM', outbox, 'MAXLEN', 0)"),),
    "ids-unwritten": (Patch(COMMIT, "call('ZADD', seen, ARGV[i], ARGV[i + 1])", ""),),
    "ids-forgotten": (
        Patch(COMMIT, "if known + ids > SEEN_MAX then", "if known + ids > 3 then"),
        Patch(COMMIT, "'ZREMRANGEBYRANK', seen, 0, -SEEN_MAX - 1", "'ZREMRANGEBYRANK', seen, 0, -4"),
    ),
    "timer-left": (Patch(COMMIT, "call('ZREM', timers, ARGV[5])", ""),),
    "timer-late": (
        Patch(COMMIT, "call('ZADD', timers, ARGV[3], ARGV[5])", "call('ZADD', timers, ARGV[3] + 60000, ARGV[5])"),
    ),
    "timer-unmoved": (
        Patch(COMMIT, "call('ZADD', timers, ARGV[3], ARGV[5])", "call('ZADD', timers, 'NX', ARGV[3], ARGV[5])"),
    ),
    "calls-unqueued": (Patch(COMMIT, "call('ZADD', hooks, ARGV[i], ARGV[i + 1])", ""),),
    "bell-unrung": (
        Patch(COMMIT, "if frames > 0 then call('SPUBLISH', ARGV[6], ARGV[7]) end", ""),
        Patch(HUB, "CHECK_EVERY = 5", "CHECK_EVERY = 1_000_000"),
    ),
    "torn": (
        Patch(
            COMMIT, "call('SET', state, ARGV[2])\n", "call('SET', state, ARGV[2])\nif frames > 1 then return 1 end\n"
        ),
    ),
    # --- webhook calls ---
    "lease-for-ever": (Patch(CLAIM, "call('ZADD', KEYS[1], until_, ARGV[i])", "call('ZREM', KEYS[1], ARGV[i])"),),
    "claim-forgets": (
        Patch(
            CLAIM,
            "taken[#taken + 1] = payload",
            "redis.call('HDEL', KEYS[2], ARGV[i])\n    taken[#taken + 1] = payload",
        ),
    ),
    "retry-never": (
        Patch(
            RETRY,
            "redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])",
            "redis.call('ZADD', KEYS[1], ARGV[3] + 1e9, ARGV[1])",
        ),
    ),
    "finish-forgets": (Patch(FINISH, "redis.call('HDEL', KEYS[2], ARGV[1])", ""),),
    # --- the turn ---
    "decided-twice": (
        Patch(TURNS, "if event.id and event.id in turn.state.seen:", "if False:"),
        Patch("core.engine", "if event.id and event.id in state.seen:", "if False:"),
    ),
    "told-before-written": (
        Patch(
            RUNNER,
            "                self.store.write(turn.commit, partial(self._hear, user, turn, batch))",
            "                self._publish(turn)\n"
            "                self.store.write(turn.commit, partial(self._hear, user, turn, batch))",
        ),
    ),
    "conflict-ignored": (
        Patch(
            RUNNER,
            '            self._states.drop(user)\n            self.counts.add("conflicts")\n            return False',
            "            return True",
        ),
    ),
    "loss-unnoticed": (
        Patch(RUNNER, "        if state.lineage == lineage:\n            return state", "        return state"),
    ),
    "epoch-kept": (Patch(RUNNER, "epoch = state.epoch if stays else secrets.token_hex(8)", "epoch = state.epoch"),),
    "alarm-forgotten": (Patch(TURNS, "        alarm=alarm,\n", "        alarm=None,\n"),),
    # --- timers and presence ---
    "alarm-unread": (
        Patch(
            "live.timers",
            "found = await self._store.due(now + LOOKAHEAD, mine) if mine is None or mine else []",
            "found = []",
        ),
        Patch("live.timers", "found += await self._store.due(now - OVERDUE, others)", "pass"),
    ),
    "others-alarms-left": (
        Patch("live.timers", "for due, user in found:", "for due, user in found if mine is None else ():"),
    ),
    "dead-unburied": (Patch("live.presence", "            await self._bury(node)", "            pass"),),
    "leftovers-kept": (Patch("live.presence", "            await self._put_right()", "            pass"),),
    # --- connections ---
    "acknowledged-at-once": (
        Patch(
            VISIT,
            "        self._unsettled.append(sent)\n",
            "        self._unsettled.append(sent)\n"
            "        if acknowledge:\n            self.connection.acknowledge(acknowledge)\n",
        ),
    ),
    "acknowledged-though-refused": (
        Patch(
            VISIT,
            "                sent.future = None\n                self._wait()\n            return\n",
            "                pass\n",
        ),
    ),
    "acknowledged-behind-a-welcome": (
        Patch(
            CONNECTION,
            "if (acknowledged := self._take_ack()) is not None:\n            self._put",
            "if False:\n            self._put",
        ),
    ),
    "resumed-in-any-epoch": (
        Patch(
            ARRIVAL,
            "if hello.epoch != state.epoch or after is None or after > state.offset:",
            "if after is None or after > state.offset:",
        ),
    ),
    "resumed-past-the-trim": (
        Patch(ARRIVAL, "return bool(found) and found[0][0] == after + 1", "return bool(found)"),
        Patch(CONNECTION, "if wanted[0][0] != self.cursor + 1 if wanted else self.cursor < head:", "if False:"),
        Patch(CONNECTION, "if out.offset == self.cursor + 1 and self._bytes", "if self._bytes"),
    ),
    "resumed-one-too-far": (
        Patch(
            ARRIVAL,
            "offset = state.offset if resume_at is None else resume_at",
            "offset = state.offset if resume_at is None else min(resume_at + 1, state.offset)",
        ),
    ),
    "snapshot-without-prompts": (Patch(HUB, "prompts=prompts,", "prompts=(),"),),
    "position-unchecked": (Patch(HUB, "        await self._check_positions()", "        pass"),),
    "sent-to-everybody": (
        Patch(
            HUB,
            "        audience = self._audiences.get(commit.user)\n        if audience is None:\n            return\n",
            "        audience = next(iter(self._audiences.values()), None)\n"
            "        if audience is None:\n            return\n",
        ),
    ),
    "new-epoch-unannounced": (Patch(HUB, "        if lineage and audience.lineage != lineage:", "        if False:"),),
    # --- deciding ---
    "once-uncounted": (
        Patch("core.arbiter", "turn.state.fired[trigger.name] = remember(times, turn.now, trigger.remembered)", "pass"),
    ),
    "gap-uncounted": (
        Patch(
            "core.turn",
            "        self.state.prompted = remember(self.state.prompted, self.now, self.program.policy.remembered)",
            "        pass",
        ),
    ),
    "delay-early": (
        Patch("core.triggers.delay", "due = occurrence.at + self.span", "due = occurrence.at + self.span - 700"),
    ),
    "dismissed-left": (Patch("core.prompts", "    turn.withdraw(what)\n", ""),),
    "ids-shared": (
        Patch(
            "core.seen",
            "        return bool(self._first <= place < self._next)",
            "        return bool(self._first <= place)",
        ),
    ),
}
