"""The Autobahn cases, driven by a public fuzzing client."""

from __future__ import annotations

from collections import Counter

import pytest

from echoing import echoing

kosoku = pytest.importorskip("kosoku", reason="the fuzzing client comes with what `make test` installs")

# Of the cases about limits those that stay within ours: other messages are over 64 kB, or cut into more pieces than a
# message may have; they are refused, as test_frames.py says. Compression (12, 13) is off.
WITHIN = ["9.1.1", "9.2.1", "9.7.*", "9.8.*"]
BEYOND = ["9.*", "12.*", "13.*"]


@pytest.mark.parametrize(("chosen", "left_out", "count"), [(None, BEYOND, 247), (WITHIN, None, 14)])
async def test_every_case_holds(chosen: list[str] | None, left_out: list[str] | None, count: int) -> None:
    with echoing() as ground:
        url = f"ws://127.0.0.1:{ground.port}"
        results = await kosoku.run_fuzzingclient(url, chosen, left_out, concurrency=4)  # raises where one fails
    verdicts = Counter(result.behavior.value for result in results)
    assert verdicts.total() == count
    assert set(verdicts) <= {"OK", "NON-STRICT", "INFORMATIONAL"}, verdicts
