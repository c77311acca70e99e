"""Ids that were applied: every value keeps to what it was made from, whoever goes on from it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from handrail.core.seen import SPARE, Seen

NAMES = st.sampled_from([f"e{number}" for number in range(12)])
# (which of the values so far, what is added to it, when, how many are kept at most, what is too old)
MOVES = st.lists(st.tuples(st.integers(0, 99), NAMES, st.integers(0, 20), st.integers(1, 6), st.integers(-1, 12)))


@given(MOVES)
def test_it_is_a_dict_that_is_copied_for_every_change(moves: list[tuple[int, str, int, int, int]]) -> None:
    made: list[tuple[Seen, dict[str, int]]] = [(Seen({}), {})]
    for which, name, at, most, edge in moves:
        seen, plain = made[which % len(made)]
        if name not in plain:
            made.append((seen.add(name, at), {**plain, name: at}))
        seen, plain = made[-1]
        young = [(name, at) for name, at in plain.items() if at > edge]
        made.append((seen.forget(edge, most), dict(young[-most:])))
    for seen, plain in made:
        assert list(seen.items()) == list(plain.items())
        assert len(seen) == len(plain)
        assert dict(seen) == plain
        assert [name in seen for name in map("e{}".format, range(12))] == [
            name in plain for name in map("e{}".format, range(12))
        ]


def test_what_was_forgotten_is_let_go_of() -> None:
    seen = Seen({})
    for number in range(1_000):
        seen = seen.add(f"e{number}", number).forget(-1, 10)
    assert list(seen) == [f"e{number}" for number in range(990, 1_000)]
    assert len(seen._places) <= 2 * (10 + SPARE)
    assert len(seen._times) == len(seen._places)


def test_adding_to_the_newest_copies_nothing() -> None:
    first = Seen({"a": 1})
    second = first.add("b", 2)
    assert second._times is first._times
    assert first.add("c", 3)._times is not first._times
