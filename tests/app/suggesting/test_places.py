"""Places cover a region once, and windows hold every place once, whatever the sizes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.app.suggesting.places import PlaceGrid, centers
from napari_unet.core.boxes import Box
from napari_unet.errors import TilingError

sizes = st.tuples(st.integers(1, 3), st.integers(1, 90), st.integers(1, 90))
starts = st.tuples(st.integers(0, 5), st.integers(0, 50), st.integers(0, 50))


def region_of(start: tuple[int, ...], size: tuple[int, ...]) -> Box:
    return Box(start, tuple(a + n for a, n in zip(start, size, strict=True)))


@given(starts, sizes, st.integers(1, 30))
def test_every_voxel_lies_in_one_place(
    start: tuple[int, ...], size: tuple[int, ...], edge: int
) -> None:
    grid = PlaceGrid(region_of(start, size), edge)
    count = np.zeros(grid.region.stop, int)
    for number in range(len(grid)):
        box = grid.box(number)
        assert box.shape[0] == 1
        count[box.slices] += 1
        for n, whole in zip(box.shape[1:], size[1:], strict=True):
            assert min(2 * edge / 3, whole) - 1 < n < 1.5 * edge + 1
    assert (count[grid.region.slices] == 1).all()
    assert count.sum() == grid.region.size


@given(starts, sizes, st.integers(6, 30), st.integers(1, 100))
def test_every_place_lies_in_one_window_that_a_tile_covers(
    start: tuple[int, ...], size: tuple[int, ...], edge: int, tile: int
) -> None:
    grid = PlaceGrid(region_of(start, size), edge)
    across = grid.windows_across(tile)
    seen = []
    for window in range(grid.count_windows(across)):
        numbers, box = grid.numbers(window, across), grid.window_box(window, across)
        assert box.size == sum(grid.box(k).size for k in numbers)
        assert all(box.contains(grid.box(k)) for k in numbers)
        longest = max(max(grid.box(k).shape) for k in numbers)
        assert max(box.shape[1:]) <= max(tile, longest)
        seen += numbers
    assert sorted(seen) == list(range(len(grid)))


def test_centers_are_those_of_voxels() -> None:
    box = Box((3, 10, 20), (4, 20, 25))
    voxels = np.argwhere(np.ones(box.shape)) + box.start
    np.testing.assert_array_equal(centers([box]), [voxels.mean(axis=0)])
    assert centers([]).shape == (0, 3)


@pytest.mark.parametrize(("stop", "edge"), [((0, 5, 5), 3), ((1, 5, 5), 0)])
def test_nothing_cannot_be_divided(stop: tuple[int, ...], edge: int) -> None:
    with pytest.raises(TilingError, match="give a region with voxels"):
        PlaceGrid(Box((0, 0, 0), stop), edge)
