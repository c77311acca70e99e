from __future__ import annotations

from handrail.counts import Counts


def test_adds_up_by_name() -> None:
    counts = Counts()
    counts.add("ws_refused_fragments")
    counts.add("ws_refused_fragments", 2)
    counts.add("http_refused_header")
    assert counts.totals == {"ws_refused_fragments": 3, "http_refused_header": 1}
