"""What a replay came to, as text to read: a table with a row for each thing that became of a trigger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from handrail.core.summary import Count, Reach, Shift, Summary, quantile

Row = tuple[str, ...]


def account(
    summary: Summary, before: Summary | None = None, shifts: Mapping[str, Shift] | None = None
) -> Iterator[str]:
    """What `handrail replay` prints of the rules, and beside it of those they are held against."""
    yield from _table(list(_rows(summary, before, shifts or {})), words=2)
    yield ""
    for name, count in (("sessions", _sessions), ("prompts in a session", _prompts), ("e-mails to a user", _emails)):
        yield f"{name}: {count(summary)}" + ("" if before is None else f"; before: {count(before)}")
    silent = [name for name, reach in summary.triggers.items() if name and not reach.rows()]
    if silent:
        yield f"never woken: {', '.join(silent)}"
    for trigger, shift in (shifts or {}).items():
        yield from _examples(trigger, shift)


def _rows(summary: Summary, before: Summary | None, shifts: Mapping[str, Shift]) -> Iterator[Row]:
    then = {} if before is None else before.triggers
    heading: Row = ("trigger", "", "users", "times")
    yield heading if before is None else (*heading, "users before", "times before", "gained", "lost")
    for trigger in [*summary.triggers, *(name for name in then if name not in summary.triggers)]:
        reach, past = summary.triggers.get(trigger), then.get(trigger)
        name = _name(trigger, reach, past, compared=before is not None)
        rows, past_rows = reach.rows() if reach else {}, past.rows() if past else {}
        outcomes = [*rows, *(outcome for outcome in past_rows if outcome not in rows)]
        for number, outcome in enumerate(sorted(outcomes, key=_rank)):
            row: Row = ("" if number else name, outcome, *_figures(rows.get(outcome)))
            if before is not None:
                row = (*row, *_figures(past_rows.get(outcome)), *_shifted(shifts.get(trigger), outcome))
            yield row


def _name(trigger: str, reach: Reach | None, past: Reach | None, *, compared: bool) -> str:
    mark = "" if not compared else " (new)" if past is None else " (removed)" if reach is None else ""
    return (trigger or "(no one trigger)") + (mark if trigger else "")


def _rank(outcome: str) -> tuple[bool, bool, str]:
    return outcome != "fired", not outcome.startswith("suppressed"), outcome


def _figures(count: Count | None) -> tuple[str, str]:
    return ("–", "–") if count is None else (f"{count.users:,}", f"{count.times:,}")


def _shifted(shift: Shift | None, outcome: str) -> tuple[str, str]:
    if outcome != "fired":
        return "", ""
    return (f"{shift.gained:,}", f"{shift.lost:,}") if shift else ("0", "0")


def _examples(trigger: str, shift: Shift) -> Iterator[str]:
    for what, users in (("gained", shift.gained_users), ("lost", shift.lost_users)):
        if users:
            yield f"{trigger} {what}, for instance: {', '.join(users)}"


def _sessions(summary: Summary) -> str:
    return f"{summary.sessions:,}"


def _prompts(summary: Summary) -> str:
    apart = f", and {summary.apart:,} while none was open" if summary.apart else ""
    return _distribution(summary.prompts) + apart


def _emails(summary: Summary) -> str:
    return _distribution(summary.emails)


def _distribution(numbers: Mapping[int, int]) -> str:
    total = sum(numbers.values())
    if not total:
        return "none"
    many = sum(times for number, times in numbers.items() if number > 2)
    shares = {**{str(number): numbers.get(number, 0) for number in range(3)}, "3 or more": many}
    told = ", ".join(f"{number}: {_share(times / total)}" for number, times in shares.items() if times)
    return f"{told}; median {quantile(numbers, 0.5)}, p90 {quantile(numbers, 0.9)}, most {max(numbers)}"


def _share(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else "<0.1%"


def _table(rows: Sequence[Row], *, words: int) -> Iterator[str]:
    """Aligned columns: the first `words` of them to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if index < words else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
