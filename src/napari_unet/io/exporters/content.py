"""What an export writes: a region of a result, renumbered and in the type of its file."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_unet.core.boxes import Box

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt

    from napari_unet.core.arrays import ImageSource
    from napari_unet.core.axes import VoxelSize
    from napari_unet.core.boxes import Shape

MAX_PIECE_VALUES = 2**24
"""Values that are held at once."""

MAX_BAND_ROWS = 512
"""Rows read together: those of a chunk, so that none is decoded twice."""


@dataclass(frozen=True, slots=True)
class Content:
    """A region of labels or probabilities, as it will be in the file.

    Parameters
    ----------
    source : ImageSource
        The result.
    region : Box
        What of it, (z, y, x), in its voxels.
    dtype : numpy.dtype
        Type in the file; every value fits.
    name : str
        Name of the label image.
    background : int
        Class that becomes 0; the ones above it move down by one. 0 = values as they are.
    label_names : tuple of (int, str)
        Value in the file and the class that it stands for; empty for objects and probabilities.
    channel_names : tuple of str
        Classes of the probabilities; empty for labels.
    """

    source: ImageSource
    region: Box
    dtype: np.dtype[Any]
    name: str
    background: int = 0
    label_names: tuple[tuple[int, str], ...] = ()
    channel_names: tuple[str, ...] = ()

    @property
    def shape(self) -> Shape:
        """Edges of the region (z, y, x)."""
        return self.region.shape

    @property
    def spatial_axes(self) -> str:
        """Spatial axes that the file gets: "zyx" or "yx"."""
        return self.source.spatial_axes

    @property
    def num_channels(self) -> int:
        """Number of channels; 1 for labels."""
        return self.source.num_channels

    @property
    def axes(self) -> str:
        """Axes of the file, channels first; only probabilities have a channel axis."""
        return ("c" if self.channel_names else "") + self.spatial_axes

    @property
    def full_shape(self) -> Shape:
        """Edges along `axes`."""
        edges = dict(zip("czyx", (self.num_channels, *self.shape), strict=True))
        return tuple(edges[axis] for axis in self.axes)

    @property
    def paged_axes(self) -> str:
        """Axes in the order of the pages of a TIFF: all channels of a slice, then the next one."""
        return "".join(axis for axis in "zcyx" if axis in self.axes)

    @property
    def paged_shape(self) -> Shape:
        """Edges along `paged_axes`."""
        edges = dict(zip(self.axes, self.full_shape, strict=True))
        return tuple(edges[axis] for axis in self.paged_axes)

    @property
    def voxel_size(self) -> VoxelSize:
        """World length of a voxel."""
        return self.source.levels[0].voxel_size

    @property
    def origin(self) -> tuple[float, float, float]:
        """World position (z, y, x) of the region's first voxel, in the voxel size's unit."""
        z, y, x = (
            shift + start * length
            for shift, start, length in zip(
                self.source.levels[0].translation,
                self.region.start,
                self.voxel_size.zyx,
                strict=True,
            )
        )
        return (z, y, x)

    @property
    def nbytes(self) -> int:
        """Size of the values, uncompressed."""
        return self.region.size * self.num_channels * self.dtype.itemsize

    def read(self, box: Box) -> npt.NDArray[Any]:
        """Return values (c, z, y, x) of a box whose zero is the region's corner.

        Raises
        ------
        InputError
            If the result is damaged.
        """
        start = tuple(a + o for a, o in zip(box.start, self.region.start, strict=True))
        stop = tuple(b + o for b, o in zip(box.stop, self.region.start, strict=True))
        values = renumber(self.source.read(Box(start, stop)), self.background)
        return values.astype(self.dtype, copy=False)

    def read_own_axes(self, box: Box) -> npt.NDArray[Any]:
        """Return the values of a box along `axes`; raises `InputError` as `read` does."""
        values = self.read(box)
        if "z" not in self.axes:
            values = values[:, 0]
        return values if "c" in self.axes else values[0]

    def index(self, box: Box) -> tuple[slice, ...]:
        """Return where the values of a box lie in an array along `axes`."""
        known = dict(zip("czyx", (slice(None), *box.slices), strict=True))
        return tuple(known[axis] for axis in self.axes)

    def bands(self) -> Iterator[Box]:
        """Yield boxes of whole rows, plane by plane, that cover the region in C order."""
        depth, height, width = self.shape
        rows = min(MAX_BAND_ROWS, max(1, MAX_PIECE_VALUES // (width * self.num_channels)))
        first = self.region.start[1]
        # Bands end where chunks do, also if the region begins inside of one.
        cuts = [0, *range(rows - first % rows, height, rows), height]
        for z in range(depth):
            for top, bottom in itertools.pairwise(cuts):
                yield Box((z, top, 0), (z + 1, bottom, width))

    def tiles(self, edge: int) -> Iterator[Box]:
        """Yield boxes of at most `edge` in y and x that cover the region in C order."""
        depth, height, width = self.shape
        for z in range(depth):
            for y in range(0, height, edge):
                for x in range(0, width, edge):
                    yield Box((z, y, x), (z + 1, min(y + edge, height), min(x + edge, width)))


def renumber(labels: npt.NDArray[Any], background: int) -> npt.NDArray[Any]:
    """Return labels in which one class is 0 and the ones above it are one less.

    0 stays 0: what was not computed cannot be told from the background then. With `background` 0
    nothing changes.

    Examples
    --------
    >>> import numpy as np
    >>> renumber(np.array([0, 1, 2, 3], np.uint8), 2)
    array([0, 1, 0, 2], dtype=uint8)
    """
    if background == 0:
        return labels
    moved: npt.NDArray[Any] = labels - (labels > background).astype(labels.dtype)
    moved[labels == background] = 0
    return moved
