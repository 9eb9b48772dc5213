"""Time is measured, reserved for what must follow, and remembered."""

from __future__ import annotations

import pytest

from napari_unet.training.pace import (
    MARGIN,
    RECENT,
    VALIDATION_INTERVAL,
    VALIDATION_SHARE,
    Duty,
    Pace,
)


class Clock:
    """A clock that runs only when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def spend(pace: Pace, clock: Clock, duty: Duty, seconds: float) -> None:
    with pace.measured(duty):
        clock.now += seconds


def test_without_a_budget_there_is_always_time(clock: Clock) -> None:
    pace = Pace(None, clock)
    spend(pace, clock, "step", 1e9)
    assert pace.has_time
    assert (pace.share, pace.is_validation_due) == (0, False)


def test_a_step_is_begun_only_if_all_that_must_follow_fits(clock: Clock) -> None:
    pace = Pace(100.0, clock)
    assert pace.has_time  # nothing is known yet
    for duty, seconds in (("step", 2.0), ("validation", 5.0), ("saving", 1.0)):
        spend(pace, clock, duty, seconds)
    reserve = MARGIN * (2 + 5 + 1)
    clock.now = 1000 + 100 - reserve
    assert pace.has_time
    clock.now += 0.01
    assert not pace.has_time


def test_the_share_is_of_the_time_for_steps(clock: Clock) -> None:
    pace = Pace(100.0, clock)
    clock.now += 30
    assert pace.share == pytest.approx(0.3)
    spend(pace, clock, "validation", 10)
    assert pace.share == pytest.approx(40 / (100 - MARGIN * 10))
    clock.now += 1000
    assert pace.share == 1
    spend(pace, clock, "validation", 90)
    assert pace.share == 1


def test_validations_are_a_tenth_of_the_budget_apart_and_rarer_if_slow(clock: Clock) -> None:
    pace = Pace(100.0, clock)
    apart = 100 * VALIDATION_INTERVAL
    for cost, wait in ((0.1, apart), (6.0, apart), (1.0, 6.0 / VALIDATION_SHARE)):
        clock.now += wait - 0.01
        assert not pace.is_validation_due
        clock.now += 0.02
        assert pace.is_validation_due
        spend(pace, clock, "validation", cost)
        assert not pace.is_validation_due


def test_a_resumed_pace_knows_what_was_spent_and_measured(clock: Clock) -> None:
    pace = Pace(100.0, clock)
    spend(pace, clock, "validation", 20)
    spend(pace, clock, "saving", 4)
    state = pace.state()
    clock.now += 5000  # between the crash and the resume
    resumed = Pace(100.0, clock)
    resumed.restore(state)
    assert resumed.elapsed == 24
    assert resumed.since("saving") == 0
    clock.now += 100 - MARGIN * 24 - 24
    assert resumed.has_time
    clock.now += 0.01
    assert not resumed.has_time


def test_the_time_left_is_known_after_a_few_steps(clock: Clock) -> None:
    pace = Pace(None, clock)
    spend(pace, clock, "step", 30)  # the first one prepares
    for _ in range(RECENT - 1):
        assert pace.eta(100, 2) is None
        spend(pace, clock, "step", 0.5)
    assert pace.eta(100, 2) == pytest.approx(50)
    spend(pace, clock, "validation", 3)
    assert pace.eta(100, 2) == pytest.approx(56)
    assert pace.eta(0, 0) == 0


def test_a_budget_is_its_own_estimate(clock: Clock) -> None:
    pace = Pace(10.0, clock)
    clock.now += 4
    assert pace.eta(None, 0) == 6
    clock.now += 7
    assert pace.eta(None, 0) == 0
