"""What the engine needs of an image and of an output; implemented on the `io` floor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from napari_unet.core.tiling import mirror_indices

if TYPE_CHECKING:
    from napari_unet.core.axes import VoxelSize
    from napari_unet.core.boxes import Box, Shape
    from napari_unet.core.tiling import Block


@dataclass(frozen=True, slots=True)
class PyramidLevel:
    """One resolution of an image.

    Parameters
    ----------
    shape : tuple of int
        Spatial shape (z, y, x).
    voxel_size : VoxelSize
        World length of its voxels.
    translation : tuple of float
        World position of the first voxel's center, (z, y, x).
    """

    shape: Shape
    voxel_size: VoxelSize
    translation: tuple[float, float, float] = (0.0, 0.0, 0.0)


class BoxReader(Protocol):
    """Whatever has a shape and gives the voxels of a box."""

    @property
    def shape(self) -> Shape:
        """Spatial shape (z, y, x)."""

    def read(self, box: Box) -> npt.NDArray[Any]:
        """Return the voxels of a box inside the shape, (c, z, y, x)."""


class ImageSource(Protocol):
    """An image of any size, read box by box. Always (c, z, y, x); a plane has z = 1."""

    @property
    def name(self) -> str:
        """Short name for messages and file names, without folder and suffix."""

    @property
    def spatial_axes(self) -> str:
        """Spatial axes that the image itself has: "zyx" or "yx". Outputs have the same."""

    @property
    def shape(self) -> Shape:
        """Spatial shape (z, y, x)."""

    @property
    def num_channels(self) -> int:
        """Number of (chosen) channels."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored values."""

    @property
    def levels(self) -> tuple[PyramidLevel, ...]:
        """The chosen level first, then every coarser one that the image has."""

    def read(self, box: Box) -> npt.NDArray[Any]:
        """Return the voxels of a box inside the image, (c, z, y, x), in the stored type.

        Safe to call from several threads.

        Raises
        ------
        InputError
            If stored data is damaged; names the file or chunk and the cause.
        """

    def sample_boxes(self, max_voxels: int) -> tuple[Box, ...]:
        """Return boxes with stored data, spread evenly, of at most about `max_voxels` in all.

        The choice depends on the image alone, so statistics taken over it are reproducible. Chunks
        that were never written are left out.
        """

    def count_missing_chunks(self, box: Box) -> int:
        """Return how many chunks that overlap `box` were never written (legal fill)."""

    def identity(self) -> dict[str, Any]:
        """Return what tells this image from others: path, shape, dtype, size, a content hash."""

    def close(self) -> None:
        """Release files; reading afterwards is an error."""


class LabelSink(Protocol):
    """Where a finished box of classes (and probabilities) goes. One thread writes."""

    @property
    def chunk_shape(self) -> Shape:
        """Edges of the smallest stored object of the label array, (z, y, x)."""

    def write_labels(self, box: Box, labels: npt.NDArray[np.uint8]) -> None:
        """Store classes (z, y, x) of a box. Raises `StorageError`."""

    def write_probabilities(self, box: Box, probabilities: npt.NDArray[np.float32]) -> None:
        """Store probabilities (class, z, y, x) of a box. Raises `StorageError`."""


class BlockJournal(Protocol):
    """Where it is written down what became of a block. One thread writes."""

    def enter_done(self, block: Block, nonfinite: int) -> None:
        """Make a block durable that is stored, and note it. Raises `StorageError`.

        `nonfinite` counts its voxels that were NaN or infinite in the image.
        """

    def enter_failed(self, block: Block, cause: str) -> None:
        """Note why a block could not be computed. Raises `StorageError`."""


def read_mirrored(source: BoxReader, box: Box) -> npt.NDArray[Any]:
    """Return the voxels of a box that may reach outside the image, mirrored there.

    Parameters
    ----------
    source : ImageSource or BoxReader
        The image.
    box : Box
        Any box, (z, y, x).

    Returns
    -------
    numpy.ndarray
        (c, z, y, x) of the box's shape, in the stored type.

    Notes
    -----
    Only the voxels inside the image that the box or its reflection needs are read.
    """
    inside = box.intersection(type(box).of_shape(source.shape))
    if inside == box:
        return source.read(box)
    indices = [
        mirror_indices(a, b, n) for a, b, n in zip(box.start, box.stop, source.shape, strict=True)
    ]
    needed = type(box)(
        tuple(int(i.min()) for i in indices), tuple(int(i.max()) + 1 for i in indices)
    )
    data = source.read(needed)
    for axis, (index, first) in enumerate(zip(indices, needed.start, strict=True), start=1):
        local = index - first
        if not np.array_equal(local, np.arange(data.shape[axis])):
            data = data.take(local, axis=axis)
    return data
