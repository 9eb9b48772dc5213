"""What all readers share: checked reads, axes, levels, samples of the whole image."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.core.arrays import PyramidLevel
from napari_unet.core.axes import VoxelSize
from napari_unet.core.boxes import Box
from napari_unet.errors import AxesError, InputError, TilingError
from napari_unet.io.sampling import spread_boxes

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_unet.core.boxes import Shape
    from napari_unet.io.selection import Layout

IDENTITY_VOXELS = 1 << 18
"""Voxels that go into the content hash: enough to tell images apart, read in a moment."""


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What a reader found out before the first voxel is read.

    Parameters
    ----------
    name : str
        Short name, without folder and suffix.
    path : str or None
        Where the image is; None = only in memory.
    layout : Layout
        How the array is read.
    dtype : numpy.dtype
        Type of the stored values.
    levels : tuple of PyramidLevel
        The chosen level, then the coarser ones; empty = one level of voxel size 1.
    """

    name: str
    path: str | None
    layout: Layout
    dtype: np.dtype[Any]
    levels: tuple[PyramidLevel, ...] = ()

    def __post_init__(self) -> None:
        check_dtype(self.dtype, self.name)


class StoredImage(ABC):
    """An image of any size, read box by box; implements `core.arrays.ImageSource`.

    Parameters
    ----------
    facts : ImageFacts
        What is known of it.

    Raises
    ------
    InputError
        If the values are not real numbers.
    """

    def __init__(self, facts: ImageFacts) -> None:
        self._facts = facts
        self._layout = facts.layout
        self._closed = False
        self._levels = facts.levels or (PyramidLevel(facts.layout.spatial_shape, VoxelSize()),)

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.name!r}: {self.num_channels} channel(s) of "
            f"{self.shape} {self.dtype}>"
        )

    @property
    def name(self) -> str:
        """Short name for messages and file names, without folder and suffix."""
        return self._facts.name

    @property
    def path(self) -> str | None:
        """Where the image is; None = only in memory."""
        return self._facts.path

    @property
    def spatial_axes(self) -> str:
        """Spatial axes that the image itself has: "zyx" or "yx"."""
        return self._layout.spatial_axes

    @property
    def shape(self) -> Shape:
        """Spatial shape (z, y, x)."""
        return self._layout.spatial_shape

    @property
    def num_channels(self) -> int:
        """Number of chosen channels."""
        return len(self._layout.channels)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored values."""
        return self._facts.dtype

    @property
    def levels(self) -> tuple[PyramidLevel, ...]:
        """The chosen level first, then every coarser one that the image has."""
        return self._levels

    def read(self, box: Box) -> npt.NDArray[Any]:
        """Return the voxels of a box inside the image, (c, z, y, x), in the stored type.

        Raises
        ------
        TilingError
            If the box leaves the image.
        InputError
            If stored data is damaged, or the image was closed.
        """
        if self._closed:
            raise InputError(f"{self.name}: the image was closed; open it again to read")
        if len(box.start) != 3 or not Box.of_shape(self.shape).contains(box):
            raise TilingError(f"{self.name}: {box} leaves the image, whose shape is {self.shape}")
        if box.is_empty:
            return np.empty((self.num_channels, *box.shape), self.dtype)
        parts = [self._layout.to_czyx(self._fetch(i)) for i in self._layout.reads(box)]
        # A copy: later changes, a closed memory map or a reused cache must not reach the caller.
        return np.concatenate(parts) if len(parts) > 1 else np.array(parts[0], order="C")

    def sample_boxes(self, max_voxels: int) -> tuple[Box, ...]:
        """Return boxes spread evenly over the image, of at most about `max_voxels` in all."""
        return spread_boxes(Box.of_shape(self.shape), max_voxels)

    def count_missing_chunks(self, box: Box) -> int:
        """Return how many chunks that overlap `box` were never written: none, unless chunked."""
        return 0

    def identity(self) -> dict[str, Any]:
        """Return what tells this image from others: path, shape, dtype and a content hash."""
        layout = self._layout
        return {
            "path": self.path,
            "shape": list(layout.shape),
            "axes": layout.axes,
            "channels": list(layout.channels),
            "time": layout.time,
            "dtype": self.dtype.str,
            "voxel_size": list(self._levels[0].voxel_size.zyx),
            "unit": self._levels[0].voxel_size.unit,
            "sha256": self._content_hash(),
        }

    def close(self) -> None:
        """Release files; reading afterwards is an error."""
        self._closed = True

    @abstractmethod
    def _fetch(self, index: tuple[slice, ...]) -> npt.NDArray[Any]:
        """Return the array's values at an index of slices, in the array's own axes."""

    def _content_hash(self) -> str:
        digest = hashlib.sha256()
        for box in self.sample_boxes(IDENTITY_VOXELS):
            digest.update(np.ascontiguousarray(self.read(box)).tobytes())
        return digest.hexdigest()


def check_dtype(dtype: np.dtype[Any], name: str) -> None:
    """Refuse values that are not real numbers of at most 64 bits.

    Raises
    ------
    InputError
        Naming the type and what is accepted.
    """
    if dtype.kind not in "buif" or dtype.itemsize > 8:
        raise InputError(
            f"{name}: values of type {dtype} cannot be segmented; convert the image to bool, an "
            "integer type, float16, float32 or float64"
        )


def check_level(level: int, count: int, name: str) -> None:
    """Refuse a pyramid level that the image does not have.

    Raises
    ------
    AxesError
        Naming the levels there are.
    """
    if not 0 <= level < count:
        raise AxesError(
            f"{name}: --level {level} does not exist; the image has "
            + ("only level 0" if count == 1 else f"the levels 0 to {count - 1}")
        )
