"""Tiles and blocks: every voxel is written once, by a tile that lies where it always lies."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.core.boxes import Box
from napari_unet.core.receptive import NetGeometry, unet_geometry
from napari_unet.core.tiling import (
    TileGrid,
    mirror_indices,
    nearest_tile_edge,
    whole_image_tile,
)
from napari_unet.errors import TilingError


@st.composite
def nets(draw: st.DrawFn) -> NetGeometry:
    return unet_geometry(
        draw(st.integers(0, 2)),
        padding=draw(st.sampled_from(("valid", "same"))),
        flat_axes=draw(st.integers(0, 1)),
    )


@st.composite
def grids(draw: st.DrawFn) -> TileGrid:
    net = draw(nets())
    return TileGrid(
        shape=tuple(draw(st.integers(1, n)) for n in (5, 30, 30)),
        net=net,
        tile_shape=tuple(s * draw(st.integers(1, 4)) for s in net.stride),
        block_shape=tuple(s * draw(st.integers(1, 6)) for s in net.stride),
    )


@st.composite
def grids_and_regions(draw: st.DrawFn) -> tuple[TileGrid, Box]:
    grid = draw(grids())
    start = tuple(draw(st.integers(0, n - 1)) for n in grid.shape)
    stop = tuple(draw(st.integers(a + 1, n)) for a, n in zip(start, grid.shape, strict=True))
    return grid, Box(start, stop)


@given(grids_and_regions())
def test_every_voxel_of_a_region_is_written_exactly_once(case: tuple[TileGrid, Box]) -> None:
    grid, region = case
    by_blocks = np.zeros(grid.shape, int)
    by_tiles = np.zeros(grid.shape, int)
    for block in grid.blocks(region):
        by_blocks[block.write.slices] += 1
        for tile in grid.tiles_of(block):
            by_tiles[tile.write.slices] += 1
    wanted = np.zeros(grid.shape, int)
    wanted[region.slices] = 1
    assert np.array_equal(by_blocks, wanted)
    assert np.array_equal(by_tiles, wanted)


@given(grids_and_regions())
def test_no_tile_crosses_a_block_and_no_block_leaves_its_cell(case: tuple[TileGrid, Box]) -> None:
    grid, region = case
    for block in grid.blocks(region):
        cell = Box(
            tuple(i * e for i, e in zip(block.index, grid.block_shape, strict=True)),
            tuple((i + 1) * e for i, e in zip(block.index, grid.block_shape, strict=True)),
        )
        assert block.box == cell.intersection(grid.extent)
        assert block.write == block.box.intersection(region)
        assert not block.write.is_empty
        for tile in grid.tiles_of(block):
            assert block.write.contains(tile.write)
            assert not tile.write.is_empty


@given(grids_and_regions())
def test_every_tile_is_legal_and_on_the_grid_of_the_array(case: tuple[TileGrid, Box]) -> None:
    grid, region = case
    net = grid.net
    for block in grid.blocks(region):
        for tile in grid.tiles_of(block):
            output = net.output_shape(tile.read.shape)
            for axis in range(3):
                origin = tile.read.start[axis] + net.halo[axis]
                assert origin % net.stride[axis] == 0
                # `crop` says where in the output the written voxels are found.
                assert tile.write.start[axis] == origin + tile.crop.start[axis]
                assert tile.crop.start[axis] >= 0
                assert tile.crop.stop[axis] <= output[axis]
            assert tile.crop.shape == tile.write.shape


@given(grids_and_regions())
def test_a_region_uses_the_tiles_of_the_whole_array(case: tuple[TileGrid, Box]) -> None:
    grid, region = case
    everywhere = {tile.read: tile.write for block in grid.blocks() for tile in grid.tiles_of(block)}
    for block in grid.blocks(region):
        for tile in grid.tiles_of(block):
            assert tile.write == everywhere[tile.read].intersection(region)


@given(grids_and_regions())
def test_counting_agrees_with_making(case: tuple[TileGrid, Box]) -> None:
    grid, region = case
    blocks = list(grid.blocks(region))
    assert grid.count_blocks(region) == len(blocks)
    assert grid.count_tiles(region) == sum(len(list(grid.tiles_of(block))) for block in blocks)
    everything = sum(len(list(grid.tiles_of(block))) for block in grid.blocks())
    assert grid.count_tiles() == everything


def test_counting_a_petavoxel_takes_no_time() -> None:
    grid = TileGrid((10**5,) * 3, unet_geometry(4), (1, 384, 384), (1, 1024, 1024))
    start = time.process_time()
    # 97 blocks of three tiles, and a last one of 672 voxels: two.
    assert grid.count_tiles() == 10**5 * (97 * 3 + 2) ** 2
    assert grid.count_blocks() == 10**5 * 98**2
    assert time.process_time() - start < 0.1


@given(nets(), st.tuples(st.integers(1, 5), st.integers(1, 40), st.integers(1, 40)))
def test_the_reference_is_the_whole_image_in_one_tile(
    net: NetGeometry, shape: tuple[int, int, int]
) -> None:
    tile = whole_image_tile(shape, net)
    assert tile.write == tile.crop == Box.of_shape(shape)
    assert tile.read.start == tuple(-h for h in net.halo)
    assert all(
        got >= n and got - n < 2 * s
        for got, n, s in zip(net.output_shape(tile.read.shape), shape, net.stride, strict=True)
    )


def test_the_papers_tile() -> None:
    grid = TileGrid((1, 2000, 2000), unet_geometry(4), (1, 384, 384), (1, 1152, 1152))
    tile = next(grid.tiles_of(next(grid.blocks())))
    assert tile.read == Box((0, -92, -92), (1, 480, 480))
    assert tile.write == Box((0, 0, 0), (1, 384, 384))
    assert grid.redundancy() == pytest.approx((572 / 384) ** 2)


@pytest.mark.parametrize(
    ("tile", "block", "shape", "problem"),
    [
        ((1, 388, 388), (1, 768, 768), (1, 9, 9), "tile shape .* multiples of the network's"),
        ((1, 384, 384), (1, 1000, 768), (1, 9, 9), "block shape .* multiples"),
        ((1, 0, 384), (1, 768, 768), (1, 9, 9), "positive"),
        ((384, 384), (1, 768, 768), (1, 9, 9), "differ in length"),
        ((1, 384, 384), (1, 768, 768), (1, 0, 9), "no voxels to segment"),
    ],
)
def test_what_is_off_the_grid_is_refused(
    tile: tuple[int, ...], block: tuple[int, ...], shape: tuple[int, ...], problem: str
) -> None:
    with pytest.raises(TilingError, match=problem):
        TileGrid(shape, unet_geometry(4), tile, block)


@pytest.mark.parametrize(
    "region",
    [
        Box((0, 0, 0), (1, 0, 9)),
        Box((0, 0, 0), (1, 9, 10)),
        Box((0, -1, 0), (1, 9, 9)),
    ],
)
def test_a_region_outside_the_array_is_refused(region: Box) -> None:
    grid = TileGrid((1, 9, 9), unet_geometry(2), (1, 4, 4), (1, 8, 8))
    with pytest.raises(TilingError, match="does not lie in an array"):
        list(grid.blocks(region))
    with pytest.raises(TilingError, match="does not lie in an array"):
        grid.count_blocks(region)


@given(st.integers(1, 12), st.integers(0, 60), st.integers(0, 60))
def test_mirroring_is_numpys_reflect(size: int, before: int, after: int) -> None:
    axis = np.arange(size)
    wanted = np.pad(axis, (before, after), mode="reflect")
    assert np.array_equal(mirror_indices(-before, size + after, size), wanted)


@given(st.integers(1, 12), st.integers(-100, 100), st.integers(0, 50))
def test_mirroring_far_outside_is_a_part_of_the_whole(size: int, start: int, length: int) -> None:
    whole = np.pad(np.arange(size), 160, mode="reflect")
    got = mirror_indices(start, start + length, size)
    assert np.array_equal(got, whole[160 + start : 160 + start + length])
    assert got.dtype == np.intp


def test_an_axis_without_voxels_cannot_be_mirrored() -> None:
    with pytest.raises(TilingError, match="without voxels"):
        mirror_indices(0, 1, 0)


@given(st.integers(1, 5000), st.sampled_from((1, 2, 4, 16, 64)))
def test_the_nearest_edge_is_legal_and_nearest(wanted: int, stride: int) -> None:
    edge = nearest_tile_edge(wanted, stride)
    assert edge > 0
    assert edge % stride == 0
    nearest = min(range(stride, 6000, stride), key=lambda k: abs(k - wanted))
    assert abs(edge - wanted) == abs(nearest - wanted)


def test_a_tile_larger_than_a_block_is_cut_to_it() -> None:
    grid = TileGrid((1, 64, 64), unet_geometry(2), (1, 48, 48), (1, 32, 32))
    tiles = [tile for block in grid.blocks() for tile in grid.tiles_of(block)]
    assert [tile.write.shape for tile in tiles] == [(1, 32, 32)] * 4
    assert math.prod(tiles[0].read.shape) == (32 + 40) ** 2
