"""The state as stored: bounded whatever senders do, read by older and newer versions, the same in every process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from plays import Play

from handrail.core.state import PURPOSES_MAX, STEPS_MAX, TRAITS_MAX, Session, dump_state, load_state

RULES = """
flow: tour
steps: [{id: first}, {id: second}]
---
counter: values
of: thing
distinct: event.properties.value
---
segment: many
if: user.counters.values > 2
---
segment: fan
if: "'many' in user.segments"
---
trigger: t
when: [{enters: many}, {enters: fan}, {delay: {after: {event: thing}, for: 1h}}]
then: [{set: {names: {cel: "user.traits.map(name, name)"}, about: {cel: "{'z': user.sessions, 'a': 1}"}}}]
"""


def numbered(name: str, count: int) -> dict[str, Any]:
    return {f"{name}_{number}": True for number in range(count)}


def test_what_senders_name_is_bounded() -> None:
    play = Play(RULES)
    play.track("step_viewed", step="first")
    for number in range(STEPS_MAX + 20):
        play.track("step_viewed", step=f"page-{number}")
    play.identify(**numbered("trait", TRAITS_MAX + 20))
    play.consent(**numbered("purpose", PURPOSES_MAX + 20))
    play.track("thing", value="x" * 10_000)
    state = play.state
    assert len(state.steps) == STEPS_MAX
    assert state.steps["first"] == "viewed", "the steps of flows are kept"
    assert f"page-{STEPS_MAX + 19}" in state.steps
    assert len(state.traits) == TRAITS_MAX
    assert {line.outcome for line in play.trace if line.reason == "full"} == {"ignored"}
    assert len(state.consents) == PURPOSES_MAX
    assert max(map(len, state.counters["values"].values)) <= 64


def test_known_names_still_change_when_there_is_no_room_for_new_ones() -> None:
    play = Play(RULES)
    play.identify(**numbered("trait", TRAITS_MAX))
    play.identify(trait_7=2, new=1)
    assert play.state.traits["trait_7"] == 2
    assert "new" not in play.state.traits


def test_long_values_are_still_told_apart() -> None:
    play = Play(RULES)
    for value in ("x" * 100 + "a", "x" * 100 + "b", "x" * 100 + "a"):
        play.track("thing", value=value)
    assert len(play.state.counters["values"].values) == 2


def test_an_older_version_reads_what_a_newer_one_wrote_and_the_other_way_round() -> None:
    play = Play(RULES)
    play.track("thing", value="a")
    fields = msgspec.msgpack.decode(dump_state(play.state))
    newer = {**fields, "invented_later": 1, "session": [*fields["session"], "more"]}
    assert load_state(msgspec.msgpack.encode(newer), dict(play.state.seen)) == play.state
    older = {**fields, "session": fields["session"][:2], "waits": [wait[:7] for wait in fields["waits"]]}
    loaded = load_state(msgspec.msgpack.encode(older), {})
    assert loaded.waits == play.state.waits
    assert play.state.session is not None
    assert loaded.session == Session(play.state.session.id, play.state.session.started)


@pytest.mark.parametrize("seed", ["1", "2"])
def test_every_process_decides_the_same(seed: str) -> None:
    environ = {
        "PYTHONHASHSEED": seed,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }  # this tree, not one installed elsewhere
    done = subprocess.run(
        [sys.executable, __file__], env=environ, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == outcome()


def outcome() -> str:
    play = Play(RULES)
    play.identify(zeta=1, alpha=2, mid=3, persona="x", locale="de", plan="pro")
    for value in ("c", "a", "b"):
        play.track("thing", value=value)
    play.wait("2h")
    return (dump_state(play.state) + msgspec.msgpack.encode([play.frames, play.trace])).hex()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    sys.stdout.write(outcome())
