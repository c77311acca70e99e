from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import ClientConnectorError, ClientError, ClientSession, ClientTimeout
from aiohttp.abc import AbstractResolver, ResolveResult

from handrail.outbound.addresses import ALLOW_PRIVATE, Refused, connector, is_public, open_public

HERE = Path(__file__).parent
ADDRESSES = [tuple(line.split()) for line in (HERE / "addresses.txt").read_text().splitlines()]
URLS = (HERE / "urls.txt").read_text().splitlines()  # every way known to write, or to lead to, a loopback address


@pytest.mark.parametrize(("kind", "address"), ADDRESSES)
def test_addresses_are_told_apart(kind: str, address: str) -> None:
    assert is_public(address) == (kind == "public")


def test_the_table_of_urls_is_a_long_one() -> None:
    assert len(set(URLS)) == len(URLS) > 75


@dataclass
class Listener:
    port: int
    connects: int = 0


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    """One port on both loopbacks, counting who gets through."""
    found = Listener(0)

    async def count(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.connects += 1
        writer.close()

    first = await asyncio.start_server(count, "127.0.0.1", 0)
    found.port = first.sockets[0].getsockname()[1]
    servers = [first]
    if socket.has_ipv6:
        servers.append(await asyncio.start_server(count, "::1", found.port))
    yield found
    for server in servers:
        server.close()
        await server.wait_closed()


class Zone(AbstractResolver):
    """Names under example that lead inside, as a hostile name server would have them."""

    NAMES = {  # noqa: RUF012
        "rebound.example": ["127.0.0.1"],
        "mapped.example": ["::ffff:127.0.0.1"],
        "both.example": ["127.0.0.1", "::1"],
        "loop.example": ["::1"],
        "nat64.example": ["64:ff9b::7f00:1"],
        "zero.example": ["0.0.0.0", "::"],
    }

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        if host not in self.NAMES:
            loop = asyncio.get_running_loop()
            infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
            return [_result(host, str(info[4][0]), port) for info in infos]
        return [_result(host, address, port) for address in self.NAMES[host]]

    async def close(self) -> None:
        pass


def _result(host: str, address: str, port: int) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return ResolveResult(
        hostname=host, host=address, port=port, family=family, proto=socket.IPPROTO_TCP, flags=socket.AI_NUMERICHOST
    )


@pytest.mark.parametrize("form", URLS)
async def test_no_spelling_of_a_private_address_is_connected_to(form: str, listener: Listener) -> None:
    private = connector(allow_private=False, resolver=Zone())
    async with ClientSession(connector=private, timeout=ClientTimeout(total=5)) as session:
        with pytest.raises((ClientError, OSError, ValueError)):
            await session.post(form.format(port=listener.port), data=b"{}", allow_redirects=False)
    assert listener.connects == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "both.example"])
async def test_a_refusal_says_which_setting_allows_it(host: str, listener: Listener) -> None:
    async with ClientSession(connector=connector(allow_private=False, resolver=Zone())) as session:
        with pytest.raises(ClientConnectorError) as caught:
            await session.post(f"http://{host}:{listener.port}/")
    assert isinstance(caught.value.os_error, Refused)
    assert ALLOW_PRIVATE in str(caught.value.os_error)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "both.example", "①②⑦.⓪.⓪.①"])
async def test_the_listener_is_reached_when_private_addresses_are_allowed(host: str, listener: Listener) -> None:
    async with ClientSession(connector=connector(allow_private=True, resolver=Zone())) as session:
        with pytest.raises(ClientError):
            await session.post(f"http://{host}:{listener.port}/")
    assert listener.connects > 0


def test_the_one_address_of_our_own_is_exact() -> None:
    def info(host: str, port: int) -> tuple[int, int, int, str, tuple[str, int]]:
        return (socket.AF_INET, socket.SOCK_STREAM, 0, "", (host, port))

    open_public(info("127.0.0.1", 8000), own=("127.0.0.1", 8000)).close()
    for host, port in (("127.0.0.1", 8001), ("127.0.0.2", 8000), ("10.0.0.1", 8000)):
        with pytest.raises(Refused):
            open_public(info(host, port), own=("127.0.0.1", 8000))
