"""Blocks cover the array once, know their neighbors, and are taken once each."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.core.boxes import Box
from napari_unet.errors import ConfigError, TilingError
from napari_unet.labels.block_grid import BlockGrid, Schedule


@st.composite
def grids(draw: st.DrawFn) -> BlockGrid:
    shape = tuple(draw(st.integers(1, n)) for n in (4, 9, 9))
    edges = tuple(draw(st.integers(1, n + 1)) for n in shape)
    margin = tuple((draw(st.integers(0, 3)), draw(st.integers(0, 3))) for _ in shape)
    return BlockGrid(shape, edges, margin)


@given(grids())
def test_blocks_cover_the_array_once_and_margins_stay_inside(grid: BlockGrid) -> None:
    covered = np.zeros(grid.shape, dtype=int)
    for block in range(grid.count):
        covered[grid.box(block).slices] += 1
        wide = grid.extended(block)
        assert Box.of_shape(grid.shape).contains(wide)
        assert wide.contains(grid.box(block))
    assert (covered == 1).all()


@given(grids())
def test_faces_are_those_of_neighbors_and_each_block_knows_its_own(grid: BlockGrid) -> None:
    boxes = [grid.box(block) for block in range(grid.count)]
    expected = {
        (low, up)
        for (low, a), (up, b) in itertools.combinations(enumerate(boxes), 2)
        if sum(x != y for x, y in zip(a.start, b.start, strict=True)) == 1
        and not any(a.distance_to(b))
    }
    every = [face for block in range(grid.count) for face in grid.faces(block)]
    assert set(every) == expected
    assert all(block in face for block in range(grid.count) for face in grid.faces(block))
    assert len(every) == 2 * len(expected)


def test_grids_and_schedules_that_cannot_be_are_refused() -> None:
    with pytest.raises(TilingError, match="differ in length"):
        BlockGrid((1, 4, 4), (2, 2))
    for shape, edges, margin in (
        ((1, 0, 4), (1, 2, 2), ()),
        ((1, 4, 4), (1, 2, 0), ()),
        ((1, 4, 4), (1, 2, 2), ((0, 0), (0, 0), (-1, 0))),
    ):
        with pytest.raises(TilingError, match="edges must be at least 1 and margins at least 0"):
            BlockGrid(shape, edges, margin)
    grid = BlockGrid((1, 4, 4), (1, 2, 2))
    with pytest.raises(ConfigError, match="0 workers"):
        Schedule(0).of(grid)
    with pytest.raises(ConfigError, match=r"order of 4 blocks .* 0\.\.3 once"):
        Schedule(1, (0, 1, 2, 2)).of(grid)
