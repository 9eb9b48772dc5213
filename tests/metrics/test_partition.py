"""Scores of partitions equal their definitions, counted pixel by pixel and pair by pair."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from skimage.metrics import adapted_rand_error, variation_of_information

from napari_unet.errors import ConfigError
from napari_unet.metrics.agreement import InformationScore, RandScore
from napari_unet.metrics.contingency import Contingency
from napari_unet.metrics.partition import (
    information_score,
    mean_score,
    partition_score,
    rand_score,
    slice_tables,
    table_score,
)


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


def pairs_by_hand(
    predicted: np.ndarray, true: np.ndarray, unmatched: str, *, self_pairs: bool
) -> RandScore:
    """Return the pairs joined, one by one; a lone pixel gets an id of its own."""
    pixels = []
    for k, (p, t) in enumerate(zip(predicted.flat, true.flat, strict=True)):
        if t == 0 or (p == 0 and unmatched == "ignore"):
            continue
        pixels.append((-k - 1 if p == 0 and unmatched == "singletons" else p, t))
    both = in_predicted = in_true = total = 0
    choose = itertools.product(pixels, pixels) if self_pairs else itertools.combinations(pixels, 2)
    for (p, t), (q, u) in choose:
        both += p == q and t == u
        in_predicted += p == q
        in_true += t == u
        total += 1
    return RandScore(both, in_predicted, in_true, total)


@pytest.mark.parametrize("self_pairs", [False, True])
@pytest.mark.parametrize("unmatched", ["object", "singletons", "ignore"])
def test_pairs_equal_pairs_counted_one_by_one(
    unmatched: str, self_pairs: bool, rng: np.random.Generator
) -> None:
    true, predicted = rng.integers(0, 4, (2, 9, 8))
    table = Contingency.of(predicted, true)
    found = rand_score(table, unmatched=unmatched, self_pairs=self_pairs)
    assert found == pairs_by_hand(predicted, true, unmatched, self_pairs=self_pairs)
    wrong = found.predicted + found.true - 2 * found.both
    assert found.error == pytest.approx(wrong / found.pairs)
    assert found.adapted_error == 1 - found.v_rand()
    assert found.v_rand(0) == found.recall
    assert found.v_rand(1) == found.precision


@pytest.mark.parametrize("unmatched", ["object", "singletons", "ignore"])
def test_information_equals_that_of_pixels_counted_one_by_one(
    unmatched: str, rng: np.random.Generator
) -> None:
    true, predicted = rng.integers(0, 4, (2, 9, 8))
    found = information_score(Contingency.of(predicted, true), unmatched=unmatched)
    if unmatched == "singletons":
        predicted = np.where(predicted == 0, 100 + np.arange(72).reshape(9, 8), predicted)
    elif unmatched == "ignore":
        true = np.where(predicted == 0, 0, true)
    split, merge, _ = by_hand(predicted, true)
    assert (found.split, found.merge) == pytest.approx((split, merge))
    for entropy, labels in ((found.true, true), (found.predicted, predicted)):
        _, counts = np.unique(labels[true != 0], return_counts=True)
        share = counts / counts.sum()
        assert entropy == pytest.approx(-(share * np.log2(share)).sum())
    assert found.mutual == pytest.approx(found.predicted - found.split)
    assert found.v_info() == pytest.approx(2 * found.mutual / (found.true + found.predicted))
    assert found.v_info(0) == found.recall
    assert found.v_info(1) == found.precision
    assert found.voi_nats == pytest.approx(found.voi * math.log(2))


def test_whole_volumes_agree_with_scikit_image(rng: np.random.Generator) -> None:
    true = rng.integers(0, 12, (6, 20, 20))
    predicted = np.where(rng.random(true.shape) < 0.7, true // 2, rng.integers(0, 9, true.shape))
    table = Contingency.of(predicted, true)
    # It returns the two the other way round than it documents them: for a true object that is cut
    # in two it gives a recall of 1.
    error, recall, precision = adapted_rand_error(true, predicted, ignore_labels=())
    pairs = rand_score(table, background=True)
    assert (pairs.adapted_error, pairs.precision, pairs.recall) == pytest.approx(
        (error, precision, recall)
    )
    bits = information_score(table, background=True)
    assert (bits.split, bits.merge) == pytest.approx(variation_of_information(true, predicted))
    error, *_ = adapted_rand_error(true, predicted, ignore_labels=(0,))
    assert table_score(table).adapted_rand_error == pytest.approx(error)


@pytest.mark.parametrize("unmatched", ["object", "singletons", "ignore"])
def test_any_blocks_and_any_ids_give_the_same_score(
    unmatched: str, rng: np.random.Generator
) -> None:
    true, predicted = rng.integers(0, 9, (2, 6, 11, 13))
    cuts = [(z, y) for z in (slice(0, 1), slice(1, 6)) for y in (slice(0, 7), slice(7, 11))]
    parts = Contingency.total(Contingency.of(predicted[cut], true[cut]) for cut in cuts)
    whole = table_score(Contingency.of(predicted, true), unmatched=unmatched)
    assert table_score(parts, unmatched=unmatched) == whole
    ids = np.concatenate(([0], 1 + rng.permutation(10**6)[:8]))
    renamed = Contingency.of(ids[predicted], true * 1000)
    assert table_score(renamed, unmatched=unmatched) == whole


def test_exchanging_the_partitions_exchanges_splits_and_merges(rng: np.random.Generator) -> None:
    one, other = rng.integers(1, 9, (2, 30, 30))
    forth = Contingency.of(one, other)
    back = Contingency.of(other, one)
    bits, sbit = information_score(forth), information_score(back)
    assert (bits.split, bits.merge, bits.v_info()) == pytest.approx(
        (sbit.merge, sbit.split, sbit.v_info())
    )
    pairs, sriap = rand_score(forth), rand_score(back)
    assert (pairs.precision, pairs.recall, pairs.error) == (
        sriap.recall,
        sriap.precision,
        sriap.error,
    )


def test_the_mean_of_slices_is_not_the_score_of_the_volume() -> None:
    true = np.ones((2, 4, 4), int)
    predicted = np.stack([true[0], 2 * true[1]])
    assert mean_score(slice_tables(predicted, true)).voi == 0
    assert table_score(Contingency.of(predicted, true)).voi_split == 1


def test_ignored_pixels_count_in_no_slice(rng: np.random.Generator) -> None:
    true, predicted = rng.integers(1, 5, (2, 3, 8, 8))
    ignore = rng.random(true.shape) < 0.4
    ignore[2] = True
    masked = mean_score(slice_tables(predicted, true, ignore))
    assert masked == partition_score(predicted, np.where(ignore, 0, true))


def test_scores_of_one_object_are_defined() -> None:
    one, halves = np.ones((4, 4), int), np.repeat([1, 2], 8).reshape(4, 4)
    assert information_score(Contingency.of(one, one)).v_info() == 1
    assert information_score(Contingency.of(halves, one)).v_info() == 0
    assert information_score(Contingency.of(one, halves)).v_info() == 0
    pixel = rand_score(Contingency.of(one[:1, :1], one[:1, :1]))
    assert pixel == RandScore(0, 0, 0, 0)
    assert (pixel.error, pixel.adapted_error, pixel.precision, pixel.recall) == (0, 0, 1, 1)
    assert InformationScore(0, 0, 0, 0).precision == InformationScore(0, 0, 0, 0).recall == 1


def test_objects_of_billions_of_voxels_do_not_overflow() -> None:
    size = 5 * 10**9
    ids = np.array([1, 2])
    table = Contingency(ids, ids, np.array([size, size]))
    assert rand_score(table, self_pairs=True).both == pytest.approx(2 * size**2)
    assert table_score(table).voi == table_score(table).adapted_rand_error == 0


def test_pooled_pairs_add_up(rng: np.random.Generator) -> None:
    tables = list(slice_tables(*rng.integers(1, 5, (2, 3, 8, 8))))
    scores = [rand_score(table) for table in tables]
    pooled = scores[0] + scores[1] + scores[2]
    assert pooled.both == sum(score.both for score in scores)
    assert pooled.pairs == 3 * 64 * 63 / 2


def test_unknown_conventions_are_refused() -> None:
    table = Contingency.of(np.ones((2, 2), int), np.ones((2, 2), int))
    with pytest.raises(ConfigError, match="cannot be 'all'; choose one of object, singletons, ign"):
        rand_score(table, unmatched="all")
    with pytest.raises(ConfigError, match="alpha is 2; choose a number from 0 to 1"):
        rand_score(table).v_rand(2)
    with pytest.raises(ConfigError, match=r"alpha is -0\.1; choose"):
        information_score(table).v_info(-0.1)
    nothing = Contingency.of(np.zeros((2, 2), int), np.ones((2, 2), int))
    with pytest.raises(ConfigError, match="all are 0 or have no predicted object"):
        mean_score([nothing], unmatched="ignore")
    with pytest.raises(ConfigError, match="all are 0;"):
        table_score(Contingency.empty())
