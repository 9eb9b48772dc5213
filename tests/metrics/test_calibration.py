"""Calibration scores equal a count by hand, and those of scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from napari_unet.errors import ConfigError
from napari_unet.metrics.calibration import (
    RELIABILITY_BINS,
    brier_score,
    confidence_counts,
    multiclass_brier_score,
    reliability,
)
from napari_unet.metrics.curves import (
    ProbabilityCounts,
    class_probability_counts,
    probability_counts,
)


def forecasts(rng: np.random.Generator, size: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """Return overconfident probabilities as uint16, and what came true."""
    p = rng.random(size)
    return np.rint(p * 65535).astype(np.uint16), rng.random(size) < 0.2 + 0.6 * p


def by_hand(p: np.ndarray, hit: np.ndarray, bins: int) -> list[tuple[int, float, float]]:
    """Return pixels, mean probability and frequency of each bin that holds some."""
    found = []
    for m in range(bins):
        inside = (p <= (m + 1) / bins) & ((p > m / bins) | (m == 0))
        if inside.any():
            found.append((int(inside.sum()), p[inside].mean(), hit[inside].mean()))
    return found


@pytest.mark.parametrize("bins", [1, 10, RELIABILITY_BINS, 100])
def test_the_diagram_and_its_errors_equal_a_count_by_hand(
    rng: np.random.Generator, bins: int
) -> None:
    values, hit = forecasts(rng)
    found = reliability(probability_counts(values, hit), bins)
    wanted = by_hand(values / 65535, hit, bins)
    assert [point.pixels for point in found.points] == [row[0] for row in wanted]
    rows = [(point.probability, point.frequency) for point in found.points]
    np.testing.assert_allclose(rows, [row[1:] for row in wanted])
    gaps = [abs(p - f) for _, p, f in wanted]
    weighted = sum(row[0] * gap for row, gap in zip(wanted, gaps, strict=True))
    assert found.expected_error == pytest.approx(weighted / len(values))
    assert found.maximum_error == pytest.approx(max(gaps))


def test_the_diagram_is_that_of_scikit_learn(rng: np.random.Generator) -> None:
    p = rng.random(5000).astype(np.float32)
    hit = rng.random(5000) < p**2
    found = reliability(probability_counts(p, hit), 10)
    frequency, probability = calibration_curve(hit, p, n_bins=10)
    rows = [(point.frequency, point.probability) for point in found.points]
    np.testing.assert_allclose(rows, np.stack([frequency, probability], axis=1), atol=2e-5)
    assert [(point.low, point.high) for point in found.points] == [
        (m / 10, (m + 1) / 10) for m in range(10)
    ]


@pytest.mark.parametrize("bins", [2, 3, 5, 15, 17])
def test_an_edge_belongs_to_the_bin_below_and_zero_to_the_first(bins: int) -> None:
    """65 535 is divisible by these numbers of bins, so that edges are values of uint16."""
    if 65535 % bins:
        edges = np.array([0, 65535], np.uint16)
        homes = [1 / bins, 1.0]
    else:
        edges = (np.arange(bins + 1) * (65535 // bins)).astype(np.uint16)
        homes = [1 / bins, *((m + 1) / bins for m in range(bins))]
    for value, high in zip(edges, homes, strict=True):
        counts = probability_counts(np.array([value]), np.array([True]))
        (point,) = reliability(counts, bins).points
        assert point.high == high


def test_brier_is_that_of_scikit_learn(rng: np.random.Generator) -> None:
    values, hit = forecasts(rng)
    counts = probability_counts(values, hit)
    assert brier_score(counts) == pytest.approx(brier_score_loss(hit, values / 65535))
    p = rng.random(2000).astype(np.float32)
    wanted = brier_score_loss(hit, p)
    assert brier_score(probability_counts(p, hit)) == pytest.approx(wanted, abs=1e-6)


def test_all_classes_together(rng: np.random.Generator) -> None:
    probabilities = rng.dirichlet([0.5, 1, 2], 800).T
    true = rng.integers(0, 4, 800)
    labeled = true > 0
    one_hot = np.eye(4)[true][:, 1:].T
    wanted = ((probabilities - one_hot) ** 2).sum(axis=0)[labeled].mean()
    found = multiclass_brier_score(class_probability_counts(probabilities, true))
    assert found == pytest.approx(wanted, abs=2e-5)

    confidence = probabilities.max(axis=0)[labeled]
    right = (probabilities.argmax(axis=0) + 1 == true)[labeled]
    counts = confidence_counts(probabilities, true)
    assert counts == probability_counts(confidence, right)
    ece = sum(n * abs(p - f) for n, p, f in by_hand(confidence, right, 15)) / labeled.sum()
    assert reliability(counts).expected_error == pytest.approx(ece, abs=1e-4)


def test_perfect_forecasts_have_no_error() -> None:
    hit = np.array([True, False, True])
    counts = probability_counts(hit.astype(np.float32), hit)
    assert reliability(counts).expected_error == reliability(counts).maximum_error == 0
    assert brier_score(counts) == 0
    wrong = probability_counts((~hit).astype(np.float32), hit)
    assert reliability(wrong).expected_error == brier_score(wrong) == 1


def test_a_forecast_that_keeps_its_word_is_calibrated() -> None:
    """Four pixels promised 3/4, of which three come true."""
    counts = probability_counts(np.full(4, 0.75), np.array([True, True, True, False]))
    assert reliability(counts).expected_error == pytest.approx(0, abs=1e-5)
    assert brier_score(counts) == pytest.approx(3 / 16, abs=1e-5)


def test_no_prediction_is_a_wrong_answer_without_confidence() -> None:
    probabilities = np.zeros((2, 3))
    probabilities[:, 2] = 0.2, 0.8
    counts = confidence_counts(probabilities, np.array([1, 0, 2]))
    assert (counts.num_positives, counts.num_negatives, counts.negatives[0]) == (1, 1, 1)


def test_the_first_of_equal_classes_wins() -> None:
    counts = confidence_counts(np.full((2, 2), 0.5), np.array([1, 2]))
    assert (counts.num_positives, counts.num_negatives) == (1, 1)


def test_blocks_add_up(rng: np.random.Generator) -> None:
    probabilities = rng.dirichlet([1, 1, 1], 90).T
    true = rng.integers(0, 4, 90)
    blocks = [slice(k, k + 30) for k in (60, 0, 30)]
    parts = [confidence_counts(probabilities[:, b], true[b]) for b in blocks]
    assert ProbabilityCounts.total(parts) == confidence_counts(probabilities, true)


def test_without_pixels_there_is_no_score() -> None:
    empty = ProbabilityCounts.empty()
    assert reliability(empty).points == ()
    assert (reliability(empty).expected_error, reliability(empty).maximum_error) == (None, None)
    assert (brier_score(empty), multiclass_brier_score([empty, empty])) == (None, None)


def test_what_cannot_be_scored_is_refused() -> None:
    empty = ProbabilityCounts.empty()
    one = probability_counts(np.ones(1), np.ones(1, bool))
    for bins in (0, 65536):
        with pytest.raises(ConfigError, match="choose 1 to 65535"):
            reliability(empty, bins)
    for classes in ([], [empty, one]):
        with pytest.raises(ConfigError, match="all classes on the same pixels"):
            multiclass_brier_score(classes)
    with pytest.raises(ConfigError, match="one image of probabilities per class"):
        confidence_counts(np.zeros((2, 3)), np.zeros(4, int))
    with pytest.raises(ConfigError, match="do not lie from 0 to 1"):
        confidence_counts(np.full((2, 3), math.nan), np.ones(3, int))
