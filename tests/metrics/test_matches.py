"""Matching pairs are those of the masks, and sizes part the objects that are found."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from napari_unet.errors import ConfigError
from napari_unet.metrics.contingency import Contingency
from napari_unet.metrics.matches import found_by_size, matches_of, overlaps_of


def objects(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return columns of many widths, and the same with some edges moved and some left out."""
    edges = np.sort(rng.permutation(200)[:30])
    true = np.searchsorted(edges, np.arange(200)) * 3
    moved = np.sort(edges + rng.integers(-2, 3, 30))
    predicted = np.searchsorted(moved, np.arange(200)) * 5 % 100
    return predicted, true


def pairs_by_hand(predicted: np.ndarray, true: np.ndarray) -> dict[tuple[int, int], float]:
    """Return the intersection over union of all pairs that overlap."""
    numbers = ([int(n) for n in np.unique(side) if n] for side in (predicted, true))
    pairs = {}
    for p, t in itertools.product(*numbers):
        shared = ((predicted == p) & (true == t)).sum()
        if shared:
            pairs[p, t] = shared / ((predicted == p) | (true == t)).sum()
    return pairs


@pytest.mark.parametrize("seed", range(4))
def test_pairs_are_those_of_the_masks(seed: int) -> None:
    predicted, true = objects(np.random.default_rng(seed))
    table = Contingency.of(predicted, true)
    wanted = pairs_by_hand(predicted, true)
    overlaps = overlaps_of(table)
    pairs = list(zip(overlaps.predicted.tolist(), overlaps.true.tolist(), strict=True))
    assert dict(zip(pairs, overlaps.iou, strict=True)) == pytest.approx(wanted)
    assert overlaps.num_predicted == len(set(predicted.tolist()) - {0})
    assert overlaps.num_true == len(set(true.tolist()) - {0})
    for threshold in (0.5, 0.7, 0.9):
        found = matches_of(table, threshold)
        pairs = zip(found.predicted.tolist(), found.true.tolist(), strict=True)
        above = {pair: iou for pair, iou in wanted.items() if iou > threshold}
        assert dict(zip(pairs, found.iou, strict=True)) == pytest.approx(above)
        assert len(set(found.predicted)) == len(found.true) == len(set(found.true))


@pytest.mark.parametrize("seed", range(4))
def test_sizes_part_the_objects(seed: int) -> None:
    predicted, true = objects(np.random.default_rng(seed))
    table = Contingency.of(predicted, true)
    found = found_by_size(table, (3, 8, 1000))
    assert [(part.low, part.high) for part in found] == [(None, 3), (3, 8), (8, 1000), (1000, None)]
    matched = {t for (_, t), iou in pairs_by_hand(predicted, true).items() if iou > 0.5}
    for part in found:
        here = [
            t
            for t in set(true.tolist()) - {0}
            if (part.low or 0) <= (true == t).sum() < (part.high or 10**9)
        ]
        assert (part.true, part.matched) == (len(here), len(matched.intersection(here)))
    assert found[-1].recall is None
    assert found[1].recall == found[1].matched / found[1].true


def test_an_object_as_large_as_a_bound_lies_above_it() -> None:
    row = np.array([1, 1, 1, 2, 2, 0])
    below, above = found_by_size(Contingency.of(row, row), (3,))
    assert (below.true, above.true) == (1, 1)
    (all_sizes,) = found_by_size(Contingency.of(row, row), ())
    assert (all_sizes.low, all_sizes.high, all_sizes.recall) == (None, None, 1)


def test_without_objects_nothing_is_found() -> None:
    table = Contingency.of(np.zeros(4, int), np.zeros(4, int))
    assert len(matches_of(table).iou) == 0
    assert found_by_size(table, ())[0].recall is None


def test_bounds_must_fit() -> None:
    table = Contingency.empty()
    with pytest.raises(ConfigError, match="give ascending numbers"):
        found_by_size(table, (5, 5))
    with pytest.raises(ConfigError, match=r"choose from 0\.5"):
        matches_of(table, 0.3)
