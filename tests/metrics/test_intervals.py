"""Intervals cover what they should, and follow their units."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t

from napari_unet.errors import ConfigError
from napari_unet.metrics.intervals import MIN_UNITS, intervals, paired_intervals


def ratio(sums: np.ndarray) -> list[float | None]:
    """Return the ratio of two columns; None if the second is 0."""
    return [float(sums[0] / sums[1]) if sums[1] else None]


def test_the_interval_of_a_mean_is_about_students(rng: np.random.Generator) -> None:
    values = rng.normal(3, 1, 40)
    units = np.column_stack([values, np.ones(40)])
    (found,) = intervals(units, ratio, resamples=4000, seed=1)
    assert found.value == pytest.approx(values.mean())
    half = t.ppf(0.975, 39) * values.std(ddof=1) / np.sqrt(40)
    assert found.low == pytest.approx(values.mean() - half, abs=0.04)
    assert found.high == pytest.approx(values.mean() + half, abs=0.04)


def test_intervals_hold_the_truth_about_as_often_as_they_say(rng: np.random.Generator) -> None:
    held = 0
    for seed in range(200):
        units = np.column_stack([rng.normal(0, 1, 12), np.ones(12)])
        (found,) = intervals(units, ratio, resamples=200, seed=seed)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0 <= found.high
    assert 0.88 <= held / 200 <= 0.99


def test_what_both_find_hard_does_not_widen_the_difference(rng: np.random.Generator) -> None:
    hard = rng.normal(0, 5, 30)
    first = np.column_stack([hard, np.ones(30)])
    second = np.column_stack([hard + 0.1 + rng.normal(0, 0.02, 30), np.ones(30)])
    (paired,) = paired_intervals(first, second, ratio, resamples=500, seed=0)
    assert paired.low is not None
    assert 0.08 < paired.low < 0.1 < (paired.high or 0) < 0.12
    (mirrored,) = paired_intervals(second, first, ratio, resamples=500, seed=0)
    assert (mirrored.low, mirrored.high) == pytest.approx((-(paired.high or 0), -paired.low))


def test_few_units_claim_nothing() -> None:
    units = np.ones((MIN_UNITS - 1, 2))
    (found,) = intervals(units, ratio, resamples=10, seed=0)
    assert (found.value, found.low, found.high, found.units) == (1.0, None, None, MIN_UNITS - 1)


def test_units_without_a_score_are_no_evidence() -> None:
    units = np.array([[1.0, 2.0]] * 4 + [[0.0, 0.0]] * 10)
    (found,) = intervals(units, ratio, resamples=10, seed=0)
    assert (found.value, found.low, found.units) == (0.5, None, 4)


def test_what_is_not_defined_is_none() -> None:
    (found,) = intervals(np.zeros((9, 2)), ratio, resamples=10, seed=0)
    assert (found.value, found.low, found.high, found.units) == (None, None, None, 0)


def test_nothing_to_draw_from_is_an_error() -> None:
    with pytest.raises(ConfigError, match="0 images or blocks"):
        intervals(np.zeros((0, 2)), ratio, seed=0)
    with pytest.raises(ConfigError, match="0 resamples"):
        intervals(np.ones((3, 2)), ratio, resamples=0, seed=0)
    with pytest.raises(ConfigError, match="cannot be paired"):
        paired_intervals(np.ones((3, 2)), np.ones((4, 2)), ratio, seed=0)
