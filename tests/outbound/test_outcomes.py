from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handrail.outbound.outcomes import LONGEST_ASKED, WAITS, Delivered, Drop, Retry, again, asked_wait, judge

NOW = 1_800_000_000_000
MIDDLE = 0.5  # no jitter


def test_the_schedule_is_the_documented_one() -> None:
    assert [wait // 1000 for wait in WAITS] == [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_is_delivered(status: int) -> None:
    assert judge(status, None, 0, now=NOW, chance=MIDDLE) == Delivered(status)


@pytest.mark.parametrize(
    "status", [101, 301, 302, 304, 307, 308, 400, 401, 403, 404, 408, 409, 422, 429, 500, 502, 503]
)
def test_everything_else_is_tried_again(status: int) -> None:
    outcome = judge(status, None, 1, now=NOW, chance=MIDDLE)
    assert isinstance(outcome, Retry)
    assert outcome.after == WAITS[1]
    assert str(status) in outcome.reason


def test_gone_is_gone() -> None:
    assert judge(410, "5", 0, now=NOW, chance=MIDDLE) == Drop("answered 410 Gone")


def test_the_tenth_failure_is_the_last() -> None:
    assert isinstance(again(8, "answered 500", chance=MIDDLE), Retry)
    assert again(9, "answered 500", chance=MIDDLE) == Drop("gave up after 10 tries, the last: answered 500")


@pytest.mark.parametrize(
    ("status", "header", "after"),
    [
        (503, "120", 120_000),
        (429, " 120 ", 120_000),
        (429, "1", WAITS[0]),  # never sooner than the schedule: tries would be used up in no time
        (503, "999999", LONGEST_ASKED),
        (503, "9" * 5000, LONGEST_ASKED),
        (500, "120", WAITS[0]),
        (404, "120", WAITS[0]),
        (503, "soon", WAITS[0]),
        (503, "-120", WAITS[0]),
        (503, "١٢٠", WAITS[0]),
        (503, "", WAITS[0]),
        (503, formatdate(NOW / 1000 + 90, usegmt=True), 90_000),
        (503, formatdate(NOW / 1000 - 90, usegmt=True), WAITS[0]),
        (503, "Fri, 15 Jan 2027 08:01:30 -0000", 90_000),
    ],
)
def test_retry_after(status: int, header: str, after: int) -> None:
    outcome = judge(status, header, 0, now=NOW, chance=MIDDLE)
    assert isinstance(outcome, Retry)
    assert outcome.after == after


@given(st.integers(0, 8), st.floats(0, 1, exclude_max=True))
def test_jitter_stays_within_a_tenth(attempt: int, chance: float) -> None:
    outcome = again(attempt, "", chance=chance)
    assert isinstance(outcome, Retry)
    assert 0.9 * WAITS[attempt] <= outcome.after <= 1.1 * WAITS[attempt]


@given(st.text())
def test_any_header_is_survived(header: str) -> None:
    assert 0 <= asked_wait(header, NOW) <= LONGEST_ASKED
