"""The golden frames of tests/wire, which the browser client's tests read too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from handrail.core import frames

GOLDEN = sorted((Path(__file__).parents[1] / "wire").glob("*.json"))
TYPES = {kind.__struct_config__.tag: kind for kind in get_args(frames.ClientMessage) + get_args(frames.ServerMessage)}


def read(path: Path) -> dict[str, Any]:
    golden: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return golden


def test_every_message_type_has_a_golden_frame() -> None:
    assert {path.stem for path in GOLDEN} == set(TYPES)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_frames_survive_decoding_and_encoding(path: Path) -> None:
    golden = read(path)
    assert golden["name"] == golden["frame"]["type"] == path.stem
    message = msgspec.convert(golden["frame"], TYPES[path.stem])
    again = json.loads(frames.encode(message))
    if path.stem in {kind.__struct_config__.tag for kind in get_args(frames.ClientMessage)}:
        again = {key: value for key, value in again.items() if key in golden["frame"]}  # clients may leave fields out
    assert again == golden["frame"]
