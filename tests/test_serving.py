"""What the server's own log is for."""

from __future__ import annotations

import asyncio
import logging

import pytest
import structlog
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from handrail.serving import _log_to_stderr, is_ours
from nodes import Node


async def receive_all(client: ClientConnection) -> None:
    async with asyncio.timeout(5):
        while True:
            await client.recv()


async def test_what_callers_do_wrong_does_not_fill_the_log(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("uvicorn.error")
    log.addHandler(caplog.handler)
    log.addFilter(is_ours)
    try:
        with pytest.raises(InvalidStatus):
            await node.dial(origin="https://elsewhere.example")
        async with node.dial() as client:
            await client.send(b"\xff\xfe", text=True)
            with pytest.raises(ConnectionClosed):
                await receive_all(client)
    finally:
        log.removeFilter(is_ours)
        log.removeHandler(caplog.handler)
    assert [record.getMessage() for record in caplog.records] == []


def test_a_traceback_shows_no_values(capsys: pytest.CaptureFixture[str]) -> None:
    before = structlog.get_config()
    _log_to_stderr("info")
    try:
        fail(email="ada@mail.example")
    finally:
        structlog.configure(**before)
        logging.getLogger("uvicorn.error").removeFilter(is_ours)
    told = capsys.readouterr().err
    assert "ValueError: broken" in told
    assert "ada@" not in told


def fail(email: str) -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger().exception("it failed")
