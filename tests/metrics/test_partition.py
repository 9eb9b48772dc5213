"""Scores of partitions equal their definitions, counted pixel by pixel and pair by pair."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from skimage.metrics import adapted_rand_error, variation_of_information

from napari_unet.errors import ConfigError
from napari_unet.metrics.partition import partition_score


def by_hand(predicted: np.ndarray, true: np.ndarray) -> tuple[float, float, float]:
    """Return split and merge entropy in bits and adapted Rand error of one slice."""
    pixels = [(p, t) for p, t in zip(predicted.flat, true.flat, strict=True) if t != 0]
    both, p_only, t_only = (Counter(k) for k in (pixels, *zip(*pixels, strict=True)))
    n = len(pixels)
    split = -sum(c / n * math.log2(c / t_only[t]) for (_, t), c in both.items())
    merge = -sum(c / n * math.log2(c / p_only[p]) for (p, _), c in both.items())
    joined_both = joined_p = joined_t = 0
    for (p, t), (q, u) in itertools.combinations(pixels, 2):
        joined_both += p == q and t == u
        joined_p += p == q
        joined_t += t == u
    return split, merge, 1 - 2 * joined_both / (joined_p + joined_t)


@pytest.mark.parametrize("seed", range(5))
def test_equals_its_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 4, (2, 9, 8)) * 500
    predicted = rng.integers(0, 5, (2, 9, 8))
    score = partition_score(predicted, true)
    expected = np.mean([by_hand(p, t) for p, t in zip(predicted, true, strict=True)], axis=0)
    found = (score.voi_split, score.voi_merge, score.adapted_rand_error)
    assert found == pytest.approx(tuple(expected))
    assert score.voi == pytest.approx(expected[0] + expected[1])


def test_agrees_with_scikit_image(rng: np.random.Generator) -> None:
    true = rng.integers(0, 40, (60, 60))
    predicted = np.where(rng.random((60, 60)) < 0.7, true // 3, rng.integers(0, 30, (60, 60)))
    score = partition_score(predicted, true)
    error, *_ = adapted_rand_error(true, predicted, ignore_labels=(0,))
    split, merge = variation_of_information(true, predicted, ignore_labels=(0,))
    assert (score.voi_split, score.voi_merge) == pytest.approx((split, merge))
    assert score.adapted_rand_error == pytest.approx(error)


def test_the_truth_scores_perfectly(rng: np.random.Generator) -> None:
    true = rng.integers(0, 6, (3, 20, 20))
    score = partition_score(true * 7 + 3, true)
    assert (score.voi, score.adapted_rand_error) == pytest.approx((0, 0))
    assert (score.rand_precision, score.rand_recall) == (1, 1)


def test_splits_and_merges_are_told_apart() -> None:
    halves = np.repeat([1, 2], 50).reshape(10, 10)
    whole = np.ones_like(halves)
    cut = partition_score(halves, whole)
    joined = partition_score(whole, halves)
    assert (cut.voi_split, cut.voi_merge) == pytest.approx((1, 0))
    assert (joined.voi_split, joined.voi_merge) == pytest.approx((0, 1))
    assert cut.rand_precision == 1 > cut.rand_recall
    assert joined.rand_recall == 1 > joined.rand_precision


def test_pixels_without_a_true_number_do_not_count(rng: np.random.Generator) -> None:
    true = rng.integers(0, 3, (12, 12))
    predicted = rng.integers(0, 3, (12, 12))
    score = partition_score(predicted, true)
    assert partition_score(np.where(true == 0, 9, predicted), true) == score


def test_slices_without_truth_are_left_out(rng: np.random.Generator) -> None:
    true, predicted = rng.integers(1, 4, (2, 1, 8, 8))
    padded = np.concatenate([true, np.zeros_like(true)])
    assert partition_score(np.repeat(predicted, 2, axis=0), padded) == partition_score(
        predicted, true
    )


def test_single_pixels_agree_perfectly() -> None:
    singles = np.arange(1, 10).reshape(3, 3)
    assert partition_score(singles, singles).adapted_rand_error == 0
    assert partition_score(singles, np.ones_like(singles)).adapted_rand_error == 1


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ConfigError, match="give equal shapes"):
        partition_score(np.ones((3, 3), int), np.ones((3, 4), int))
    with pytest.raises(ConfigError, match="number the objects from 1"):
        partition_score(np.ones((3, 3), int), np.zeros((3, 3), int))
