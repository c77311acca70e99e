"""What the browser client draws, and what it hands to the page, on a page that is not the server's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from browser.stage import Server, Tabs, serve_pages

MESSAGES = """
message: ask
kind: modal
title: "Ready, {{ user.traits.name }}?"
body: "<b>Not bold</b>"
actions:
  - {label: Docs, do: {url: "https://docs.example/start"}}
  - {label: Later, do: {snooze: 1h}}
  - {label: No, do: dismiss}
---
message: note
kind: toast
title: Saved
---
message: brief
kind: toast
title: Gone in a moment
expires: 1s
---
message: news
kind: banner
title: News
---
message: hint
kind: tooltip
title: Here it is
anchor: "#target"
---
message: lost
kind: tooltip
title: Nowhere in particular
anchor: "#not-there, ["
---
message: card
kind: inline
title: For you
body: Chosen just now.
"""
SHOW = """
---
trigger: show-{name}
when: {{event: show, where: event.properties.message == '{name}'}}
then: [{{prompt: {name}}}]
"""
FILL = """
---
trigger: fill
when: {event: fill}
then: [{content: {slot: side, message: card}}]
---
trigger: empty
when: {event: empty}
then: [{content: {slot: side, message: null}}]
"""
PAGE = """<!doctype html><title>Page</title><link rel="icon" href="data:,">
<meta http-equiv="Content-Security-Policy"
  content="script-src 'self' 'unsafe-inline' {server}; style-src 'none'; require-trusted-types-for 'script'">
<br><br><br><br><br><br><input aria-label="Field"><button id="target">Target</button>
<div data-handrail-slot="side"></div>
<script type="module">
  import {{ connect }} from '{server}/client/handrail.js';
  const user = new URLSearchParams(location.search).get('user');
  window.client = await connect({{ url: '{server}', user }});
  client.on('withdraw', ({{ reason }}) => (document.documentElement.dataset.withdrawn = reason));
  document.documentElement.dataset.ready = '';
</script>
"""
RULES = MESSAGES + FILL + "".join(SHOW.format(name=name) for name in ("ask", "note", "brief", "news", "hint", "lost"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("renderer")
    for name in ("rules", "pages"):
        (folder / name).mkdir()
    (folder / "rules" / "all.yaml").write_text(RULES)
    server = Server(folder / "data", folder / "rules")
    server.start()
    (folder / "pages" / "index.html").write_text(PAGE.format(server=server.url))
    with serve_pages(folder / "pages") as url:
        yield url
    server.stop()


@pytest.fixture
def page(site: str, tabs: Tabs, visitor: str) -> Page:
    opened = tabs.open(f"{site}?user={visitor.removeprefix('demo-')}")
    opened.locator("html[data-ready]").wait_for(state="attached")
    return opened


Show = Callable[[str], None]


@pytest.fixture
def show(page: Page) -> Show:
    return lambda message: page.evaluate("(message) => client.track('show', {message})", message)


def test_a_modal_takes_the_focus_keeps_it_and_gives_it_back(page: Page, show: Show) -> None:
    page.evaluate("client.identify({name: 'Ada'})")
    page.get_by_label("Field").focus()
    show("ask")
    dialog = page.get_by_role("dialog", name="Ready, Ada?")
    expect(dialog).to_be_visible()
    expect(dialog).to_be_focused()
    expect(dialog.get_by_text("<b>Not bold</b>")).to_be_visible()
    for name in ("Docs", "Later", "No", "Close", "Docs"):
        page.keyboard.press("Tab")
        stop = dialog.get_by_label(name, exact=True).or_(dialog.get_by_text(name, exact=True))
        expect(stop).to_be_focused()
    page.keyboard.press("Shift+Tab")
    expect(dialog.get_by_role("button", name="Close", exact=True)).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(page.get_by_label("Field")).to_be_focused()
    expect(page.locator("html")).to_have_attribute("data-withdrawn", "dismissed")


def test_links_elsewhere_open_beside_the_page_and_snoozing_says_for_how_long(page: Page, show: Show) -> None:
    show("ask")
    link = page.get_by_role("link", name="Docs")
    expect(link).to_have_attribute("href", "https://docs.example/start")
    expect(link).to_have_attribute("rel", "noopener noreferrer")
    page.get_by_role("button", name="Later").click()
    expect(page.locator("html")).to_have_attribute("data-withdrawn", "snoozed")


@pytest.mark.parametrize(
    ("message", "selector"),
    [("note", "[role=status]"), ("news", "[role=region]"), ("hint", "[role=status].tip")],
)
def test_prompts_leave_the_page_usable_and_can_be_closed(page: Page, show: Show, message: str, selector: str) -> None:
    show(message)
    prompt = page.locator(f"handrail-prompt {selector}")
    expect(prompt).to_be_visible()
    page.get_by_role("button", name="Target").click()
    prompt.get_by_role("button", name="Close", exact=True).click()
    expect(prompt).to_have_count(0)


def test_a_tip_without_its_anchor_is_a_toast_and_one_with_it_follows_it(page: Page, show: Show) -> None:
    show("lost")
    lost = page.get_by_role("status", name="Nowhere in particular")
    expect(lost).to_be_in_viewport(ratio=1)
    lost.get_by_role("button", name="Close", exact=True).click()
    show("hint")
    hint = page.get_by_role("status", name="Here it is")
    expect(hint).to_be_visible()
    expect(hint).not_to_contain_class("below")
    page.get_by_role("button", name="Target").evaluate("(target) => document.body.prepend(target)")
    expect(hint).to_contain_class("below")


def test_a_prompt_goes_when_it_expires(page: Page, show: Show) -> None:
    show("brief")
    brief = page.get_by_role("status", name="Gone in a moment")
    expect(brief).to_be_visible()
    expect(brief).to_have_count(0)


def test_slots_are_filled_wherever_they_are_and_emptied(page: Page) -> None:
    page.evaluate("client.track('fill')")
    expect(page.get_by_text("Chosen just now.")).to_have_count(1)
    page.evaluate(
        """() => {
          const late = document.createElement('div');
          late.dataset.handrailSlot = 'side';
          document.body.append(late);
        }"""
    )
    expect(page.get_by_text("Chosen just now.")).to_have_count(2)
    assert page.evaluate("client.slot('side').message") == "card"
    page.evaluate("client.track('empty')")
    expect(page.get_by_text("Chosen just now.")).to_have_count(0)
    assert page.evaluate("client.slot('side')") is None


def test_an_element_that_cannot_be_a_slot_keeps_no_other_from_being_filled(page: Page) -> None:
    page.evaluate("document.querySelector('input').dataset.handrailSlot = 'side'")
    with page.expect_console_message(lambda message: "<input> cannot be a slot" in message.text):
        page.evaluate("client.track('fill', {})")
    expect(page.get_by_text("Chosen just now.")).to_have_count(1)


def test_what_can_never_be_sent_is_refused_at_once_and_the_others_go_on(page: Page, show: Show) -> None:
    for bad in ("{text: 'x'.repeat(70000)}", "{n: 1n}"):
        refused = page.evaluate(f"client.track('big', {bad}).then(() => '', (error) => error.message)")
        assert "16000 characters" in refused or "BigInt" in refused
    show("note")
    expect(page.get_by_role("status", name="Saved")).to_be_visible()


def test_a_refused_event_says_why_and_the_others_go_on(page: Page, show: Show) -> None:
    refused = page.evaluate("client.track('session_started').then(() => '', (error) => error.message)")
    assert "made by the server" in refused
    show("note")
    expect(page.get_by_role("status", name="Saved")).to_be_visible()


def test_after_closing_nothing_is_drawn_and_events_are_refused(page: Page, show: Show) -> None:
    show("note")
    page.evaluate("client.close()")
    expect(page.get_by_role("status")).to_have_count(0)
    assert "closed" in page.evaluate("client.track('late').then(() => '', (error) => error.message)")
