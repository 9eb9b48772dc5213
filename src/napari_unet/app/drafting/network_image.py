"""An image as the network sees it, and the way back to the image's own grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_unet.core.arrays import read_mirrored
from napari_unet.core.boxes import Box
from napari_unet.core.normalization import normalize
from napari_unet.core.resampling import AxisResampling

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_unet.core.arrays import ImageSource
    from napari_unet.core.boxes import Shape
    from napari_unet.core.normalization import Normalization
    from napari_unet.core.resampling import Resampling


class NetworkImage:
    """A normalized image, on its resampled grid if there is one; a `core.arrays.BoxReader`.

    It gives the network what `segment` gives it.

    Parameters
    ----------
    source : ImageSource
        The image.
    normalization : Normalization
        Of the whole volume.
    resampling : Resampling or None
        The grid that the network sees instead of the image's own.
    """

    def __init__(
        self, source: ImageSource, normalization: Normalization, resampling: Resampling | None
    ) -> None:
        self._source = source
        self._normalization = normalization
        self._resampling = resampling
        self._nearest = tuple(
            AxisResampling(size, factor).nearest(0, size)
            for size, factor in zip(source.shape[1:], self.factors, strict=True)
        )

    @property
    def shape(self) -> Shape:
        """Shape (z, y, x) of the grid that the network sees."""
        return self._source.shape if self._resampling is None else self._resampling.shape

    @property
    def image_shape(self) -> Shape:
        """Shape (z, y, x) of the image itself."""
        return self._source.shape

    @property
    def factors(self) -> tuple[float, float]:
        """Voxels that the network sees per voxel of the image, (y, x)."""
        return (1.0, 1.0) if self._resampling is None else self._resampling.factors

    def read(self, box: Box) -> npt.NDArray[np.float32]:
        """Return normalized voxels (c, z, y, x) of a box inside the network's grid.

        Raises
        ------
        InputError
            If stored data is damaged.
        """
        if self._resampling is None:
            return normalize(self._source.read(box), self._normalization).image
        needed = self._resampling.needed(box)
        # Normalized first, as `segment` does: a NaN counts as the mean and does not spread.
        values = normalize(self._source.read(needed), self._normalization).image
        found: npt.NDArray[np.float32] = self._resampling.resample(values, box)
        return found

    def read_input(self, box: Box) -> npt.NDArray[np.float32]:
        """Return network input of a box that may leave the grid, mirrored there.

        Raises
        ------
        InputError
            If stored data is damaged.
        """
        return read_mirrored(self, box)

    def seen(self, box: Box) -> Box:
        """Return the box of the network's grid that decides the classes of a box of the image."""
        start, stop = [box.start[0]], [box.stop[0]]
        for near, a, b in zip(self._nearest, box.start[1:], box.stop[1:], strict=True):
            start.append(int(near[a]))
            stop.append(int(near[b - 1]) + 1)
        return Box(tuple(start), tuple(stop))

    def extent(self, box: Box) -> Box:
        """Return the voxels of the image whose centers lie in a box of the network's grid."""
        start, stop = [box.start[0]], [box.stop[0]]
        for near, a, b in zip(self._nearest, box.start[1:], box.stop[1:], strict=True):
            first, last = np.searchsorted(near, (a, b))
            start.append(int(first))
            stop.append(int(last))
        return Box(tuple(start), tuple(stop))

    def places(
        self, y: npt.NDArray[np.intp], x: npt.NDArray[np.intp]
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Return where on the network's grid the centers of voxels of the image lie, (y, x)."""
        return self._nearest[0][y], self._nearest[1][x]

    def labels(self, labels: npt.NDArray[np.uint8], box: Box) -> npt.NDArray[np.uint8]:
        """Return classes (z, y, x) of a box of the image, given those of ``seen(box)``."""
        if self._resampling is None:
            return labels
        _, top, left = self.seen(box).start
        rows = self._nearest[0][box.start[1] : box.stop[1]] - top
        columns = self._nearest[1][box.start[2] : box.stop[2]] - left
        return labels[:, rows[:, None], columns]
