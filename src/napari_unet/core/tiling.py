"""Where blocks and tiles lie: the overlap-tile strategy as pure geometry.

::

    array    0        16       32       48       64       80
             |--------|--------|--------|--------|--------|  stride grid of the network
    block    |                 |                 |        |  unit of writing
    tile     |        |        |        |        |        |  write boxes abut
    read  ...=========W========...                           write box + halo, mirrored outside

A tile's write boxes cover the array once [1]_, Fig. 2. Their grid is anchored at
the array's origin and has edges that are multiples of the network's stride, also
when only a region is wanted: then the tiles that touch the region are computed
where they always lie and only the part inside the region is written. So a tile's
numbers depend on nothing but the array, the model and the tile size.

Where the network sees the array resampled, write boxes and blocks stay on the array's own grid, at
any edges, and each tile computes the part of the resampled grid that decides its write box, widened
to that grid's multiples of the stride.

References
----------
.. [1] O. Ronneberger, P. Fischer, T. Brox, "U-Net: Convolutional Networks for
   Biomedical Image Segmentation", MICCAI 2015.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_unet.core.boxes import Box, Shape
from napari_unet.errors import TilingError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_unet.core.receptive import NetGeometry
    from napari_unet.core.resampling import Resampling


@dataclass(frozen=True, slots=True)
class Block:
    """The unit of writing and of resuming: a box of whole storage chunks.

    Parameters
    ----------
    index : tuple of int
        Position in the block grid, per axis.
    box : Box
        The voxels it owns: its grid cell, cut to the array.
    write : Box
        The part of `box` inside the wanted region.
    """

    index: Shape
    box: Box
    write: Box


@dataclass(frozen=True, slots=True)
class Tile:
    """One network input and the voxels that its output decides.

    Parameters
    ----------
    read : Box
        Network input, on the resampled grid if there is one. Has a legal shape; may reach outside
        the array, where it is mirrored.
    write : Box
        Voxels that this tile writes, inside the array and the wanted region.
    crop : Box
        `write`, or what decides it on the resampled grid, in coordinates of the network's output
        (the input less one halo on each side).
    """

    read: Box
    write: Box
    crop: Box


@dataclass(frozen=True, slots=True)
class TileGrid:
    """Blocks and tiles of a network over an array.

    Parameters
    ----------
    shape : tuple of int
        Spatial shape of the array, (z, y, x).
    net : NetGeometry
        Halo, stride and legal sizes of the network.
    tile_shape, block_shape : tuple of int
        Edges of write boxes and of blocks; multiples of the stride of the network. A tile larger
        than a block is cut to it: no tile crosses a block.
    resampling : Resampling or None
        The resampled grid that the network sees instead of the array's own. Edges may then be any
        positive numbers.

    Raises
    ------
    TilingError
        If lengths differ, or an edge is not a positive multiple of the stride.

    Examples
    --------
    >>> from napari_unet.core.receptive import unet_geometry
    >>> grid = TileGrid((1, 500, 900), unet_geometry(4), (1, 384, 384), (1, 768, 768))
    >>> [tile.write.shape for tile in grid.tiles_of(next(grid.blocks()))]
    [(1, 384, 384), (1, 384, 384), (1, 116, 384), (1, 116, 384)]
    """

    shape: Shape
    net: NetGeometry
    tile_shape: Shape
    block_shape: Shape
    resampling: Resampling | None = None

    def __post_init__(self) -> None:
        stride = self.net.stride if self.resampling is None else (1,) * len(self.net.stride)
        for name, edges in (("tile", self.tile_shape), ("block", self.block_shape)):
            if not len(edges) == len(self.shape) == len(stride):
                raise TilingError(
                    f"{name} shape {edges}, array shape {self.shape} and stride {stride} "
                    "differ in length"
                )
            if any(e < 1 or e % s for e, s in zip(edges, stride, strict=True)):
                raise TilingError(
                    f"{name} shape {edges} must be positive multiples of the network's stride "
                    f"{stride}; tiles off that grid see other pooling windows and disagree"
                )
        if any(n < 1 for n in self.shape):
            raise TilingError(f"an array of shape {self.shape} has no voxels to segment")

    @property
    def extent(self) -> Box:
        """The whole array."""
        return Box.of_shape(self.shape)

    def blocks(self, region: Box | None = None) -> Iterator[Block]:
        """Yield the blocks that touch `region` (default: all), last axis fastest.

        Raises
        ------
        TilingError
            If `region` is empty or leaves the array.
        """
        wanted = self.extent if region is None else region
        for index in itertools.product(*self.block_ranges(wanted)):
            yield self.block(index, wanted)

    def block_ranges(self, region: Box) -> tuple[range, ...]:
        """Return, per axis, the indices of the blocks that touch `region`.

        Raises
        ------
        TilingError
            If `region` is empty or leaves the array.
        """
        if region.is_empty or not self.extent.contains(region):
            raise TilingError(
                f"region {region.start}..{region.stop} does not lie in an array of {self.shape}"
            )
        return tuple(
            range(a // edge, -(-b // edge))
            for a, b, edge in zip(region.start, region.stop, self.block_shape, strict=True)
        )

    def block(self, index: Shape, region: Box | None = None) -> Block:
        """Return the block at a position of the block grid, for a wanted region (default: all)."""
        start = tuple(i * edge for i, edge in zip(index, self.block_shape, strict=True))
        stop = tuple(a + edge for a, edge in zip(start, self.block_shape, strict=True))
        box = Box(start, stop).intersection(self.extent)
        return Block(index, box, box if region is None else box.intersection(region))

    def count_blocks(self, region: Box | None = None) -> int:
        """Return how many blocks touch `region`, without making them."""
        ranges = self.block_ranges(self.extent if region is None else region)
        return math.prod(len(r) for r in ranges)

    def tiles_of(self, block: Block) -> Iterator[Tile]:
        """Yield the tiles that write the voxels of ``block.write`` exactly once."""
        origin = block.box.start
        for cell in _cells(block.write.relative_to(origin), self.tile_shape):
            cell_in_array = cell.relative_to(tuple(-o for o in origin)).intersection(block.box)
            yield self._tile(cell_in_array, block.write)

    def count_tiles(self, region: Box | None = None) -> int:
        """Return how many tiles `region` takes.

        Blocks inside the array all look alike, so one of each kind is counted: the answer for a
        terabyte takes no longer than for a slice.
        """
        wanted = self.extent if region is None else region
        per_axis = []
        for n, a, b, tile, edge in zip(
            self.shape, wanted.start, wanted.stop, self.tile_shape, self.block_shape, strict=True
        ):
            first, last = a // edge, (b - 1) // edge
            total = 0
            for k in {first, last}:
                low, high = max(a, k * edge), min(b, (k + 1) * edge, n)
                total += (high - 1 - k * edge) // tile - (low - k * edge) // tile + 1
            per_axis.append(total + max(last - first - 1, 0) * -(-edge // tile))
        return math.prod(per_axis)

    def full_tile(self) -> Tile:
        """Return the largest tile: the first one of the array."""
        cell = Box.of_shape(self.tile_shape).intersection(self.block((0,) * len(self.shape)).box)
        return self._tile(cell, cell)

    def redundancy(self) -> float:
        """Return how many voxels the network reads per voxel written, for a full tile."""
        tile = self.full_tile()
        return tile.read.size / tile.write.size

    def _tile(self, cell: Box, wanted: Box) -> Tile:
        """Return the tile of a grid cell: a legal read box, and the part of it to write."""
        stride, halo, seen = self.net.stride, self.net.halo, self._seen(cell)
        start = tuple(a // s * s for a, s in zip(seen.start, stride, strict=True))
        shape = seen.relative_to(start).stop
        aligned = tuple(-(-n // s) * s for n, s in zip(shape, stride, strict=True))
        read_start = tuple(a - h for a, h in zip(start, halo, strict=True))
        read_shape = self.net.input_shape(aligned)
        read_stop = tuple(a + n for a, n in zip(read_start, read_shape, strict=True))
        write = cell.intersection(wanted)
        return Tile(Box(read_start, read_stop), write, self._seen(write).relative_to(start))

    def _seen(self, box: Box) -> Box:
        return box if self.resampling is None else self.resampling.support(box)


def _cells(wanted: Box, edges: Shape) -> Iterator[Box]:
    """Yield the cells of a grid anchored at 0 that touch `wanted`."""
    ranges = [
        range(a // edge, -(-b // edge))
        for a, b, edge in zip(wanted.start, wanted.stop, edges, strict=True)
    ]
    for index in itertools.product(*ranges):
        start = tuple(i * edge for i, edge in zip(index, edges, strict=True))
        yield Box(start, tuple(a + edge for a, edge in zip(start, edges, strict=True)))


def whole_image_tile(shape: Shape, net: NetGeometry) -> Tile:
    """Return the tile that is the reference of the tile law: the whole array in one pass.

    Its output starts at the array's origin; its far end is mirrored to a legal size.
    """
    grid_edges = tuple(-(-n // s) * s for n, s in zip(shape, net.stride, strict=True))
    grid = TileGrid(shape, net, grid_edges, grid_edges)
    return next(grid.tiles_of(next(grid.blocks())))


def nearest_tile_edge(wanted: int, stride: int) -> int:
    """Return the legal write-box edge nearest to `wanted`: a positive multiple of `stride`.

    Examples
    --------
    >>> nearest_tile_edge(500, 16)
    496
    """
    return max(round(wanted / stride), 1) * stride


def mirror_indices(start: int, stop: int, size: int) -> npt.NDArray[np.intp]:
    """Return where the voxels ``start .. stop - 1`` of a mirrored axis are found.

    The axis is reflected about its first and last voxel, which are not repeated, again and again
    where it is shorter than what is asked for; one voxel is repeated for ever.

    Parameters
    ----------
    start, stop : int
        Range to fetch; may lie anywhere, also wholly outside.
    size : int
        Length of the axis, at least 1.

    Returns
    -------
    numpy.ndarray
        ``stop - start`` indices in ``0 .. size - 1``.

    References
    ----------
    .. [1] Ronneberger et al. 2015, Fig. 2: mirrored extrapolation of missing input.

    Examples
    --------
    >>> mirror_indices(-2, 6, 4).tolist()
    [2, 1, 0, 1, 2, 3, 2, 1]
    """
    if size < 1:
        raise TilingError("an axis without voxels cannot be mirrored")
    index = np.arange(start, stop)
    if size == 1:
        return np.zeros_like(index)
    period = 2 * (size - 1)
    folded = np.abs(index) % period
    return np.asarray(np.minimum(folded, period - folded), dtype=np.intp)


def slices_as_channels(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the input of a 2D network that sees a slice with its neighbors as channels.

    Parameters
    ----------
    image : numpy.ndarray
        (c, 2k + 1, h, w): a slice with the k before and the k after it.

    Returns
    -------
    numpy.ndarray
        (c * (2k + 1), h, w): channel by channel, and for each channel the slices in the order of z.

    Examples
    --------
    >>> slices_as_channels(np.arange(6).reshape(2, 3, 1, 1)).ravel().tolist()
    [0, 1, 2, 3, 4, 5]
    """
    return image.reshape(-1, *image.shape[-2:])
