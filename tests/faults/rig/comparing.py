"""What the store has against what the pages sent and show."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec

from handrail.core import engine
from handrail.core.program import Program
from handrail.core.rules import load
from handrail.core.state import SEEN_MAX, State
from handrail.store import RedisStore

from .pages import Page

RULES = Path(__file__).parent / "rules"
LOGGED = 900  # lines of one user that the event log is sure to keep


def program() -> Program:
    loaded = load({"pages.yaml": (RULES / "pages.yaml").read_text("utf-8")}, {})
    assert loaded.program is not None, loaded.problems
    return loaded.program


async def compare(store: RedisStore, rules: Program, page: Page, now: int) -> Counter[str]:
    """How often each thing that must not be is, for one page; empty when the page shows what the store has, and the
    store has what the page sent, once."""
    state = await store.load(page.user)
    if state is None:
        return Counter({"lost": len(page.ids)})
    found = _applied_once(page, state) + _shown(page, state, rules, now)
    found += await _numbered(store, page, state)
    if len(page.ids) < LOGGED:
        found += await _logged_once(store, page)
    return +found


def _applied_once(page: Page, state: State) -> Counter[str]:
    count, total = state.traits.get("count", 0), state.traits.get("sum", 0)
    rang = state.traits.get("rang", 0)
    found: Counter[str] = Counter()
    found["lost"] = max(page.sent["worked"] - count, 0)
    found["doubled"] = max(count - page.sent["worked"], 0)
    if count == page.sent["worked"] and total != page.checksum:  # as many were lost as were doubled
        found["lost"] = found["doubled"] = 1
    found["timers lost"] = max(page.sent["armed"] - rang, 0)
    found["timers doubled"] = max(rang - page.sent["armed"], 0)
    if len(page.ids) < SEEN_MAX:
        found["lost"] = max(found["lost"], len(set(page.ids) - set(state.seen)))
    return found


def _shown(page: Page, state: State, rules: Program, now: int) -> Counter[str]:
    _, slots, prompts = engine.snapshot(rules, state, now)
    shown = {name: block["title"] for name, block in page.slots.items()}
    same = shown == {name: block.title for name, block in slots.items()}
    same = same and set(page.prompts) == {prompt.id for prompt in prompts}
    same = same and (page.epoch, page.offset) == (state.epoch, state.offset)
    return Counter({"pages that differ": 0 if same else 1})


async def _numbered(store: RedisStore, page: Page, state: State) -> Counter[str]:
    frames = await store.outbox(page.user, 0, 5_000)
    offsets = [offset for offset, _ in frames]
    first = offsets[0] if offsets else state.offset + 1
    found: Counter[str] = Counter()
    found["torn"] = int(offsets != list(range(first, state.offset + 1)))
    prompts = {msgspec.json.decode(data)["id"] for _, data in frames if data.startswith(b'{"type":"prompt"')}
    found["prompts lost"] = len(prompts - page.seen_prompts)
    return found


async def _logged_once(store: RedisStore, page: Page) -> Counter[str]:
    logged = Counter([line["event"].get("id") async for line in store.follow(page.user, 0, live=False)])
    return Counter({"doubled": sum(logged[event] > 1 for event in page.ids)})
