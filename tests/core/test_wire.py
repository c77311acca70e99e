"""The golden frames of tests/wire, which the browser client's tests read too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from handrail.core import frames

GOLDEN = sorted((Path(__file__).parents[1] / "wire").glob("*.json"))
TYPES = {each.__struct_config__.tag: each for each in get_args(frames.ClientMessage) + get_args(frames.ServerMessage)}


def read(path: Path) -> dict[str, Any]:
    golden: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return golden


def kind(path: Path) -> str:
    """`prompt-survey.json` is a prompt too."""
    return path.stem.partition("-")[0]


def test_every_message_type_has_a_golden_frame() -> None:
    assert {kind(path) for path in GOLDEN} == set(TYPES)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_frames_survive_decoding_and_encoding(path: Path) -> None:
    golden = read(path)
    assert golden["name"] == path.stem
    assert golden["frame"]["type"] == kind(path)
    message = msgspec.convert(golden["frame"], TYPES[kind(path)])
    again = json.loads(frames.encode(message))
    if kind(path) in {each.__struct_config__.tag for each in get_args(frames.ClientMessage)}:
        again = {key: value for key, value in again.items() if key in golden["frame"]}  # clients may leave fields out
    assert again == golden["frame"]
