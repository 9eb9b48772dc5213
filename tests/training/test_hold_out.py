"""Pieces are places, conflicts are distances, and the search misses nothing."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.training.strokes import dense_labels, stroke_labels

from napari_unet.core.annotation import Annotation
from napari_unet.core.boxes import Box
from napari_unet.training.blocks import annotated_runs, make_pieces, whole_volumes
from napari_unet.training.hold_out import (
    HELD_OUT,
    JUDGING,
    NOWHERE,
    SELECTION,
    TRAIN,
    Conflicts,
    Rules,
    find_conflicts,
    halve,
    hold_out,
)
from napari_unet.training.object_width import object_width

CLASSES = ("membrane", "interior", "mitochondrion")
STACK = (1.0, 3)


def annotate(labels: np.ndarray) -> Annotation:
    return Annotation.from_array(labels, CLASSES, block_shape=(1, 16, 16))


@given(st.integers(0, 2**32), st.sampled_from([0.02, 0.2, 0.6]))
@settings(max_examples=20)
def test_uncut_pieces_are_the_places(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, (4, 40, 40)))
    annotations = [
        annotate((rng.integers(1, 4, shape) * (rng.random(shape) < share)).astype(np.uint8))
        for _ in range(2)
    ]
    found = annotated_runs(annotations)
    if not len(found.runs):
        return
    pieces = make_pieces(found, STACK, cut_above=math.inf)
    expected = {
        (volume, place.box, place.counts)
        for volume, annotation in enumerate(annotations)
        for place in annotation.places()
    }
    corners = zip(pieces.low.tolist(), pieces.high.tolist(), pieces.counts.tolist(), strict=True)
    assert expected == {(a[0], Box(tuple(a[1:]), tuple(b[1:])), tuple(n)) for a, b, n in corners}
    assert len(pieces.block) == sum(len(a.places()) for a in annotations)
    assert (np.diff(pieces.block) >= 0).all()


def test_cut_pieces_hold_every_voxel_once(rng: np.random.Generator) -> None:
    labels = dense_labels(rng, (3, 130, 150))
    pieces = make_pieces(annotated_runs([annotate(labels)]), STACK, cut_above=0)
    painted = np.zeros(labels.shape, int)
    for (_, z, y, x0, x1, k), piece in zip(pieces.runs, pieces.piece, strict=True):
        painted[z, y, x0:x1] += 1
        assert (labels[z, y, x0:x1] == k + 1).all()
        assert pieces.low[piece, 3] <= x0 < x1 <= pieces.high[piece, 3]
    assert (painted == 1).all()
    assert pieces.counts.sum() == labels.size
    assert pieces.num_blocks > 40


def test_many_places_are_grouped_and_stay_whole(rng: np.random.Generator) -> None:
    labels = np.zeros((1, 300, 300), np.uint8)
    labels[0, ::3, ::3] = 1 + rng.integers(0, 2, (100, 100))
    pieces = make_pieces(annotated_runs([annotate(labels)]), STACK, cut_above=math.inf)
    assert len(pieces.block) < 10_000
    assert pieces.counts.sum() == 10_000


def test_whole_volumes_are_one_block_each(rng: np.random.Generator) -> None:
    annotations = [annotate(stroke_labels(rng, (1, 40, 40), n)) for n in (4, 0, 9)]
    pieces = whole_volumes(annotated_runs(annotations))
    assert pieces.low[:, 0].tolist() == [0, 2]
    assert pieces.counts.tolist() == [list(annotations[k].counts) for k in (0, 2)]


@given(st.integers(0, 2**32), st.integers(0, 30), st.integers(1, 6))
@settings(max_examples=10)
def test_conflicts_are_box_distances(seed: int, gap: int, gap_slices: int) -> None:
    rng = np.random.default_rng(seed)
    annotations = [annotate(stroke_labels(rng, (5, 90, 70), 12)) for _ in range(2)]
    pieces = make_pieces(annotated_runs(annotations), STACK, cut_above=math.inf)
    conflicts = find_conflicts(pieces, gap, gap_slices)
    boxes = [Box(tuple(a[1:]), tuple(b[1:])) for a, b in zip(pieces.low, pieces.high, strict=True)]
    expected = np.zeros_like(conflicts.near)
    for i, j in itertools.product(range(len(boxes)), repeat=2):
        z, y, x = boxes[i].distance_to(boxes[j])
        overlap = boxes[i].intersection(boxes[j]).size > 0
        is_near = (z < gap_slices and y < gap and x < gap) or overlap
        if gap == 0:
            is_near = all(
                a < d and c < b
                for a, b, c, d in zip(
                    boxes[i].start[1:],
                    boxes[i].stop[1:],
                    boxes[j].start[1:],
                    boxes[j].stop[1:],
                    strict=True,
                )
            ) and (z < gap_slices)
        if is_near and pieces.low[i, 0] == pieces.low[j, 0]:
            expected[pieces.block[i], j] = True
    np.testing.assert_array_equal(conflicts.near, expected)


def can_be_in_all_parts(voxels: np.ndarray, rules: Rules) -> bool:
    """Return whether two blocks of a class can be spared and one is left, by trying all pairs."""
    held = voxels[voxels > 0]
    return len(held) >= 3 and any(
        voxels.sum() - a - b >= rules.least_of_class * voxels.sum()
        for a, b in itertools.combinations(held, 2)
    )


def legal_parts(conflicts: Conflicts, part_of_block: np.ndarray, rules: Rules) -> bool:
    """Return whether an assignment of blocks keeps all rules, written down a second time."""
    part = part_of_block[conflicts.block].copy()
    for held in HELD_OUT:
        touched = conflicts.near[part_of_block == held].any(axis=0)
        if (touched & (part == SELECTION + JUDGING - held)).any():
            return False
        part[touched & (part == TRAIN)] = NOWHERE
    counts = [conflicts.counts[part == p].sum(axis=0) for p in (TRAIN, *HELD_OUT)]
    total = conflicts.counts.sum()
    of_class = conflicts.counts.sum(axis=0)
    present = of_class > 0
    wanted = np.array([can_be_in_all_parts(k, rules) for k in conflicts.block_counts.T])
    return bool(
        (counts[0][present] > 0).all()
        and (counts[0] >= rules.least_of_class * of_class).all()
        and counts[0].sum() >= rules.least_train * total
        and all(
            (c[wanted] > 0).all()
            and rules.least_share * total <= c.sum() <= rules.most_share * total
            and np.count_nonzero(part_of_block == p) >= rules.least_blocks
            for p, c in zip(HELD_OUT, counts[1:], strict=True)
        )
    )


@pytest.mark.parametrize("seed", range(12))
def test_a_split_is_found_if_any_assignment_of_blocks_is_one(seed: int) -> None:
    """All 3 ** 8 assignments of eight blocks, some of which are too near to each other."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 9, (8, 3)) * (rng.random((8, 3)) < 0.6)
    counts[:, 0] += 1
    near = np.eye(8, dtype=bool)
    for i, j in itertools.combinations(range(8), 2):
        near[i, j] = near[j, i] = rng.random() < 0.15
    conflicts = Conflicts(near, np.arange(8), counts)
    rules = Rules(0.125, 0.4, 0.05, 0.35, 1, many_groups=False)
    exists = any(
        legal_parts(conflicts, np.array(parts), rules)
        for parts in itertools.product((TRAIN, *HELD_OUT), repeat=8)
    )
    found = hold_out(conflicts, rules, np.random.default_rng(seed))
    assert (found is not None) == exists
    if found is not None:
        assert legal_parts(conflicts, np.where(found == NOWHERE, TRAIN, found), rules)


def test_halves_are_even_and_apart(rng: np.random.Generator) -> None:
    pieces = make_pieces(
        annotated_runs([annotate(dense_labels(rng, (1, 200, 200)))]), STACK, cut_above=0
    )
    part = halve(find_conflicts(pieces, 10, 1), pieces)
    sizes = [pieces.counts[part == p].sum() / 40_000 for p in (SELECTION, JUDGING, NOWHERE)]
    assert min(sizes[:2]) >= 0.35
    assert 0.04 <= sizes[2] <= 0.1


@pytest.mark.parametrize("width", [1, 3, 5, 8])
def test_the_width_of_strokes_is_that_of_the_brush(width: int) -> None:
    labels = np.zeros((1, 120, 120), np.uint8)
    for k, y in enumerate(range(5, 110, 20)):
        labels[0, y : y + width, 5:60] = 1 + k % 2
    labels[0, 5:60, 80 : 80 + width] = 1
    assert object_width([Annotation.from_array(labels, CLASSES)]) == width


def test_the_width_of_dense_labels_is_that_of_the_thinner_class() -> None:
    labels = np.ones((2, 100, 100), np.uint8)
    labels[:, ::10] = labels[:, :, ::10] = 2
    labels[:, 1::10] = labels[:, :, 1::10] = 2
    assert object_width([Annotation.from_array(labels, CLASSES)]) == 2
    assert object_width([Annotation((1, 5, 5), CLASSES)]) == 1
