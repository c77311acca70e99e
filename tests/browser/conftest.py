"""Real servers and a real Chromium."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from browser.stage import ARGS, Server, Tabs, Visit, chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium for one file of tests: as long as Playwright is open, no other test can have an event loop."""
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium(), args=ARGS)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the demo's own rules only, so that nothing but them decides what a visitor sees."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / "rules").mkdir()
    server = Server(folder / "data", folder / "rules")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def tabs(browser: Browser) -> Iterator[Tabs]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(8_000)
    opened = Tabs(context)
    yield opened
    context.close()
    opened.check()


@pytest.fixture
def visitor(request: pytest.FixtureRequest) -> str:
    """A demo visitor of this test's own."""
    return f"demo-{request.node.name.replace('_', '-').removeprefix('test-')}"[:60]


@pytest.fixture
def visit(demo: Server, tabs: Tabs, visitor: str) -> Visit:
    """Opens the demo page as the visitor, connected and with its first step drawn."""

    def open_demo() -> Page:
        page = tabs.open(f"{demo.url}/demo?user={visitor}")
        page.locator("#step [data-done]").wait_for()
        return page

    return open_demo
