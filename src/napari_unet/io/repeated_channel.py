"""A gray image as a color one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import AxesError

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_unet.core.arrays import ImageSource, PyramidLevel
    from napari_unet.core.boxes import Box, Shape


class RepeatedChannel:
    """An image of one channel that gives it several times; implements `core.arrays.ImageSource`.

    Parameters
    ----------
    source : ImageSource
        The image; closed with this one.
    channels : int
        How often its channel is given.

    Raises
    ------
    AxesError
        If the image has more than one channel.
    """

    def __init__(self, source: ImageSource, channels: int) -> None:
        if source.num_channels != 1:
            raise AxesError(
                f"{source.name} has {source.num_channels} channels; only a single one can be "
                "repeated, so choose it with --channel"
            )
        self._source = source
        self._channels = channels

    @property
    def name(self) -> str:
        """Short name for messages and file names, without folder and suffix."""
        return self._source.name

    @property
    def spatial_axes(self) -> str:
        """Spatial axes that the image itself has: "zyx" or "yx"."""
        return self._source.spatial_axes

    @property
    def shape(self) -> Shape:
        """Spatial shape (z, y, x)."""
        return self._source.shape

    @property
    def num_channels(self) -> int:
        """How often the channel is given."""
        return self._channels

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored values."""
        return self._source.dtype

    @property
    def levels(self) -> tuple[PyramidLevel, ...]:
        """The chosen level first, then every coarser one that the image has."""
        return self._source.levels

    def read(self, box: Box) -> npt.NDArray[Any]:
        """Return the voxels of a box inside the image, (c, z, y, x); it is read once."""
        return np.repeat(self._source.read(box), self._channels, axis=0)

    def sample_boxes(self, max_voxels: int) -> tuple[Box, ...]:
        """Return boxes with stored data, as the image itself does."""
        return self._source.sample_boxes(max_voxels)

    def count_missing_chunks(self, box: Box) -> int:
        """Return how many chunks that overlap `box` were never written."""
        return self._source.count_missing_chunks(box)

    def identity(self) -> dict[str, Any]:
        """Return what tells the image from others."""
        return self._source.identity()

    def close(self) -> None:
        """Release the image's files."""
        self._source.close()
