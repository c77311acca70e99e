"""A process decides by the store's time, whatever its own clock says, and never goes back in time."""

from __future__ import annotations

import pytest

from handrail.app import build
from handrail.settings import Settings
from handrail.store import MemoryStore, RedisStore
from handrail.timekeeping import LEAP, PACE, StoreTime, wall_clock

NOW = 1_800_000_000_000


class Machine:
    """A wall clock that can be set, and a steady one that cannot."""

    def __init__(self) -> None:
        self.passed = 0  # ms
        self.set_by = 0

    def wall(self) -> int:
        return NOW + self.passed + self.set_by

    def steady(self) -> float:
        return self.passed / 1_000


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def clock(machine: Machine) -> StoreTime:
    clock = StoreTime(wall=machine.wall, steady=machine.steady)
    clock.hear(NOW, 0)
    return clock


@pytest.mark.parametrize("off", [-300_000, 300_000])
def test_the_store_is_believed_at_the_start(machine: Machine, off: int) -> None:
    clock = StoreTime(wall=machine.wall, steady=machine.steady)
    clock.hear(NOW + off, 0)
    machine.passed += 1_500
    assert clock() == NOW + off + 1_500


def test_setting_this_machines_clock_changes_nothing(machine: Machine, clock: StoreTime) -> None:
    machine.set_by = 300_000
    machine.passed += 1_000
    clock.hear(NOW + 1_000, 0)
    assert clock() == NOW + 1_000


def test_a_small_lead_of_the_store_is_followed_at_once(machine: Machine, clock: StoreTime) -> None:
    machine.passed += 1_000
    clock.hear(NOW + 1_040, 0)
    assert clock() == NOW + 1_040


def test_an_answer_is_as_old_as_half_its_way(machine: Machine, clock: StoreTime) -> None:
    machine.passed += 1_000
    clock.hear(NOW + 1_000, 0.2)
    assert clock() == NOW + 1_000, "within what the way there and back leaves open"
    clock.hear(NOW + 2_000, 0.2)
    assert clock() == NOW + 2_100


@pytest.mark.parametrize("lag", [40, 5_000, 300_000])
def test_time_goes_slower_until_a_lag_is_made_up_for(machine: Machine, clock: StoreTime, lag: int) -> None:
    seen = [clock()]
    for _ in range(round(lag / 1_000 / PACE) + 2):
        machine.passed += 1_000
        clock.hear(NOW + machine.passed - lag, 0)
        seen.append(clock())
        machine.passed += 500
        seen.append(clock())
    assert seen == sorted(seen)
    clock.hear(NOW + machine.passed - lag, 0)
    assert clock() == pytest.approx(NOW + machine.passed - lag, abs=1)


def test_a_leap_of_the_store_alone_is_followed_slowly(machine: Machine, clock: StoreTime) -> None:
    for _ in range(10):
        machine.passed += 1_000
        clock.hear(NOW + machine.passed + 300_000, 0)
    assert clock() == pytest.approx(NOW + 10_000 + 9_000 * PACE, abs=1), "nothing falls due because of it"
    for _ in range(round(300 / PACE)):
        machine.passed += 1_000
        clock.hear(NOW + machine.passed + 300_000, 0)
    assert clock() == pytest.approx(NOW + machine.passed + 300_000, abs=1)


def test_time_that_passed_while_the_machine_slept_did_pass(machine: Machine, clock: StoreTime) -> None:
    machine.passed += 1_000
    machine.set_by = 8 * 3_600_000  # the steady clock stood still
    clock.hear(NOW + 1_000 + 8 * 3_600_000, 0)
    assert clock() == NOW + 1_000 + 8 * 3_600_000


def test_a_leap_is_told_once(machine: Machine, clock: StoreTime, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        machine.passed += 1_000
        clock.hear(NOW + machine.passed + 2 * LEAP, 0)
    assert capsys.readouterr().out.count("the store's clock leapt") == 1


async def test_both_stores_tell_the_time(store: RedisStore) -> None:
    for each in (store, MemoryStore()):
        assert abs(await each.time() - wall_clock()) < 1_000


async def test_a_server_on_a_machine_with_a_wrong_clock_decides_by_the_stores(store: RedisStore) -> None:
    wrong = StoreTime(wall=lambda: wall_clock() - 300_000)
    async with build(Settings.from_environ({}), store=store, clock=wrong).running() as parts:
        assert abs(parts.runner.clock() - wall_clock()) < 1_000
