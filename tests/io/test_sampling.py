"""Samples of images that are not chunked: bounded, spread, inside, all of it if that is allowed."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.core.boxes import Box
from napari_unet.io.sampling import MIN_PLANES, spread_boxes, spread_order

shapes = st.tuples(st.integers(1, 60), st.integers(1, 200), st.integers(1, 200))
origins = st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))


@given(shapes, origins, st.integers(1, 100_000))
def test_boxes_lie_inside_apart_and_within_the_bound(
    shape: tuple[int, int, int], origin: tuple[int, int, int], bound: int
) -> None:
    extent = Box.of_shape(shape).relative_to(tuple(-o for o in origin))
    boxes = spread_boxes(extent, bound)
    assert all(extent.contains(box) and not box.is_empty for box in boxes)
    assert sum(box.size for box in boxes) <= max(bound, len(boxes))
    assert len({box.start[0] for box in boxes}) >= min(shape[0], MIN_PLANES)
    for a, b in itertools.pairwise(boxes):
        assert a.intersection(b).is_empty
    assert boxes == spread_boxes(extent, bound)


@given(shapes)
def test_a_small_image_is_sampled_whole(shape: tuple[int, int, int]) -> None:
    seen = np.zeros(shape, int)
    for box in spread_boxes(Box.of_shape(shape), int(np.prod(shape))):
        seen[box.slices] += 1
    assert (seen == 1).all()


@given(st.integers(1, 3000))
def test_every_number_comes_once_and_early_ones_are_spread(count: int) -> None:
    order = list(spread_order(count))
    assert sorted(order) == list(range(count))
    if count >= 100:
        gaps = np.diff(sorted([*order[:20], count]))
        assert gaps.max() < 5 * count / 20
