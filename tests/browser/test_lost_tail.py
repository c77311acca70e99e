"""A store that comes back without the last things it had: the page still has them."""

from __future__ import annotations

import json
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from browser.stage import Server, Tabs
from masters import EVERYSEC, Master

EVENTS = 20
CONNECT = """async () => {
  const { connect } = await import('/client/handrail.js');
  window.epochs = new Set();
  window.handrail = await connect({ url: location.origin, user: 'ada', render: false });
  handrail.on('welcome', ({ epoch }) => epochs.add(epoch));
  await handrail.track('kept');
}"""
TRACK = "(count) => Promise.all(Array.from({ length: count }, (_, n) => handrail.track(`lost-${n}`)))"


@pytest.fixture
def master(tmp_path: Path) -> Iterator[Master]:
    with Master(tmp_path / "master", **EVERYSEC) as started:
        yield started


@pytest.fixture
def server(master: Master, tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "rules").mkdir()
    serving = Server(tmp_path / "data", tmp_path / "rules", "--redis", master.url)
    serving.start()
    yield serving
    serving.stop()


def applied(server: Server) -> Counter[str]:
    """How often the store has each event, by name."""
    with urllib.request.urlopen(f"{server.url}/api/tail?since=1h&follow=false&user=ada") as lines:
        events = [json.loads(line)["event"] for line in lines if line.strip()]
    return Counter(event["name"] for event in events if event["type"] == "track")


def test_what_was_acknowledged_and_lost_is_sent_again_and_applied_once(
    master: Master, server: Server, tabs: Tabs, tmp_path: Path
) -> None:
    tabs.allow = ("404",)  # there is no icon
    page = tabs.open(f"{server.url}/healthz")
    page.evaluate(CONNECT)
    master.keep_copy(tmp_path / "copy")
    page.evaluate(TRACK, EVENTS)  # every one of them is acknowledged
    assert applied(server) == Counter(["kept", *(f"lost-{n}" for n in range(EVENTS))])
    master.kill()
    master.put_back(tmp_path / "copy")
    files = b"".join(path.read_bytes() for path in (tmp_path / "copy").iterdir())
    raw = sum(b"lost-%d" % n not in files for n in range(EVENTS))
    master.start()
    page.wait_for_function("epochs.size > 0")  # the connection stayed open and was welcomed once more
    page.evaluate("handrail.track('after')")
    found = applied(server)
    net = sum(not found[f"lost-{n}"] for n in range(EVENTS))
    figures = {"fault": "F11", "acked": EVENTS, "lost_raw": raw, "lost_net": net, "most": max(found.values())}
    print(json.dumps(figures))  # noqa: T201
    assert (raw, net) == (EVENTS, 0)
    assert found == Counter(["kept", *(f"lost-{n}" for n in range(EVENTS)), "after"])
