"""The demo page in Chromium, against a real server: what a visitor does and what they get to see."""

from __future__ import annotations

from pathlib import Path

import httpx2
from playwright.sync_api import Page, expect

from browser.stage import Server, Tabs, Visit

# Counts what is drawn, from before the page's own scripts run.
COUNT_PROMPTS = """
window.drawn = [];
new MutationObserver((changes) => {
  for (const change of changes) for (const node of change.addedNodes) {
    if (node.localName === 'handrail-prompt') window.drawn.push(node.dataset.message);
  }
}).observe(document, { childList: true, subtree: true });
"""
# A network on which WebSockets do not get through: where they go, nobody answers them.
NO_WEBSOCKETS = """
const Real = WebSocket;
const nowhere = `${location.origin.replace('http', 'ws')}/nowhere`;
window.WebSocket = class extends Real { constructor(_, names) { super(nowhere, names); } };
"""


def skip(page: Page) -> None:
    step = page.locator(".stepper .current").inner_text()
    page.locator("#step").get_by_role("button", name="Skip").click()
    expect(page.locator(".stepper .current")).not_to_have_text(step, use_inner_text=True)


def test_a_first_skip_brings_the_benefits_and_a_second_the_short_tour(visit: Visit) -> None:
    page = visit()
    skip(page)
    expect(page.get_by_role("region", name="Two minutes now")).to_be_visible()
    skip(page)
    dialog = page.get_by_role("dialog", name="Let’s make this shorter")
    expect(dialog).to_be_visible()
    expect(page.locator("#variant")).to_have_text("Short tour")
    expect(page.locator(".stepper li")).to_have_count(2)
    expect(page.get_by_role("region", name="Two minutes now")).to_have_count(0)
    dialog.get_by_role("button", name="Keep all the steps").click()
    expect(page.locator(".stepper li")).to_have_count(5)
    expect(dialog).to_have_count(0)


def test_sitting_still_brings_help(visit: Visit) -> None:
    page = visit()
    dialog = page.get_by_role("dialog", name="Need a hand")
    dialog.wait_for(timeout=25_000)
    dialog.get_by_role("button", name="Show me").click()
    expect(page.locator("#variant")).to_have_text("Short tour")
    expect(page.locator("#feed")).to_contain_text("demo-idle")


def test_what_is_dismissed_in_one_tab_goes_in_the_other(visit: Visit) -> None:
    first, second = visit(), visit()
    first.bring_to_front()
    skip(first)
    banners = [page.get_by_role("region", name="Two minutes now") for page in (first, second)]
    for banner in banners:
        expect(banner).to_be_visible()
    second.bring_to_front()
    banners[1].get_by_role("button", name="Close", exact=True).click()
    for banner in banners:
        expect(banner).to_have_count(0)
    expect(first.locator(".stepper .current")).to_have_text(
        second.locator(".stepper .current").inner_text().replace("\n", "")
    )


def test_a_tech_savvy_profile_gets_the_advanced_options_at_once(visit: Visit) -> None:
    page = visit()
    options = page.locator("[data-handrail-slot=demo-options]")
    expect(options.get_by_text("Advanced options")).to_have_count(0)
    page.get_by_label("How do you work with data?").select_option("tech-savvy")
    page.get_by_role("button", name="Save profile").click()
    expect(options.get_by_text("Advanced options")).to_be_visible(timeout=2_000)
    expect(page.locator("#variant")).to_have_text("Expert set-up")
    page.get_by_label("How do you work with data?").select_option("curious")
    page.get_by_role("button", name="Save profile").click()
    expect(options.get_by_text("Advanced options")).to_have_count(0)


def test_a_feature_used_four_times_gets_a_tip_beside_it(visit: Visit) -> None:
    page = visit()
    feature = page.get_by_role("button", name="Filters")
    for _ in range(4):
        feature.click()
    tip = page.get_by_role("status", name="Filters can be saved")
    expect(tip).to_be_visible()
    anchor, box = feature.bounding_box(), tip.bounding_box()
    assert anchor is not None
    assert box is not None
    assert box["y"] + box["height"] <= anchor["y"]
    assert box["x"] <= anchor["x"] + anchor["width"] / 2 <= box["x"] + box["width"]


def test_three_features_make_an_engaged_visitor(visit: Visit) -> None:
    page = visit()
    for name in ("Charts", "Compare", "Share"):
        page.get_by_role("button", name=name, exact=True).click()
    expect(page.get_by_role("status", name="You are getting the hang of it")).to_be_visible()
    expect(page.locator("#segments")).to_contain_text("demo-engaged")
    expect(page.locator("#tried")).to_have_text("1 of 7")


def test_the_panel_says_what_was_held_back_and_why(visit: Visit) -> None:
    page = visit()
    skip(page)
    skip(page)
    expect(page.locator("#feed")).to_contain_text("demo-skips")
    expect(page.locator("#feed .suppressed")).to_contain_text("it has had its share")
    expect(page.locator("#feed .fired .does").first).to_be_visible()


def test_without_websockets_server_sent_events_do_the_same(visit: Visit, tabs: Tabs) -> None:
    tabs.allow = ("WebSocket connection to",)
    tabs.context.add_init_script(NO_WEBSOCKETS)
    page = visit()
    expect(page.locator("#status")).to_contain_text("sse")
    skip(page)
    banner = page.get_by_role("region", name="Two minutes now")
    expect(banner).to_be_visible()
    banner.get_by_role("button", name="Close", exact=True).click()
    expect(page.locator("#screen")).to_have_text("nothing")
    page.get_by_label("How do you work with data?").select_option("tech-savvy")
    page.get_by_role("button", name="Save profile").click()
    expect(page.get_by_text("Advanced options")).to_be_visible()


def test_a_page_outlives_its_server(tabs: Tabs, tmp_path: Path) -> None:
    """Killed without warning and started again: the page comes back by itself, and nothing is shown twice."""
    tabs.allow = ("ERR_CONNECTION_REFUSED", "WebSocket connection to", "ERR_INCOMPLETE_CHUNKED_ENCODING")
    tabs.context.add_init_script(COUNT_PROMPTS)
    (tmp_path / "rules").mkdir()
    server = Server(tmp_path / "data", tmp_path / "rules")
    server.start()
    try:
        page = tabs.open(f"{server.url}/demo?user=demo-survivor")
        skip(page)
        banner = page.get_by_role("region", name="Two minutes now")
        expect(banner).to_be_visible()
        server.kill()
        expect(page.locator("#dot")).not_to_have_class("dot on")
        banner.get_by_role("button", name="Close", exact=True).click()
        page.get_by_role("button", name="Charts", exact=True).click()
        server.start()
        expect(page.locator("#dot")).to_have_class("dot on", timeout=20_000)
        expect(page.locator("#feed")).to_contain_text("Closed the message")
        expect(page.locator("#feed")).to_contain_text("Used charts")
        expect(banner).to_have_count(0)
        assert page.evaluate("window.drawn") == ["demo-core-benefits"]
        skip(page)
        expect(page.get_by_role("dialog", name="Let’s make this shorter")).to_be_visible()
        assert page.evaluate("window.drawn") == ["demo-core-benefits", "demo-short-tour"]
    finally:
        server.stop()


def test_a_reload_shows_what_is_on_the_screen_once_more_and_counts_it_once(visit: Visit, tabs: Tabs) -> None:
    tabs.context.add_init_script(COUNT_PROMPTS)
    page = visit()
    skip(page)
    banner = page.get_by_role("region", name="Two minutes now")
    expect(banner).to_be_visible()
    page.reload()
    expect(banner).to_be_visible()
    assert page.evaluate("window.drawn") == ["demo-core-benefits"]
    expect(page.locator("#feed li", has_text="The message is on the screen")).to_have_count(1)


def test_leaving_for_a_while_and_coming_back(visit: Visit) -> None:
    page = visit()
    page.get_by_role("button", name="Leave for 30 s").click()
    expect(page.get_by_role("heading", name="You have left")).to_be_visible()
    expect(page.locator("#feed")).to_contain_text("A tab left")
    page.get_by_role("status", name="Welcome back").wait_for(timeout=45_000)
    expect(page.locator("#feed")).to_contain_text("calls the webhook")
    expect(page.locator("#tries li", has_text="Leave for 30 seconds")).to_have_class("done")


def test_the_feed_is_for_demo_visitors_only(demo: Server) -> None:
    assert httpx2.get(f"{demo.url}/demo/feed?user_id=somebody", trust_env=False).status_code == 404
    page = httpx2.get(f"{demo.url}/demo", trust_env=False)
    assert "default-src 'none'" in page.headers["content-security-policy"]
