"""The whole job with Starlette and redis-py, as most people write it: state is read and each command awaited."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

SESSION = 30 * 60_000  # ms
NOBODY = "0" * 16
OWN = os.environ["PORT"]  # others use the store, too
State = dict[str, Any]

# The pool whose connections are waited for: the usual one refuses the hundred and first.
pool = BlockingConnectionPool.from_url(os.environ["STORE"], max_connections=100, decode_responses=True, protocol=3)
redis = Redis(connection_pool=pool)
commit = redis.register_script((Path(__file__).parent / "commit.lua").read_text())


async def updates(socket: WebSocket) -> None:
    await socket.accept()
    user = socket.query_params["user"]
    try:
        while True:
            message = await socket.receive_json()
            if message["type"] == "identify":
                await identify(user, message["traits"])
                await socket.send_json({"type": "ack"})
            else:
                content = await track(user, message)
                if content:
                    await socket.send_text(content)
    except WebSocketDisconnect:
        pass


async def identify(user: str, traits: dict[str, Any]) -> None:
    version, state = await load(user)
    state["traits"] |= traits
    await redis.set(f"{OWN}:state:{user}", f"{int(version) + 1:016}{json.dumps(state)}")


async def track(user: str, event: dict[str, Any]) -> str:
    while True:
        version, state = await load(user)
        now = time.time_ns() // 1_000_000
        touch(state, now)
        actions = decide(state, event["properties"])
        content = act(state, actions, event)
        line = json.dumps({"at": now, "event": event, "decisions": [kind for kind, _ in actions]})
        keys = [f"{OWN}:state:{user}", f"{OWN}:timers", f"{OWN}:outbox:{user}", f"{OWN}:log"]
        written = f"{int(version) + 1:016}{json.dumps(state)}"
        if await commit(keys=keys, args=[version, written, now + SESSION, user, content, line]):
            return content


async def load(user: str) -> tuple[str, State]:
    stored = await redis.get(f"{OWN}:state:{user}")
    if stored is None:
        return NOBODY, fresh(user)
    return str(stored[:16]), json.loads(stored[16:])


def fresh(user: str) -> State:
    counted: State = {"sessions": 0, "session": None, "counters": {"moved": 0}, "offset": 0}
    return {"user": user, "traits": {}, "slots": {}, **counted}


def touch(state: State, now: int) -> None:
    state["counters"]["moved"] += 1
    session = state["session"]
    if session is None or now - session["newest"] > SESSION:
        state["sessions"] += 1
        state["session"] = {"id": f"{state['user']}-{state['sessions']}", "started": now, "newest": now}
    else:
        session["newest"] = now


def decide(state: State, properties: dict[str, Any]) -> list[tuple[str, dict[str, str]]]:
    """The ten rules of benchmarks/job.py."""
    traits, sessions, moved = state["traits"], state["sessions"], state["counters"]["moved"]
    n, step = properties["n"], properties["step"]
    actions = []
    if n >= 0:
        actions.append(("content", {"slot": "top", "message": "place"}))
    if step == "billing" and traits["plan"] == "trial":
        actions.append(("set", {"mark": "billing"}))
    if moved >= 100_000_000:
        actions.append(("set", {"mark": "power"}))
    if traits["plan"] == "trial" and traits["team_size"] > 50:
        actions.append(("set", {"mark": "upsell"}))
    if traits["role"] == "admin" and step == "settings":
        actions.append(("set", {"mark": "admin"}))
    if sessions > 20:
        actions.append(("set", {"mark": "regular"}))
    if traits["language"] in ("de", "at") and step == "welcome":
        actions.append(("set", {"mark": "german"}))
    if moved == 5 and traits["plan"] == "pro":
        actions.append(("set", {"mark": "finisher"}))
    if n < -1 or step == "lost":
        actions.append(("set", {"mark": "lost"}))
    if "champion" in traits["tags"] and sessions >= 3:
        actions.append(("set", {"mark": "champion"}))
    return actions


def act(state: State, actions: list[tuple[str, dict[str, str]]], event: dict[str, Any]) -> str:
    content = ""
    for kind, what in actions:
        if kind == "set":
            state["traits"] |= what
            continue
        title = f"You are at {event['properties']['n']}"
        block: State = {
            "message": what["message"],
            "title": title,
            "body": "",
            "actions": [],
            "style": {},
            "variant": None,
        }
        state["offset"] += 1
        state["slots"][what["slot"]] = block
        message = {"type": "content", "offset": state["offset"], "slot": what["slot"], "block": block}
        content = json.dumps(message, separators=(",", ":"))
    return content


app = Starlette(routes=[WebSocketRoute("/updates", updates)])
