"""Images and labels at another voxel size, computed as they are read.

Training sees what `segment` shows a model at that voxel size: the same grid, the same sums.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.core.annotation import Annotation
from napari_unet.core.arrays import PyramidLevel
from napari_unet.core.axes import VoxelSize
from napari_unet.core.boxes import Box
from napari_unet.io.sampling import spread_boxes

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_unet.core.arrays import ImageSource
    from napari_unet.core.boxes import Shape
    from napari_unet.core.resampling import Resampling

FLOAT32_BYTES = 2
"""Values of so many bytes are whole numbers that float32 holds exactly, or are float16."""


class ResampledImage:
    """An image on its resampled grid; implements `core.arrays.ImageSource`.

    Parameters
    ----------
    image : ImageSource
        The image; closed with this one.
    resampling : Resampling
        From its grid to the other.
    labels : bool
        It is a label image: numbers are taken from the voxel that holds the center, never mixed.
    """

    def __init__(self, image: ImageSource, resampling: Resampling, *, labels: bool = False) -> None:
        self.image = image
        self.resampling = resampling
        self._labels = labels

    @property
    def name(self) -> str:
        """Short name for messages and file names, without folder and suffix."""
        return self.image.name

    @property
    def spatial_axes(self) -> str:
        """Spatial axes that the image itself has: "zyx" or "yx"."""
        return self.image.spatial_axes

    @property
    def shape(self) -> Shape:
        """Shape (z, y, x) of the resampled grid."""
        return self.resampling.shape

    @property
    def num_channels(self) -> int:
        """Number of channels."""
        return self.image.num_channels

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values: that of the image for labels, else a floating-point type."""
        if self._labels:
            return self.image.dtype
        return np.dtype(np.float32 if self.image.dtype.itemsize <= FLOAT32_BYTES else np.float64)

    @property
    def levels(self) -> tuple[PyramidLevel, ...]:
        """One level, with the resampled voxel size."""
        size = resampled_voxel_size(self.image.levels[0].voxel_size, self.resampling)
        return (PyramidLevel(self.shape, size),)

    def read(self, box: Box) -> npt.NDArray[Any]:
        """Return the voxels of a box of the resampled grid, (c, z, y, x)."""
        if self._labels:
            index = [at[s] for at, s in zip(_centers(self.resampling), box.slices, strict=True)]
            needed = Box(tuple(int(at[0]) for at in index), tuple(int(at[-1]) + 1 for at in index))
            found: npt.NDArray[Any] = self.image.read(needed)
            for axis, (at, first) in enumerate(zip(index, needed.start, strict=True), start=1):
                found = found.take(at - first, axis=axis)
            return found
        values = self.image.read(self.resampling.needed(box)).astype(self.dtype)
        return self.resampling.resample(values, box)

    def sample_boxes(self, max_voxels: int) -> tuple[Box, ...]:
        """Return boxes spread evenly over the resampled grid."""
        return spread_boxes(Box.of_shape(self.shape), max_voxels)

    def count_missing_chunks(self, box: Box) -> int:
        """Return how many chunks of the image that `box` is made of were never written."""
        return self.image.count_missing_chunks(self.resampling.needed(box))

    def identity(self) -> dict[str, Any]:
        """Return what tells the image from others, and the factors."""
        return {**self.image.identity(), "rescale": list(self.resampling.factors)}

    def close(self) -> None:
        """Release files."""
        self.image.close()


def resampled_voxel_size(size: VoxelSize, resampling: Resampling) -> VoxelSize:
    """Return the length of a resampled voxel."""
    y, x = resampling.factors
    return VoxelSize(size.z, size.y / y, size.x / x, size.unit)


def resample_annotation(annotation: Annotation, resampling: Resampling) -> Annotation:
    """Return an annotation on the resampled grid: a voxel has the label at its center.

    Parameters
    ----------
    annotation : Annotation
        Of the image.
    resampling : Resampling
        From the image's grid to the other.
    """
    result = Annotation(resampling.shape, annotation.class_names)
    centers = _centers(resampling)
    for box, labels in annotation.blocks():
        ranges = [
            np.searchsorted(at, (a, b))
            for at, a, b in zip(centers, box.start, box.stop, strict=True)
        ]
        target = Box(tuple(int(r[0]) for r in ranges), tuple(int(r[1]) for r in ranges))
        if not target.is_empty:
            index = [at[s] - a for at, s, a in zip(centers, target.slices, box.start, strict=True)]
            result.write(target, labels[np.ix_(*index)])
    return result


def _centers(resampling: Resampling) -> list[npt.NDArray[np.intp]]:
    """Return, per axis, in which voxel of the image the center of each resampled one lies."""
    factors = (1.0, *resampling.factors)
    return [
        np.minimum(np.floor((np.arange(n) + 0.5) / f).astype(np.intp), size - 1)
        for n, f, size in zip(resampling.shape, factors, resampling.image_shape, strict=True)
    ]
