from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handrail.core.durations import (
    LONGEST,
    Duration,
    Limit,
    Limits,
    OneLimit,
    format_duration,
    parse_duration,
    parse_limit,
)
from handrail.core.source import Shape, read, validate


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("0s", 0), ("3m", 180), ("1h30m", 5400), ("3d7h30m", 286_200), ("24h", 86_400), ("1d1s", 86_401)],
)
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds * 1000


@pytest.mark.parametrize(
    "text",
    ["", "5", "s", "1w", "1.5h", "-1s", "+1s", "30m1h", "1m1m", "1H", " 1s", "1 s", "1s ", "1s\n", "٣s", "1ms", "s1"],
)
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="write whole numbers with s, m, h, d, largest first, as 90s or 1h30m"):
        parse_duration(text)


def test_a_duration_too_long_to_be_meant_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than ten years"):
        parse_duration("99999d")
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration("9" * 5000 + "s")


@given(st.integers(0, LONGEST // 1000))
def test_a_written_duration_reads_back(seconds: int) -> None:
    assert parse_duration(format_duration(seconds * 1000)) == seconds * 1000


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("1 per session", Limit(1, "session")),
        ("3 per 7d", Limit(3, "window", 7 * 86_400_000)),
        ("6  per 24h", Limit(6, "window", 86_400_000)),
        ("once", Limit(1, "ever")),
    ],
)
def test_limits(text: str, limit: Limit) -> None:
    assert parse_limit(text) == limit
    assert parse_limit(str(limit)) == limit


@pytest.mark.parametrize(
    "text", ["", "twice", "per session", "1 per", "-1 per session", "1 in 7d", "1 per week", "1 per 0s"]
)
def test_what_is_no_limit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a limit|is no span of a limit|must be longer than 0s"):
        parse_limit(text)


class Policy(Shape):
    gap: Duration | None = None
    limit: Limits = ()
    budget: OneLimit | None = None


def test_fields_of_rule_files() -> None:
    [document], _ = read("p.yaml", "gap: 30s\nlimit: [1 per session, 3 per 7d]\nbudget: once")
    policy, problems = validate(Policy, document)
    assert problems == []
    assert policy == Policy.model_construct(
        gap=30_000, limit=(Limit(1, "session"), Limit(3, "window", 7 * 86_400_000)), budget=Limit(1, "ever")
    )


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("3 min", "3m"),
        ("2days", "2d"),
        ("1 hour", "1h"),
        ("1w", "7d"),
        ("1h 30m", "1h30m"),
        ("90 S", "90s"),
        *((text, None) for text in ("1month", "500ms", "1.5h", "30m1h", "soon", "")),
    ],
)
def test_the_duration_that_was_likely_meant_is_told(written: str, meant: str | None) -> None:
    with pytest.raises(ValueError, match="is not a duration") as refused:
        parse_duration(written)
    assert str(refused.value).partition("; ")[2] == (f"did you mean '{meant}'?" if meant else "")


@pytest.mark.parametrize(
    ("span", "meant"), [("sesion", "session"), ("days", "day"), ("hour", "1h"), ("weeks", "7d"), ("visit", None)]
)
def test_the_span_that_was_likely_meant_is_told(span: str, meant: str | None) -> None:
    with pytest.raises(ValueError, match="is no span of a limit: write session, day or a duration") as refused:
        parse_limit(f"2 per {span}")
    assert str(refused.value).partition("; ")[2] == (f"did you mean '{meant}'?" if meant else "")


def test_faults_in_fields_of_rule_files() -> None:
    [document], _ = read("p.yaml", "gap: 30\nlimit:\n  - 1 per week\nbudget: {a: b}")
    policy, problems = validate(Policy, document)
    assert policy is None
    assert [str(problem) for problem in problems] == [
        "p.yaml:1:6: gap: expected a duration such as 90s or 1h30m, found 30",
        "p.yaml:3:5: limit[0]: 'week' is no span of a limit: write session, day or a duration such as 7d; "
        "did you mean '7d'?",
        "p.yaml:4:9: budget: expected a limit such as '1 per session', found a mapping",
    ]


def test_fields_have_a_json_schema() -> None:
    properties = Policy.model_json_schema()["properties"]
    assert properties["gap"]["anyOf"][0]["type"] == "string"
    assert properties["limit"]["anyOf"][1]["type"] == "array"
