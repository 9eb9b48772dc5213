"""Linking equals a search of all pairs of objects, and follows objects through slices."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_unet.core.watershed_options import LinkOptions
from napari_unet.errors import ConfigError
from napari_unet.labels.linking import link_slices, linked_numbers

SLICES = hnp.arrays(np.uint16, (2, 6, 6), elements=st.integers(0, 4))

OPTIONS = st.builds(
    LinkOptions,
    overlap=st.sampled_from(["iou", "smaller"]),
    threshold=st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]),
    mutual=st.booleans(),
)


def links_one_by_one(
    previous: np.ndarray, current: np.ndarray, options: LinkOptions
) -> list[list[int]]:
    """Return the pairs from masks of every two objects."""
    share = {}
    for a in np.unique(previous[previous > 0]).tolist():
        for b in np.unique(current[current > 0]).tolist():
            one, other = previous == a, current == b
            whole = {"iou": (one | other).sum(), "smaller": min(one.sum(), other.sum())}
            share[a, b] = (one & other).sum() / whole[options.overlap]
    found = []
    for (a, b), value in share.items():
        best_of_a = min((-v, pair[1]) for pair, v in share.items() if pair[0] == a)[1] == b
        best_of_b = min((-v, pair[0]) for pair, v in share.items() if pair[1] == b)[1] == a
        if value > options.threshold and (not options.mutual or (best_of_a and best_of_b)):
            found.append([a, b])
    return sorted(found)


@given(SLICES, OPTIONS)
def test_links_equal_a_search_of_all_pairs(slices: np.ndarray, options: LinkOptions) -> None:
    pairs = link_slices(slices[0], slices[1], options)
    assert pairs.dtype == np.uint64
    assert pairs.tolist() == links_one_by_one(slices[0], slices[1], options)


@given(SLICES)
def test_mutual_links_are_one_to_one(slices: np.ndarray) -> None:
    pairs = link_slices(slices[0], slices[1], LinkOptions(threshold=0, mutual=True))
    for column in pairs.T:
        assert len(np.unique(column)) == len(column)


@given(st.integers(1, 12), st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=12))
def test_linked_numbers_equal_joining_one_pair_after_the_other(
    count: int, places: list[tuple[int, int]]
) -> None:
    numbers = np.arange(count, dtype=np.uint64) * 2**40 + 5
    groups = [{n} for n in numbers.tolist()]
    pairs = [(int(numbers[a % count]), int(numbers[b % count])) for a, b in places]
    for pair in pairs:
        touched = [group for group in groups if group & set(pair)]
        groups = [group for group in groups if not group & set(pair)] + [set().union(*touched)]
    expected = {n: min(group) for group in groups for n in group}
    found = linked_numbers(numbers, np.array(pairs, dtype=np.uint64).reshape(-1, 2))
    assert dict(zip(numbers.tolist(), found.tolist(), strict=True)) == expected


def test_a_moving_disk_is_one_object_and_another_stays_apart() -> None:
    y, x = np.mgrid[:40, :60]
    slices = []
    for z in range(5):
        plane = np.where(np.hypot(y - 15, x - 12 - 3 * z) < 8, 2 * z + 1, 0)
        plane[np.hypot(y - 30, x - 50) < 5] = 2 * z + 2
        slices.append(plane.astype(np.uint32))
    pairs = np.concatenate([link_slices(a, b) for a, b in itertools.pairwise(slices)])
    objects = linked_numbers(np.arange(1, 11, dtype=np.uint64), pairs)
    assert objects.tolist() == [1, 2] * 5


def test_only_the_smaller_area_follows_a_branch() -> None:
    trunk, branches = np.zeros((9, 20), np.uint8), np.zeros((9, 20), np.uint8)
    trunk[2:7, :] = 1
    branches[2:7, :14], branches[2:7, 16:] = 2, 3
    follow = LinkOptions(overlap="smaller", threshold=0.5, mutual=False)
    assert link_slices(trunk, branches).tolist() == [[1, 2]]
    assert link_slices(trunk, branches, follow).tolist() == [[1, 2], [1, 3]]


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ConfigError, match="give equal shapes"):
        link_slices(np.ones((2, 2), np.uint8), np.ones((2, 3), np.uint8))
