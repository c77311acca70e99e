"""The browser client's files."""

from __future__ import annotations

import asyncio

import pytest

from handrail.web.static import client_folder
from servers import Serve


async def test_every_module_is_served_as_a_module_to_any_page(serve: Serve) -> None:
    client = await serve()
    names = [path.relative_to(client_folder()).as_posix() for path in client_folder().rglob("*.js")]
    assert "handrail.js" in names
    for name in names:
        answer = await client.get(f"/client/{name}")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_an_unchanged_file_is_not_sent_again(serve: Serve) -> None:
    client = await serve()
    first = await client.get("/client/handrail.js")
    again = await client.get("/client/handrail.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/client/",
        "/client/../pyproject.toml",
        "/client/..%2f..%2fpyproject.toml",
        "/client/%2e%2e/package.json",
        "/client//etc/passwd",
        "/client/handrail.js/",
        "/client/handrail.js%00",
        "/client/HANDRAIL.JS",
    ],
)
async def test_paths_that_were_not_listed_are_not_there(serve: Serve, path: str) -> None:
    client = await serve()
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())  # as it is, not tidied up
    answer = await reader.read()
    writer.close()
    assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 307", b"HTTP/1.1 400")), answer
    assert b"root:" not in answer
