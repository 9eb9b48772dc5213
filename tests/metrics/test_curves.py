"""Curves and areas equal those of scikit-learn, and counts of blocks add up."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from napari_unet.errors import ConfigError
from napari_unet.metrics.curves import (
    NUM_BINS,
    Curve,
    ProbabilityCounts,
    class_probability_counts,
    probability_counts,
)

Pair = tuple[np.ndarray, np.ndarray]


def pixels(rng: np.random.Generator, size: int = 3000) -> Pair:
    """Return probabilities that overlap between positives and negatives, and the truth."""
    positive = rng.random(size) < 0.3
    probability = 1 / (1 + np.exp(-rng.normal(np.where(positive, 1.0, -1.0), 1.5)))
    return probability, positive


def stored_as(dtype: str, probability: np.ndarray) -> np.ndarray:
    kind = np.dtype(dtype)
    return np.rint(probability * np.iinfo(kind).max).astype(kind)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_values_that_fall_on_bins_score_exactly_as_in_scikit_learn(
    rng: np.random.Generator, dtype: str
) -> None:
    probability, positive = pixels(rng)
    values = stored_as(dtype, probability)
    counts = probability_counts(values, positive)
    assert counts.auc == pytest.approx(roc_auc_score(positive, values), abs=1e-12)
    wanted = average_precision_score(positive, values)
    assert counts.average_precision == pytest.approx(wanted, abs=1e-12)

    fpr, tpr, thresholds = roc_curve(positive, values, drop_intermediate=False)
    roc = counts.roc
    np.testing.assert_allclose([roc.x, roc.y], [fpr, tpr], atol=1e-12)
    np.testing.assert_allclose(roc.thresholds[1:], thresholds[1:] / np.iinfo(dtype).max)
    assert roc.thresholds[0] == np.inf

    precision, recall, thresholds = precision_recall_curve(positive, values)
    curve = counts.precision_recall
    np.testing.assert_allclose([curve.x, curve.y], [recall[-2::-1], precision[-2::-1]], atol=1e-12)
    np.testing.assert_allclose(curve.thresholds, thresholds[::-1] / np.iinfo(dtype).max)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floating_point_scores_as_in_scikit_learn(
    rng: np.random.Generator, dtype: np.dtype
) -> None:
    probability, positive = pixels(rng, 20_000)
    values = probability.astype(dtype)
    counts = probability_counts(values, positive)
    assert counts.auc == pytest.approx(roc_auc_score(positive, values), abs=1e-5)
    wanted = average_precision_score(positive, values)
    assert counts.average_precision == pytest.approx(wanted, abs=1e-4)


def test_float16_stays_apart_down_to_one_32nd() -> None:
    """All of the values from 1/32 to 1: no two share a bin."""
    low, high = np.array([1 / 32, 1], np.float16).view(np.uint16)
    values = np.arange(low, high + 1, dtype=np.uint16).view(np.float16)
    counts = probability_counts(values, np.ones(values.shape, bool))
    assert counts.positives.max() == 1
    assert counts.pixels == len(values) == 5 * 1024 + 1


def test_every_bin_is_found_by_its_own_value() -> None:
    exact = np.arange(NUM_BINS)
    for values in (exact.astype(np.uint16), exact / 65535, (exact / 65535).astype(np.float32)):
        counts = probability_counts(values, np.zeros(NUM_BINS, bool))
        assert (counts.negatives == 1).all()
    bytes_ = probability_counts(np.arange(256, dtype=np.uint8), np.ones(256, bool))
    assert np.flatnonzero(bytes_.positives).tolist() == [257 * k for k in range(256)]


def test_the_area_is_the_share_of_pairs_in_the_right_order(rng: np.random.Generator) -> None:
    probability, positive = pixels(rng, 80)
    values = stored_as("uint8", probability) // 16 * 16
    pairs = [(int(p), int(n)) for p in values[positive] for n in values[~positive]]
    wins = sum(Fraction(p > n) + Fraction(p == n, 2) for p, n in pairs)
    assert probability_counts(values, positive).auc == pytest.approx(float(wins / len(pairs)))


@pytest.mark.parametrize("seed", range(3))
def test_f1_at_thresholds_is_that_of_the_thresholded_image(seed: int) -> None:
    probability, positive = pixels(np.random.default_rng(seed), 400)
    values = stored_as("uint8", probability)
    counts = probability_counts(values, positive)
    thresholds = [0, 0.1, 0.25, 51 / 255, 0.5, 0.9, 1, 2]
    wanted = [f1_score(positive, values / 255 >= t, zero_division=0) for t in thresholds]
    assert counts.f1_at(thresholds) == pytest.approx(wanted)

    best = counts.best_f1
    scores = {t: f1_score(positive, values / 255 >= t) for t in np.unique(values) / 255}
    assert best.f1 == pytest.approx(max(scores.values()))
    assert scores[best.threshold] == pytest.approx(best.f1)
    assert counts.f1_at(best.threshold) == best.f1


def test_the_greatest_of_equal_thresholds_is_best() -> None:
    """Hand-made: F1 is 2/3 from one pixel found, and again from all three."""
    values = np.array([255, 100, 50, 50], np.uint8)
    counts = probability_counts(values, np.array([True, False, True, False]))
    assert counts.f1_at(values[[0, 2]] / 255) == pytest.approx([2 / 3, 2 / 3])
    assert counts.best_f1.threshold == 1


values = arrays(np.uint16, st.integers(0, 30), elements=st.integers(0, 65535))


@given(st.lists(st.tuples(values, st.randoms()), max_size=4))
def test_counts_of_blocks_add_up_to_the_counts_of_the_whole(
    blocks: list[tuple[np.ndarray, object]],
) -> None:
    parts = [(v, np.array([r.random() < 0.5 for _ in v], bool)) for v, r in blocks]
    whole = [np.concatenate(side) for side in zip(*parts, strict=True)] if parts else None
    total = ProbabilityCounts.total(probability_counts(*part) for part in parts)
    assert total == (probability_counts(*whole) if whole else ProbabilityCounts.empty())
    assert total.pixels == sum(len(v) for v, _ in parts)
    assert total + ProbabilityCounts.empty() == total
    assert len({total, total + ProbabilityCounts.empty()}) == 1


def test_large_arrays_are_counted_piece_by_piece(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    probability, positive = pixels(rng, 1000)
    valid = rng.random(1000) < 0.5
    whole = probability_counts(probability, positive, valid)
    monkeypatch.setattr("napari_unet.metrics.curves._CHUNK", 7)
    assert probability_counts(probability, positive, valid) == whole


def test_only_valid_pixels_count(rng: np.random.Generator) -> None:
    probability, positive = pixels(rng, 100)
    valid = rng.random(100) < 0.5
    inside = probability_counts(probability[valid], positive[valid])
    probability[~valid] = np.nan
    assert probability_counts(probability, positive, valid) == inside


def test_classes_are_counted_against_all_others(rng: np.random.Generator) -> None:
    probabilities = rng.dirichlet([1, 1, 1], (6, 7)).transpose(2, 0, 1)
    true = rng.integers(0, 4, (6, 7))
    found = class_probability_counts(probabilities, true)
    assert len(found) == 3
    for k, counts in enumerate(found, start=1):
        labeled = true > 0
        assert counts == probability_counts(probabilities[k - 1][labeled], true[labeled] == k)


def test_one_class_only_has_no_score() -> None:
    half = np.full(4, 0.5)
    negative = probability_counts(half, np.zeros(4, bool))
    assert (negative.roc, negative.auc, negative.precision_recall) == (None, None, None)
    assert (negative.average_precision, negative.best_f1) == (None, None)
    assert negative.f1_at([0.5]) is None
    positive = probability_counts(half, np.ones(4, bool))
    assert (positive.auc, positive.average_precision) == (None, 1)
    assert (positive.best_f1.f1, positive.best_f1.threshold) == (1, pytest.approx(0.5, abs=1e-5))
    assert ProbabilityCounts.empty().auc is None
    assert ProbabilityCounts.empty().average_precision is None


def test_huge_counts_do_not_overflow() -> None:
    """A hundred thousand million pixels a side: their product is beyond 64 bits."""
    many = np.zeros((2, NUM_BINS), np.int64)
    many[0, [20, 60000]] = 5 * 10**10
    many[1, [20, 10]] = 5 * 10**10
    assert ProbabilityCounts(*many).auc == pytest.approx(0.875)


def test_a_thinned_curve_keeps_its_ends_and_its_shape(rng: np.random.Generator) -> None:
    curve = probability_counts(*pixels(rng, 5000)).roc
    thin = curve.thinned(100)
    assert len(thin.x) <= 100 < len(curve.x)
    for whole, part in ((curve.x, thin.x), (curve.y, thin.y)):
        assert (part[0], part[-1]) == (whole[0], whole[-1])
    step = np.hypot(np.diff(thin.x), np.diff(thin.y))
    assert step.max() < 0.05
    assert curve.thinned(10**6) is curve
    with pytest.raises(ConfigError, match="keep 2 or more"):
        curve.thinned(1)
    flat = Curve(np.ones(9), np.ones(9), np.linspace(1, 0, 9)).thinned(3)
    assert flat.thresholds[[0, -1]].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("probability", "positive", "message"),
    [
        ([0.5, 1.1], [True, False], "do not lie from 0 to 1"),
        ([0.5, -0.1], [True, False], "do not lie from 0 to 1"),
        ([0.5, np.nan], [True, False], "do not lie from 0 to 1"),
        ([0, 1], [True, False], "have no scale"),
        ([0.5, 0.1], [1, 0], "give a mask of bool"),
        ([0.5, 0.1], [True], "of the same shape"),
    ],
)
def test_what_cannot_be_counted_is_refused(
    probability: list[float], positive: list[bool], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        probability_counts(np.array(probability), np.array(positive))


def test_counts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="no counts of probabilities"):
        ProbabilityCounts(np.zeros(4, int), np.zeros(4, int))
    with pytest.raises(ConfigError, match="no counts of probabilities"):
        ProbabilityCounts(np.zeros(NUM_BINS), np.zeros(NUM_BINS))
    with pytest.raises(ConfigError, match="no counts of probabilities"):
        ProbabilityCounts(np.zeros(NUM_BINS, int), np.full(NUM_BINS, -1))
    with pytest.raises(ConfigError, match="one image of probabilities per class"):
        class_probability_counts(np.zeros((2, 3, 3)), np.zeros((3, 4), int))
    with pytest.raises(ConfigError, match="nan has no F1"):
        ProbabilityCounts.empty().f1_at([np.nan])
