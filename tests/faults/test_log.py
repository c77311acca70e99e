"""F65, live: what senders write, who users are and what opens doors is in no log and no label, and forges no line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx2
from crashing import DEADLY
from fleet import Fleet, fleet, tell
from prometheus_client.parser import text_string_to_metric_families

from handrail.store import launch
from handrail.store.embedded import ask
from handrail.store.keys import user_keys

MARK = "x7Qk"  # in everything that must not be repeated
CONTROL = re.compile(b"[\x00-\x09\x0b-\x1f\x7f]")
TEXTS = [
    f"{MARK}@mail.example",
    f"{MARK}\n12:00:00 [error    ] forged",
    f"{MARK}\r\nforged",
    f"{MARK}\x1b[2J\x1b[31m",
    f"{MARK}\x1b]0;title\x07",
    f"{MARK}\x9b31m",
    f"{MARK}\u2028forged",
    f"{MARK}\u202egnp.exe",
    f"{MARK}\x00",
    f"{MARK}%s%n{{0.__class__}}",
    f"{MARK}" + "a" * 5_000,
]
LINE = re.compile(rb"(\d\d:\d\d:\d\d|\d{4}-\d\d-\d\d|  |serving$)")


def send_everything(servers: Fleet) -> int:
    """Every text in every place where a sender may write; how many requests."""
    sent = 0
    with httpx2.Client(base_url=f"http://127.0.0.1:{servers.port}", trust_env=False, timeout=5) as client:
        for text in TEXTS:
            plain: dict[str, Any] = {"userId": "ada", "event": "greeted"}
            bodies: list[dict[str, Any]] = [
                {**plain, key: text} for key in ("userId", "anonymousId", "event", "messageId", "timestamp", "type")
            ]
            bodies += [plain | {key: {text: text}} for key in ("properties", "context", "traits")]
            for body in bodies:
                client.post("/v1/track", json=body)
            for path in ("/v1/identify", "/v1/batch", "/updates/sse", "/nothing", "/api/users/" + MARK):
                client.post(path, json={"traits": {"email": text}, "batch": [text, {"userId": text}]})
            quoted = text.encode("unicode_escape").decode()[:200]
            for header in ("Authorization", "X-Write-Key", "User-Agent", "Origin", "Cookie", "X-Forwarded-For"):
                client.get("/updates/sse", headers={header: quoted}, params={"token": text[:200]})
            sent += len(bodies) + 11
    return sent


def test_f65_no_log_line_is_forged_and_nobody_is_named(tmp_path: Path) -> None:
    with launch(tmp_path / "store") as store, fleet(tmp_path, store.url, 1) as servers:
        assert servers.post("bea", "greeted", "b1")
        sent = send_everything(servers)
        key = user_keys(f"{MARK}-corrupt").state
        command = b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$1\r\nx\r\n" % (len(key), key)
        assert ask(Path(store.url.removeprefix("unix://")), command) == b"+OK\r\n"
        body = {"userId": f"{MARK}-corrupt", "event": "greeted"}
        answer = httpx2.post(f"http://127.0.0.1:{servers.port}/v1/track", json=body, trust_env=False)
        assert answer.status_code == 500
        assert servers.post(f"{MARK}-ada", DEADLY, f"{MARK}-poison")
        metrics = httpx2.get(f"http://127.0.0.1:{servers.port}/metrics", trust_env=False).text
    log = servers.log.read_bytes()
    forged = [line for line in log.splitlines() if not LINE.match(line)]
    labels = [
        value
        for family in text_string_to_metric_families(metrics)
        for each in family.samples
        for value in each[1].values()
    ]
    hits = log.count(MARK.encode()) + metrics.count(MARK)
    tell({"fault": "F65", "requests": sent, "log_bytes": len(log), "forged": len(forged), "hits": hits})
    assert b"in quarantine" in log
    assert (forged, hits, CONTROL.search(log)) == ([], 0, None)
    assert max(map(len, labels)) < 40
