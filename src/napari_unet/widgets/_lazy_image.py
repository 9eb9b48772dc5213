"""Voxels read box by box as an array that napari can show: nothing is read until it is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_unet.core.boxes import Box
from napari_unet.core.job import DEFAULT_CHUNK_EDGE
from napari_unet.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from napari_unet.core.boxes import Shape

Index = int | slice


class VoxelSource(Protocol):
    """What can be shown: an `ImageSource`, or a level of a label image that is being written."""

    @property
    def shape(self) -> Shape:
        """Spatial shape (z, y, x)."""

    @property
    def spatial_axes(self) -> str:
        """Its own axes: "zyx" or "yx"."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""

    def read(self, box: Box) -> npt.NDArray[Any]:
        """Return the voxels of a box, (c, z, y, x)."""


class LazyImage:
    """The first channel of an image, sliceable; a slice of it reads nothing either.

    napari cuts a pyramid's levels twice: first the visible part of all slices, then one slice of
    it (napari issue 9515). Reading only at the second cut keeps this cheap.

    Parameters
    ----------
    source : VoxelSource
        What to read from.
    box : Box or None
        Part (z, y, x) of it; None = all.
    """

    def __init__(self, source: VoxelSource, box: Box | None = None) -> None:
        self._source = source
        self._box = Box.of_shape(source.shape) if box is None else box
        self._own_axes = len(source.spatial_axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape with the image's own axes, (z, y, x) or (y, x)."""
        return self._box.shape[-self._own_axes :]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self._own_axes

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self._source.dtype

    @property
    def chunks(self) -> tuple[int, ...]:
        """Grid that napari widens the visible part to, so that small moves read nothing."""
        return (1, DEFAULT_CHUNK_EDGE, DEFAULT_CHUNK_EDGE)[-self._own_axes :]

    @property
    def size(self) -> int:
        """Number of voxels."""
        return self._box.size

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        index = self._complete(key)
        if all(isinstance(part, slice) and part.step in (None, 1) for part in index):
            return LazyImage(self._source, self._inner(index))
        # Whole numbers and steps: read the box around, then let NumPy do the rest.
        around: list[slice] = []
        rest: list[Index] = []
        for part, n in zip(index, self.shape, strict=True):
            if isinstance(part, slice):
                around.append(slice(None))
                rest.append(part)
            else:
                number = range(n)[part]
                around.append(slice(number, number + 1))
                rest.append(0)
        return np.asarray(LazyImage(self._source, self._inner(around)))[tuple(rest)]

    def __setitem__(self, key: Any, value: Any) -> None:
        # napari paints into any Labels layer of one scale; a reader cannot forbid it.
        raise StorageError(
            "this layer shows a stored result and cannot be painted on; make a new Labels layer "
            "for annotations"
        )

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        values: npt.NDArray[Any] = self._source.read(self._box)[0].reshape(self.shape)
        return values if dtype is None else values.astype(dtype)

    def _complete(self, key: Any) -> list[Index]:
        """Return one integer or slice per axis."""
        parts = list(key) if isinstance(key, tuple) else [key]
        if Ellipsis in parts:
            at = parts.index(Ellipsis)
            parts[at : at + 1] = [slice(None)] * (self.ndim - len(parts) + 1)
        parts += [slice(None)] * (self.ndim - len(parts))
        if len(parts) != self.ndim:
            raise IndexError(f"{len(parts)} indices for an image of {self.ndim} axes")
        return [
            slice(*(None if v is None else int(v) for v in (p.start, p.stop, p.step)))
            if isinstance(p, slice)
            else int(p)
            for p in parts
        ]

    def _inner(self, index: Sequence[Any]) -> Box:
        """Return the box of the source that slices without steps choose."""
        full = [*[slice(None)] * (3 - self.ndim), *index]
        ranges = [part.indices(n) for part, n in zip(full, self._box.shape, strict=True)]
        origin = self._box.start
        start = tuple(o + a for o, (a, _, _) in zip(origin, ranges, strict=True))
        stop = tuple(o + max(a, b) for o, (a, b, _) in zip(origin, ranges, strict=True))
        return Box(start, stop)
