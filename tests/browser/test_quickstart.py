"""The quickstart, with the page served from another port as its README says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from browser.stage import ROOT, Server, Tabs, serve_pages

QUICKSTART = ROOT / "examples" / "quickstart"


@pytest.fixture
def page_url(tmp_path: Path) -> Iterator[str]:
    server = Server(tmp_path / "data", QUICKSTART / "rules")
    site = tmp_path / "site"
    site.mkdir()
    page = (QUICKSTART / "index.html").read_text()
    assert page.count(":8000/") == 1
    (site / "index.html").write_text(page.replace(":8000/", f":{server.port}/"))
    server.start()
    with serve_pages(site) as url:
        yield url
    server.stop()


def test_pressing_both_buttons_brings_the_message(page_url: str, tabs: Tabs) -> None:
    tabs.allow = ("404",)  # the page has no icon
    page = tabs.open(page_url)
    message = page.get_by_role("status", name="Well begun")
    page.get_by_role("button", name="search").click()
    page.wait_for_function("Handrail")
    expect(message).to_have_count(0)
    page.get_by_role("button", name="reports").click()
    page.get_by_role("button", name="search").click()
    expect(message).to_be_visible()
    message.get_by_role("button", name="Go on").click()
    expect(message).to_have_count(0)


def test_the_page_is_as_short_as_the_readme_says() -> None:
    assert len((QUICKSTART / "index.html").read_text().splitlines()) <= 12
    assert "--rules examples/quickstart/rules" in (QUICKSTART / "README.md").read_text()
