"""What keeps Handrail from its store, in words that say what to change."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from certificates import certify
from handrail.store import RedisStore, StoreDown, StoreUnusable
from masters import EVERYSEC, Master


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Master]:
    """A server with a password, and a user who may not do much."""
    with Master(tmp_path_factory.mktemp("guarded") / "master", **EVERYSEC) as master:
        master.tell("ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@read", "+@connection")
        master.tell("ACL", "SETUSER", "nothing", "on", ">pw")
        master.tell("ACL", "SETUSER", "default", "resetpass", ">secret")
        yield master


async def fault_of(url: str) -> str:
    with pytest.raises((StoreDown, StoreUnusable)) as caught:
        await RedisStore.connect(url)
    return str(caught.value)


@pytest.mark.parametrize(
    ("entry", "tail", "told"),
    [
        ("", "0", "it wants a password: write HANDRAIL_REDIS_URL as redis://USER:PASSWORD@"),
        (":wrong@", "0", "user 'default' has another password than HANDRAIL_REDIS_URL says"),
        ("nobody:x@", "0", "user 'nobody' has another password"),
        (":secret@", "99", "it has no database 99: HANDRAIL_REDIS_URL ends in a number below"),
        ("reader:pw@", "0", "user 'reader' lacks a right: give it the rights that docs/operating.md lists"),
        ("nothing:pw@", "0", "user 'nothing' lacks a right"),
    ],
)
async def test_whoever_is_not_let_in_is_told_what_to_set(guarded: Master, entry: str, tail: str, told: str) -> None:
    said = await fault_of(f"redis://{entry}127.0.0.1:{guarded.port}/{tail}")
    assert said.startswith(f"redis://127.0.0.1:{guarded.port}/{tail} does not let Handrail in: {told}")
    assert "secret" not in said
    assert "wrong" not in said


async def test_a_right_that_is_missing_later_is_told_as_well(guarded: Master) -> None:
    rights = "~hr:* +@connection +@read +info +time"
    guarded.tell("AUTH", "secret")
    with socket.create_connection(("127.0.0.1", guarded.port)) as connection:
        connection.sendall(f"AUTH secret\r\nACL SETUSER short on >pw {rights}\r\n".encode())
        assert connection.recv(100)
    assert "docs/operating.md lists" in await fault_of(f"redis://short:pw@127.0.0.1:{guarded.port}/0")


async def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    assert "cannot be reached (nothing listens there)" in await fault_of("redis://127.0.0.1:1/0")
    assert "(there is no such socket)" in await fault_of(f"unix://{tmp_path}/none")
    assert "its name is not known" in await fault_of("redis://no.such.host.invalid/0")


async def test_tls_where_something_else_answers() -> None:
    async def refuse(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert "it does not speak TLS there (WRONG_VERSION_NUMBER): write redis" in await fault_of(
        f"rediss://127.0.0.1:{port}"
    )
    server.close()


async def test_tls_where_there_is_none_and_none_where_there_is(tmp_path: Path) -> None:
    certificate = certify(tmp_path)
    with Master(tmp_path / "plain", **EVERYSEC) as plain:
        assert "does it speak TLS at that port?" in await fault_of(f"rediss://127.0.0.1:{plain.port}")
        async with wrapped(plain.port, certificate) as port:
            assert "if it speaks TLS, begin HANDRAIL_REDIS_URL with rediss" in await fault_of(
                f"redis://127.0.0.1:{port}"
            )
            told = await fault_of(f"rediss://127.0.0.1:{port}")
            assert "is not trusted" in told
            assert "?ssl_ca_certs=/path/ca.pem" in told
            for options in (f"ssl_ca_certs={certificate}", "ssl_cert_reqs=none"):
                store = await RedisStore.connect(f"rediss://127.0.0.1:{port}?{options}")
                await store.close()


@asynccontextmanager
async def wrapped(inner: int, certificate: Path) -> AsyncIterator[int]:
    """TLS before the server at a port of this machine."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)

    tasks: set[asyncio.Task[None]] = set()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (task := asyncio.current_task()) is not None:
            tasks.add(task)
        there, back = await asyncio.open_connection("127.0.0.1", inner)
        await asyncio.gather(pump(reader, back), pump(there, writer))

    server = await asyncio.start_server(pass_on, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await asyncio.wait_for(asyncio.gather(*tasks), 5)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
    except OSError:
        pass
    writer.close()
