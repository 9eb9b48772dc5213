"""Graphs of parts add up to the graph of the whole; merging equals a search of all pairs."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from napari_unet.errors import ConfigError
from napari_unet.labels.agglomeration import (
    STEPS,
    VOXEL_STEPS,
    RegionEdges,
    agglomerate,
    merge_pieces,
    region_edges,
)

SHAPES = hnp.array_shapes(min_dims=2, max_dims=3, max_side=6)


def edges_one_by_one(pieces: np.ndarray, boundary: np.ndarray) -> dict[tuple[int, int], list[int]]:
    """Return the probabilities, in steps, of the faces between each two pieces, voxel by voxel."""
    found: dict[tuple[int, int], list[int]] = {}
    for place in np.ndindex(pieces.shape):
        for axis in range(pieces.ndim):
            there = tuple(p + (i == axis) for i, p in enumerate(place))
            if there[axis] < pieces.shape[axis]:
                a, b = sorted((int(pieces[place]), int(pieces[there])))
                if a != b and a != 0:
                    values = (float(boundary[place]), float(boundary[there]))
                    steps = sum(min(int(v * VOXEL_STEPS), VOXEL_STEPS - 1) for v in values)
                    found.setdefault((a, b), []).append(steps)
    return found


def merge_one_by_one(edges: RegionEdges, threshold: float) -> dict[int, int]:
    """Return the lowest member of each piece's object, from a search of all edges at each step."""
    members = {int(n): {int(n)} for n in edges.pairs.ravel()}
    weights = {
        (int(a), int(b)): (int(s), int(c))
        for (a, b), s, c in zip(edges.pairs, edges.sums, edges.counts, strict=True)
    }

    def degree(node: int) -> int:
        return sum(node in pair for pair in weights)

    while weights:
        mean, (a, b) = min((Fraction(s, c * STEPS), pair) for pair, (s, c) in weights.items())
        if not mean < threshold:
            break
        kept, lost = (b, a) if degree(b) > degree(a) else (a, b)
        del weights[(a, b)]
        members[kept] |= members.pop(lost)
        for pair in [pair for pair in weights if lost in pair]:
            total, count = weights.pop(pair)
            new = tuple(sorted(kept if n == lost else n for n in pair))
            known = weights.get(new, (0, 0))
            weights[new] = (total + known[0], count + known[1])
    return {n: min(group) for group in members.values() for n in group}


@st.composite
def partitions(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Draw pieces, with some that are 0, and probabilities."""
    shape = draw(SHAPES)
    pieces = draw(hnp.arrays(np.uint32, shape, elements=st.integers(0, 9)))
    boundary = draw(hnp.arrays(np.float32, shape, elements=st.floats(0, 1, width=16)))
    return pieces, boundary


@st.composite
def graphs(draw: st.DrawFn) -> RegionEdges:
    """Draw edges between few pieces with few values: ties and triangles are frequent."""
    numbers = draw(st.lists(st.integers(1, 2**40), min_size=2, max_size=7, unique=True))
    possible = list(itertools.combinations(sorted(numbers), 2))
    pairs = sorted(draw(st.sets(st.sampled_from(possible))))
    values = st.tuples(st.integers(1, 4), st.sampled_from([0, 0.1, 0.2, 0.5, 0.9]))
    chosen = [draw(values) for _ in pairs]
    return RegionEdges(
        np.array(pairs, dtype=np.uint64).reshape(-1, 2),
        np.array([int(c * v * STEPS) for c, v in chosen], dtype=np.int64),
        np.array([c for c, _ in chosen], dtype=np.int64),
    )


@given(partitions())
def test_edges_equal_those_counted_face_by_face(case: tuple[np.ndarray, np.ndarray]) -> None:
    edges = region_edges(*case)
    expected = edges_one_by_one(*case)
    assert [tuple(pair) for pair in edges.pairs.tolist()] == sorted(expected)
    assert edges.sums.tolist() == [sum(expected[pair]) for pair in sorted(expected)]
    assert edges.counts.tolist() == [len(expected[pair]) for pair in sorted(expected)]


@given(partitions(), st.integers(1, 4), st.randoms(use_true_random=False))
def test_blocks_in_any_order_add_up_to_the_whole(
    case: tuple[np.ndarray, np.ndarray], edge: int, random: object
) -> None:
    pieces, boundary = case
    parts = []
    for start in itertools.product(*(range(0, n, edge) for n in pieces.shape)):
        box = tuple(slice(a, a + edge + 1) for a in start)
        inner = (edge,) * pieces.ndim
        parts.append(region_edges(pieces[box], boundary[box], inner=inner))
    random.shuffle(parts)  # type: ignore[attr-defined]
    total, whole = RegionEdges.total(parts), region_edges(pieces, boundary)
    for name in ("pairs", "sums", "counts"):
        assert np.array_equal(getattr(total, name), getattr(whole, name))
    assert np.array_equal((parts[0] + RegionEdges.total(parts[1:])).sums, whole.sums)


@given(graphs(), st.sampled_from([0.0, 0.05, 0.15, 0.3, 0.6, 1.0]))
def test_merging_equals_a_search_of_all_pairs(edges: RegionEdges, threshold: float) -> None:
    pieces, objects = agglomerate(edges, threshold)
    expected = merge_one_by_one(edges, threshold)
    assert dict(zip(pieces.tolist(), objects.tolist(), strict=True)) == expected


@given(partitions())
def test_threshold_0_merges_nothing_and_1_what_touches(
    case: tuple[np.ndarray, np.ndarray],
) -> None:
    pieces, boundary = case
    kept = merge_pieces(pieces, boundary, 0)
    numbers = np.unique(pieces[pieces > 0])
    places = np.searchsorted(numbers, pieces) + 1
    assert np.array_equal(kept, np.where(pieces > 0, places, 0))
    # Parts of one number that lie apart are one piece: then what touches is not one part.
    apart = ndimage.label(pieces > 0)[0] if pieces.any() else pieces
    separate = merge_pieces(
        np.arange(1, pieces.size + 1).reshape(pieces.shape) * (pieces > 0), boundary, 1
    )
    assert np.array_equal(separate, apart)


def test_means_follow_the_merges() -> None:
    # 1-2 are one first; then 3 has the mean (0.1 + 3 * 0.5) / 4 = 0.4 with both.
    edges = RegionEdges(
        np.array([[1, 2], [1, 3], [2, 3]], dtype=np.uint64),
        np.array([0, STEPS // 10, 3 * STEPS // 2]),
        np.array([1, 1, 3]),
    )
    assert agglomerate(edges, 0.2)[1].tolist() == [1, 1, 3]
    assert agglomerate(edges, 0.45)[1].tolist() == [1, 1, 1]


def test_of_equal_means_the_lowest_numbers_go_first() -> None:
    # 1 and 4 are one first, as 4, which touched more. Then 2-3 goes before 3-4, both of mean 0.5,
    # and 2 with 4 has a mean of (0.75 + 0.75 + 0.5) / 3. Named 1, it would have joined 3 first.
    edges = RegionEdges(
        np.array([[1, 2], [1, 4], [2, 3], [2, 4], [3, 4]], dtype=np.uint64),
        (np.array([0.75, 0.25, 0.5, 0.75, 0.5]) * STEPS).astype(np.int64),
        np.ones(5, dtype=np.int64),
    )
    assert agglomerate(edges, 0.6)[1].tolist() == [1, 2, 2, 1]


def test_a_hub_of_many_pieces_takes_no_quadratic_time() -> None:
    count = 20_000
    numbers = np.arange(1, count + 1, dtype=np.uint64)
    pairs = np.stack([numbers, np.full(count, count + 1, dtype=np.uint64)], axis=1)
    edges = RegionEdges(pairs, np.arange(count), np.full(count, 2))
    assert (agglomerate(edges, 1)[1] == 1).all()


def test_no_edges_merge_nothing() -> None:
    pieces, objects = agglomerate(RegionEdges.total([]), 1)
    assert len(pieces) == len(objects) == 0
    assert np.array_equal(merge_pieces(np.full((2, 2), 7), np.zeros((2, 2)), 1), np.ones((2, 2)))


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ConfigError, match="give equal shapes"):
        region_edges(np.ones((2, 2), np.uint8), np.zeros((2, 3)))
