"""A page whose token is short: it is renewed in band, shown as a ticket where a stream is read, and asked for again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import Page, expect

from bearers import SECRET, token
from browser.stage import Server, Tabs, serve_pages

PAGE = """<!doctype html><title>Page</title><link rel="icon" href="data:,">
<script type="module">
  {before}
  const {{ connect }} = await import('{server}/client/handrail.js');
  const data = document.documentElement.dataset;
  const client = window.client = await connect({{ url: '{server}', token: () => window.makeToken() }});
  client.on('renewed', () => (data.renewed = Number(data.renewed ?? 0) + 1));
  client.on('welcome', () => (data.welcomed = Number(data.welcomed ?? 0) + 1));
  client.on('status', ({{ online, transport, code }}) => (data.status = `${{online}} ${{transport}} ${{code ?? ''}}`));
</script>
"""
NO_SOCKETS = "window.WebSocket = class { constructor() { throw new Error('none here'); } };"
GOOD_FOR = 4  # seconds


class Mint:
    """Makes a page's tokens."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self) -> str:
        self.made += 1
        return token("ann", exp=int(time.time()) + GOOD_FOR)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("tokens")
    (folder / "rules").mkdir()
    started = Server(folder / "data", folder / "rules", HANDRAIL_CLIENT_SECRET=SECRET, HANDRAIL_ADMIN_KEY="admin")
    started.start()
    yield started
    started.stop()


@pytest.fixture
def site(server: Server, tmp_path: Path) -> Iterator[str]:
    for name, before in (("sockets", ""), ("streams", NO_SOCKETS)):
        (tmp_path / f"{name}.html").write_text(PAGE.format(server=server.url, before=before))
    with serve_pages(tmp_path) as url:
        yield url


@pytest.fixture
def mint(tabs: Tabs) -> Mint:
    made = Mint()
    tabs.context.expose_function("makeToken", made)
    return made


def heard(page: Page, name: str, value: str) -> None:
    expect(page.locator("html")).to_have_attribute(f"data-{name}", value, timeout=10_000)


def revoke(server: Server) -> None:
    headers = {"Authorization": "Bearer admin"}
    with urlopen(Request(f"{server.url}/api/users/ann/revoke", headers=headers, method="POST")) as answer:
        assert answer.status == 200


def test_a_socket_is_told_of_newer_tokens_and_stays_until_they_are_revoked(
    server: Server, site: str, tabs: Tabs, mint: Mint
) -> None:
    page = tabs.open(f"{site}sockets.html")
    heard(page, "renewed", "2")
    heard(page, "welcomed", "1")
    assert mint.made >= 3
    page.evaluate("client.track('looked')")
    old = token("ann", exp=int(time.time()) + 60, iat=int(time.time()) - 60)
    page.evaluate("(old) => (window.makeToken = () => old)", old)
    revoke(server)
    heard(page, "status", "false websocket 4500")


def test_a_stream_is_opened_with_tickets_and_again_with_newer_tokens(site: str, tabs: Tabs, mint: Mint) -> None:
    page = tabs.context.new_page()
    addresses: list[str] = []
    page.on("request", lambda request: addresses.append(request.url))
    page.goto(f"{site}streams.html")
    heard(page, "welcomed", "2")
    heard(page, "status", "true sse ")
    page.evaluate("client.track('looked')")
    streams = [address for address in addresses if "/updates/sse" in address]
    assert len(streams) >= 2
    assert all("ticket=" in address and "token=" not in address for address in streams)
    assert len(set(streams)) == len(streams)
