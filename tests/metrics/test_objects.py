"""Object scores equal a count by hand and the formula of the Data Science Bowl 2018."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import label

from napari_unet.errors import ConfigError
from napari_unet.metrics.contingency import Contingency
from napari_unet.metrics.objects import (
    AP_THRESHOLDS,
    IOU_THRESHOLDS,
    object_score,
    object_score_of,
    pool,
)


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


def masks_of(objects: np.ndarray) -> list[np.ndarray]:
    """Return the mask of each object."""
    return [objects == n for n in np.unique(objects) if n]


def seg_by_hand(predicted: np.ndarray, true: np.ndarray) -> float:
    """Return SEG as the Cell Tracking Challenge describes it, from the masks of all pairs."""
    scores = []
    for t in masks_of(true):
        covering = [p for p in masks_of(predicted) if (p & t).sum() > 0.5 * t.sum()]
        scores.append(max(((p & t).sum() / (p | t).sum() for p in covering), default=0.0))
    return float(np.mean(scores))


def split_by_hand(predicted: np.ndarray, true: np.ndarray) -> int:
    """Return how many true objects are over-segmented, from the masks of all pairs."""
    count = 0
    for t in masks_of(true):
        pieces = [p & t for p in masks_of(predicted) if (p & t).sum() > 0.5 * p.sum()]
        count += len(pieces) >= 2 and sum(piece.sum() for piece in pieces) > 0.5 * t.sum()
    return count


def fragments(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return cells whose pieces were joined and cut at random, and the cells."""
    pieces = np.kron(rng.permutation(64).reshape(8, 8), np.ones((4, 4), int)) + 1
    joined, cells = (rng.integers(0, 25, 65)[pieces] for _ in range(2))
    # Cells and prediction agree in part, else nothing would be found.
    return np.where(rng.random((8, 8)).repeat(4, 0).repeat(4, 1) < 0.5, cells, joined), cells


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


@pytest.mark.parametrize("seed", range(8))
def test_further_scores_equal_a_count_by_hand(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true = blobs(rng)
    for p, t in ((disturb(true, rng), true), fragments(rng)):
        score = object_score_of(Contingency.of(p, t))
        assert score.thresholds == AP_THRESHOLDS
        ious = np.array([(a & b).sum() / (a | b).sum() for a in masks_of(p) for b in masks_of(t)])
        for threshold in AP_THRESHOLDS:
            tp, fp, fn = count_by_hand(p, t, threshold)
            assert score.precision(threshold) == pytest.approx(tp / (tp + fp))
            assert score.recall(threshold) == pytest.approx(tp / (tp + fn))
            matched = ious[ious > threshold]
            mean = pytest.approx(matched.mean()) if tp else None
            assert score.mean_matched_iou(threshold) == mean
            quality = matched.sum() / (tp + fp / 2 + fn / 2)
            assert score.panoptic_quality(threshold) == pytest.approx(quality)
        assert score.seg == pytest.approx(seg_by_hand(p, t))
        assert score.split == split_by_hand(p, t)
        assert score.merged == split_by_hand(t, p)


def test_the_cases_above_hold_splits_and_merges() -> None:
    found = [object_score(*fragments(np.random.default_rng(seed))) for seed in range(8)]
    assert sum(score.split for score in found) >= 3
    assert sum(score.merged for score in found) >= 3


def test_seg_needs_more_than_half_of_the_true_object() -> None:
    """Half of the first cell is covered; 3 of 5 pixels of the second, by an object of 4."""
    true = np.array([1, 1, 1, 1, 2, 2, 2, 2, 2, 0])
    predicted = np.array([0, 0, 7, 7, 0, 0, 8, 8, 8, 8])
    assert object_score(predicted, true).seg == pytest.approx((0 + 3 / 6) / 2)


def test_seg_forgives_false_alarms_and_sees_merges() -> None:
    """As in the challenge: only true objects are asked; a merged object serves both."""
    true = np.array([1, 1, 1, 2, 2, 2, 0, 0])
    assert object_score(np.array([4, 4, 4, 5, 5, 5, 6, 6]), true).seg == 1
    assert object_score(np.array([4, 4, 4, 4, 4, 4, 0, 0]), true).seg == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("predicted", "split", "merged"),
    [
        ([1, 1, 1, 2, 2, 2, 0, 0, 9, 9, 9, 9], 1, 0),
        # The second piece lies for the most part outside: not a piece of this object.
        ([1, 1, 1, 1, 1, 2, 2, 2, 9, 9, 9, 9], 0, 0),
        # Half of it is outside: not a piece either.
        ([1, 1, 1, 1, 1, 2, 2, 0, 9, 9, 9, 9], 0, 0),
        # Two crumbs that do not fill half of the object.
        ([1, 2, 0, 0, 0, 0, 0, 0, 9, 9, 9, 9], 0, 0),
        # Exactly half is not more than half.
        ([1, 2, 2, 0, 0, 0, 0, 0, 9, 9, 9, 9], 0, 0),
        ([5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5], 0, 1),
        ([5, 5, 5, 5, 5, 5, 0, 0, 0, 0, 9, 9], 0, 0),
        # A crumb beside a good match: found, and split as well.
        ([1, 1, 1, 1, 1, 2, 0, 0, 9, 9, 9, 9], 1, 0),
    ],
)
def test_splits_and_merges_by_hand(predicted: list[int], split: int, merged: int) -> None:
    true = np.array([1, 1, 1, 1, 1, 1, 0, 0, 2, 2, 2, 2])
    score = object_score(np.array(predicted), true)
    assert (score.split, score.merged) == (split, merged)


@given(st.data())
def test_tables_of_blocks_score_as_the_whole(data: st.DataObject) -> None:
    """Objects cross the blocks, and the blocks come in any order."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    predicted, true = fragments(rng)
    cuts = [sorted({0, 32, *data.draw(st.sets(st.integers(0, 32), max_size=3))}) for _ in range(2)]
    blocks = [
        np.s_[a:b, c:d]
        for (a, b), (c, d) in itertools.product(*(itertools.pairwise(cut) for cut in cuts))
    ]
    parts = [Contingency.of(predicted[k], true[k]) for k in data.draw(st.permutations(blocks))]
    whole = object_score(predicted, true, thresholds=AP_THRESHOLDS)
    assert object_score_of(Contingency.total(parts)) == whole


def test_ignored_pixels_count_nowhere(rng: np.random.Generator) -> None:
    predicted, true = fragments(rng)
    ignore = np.zeros(true.shape, bool)
    ignore[:, 20:] = True
    inside = object_score(predicted[:, :20], true[:, :20], thresholds=AP_THRESHOLDS)
    assert object_score_of(Contingency.of(predicted, true, ignore)) == inside


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
    assert (swapped.matched, swapped.matched_iou) == (score.matched, score.matched_iou)
    assert (swapped.split, swapped.merged) == (score.merged, score.split)


def test_identical_objects_are_perfect_in_any_dimension(rng: np.random.Generator) -> None:
    volume = label(rng.random((5, 12, 12)) < 0.3)[0]
    score = object_score(volume, volume)
    assert score.mean_average_precision == score.f1(0.9) == 1
    assert score.true == volume.max()
    assert score.seg == score.mean_matched_iou(0.9) == score.panoptic_quality() == 1
    assert (score.split, score.merged) == (0, 0)


def test_empty_images_are_defined() -> None:
    none, one = np.zeros((4, 4), int), np.eye(4, dtype=int)
    assert object_score(none, none).mean_average_precision == object_score(none, none).f1() == 1
    assert object_score(one, none).average_precision() == object_score(none, one).f1() == 0
    assert object_score(np.zeros((0, 4), int), np.zeros((0, 4), int)).f1() == 1
    assert object_score_of(Contingency.empty()).f1() == 1


@pytest.mark.parametrize(
    ("predicted", "true", "ratio", "seg"),
    [(False, False, 1, None), (True, False, 0, None), (False, True, 0, 0)],
)
def test_an_empty_side_is_defined(
    predicted: bool, true: bool, ratio: float, seg: float | None
) -> None:
    score = object_score(np.eye(4, dtype=int) * predicted, np.eye(4, dtype=int) * true)
    assert score.precision() == score.recall() == score.f1() == score.panoptic_quality() == ratio
    assert score.average_precision() == ratio
    assert (score.seg, score.mean_matched_iou()) == (seg, None)


def test_pooled_images_count_as_one(rng: np.random.Generator) -> None:
    first, second = blobs(rng), blobs(rng)
    pairs = [(disturb(first, rng), first), (disturb(second, rng), second)]
    side_by_side = [
        np.concatenate([a, np.where(b > 0, b + 5000, 0)]) for a, b in zip(*pairs, strict=True)
    ]
    scores = [object_score(p, t) for p, t in pairs]
    pooled, whole = pool(scores), object_score(*side_by_side)
    assert (pooled.true, pooled.predicted) == (whole.true, whole.predicted)
    assert (pooled.matched, pooled.split, pooled.merged) == (
        whole.matched,
        whole.split,
        whole.merged,
    )
    assert pooled.matched_iou == pytest.approx(whole.matched_iou)
    assert pooled.seg == pytest.approx(whole.seg)
    assert scores[0] + scores[1] == pooled


def test_what_cannot_be_scored_is_refused() -> None:
    objects = np.zeros((3, 3), int)
    with pytest.raises(ConfigError, match="give equal shapes"):
        object_score(objects, np.zeros((3, 4), int))
    for bad in (0.4, 1.0):
        with pytest.raises(ConfigError, match=r"choose from 0\.5"):
            object_score(objects, objects, thresholds=(bad,))
    with pytest.raises(ConfigError, match="integers"):
        object_score(objects.astype(float), objects)
    score = object_score(objects, objects, thresholds=(0.5,))
    for ratio in (score.f1, score.precision, score.recall, score.mean_matched_iou):
        with pytest.raises(ConfigError, match=r"choose one of 0\.5"):
            ratio(0.75)
    with pytest.raises(ConfigError, match="0 scores cannot be pooled"):
        pool([])
    with pytest.raises(ConfigError, match="the same thresholds"):
        pool([score, object_score(objects, objects)])
