"""Object scores equal a count by hand and the formula of the Data Science Bowl 2018."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import label

from napari_unet.errors import ConfigError
from napari_unet.metrics.objects import IOU_THRESHOLDS, ObjectScore, object_score, pool


def blobs(rng: np.random.Generator, edge: int = 40) -> np.ndarray:
    """Return rectangles, some on top of others, with numbers that have gaps."""
    objects = np.zeros((edge, edge), np.int64)
    for number in rng.permutation(30)[:9] + 1:
        y, x = rng.integers(0, edge - 4, 2)
        height, width = rng.integers(3, 12, 2)
        objects[y : y + height, x : x + width] = 7 * number
    return objects


def disturb(objects: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the objects shifted by a pixel or so, one left out, one added, renumbered."""
    moved = np.roll(objects, rng.integers(-1, 2, 2), axis=(0, 1))
    numbers = np.unique(moved)[1:]
    moved[moved == numbers[0]] = 0
    moved[:3, :5] = 1000
    return moved


def count_by_hand(predicted: np.ndarray, true: np.ndarray, threshold: float) -> tuple[int, ...]:
    """Return TP, FP and FN from the masks of all pairs."""
    p_masks = [predicted == n for n in np.unique(predicted) if n]
    t_masks = [true == n for n in np.unique(true) if n]
    hits = [[(p & t).sum() / (p | t).sum() > threshold for t in t_masks] for p in p_masks]
    found = sum(any(row[k] for row in hits) for k in range(len(t_masks)))
    false = sum(not any(row) for row in hits)
    return found, false, len(t_masks) - found


def precision_of_the_bowl(predicted: np.ndarray, true: np.ndarray) -> float:
    """Return the score of an image as the Data Science Bowl 2018 computed it.

    With dense matrices over all pairs, background included and cut off afterwards, as in the
    scripts that its participants shared.
    """
    p = np.unique(predicted, return_inverse=True)[1].reshape(predicted.shape)
    t = np.unique(true, return_inverse=True)[1].reshape(true.shape)
    bins = (np.arange(t.max() + 2), np.arange(p.max() + 2))
    both = np.histogram2d(t.ravel(), p.ravel(), bins=bins)[0]
    union = both.sum(axis=1)[:, None] + both.sum(axis=0)[None] - both
    iou = (both / union)[1:, 1:]
    precisions = []
    for threshold in np.arange(0.5, 0.95, 0.05):
        matches = iou > threshold
        tp = (matches.sum(axis=1) == 1).sum()
        fp, fn = (matches.sum(axis=0) == 0).sum(), (matches.sum(axis=1) == 0).sum()
        precisions.append(tp / (tp + fp + fn))
    return float(np.mean(precisions))


@pytest.mark.parametrize("seed", range(8))
def test_equals_a_count_by_hand(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true = blobs(rng)
    predicted = disturb(true, rng)
    score = object_score(predicted, true)
    for threshold in IOU_THRESHOLDS:
        tp, fp, fn = count_by_hand(predicted, true, threshold)
        assert score.average_precision(threshold) == pytest.approx(tp / (tp + fp + fn))
        assert score.f1(threshold) == pytest.approx(2 * tp / (2 * tp + fp + fn))


@pytest.mark.parametrize("seed", range(8))
def test_the_mean_is_the_score_of_the_bowl(seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    true = blobs(rng)
    predicted = disturb(true, rng)
    score = object_score(predicted, true)
    assert score.mean_average_precision == pytest.approx(precision_of_the_bowl(predicted, true))
    assert 0 < score.mean_average_precision < 1


def test_a_match_needs_more_than_the_threshold() -> None:
    true = np.array([1, 1, 1, 1, 0, 2, 2, 2])
    predicted = np.array([5, 5, 0, 0, 0, 6, 6, 0])
    score = object_score(predicted, true, thresholds=(0.5, 0.6))
    assert (score.true, score.predicted, score.matched) == (2, 2, (1, 1))
    assert score.f1(0.5) == 0.5
    assert score.average_precision(0.6) == pytest.approx(1 / 3)


def test_merged_objects_and_split_objects_count() -> None:
    true = np.zeros((6, 20), int)
    true[1:5, 1:9], true[1:5, 9:17] = 1, 2
    merged = object_score((true > 0).astype(int), true)
    assert (merged.matched[0], merged.predicted, merged.true) == (0, 1, 2)
    split = object_score(true, (true > 0).astype(int))
    assert split.f1() == merged.f1() == 0


def test_numbers_do_not_matter_and_the_order_of_arguments_only_swaps_counts(
    rng: np.random.Generator,
) -> None:
    true = blobs(rng)
    predicted = disturb(true, rng)
    score = object_score(predicted, true)
    renumbered = np.where(predicted > 0, 2000 - predicted, 0).astype(np.uint16)
    assert object_score(renumbered, true) == score
    swapped = object_score(true, predicted)
    assert (swapped.true, swapped.predicted) == (score.predicted, score.true)
    assert swapped.matched == score.matched


def test_identical_objects_are_perfect_in_any_dimension(rng: np.random.Generator) -> None:
    volume = label(rng.random((5, 12, 12)) < 0.3)[0]
    score = object_score(volume, volume)
    assert score.mean_average_precision == score.f1(0.9) == 1
    assert score.true == volume.max()


def test_empty_images_are_defined() -> None:
    none, one = np.zeros((4, 4), int), np.eye(4, dtype=int)
    assert object_score(none, none).mean_average_precision == object_score(none, none).f1() == 1
    assert object_score(one, none).average_precision() == object_score(none, one).f1() == 0
    assert object_score(np.zeros((0, 4), int), np.zeros((0, 4), int)).f1() == 1


def test_pooled_images_count_as_one(rng: np.random.Generator) -> None:
    first, second = blobs(rng), blobs(rng)
    pairs = [(disturb(first, rng), first), (disturb(second, rng), second)]
    side_by_side = [
        np.concatenate([a, np.where(b > 0, b + 5000, 0)]) for a, b in zip(*pairs, strict=True)
    ]
    pooled = pool(object_score(p, t) for p, t in pairs)
    assert pooled == object_score(*side_by_side)


def test_what_cannot_be_scored_is_refused() -> None:
    objects = np.zeros((3, 3), int)
    with pytest.raises(ConfigError, match="give equal shapes"):
        object_score(objects, np.zeros((3, 4), int))
    for bad in (0.4, 1.0):
        with pytest.raises(ConfigError, match=r"choose from 0\.5"):
            object_score(objects, objects, thresholds=(bad,))
    score = object_score(objects, objects, thresholds=(0.5,))
    with pytest.raises(ConfigError, match=r"choose one of 0\.5"):
        score.f1(0.75)
    with pytest.raises(ConfigError, match="0 scores cannot be pooled"):
        pool([])
    with pytest.raises(ConfigError, match="the same thresholds"):
        pool([score, object_score(objects, objects)])
