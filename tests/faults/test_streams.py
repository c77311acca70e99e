"""F57: whatever is said in a message, one message is one event of a stream, and its id is a position."""

from __future__ import annotations

import asyncio
import json
import re

import httpx2

from handrail.core.events import Track
from nodes import Node

SPOOFS = (
    *(
        "\n\nevent: bye\ndata: {}\n\n",
        "\r\revent: bye\r",
        "\r\n\r\ndata: x\r\n\r\n",
        "\nid: x\n",
        "\nretry: 1\n",
        ": x\n\n",
    ),
    *(
        "\x85event: bye",
        "\u2028event: bye\u2028\u2028",
        "\u2029data: x\u2029",
        "\v\fdata: x",
        "\ufeffdata: x",
        "\x1edata: x",
    ),
    *("data: x", "\\n\\ndata: x", "&#10;&#10;data: x", "%0a%0adata: x", "\u2424\u240a", "\t\t", " \n", "</script>\n\n"),
)
COMMENT = b":\n\n"
EVENT = re.compile(rb"event: ([a-z]+)\n(?:id: ([0-9a-f]+:\d+)\n)?data: ([^\r\n]+)")


async def read_stream(node: Node, target: str, events: int) -> bytes:
    """The stream up to its event of that number."""
    body = b""
    async with (
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{node.port}", trust_env=False) as client,
        client.stream("GET", target) as answer,
        asyncio.timeout(10),
    ):
        async for part in answer.aiter_bytes():
            body += part
            if body.replace(COMMENT, b"").count(b"\n\n") >= events:
                break
    return body


async def test_nothing_said_makes_another_event(node: Node) -> None:
    for number, text in enumerate(SPOOFS):
        await node.runner.submit("ann", Track(id=f"e{number}", name="greeted", at=0, properties={"n": text}))
    epoch = (await node.runner.read("ann")).epoch
    body = await read_stream(node, f"/updates/sse?user_id=ann&epoch={epoch}&offset=0", len(SPOOFS) + 1)
    blocks = body.replace(COMMENT, b"").removesuffix(b"\n\n").split(b"\n\n")
    found = [EVENT.fullmatch(block) for block in blocks]
    assert all(found), [block for block, match in zip(blocks, found, strict=True) if not match]
    said = [match.groups() for match in found if match]
    print(json.dumps({"fault": "F57", "texts": len(SPOOFS), "spoofed": len(blocks) - 1 - len(SPOOFS)}))
    assert [kind for kind, _, _ in said] == [b"welcome"] + [b"content"] * len(SPOOFS)
    assert [place for _, place, _ in said] == [b"%s:%d" % (epoch.encode(), at) for at in range(len(SPOOFS) + 1)]
    assert [json.loads(data)["block"]["title"] for _, _, data in said[1:]] == [f"Hello {text}" for text in SPOOFS]
