from __future__ import annotations

from collections import Counter
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from handrail.store.keys import BUCKET_KEYS, BUCKETS, bucket_of, user_keys


def test_the_layout() -> None:
    keys = user_keys("ana")
    assert keys.state == b"hr:{b%04d}:u:ana:s" % keys.bucket
    assert BUCKET_KEYS[417].timers == b"hr:{b0417}:timers"
    assert bucket_of("ana") == 699  # for ever: it is where ana's data lie


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_nobody_chooses_their_slot(user: str) -> None:
    keys = user_keys(user)
    for key in keys[1:]:
        tag = key.partition(b"{")[2].partition(b"}")[0]
        assert tag == b"b%04d" % bucket_of(user)


def test_no_two_users_share_a_key() -> None:
    users = ["".join(word) for word in product("a:so", repeat=4)] + ["", ":", ":s", "a:s:", "a"]
    keys = Counter(key for user in set(users) for key in user_keys(user)[1:])
    assert set(keys.values()) == {1}


def test_users_spread_evenly() -> None:
    held = Counter(bucket_of(f"user-{n}") for n in range(100 * BUCKETS))
    assert len(held) == BUCKETS
    assert max(held.values()) < 150
    assert min(held.values()) > 60
