"""An image in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_unet.core.arrays import PyramidLevel
from napari_unet.core.axes import VoxelSize
from napari_unet.core.boxes import Box

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class MemoryImage:
    """An `ImageSource` over an array (c, z, y, x); counts what is read."""

    name = "memory"
    spatial_axes = "zyx"

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self.array = array
        self.boxes_read: list[Box] = []

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape[1:]

    @property
    def num_channels(self) -> int:
        return self.array.shape[0]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    @property
    def levels(self) -> tuple[PyramidLevel, ...]:
        return (PyramidLevel(self.shape, VoxelSize()),)

    def read(self, box: Box) -> npt.NDArray[Any]:
        assert Box.of_shape(self.shape).contains(box), "the engine must not read outside the image"
        self.boxes_read.append(box)
        return self.array[(slice(None), *box.slices)]

    def sample_boxes(self, max_voxels: int) -> tuple[Box, ...]:
        return (Box.of_shape(self.shape),)

    def count_missing_chunks(self, box: Box) -> int:
        return 0

    def identity(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        pass
