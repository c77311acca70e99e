"""Token buckets and what is counted, on a clock that is moved by hand."""

from __future__ import annotations

import pytest

from handrail.counts import Counts
from handrail.limits import FREE, KEYS, Bounds, Bucket, Buckets, Limits, Rate, TooMuch, address_of, bounds_of
from handrail.settings import Settings

GUARDED = {"HANDRAIL_ORIGINS": "https://app.example"}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = Bucket(Rate(10, 5), 0.0)
    assert [bucket.take(0.0) for _ in range(6)] == [True] * 5 + [False]
    assert not bucket.take(0.09)
    assert bucket.take(0.1)
    assert [bucket.take(100.0) for _ in range(6)] == [True] * 5 + [False]


def test_what_is_kept_back_is_for_others() -> None:
    bucket = Bucket(Rate(10, 10), 0.0)
    assert [bucket.take(0.0, keep=5) for _ in range(6)] == [True] * 5 + [False]
    assert [bucket.take(0.0) for _ in range(6)] == [True] * 5 + [False]


def test_what_costs_more_than_a_full_bucket_is_taken_from_a_full_one_and_paid_off() -> None:
    bucket = Bucket(Rate(10, 10), 0.0)
    assert bucket.take(0.0, 30)
    assert not bucket.take(1.9)
    assert bucket.take(2.1)


def test_who_is_refused_is_told_when_a_good_part_is_free_again() -> None:
    bucket = Bucket(Rate(100, 1_200), 0.0)
    assert bucket.take(0.0, 1_200)
    assert not bucket.take(0.0)
    assert bucket.wait() == 3.0
    assert bucket.take(3.0, 300)
    assert not bucket.take(3.0, 1_000)
    assert bucket.wait(1_000) == 10.0


def test_without_a_rate_there_is_no_bound() -> None:
    bucket, buckets = Bucket(FREE, 0.0), Buckets(FREE, Clock())
    assert all(bucket.take(0.0, 1e9) for _ in range(10))
    assert bucket.wait() == 0.0
    assert buckets.take("ada", 1e9) == 0.0


def test_of_many_keys_the_latest_are_remembered() -> None:
    buckets = Buckets(Rate(1, 1), Clock())
    for number in range(2 * KEYS):
        assert buckets.take(f"{number}") == 0.0
    assert len(buckets._buckets) == KEYS
    assert buckets.take(f"{2 * KEYS - 1}") > 0
    assert buckets.take("0") == 0.0


def test_an_address_that_failed_too_often_is_not_heard_for_a_while() -> None:
    clock = Clock()
    limits = Limits(Bounds(offences=Rate(0.2, 3)), clock, Counts())
    for _ in range(3):
        assert limits.offended("192.0.2.1") == 0
        limits.offend("192.0.2.1")
    assert limits.offended("192.0.2.1") > 0
    assert limits.offended("192.0.2.2") == 0
    clock.now += 5
    assert limits.offended("192.0.2.1") == 0


def test_a_user_and_the_write_key_have_each_their_own() -> None:
    limits = Limits(Bounds(user_messages=Rate(1, 5), writes=Rate(1, 10)), Clock(), Counts())
    limits.check_posts("ada", 5)
    with pytest.raises(TooMuch) as caught:
        limits.check_posts("ada", 1)
    assert (caught.value.code, caught.value.wait) == ("rate-limited", 1.25)
    limits.check_posts("bob", 5)
    limits.check_posts(None, 10)
    with pytest.raises(TooMuch):
        limits.check_posts(None, 1)
    assert limits.counts.totals == {"posts_refused_rate": 2}


@pytest.mark.parametrize(
    ("client", "address"),
    [
        (("192.0.2.7", 1), "192.0.2.7"),
        (("::ffff:192.0.2.7", 1), "192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 1), "2001:db8:1:2::"),
        (("fe80::1%eth0", 1), "fe80::"),
        (("pipe", 0), "pipe"),
        (None, ""),
    ],
)
def test_all_of_a_networks_addresses_are_one(client: object, address: str) -> None:
    assert address_of(client) == address


def test_on_loopback_nothing_is_bounded_but_a_users_connections() -> None:
    assert bounds_of(Settings.from_environ({})) == Bounds(user_connections=100)
    chosen = bounds_of(Settings.from_environ({"HANDRAIL_MESSAGE_RATE": "10"}))
    assert (chosen.messages, chosen.user_messages, chosen.handshakes) == (Rate(10, 120), Rate(10, 120), FREE)


def test_where_others_can_reach_the_server_everything_is_unless_it_was_set_to_nothing() -> None:
    bounds = bounds_of(Settings.from_environ(GUARDED))
    assert all(each.per_second for each in (bounds.handshakes, bounds.address_handshakes, bounds.writes))
    assert bounds.address_connections
    assert bounds.offences.per_second
    free = bounds_of(Settings.from_environ(GUARDED | {"HANDRAIL_HANDSHAKE_RATE": "0"}))
    assert free.handshakes.per_second == 0
