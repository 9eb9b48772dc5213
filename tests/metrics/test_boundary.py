"""Boundary scores equal a count by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from napari_unet.errors import ConfigError
from napari_unet.metrics.boundary import BoundaryScore, boundary_score


def near_by_hand(pixels: np.ndarray, others: np.ndarray, tolerance: float) -> int:
    a, b = np.argwhere(pixels), np.argwhere(others)
    return sum(any(((p - q) ** 2).sum() <= tolerance**2 for q in b) for p in a)


@pytest.mark.parametrize("tolerance", [0, 1, 1.5, 2])
@pytest.mark.parametrize("density", [0.0, 0.03, 0.2])
def test_equals_a_count_by_hand(rng: np.random.Generator, tolerance: float, density: float) -> None:
    p, t = rng.random((2, 3, 15, 17)) < density
    score = boundary_score(p, t, tolerance=tolerance)
    pairs = list(zip(p, t, strict=True))
    assert score.right == sum(near_by_hand(a, b, tolerance) for a, b in pairs)
    assert score.found == sum(near_by_hand(b, a, tolerance) for a, b in pairs)
    assert (score.predicted, score.true) == (p.sum(), t.sum())


def test_without_tolerance_it_is_the_f1_of_pixels(rng: np.random.Generator) -> None:
    p, t = rng.random((2, 30, 30)) < 0.3
    expected = 2 * (p & t).sum() / (p.sum() + t.sum())
    assert boundary_score(p, t, tolerance=0).f1 == pytest.approx(expected)


@pytest.mark.parametrize(("shift", "f1"), [(0, 1.0), (2, 1.0), (3, 0.0)])
def test_a_line_is_found_within_the_tolerance(shift: int, f1: float) -> None:
    true = np.zeros((20, 20), bool)
    true[8] = True
    assert boundary_score(np.roll(true, shift, axis=0), true, tolerance=2).f1 == f1


def test_slices_do_not_see_each_other() -> None:
    true = np.zeros((2, 9, 9), bool)
    true[0, 4] = True
    assert boundary_score(true[::-1], true, tolerance=5).f1 == 0


def test_only_valid_pixels_count(rng: np.random.Generator) -> None:
    p, t = rng.random((2, 20, 20)) < 0.3
    valid = np.zeros_like(t)
    valid[:, :10] = True
    inside = boundary_score(p[:, :10], t[:, :10])
    assert boundary_score(p, t, valid=valid) == inside
    p[:, 10:] ^= True
    assert boundary_score(p, t, valid=valid) == inside


@pytest.mark.parametrize(("p", "t"), list(itertools.product([False, True], repeat=2)))
def test_empty_boundaries_are_defined(p: bool, t: bool) -> None:
    score = boundary_score(np.full((4, 4), p), np.full((4, 4), t))
    assert score.f1 == float(p == t)


def test_nothing_found_and_nothing_right_is_zero() -> None:
    assert BoundaryScore(0, 3, 0, 3).f1 == 0


def test_shapes_must_fit() -> None:
    with pytest.raises(ConfigError, match=r"give equal shapes"):
        boundary_score(np.zeros((3, 3)), np.zeros((3, 4)))
    with pytest.raises(ConfigError, match=r"tolerance >= 0"):
        boundary_score(np.zeros((3, 3)), np.zeros((3, 3)), tolerance=-1)
