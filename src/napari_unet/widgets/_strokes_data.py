"""Stored strokes as the data of a Labels layer: an array on disk that is painted in memory.

What napari 0.9.2 asks of a layer's data: slices of any kind for what it shows and paints, whole
numbers for the type (``data[0].dtype``, at each dab) and the label under the mouse, and arrays of
coordinates from ``data_setitem``. A whole number alone gives a part that is read only when it is
used, because the type is asked for far more often than the values.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from napari_unet.core.boxes import Box
from napari_unet.errors import AnnotationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from napari_unet.app.annotations import OpenStrokes
    from napari_unet.core.boxes import Shape

MOST_VOXELS = 2**31
"""Most voxels that are read at once, one byte each, such as for the 3D display."""


class StrokesData(NDArrayOperatorsMixin):
    """A window of stored strokes, as an array (z, y, x) or (y, x) of uint8.

    Arrays taken from it are the caller's own. Arithmetic and comparisons give such arrays.

    Parameters
    ----------
    strokes : OpenStrokes
        Where the labels lie.
    window : Box
        Part of the image, (z, y, x).
    ndim : int
        How many axes it has, counted from the last; the others are one voxel long.
    """

    def __init__(self, strokes: OpenStrokes, window: Box, ndim: int) -> None:
        self.strokes = strokes
        self.window = window
        self.ndim = ndim
        self.dtype: np.dtype[np.uint8] = np.dtype(np.uint8)

    @property
    def shape(self) -> Shape:
        """Edge lengths of the window."""
        return self.window.shape[3 - self.ndim :]

    @property
    def size(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes it would take as an array."""
        return self.size

    @property
    def image_shape(self) -> Shape:
        """Shape of the whole image, (z, y, x)."""
        return self.strokes.buffer.shape

    def __repr__(self) -> str:
        return f"<StrokesData {self.shape} at {self.window.start} of {self.strokes.path}>"

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("strokes on disk are no array without a copy")
        return self._read(self.window).reshape(self.shape).astype(dtype or np.uint8, copy=False)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        dense = [np.asarray(each) if isinstance(each, StrokesData) else each for each in inputs]
        if any(isinstance(each, StrokesData) for each in options.get("out", ())):
            return NotImplemented
        return getattr(ufunc, method)(*dense, **options)

    def __deepcopy__(self, _: dict[int, Any]) -> npt.NDArray[np.uint8]:
        """Return a plain array: a copy of a layer in napari is a layer in memory of its own."""
        return self.copy()

    def copy(self) -> npt.NDArray[np.uint8]:
        """Return all labels as an array.

        Raises
        ------
        AnnotationError
            If there are more than `MOST_VOXELS`.
        """
        return np.array(self)

    def any(self) -> bool:
        """Return whether there is some label."""
        return bool(np.any(np.asarray(self)))

    def max(self) -> int:
        """Return the largest label."""
        return int(np.max(np.asarray(self)))

    def __getitem__(self, key: Any) -> Any:
        if _is_number(key):
            return self._row(int(key))
        arrays = self._coordinates(key)
        if arrays is not None:
            return self._gather(arrays)
        box, inner = self._part(key)
        return self._read(box)[inner]

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(value, StrokesData):
            value = np.asarray(value)
        arrays = self._coordinates(key)
        if arrays is not None:
            self._scatter(arrays, value)
            return
        box, inner = self._part(key)
        steps = [part.step for part in inner if isinstance(part, slice)]
        whole = all(step in (None, 1) for step in steps)
        # Painting replaces all of a box; only with steps something in between stays.
        dense = np.empty(box.shape, dtype=np.uint8) if whole else self._read(box)
        dense[inner] = value
        self.strokes.buffer.write(box, dense)

    def _row(self, index: int) -> Any:
        """Return a part along the first axis, unread; a number where there is but one axis."""
        length = self.shape[0]
        if not -length <= index < length:
            raise IndexError(f"index {index} is outside of {length} along the first axis")
        if self.ndim == 1:
            return self[(index,)]
        axis, start, stop = 3 - self.ndim, list(self.window.start), list(self.window.stop)
        start[axis] += index % length
        stop[axis] = start[axis] + 1
        return StrokesData(self.strokes, Box(tuple(start), tuple(stop)), self.ndim - 1)

    def _part(self, key: Any) -> tuple[Box, tuple[Any, ...]]:
        """Return the box of the image that an index needs, and the index into that box."""
        start, stop = list(self.window.start), list(self.window.stop)
        inner: list[Any] = [0] * (3 - self.ndim)
        for number, part in enumerate(_full_index(key, self.ndim)):
            axis, length = 3 - self.ndim + number, self.shape[number]
            origin = start[axis]
            if isinstance(part, slice):
                steps = range(*part.indices(length))
                first = min(steps[0], steps[-1]) if steps else 0
                last = max(steps[0], steps[-1]) + 1 if steps else 0
                start[axis], stop[axis] = origin + first, origin + last
                inner.append(slice(None, None, steps.step))
            else:
                index = int(part)
                if not -length <= index < length:
                    raise IndexError(f"index {index} is outside of {length} along axis {number}")
                start[axis] = origin + index % length
                stop[axis] = start[axis] + 1
                inner.append(0)
        return Box(tuple(start), tuple(stop)), tuple(inner)

    def _coordinates(self, key: Any) -> list[npt.NDArray[np.intp]] | None:
        """Return coordinates in the image, one array for each axis; None = the index has none."""
        if isinstance(key, np.ndarray) and key.dtype == bool:
            key = np.nonzero(np.broadcast_to(key, self.shape))
        parts = key if isinstance(key, tuple) else (key,)
        if not any(isinstance(part, np.ndarray | list) and np.ndim(part) for part in parts):
            return None
        if len(parts) != self.ndim or any(
            np.asarray(part).dtype.kind not in "ui" for part in parts
        ):
            raise IndexError(
                f"an index of arrays needs one for each of the {self.ndim} axes of these strokes"
            )
        arrays = np.broadcast_arrays(*(np.asarray(part, dtype=np.intp) for part in parts))
        found = [np.zeros_like(arrays[0]) + a for a in self.window.start[: 3 - self.ndim]]
        own = self.window.start[3 - self.ndim :]
        for array, length, origin in zip(arrays, self.shape, own, strict=True):
            if array.size and not -length <= array.min() <= array.max() < length:
                raise IndexError(f"coordinates leave the {length} voxels of an axis")
            found.append(array % length + origin)
        return found

    def _gather(self, arrays: Sequence[npt.NDArray[np.intp]]) -> npt.NDArray[np.uint8]:
        values = np.zeros(arrays[0].shape, dtype=np.uint8)
        for where, box, places in _by_slice(arrays):
            values[where] = self._read(box)[places]
        return values

    def _scatter(self, arrays: Sequence[npt.NDArray[np.intp]], value: Any) -> None:
        values = np.broadcast_to(np.asarray(value), arrays[0].shape)
        for where, box, places in _by_slice(arrays):
            labels = self._read(box)
            labels[places] = values[where]
            self.strokes.buffer.write(box, labels)

    def _read(self, box: Box) -> npt.NDArray[np.uint8]:
        if box.size > MOST_VOXELS:
            raise AnnotationError(
                f"{box.size:,} voxels of strokes are too many to be read at once, more than "
                f"{MOST_VOXELS:,}; stay in the 2D display, and edit slice by slice"
            )
        return self.strokes.buffer.read(box)


def _is_number(key: Any) -> bool:
    return isinstance(key, int | np.integer) and not isinstance(key, bool)


def _full_index(key: Any, ndim: int) -> list[Any]:
    """Return an index with a slice or a number for each axis."""
    parts = list(key) if isinstance(key, tuple) else [key]
    for part in parts:
        if not (part is Ellipsis or isinstance(part, slice) or np.ndim(part) == 0) or part is None:
            raise IndexError(f"strokes cannot be indexed by {part!r}; use numbers and slices")
    places = [number for number, part in enumerate(parts) if part is Ellipsis]
    missing = ndim - len(parts) + len(places)
    if missing < 0 or len(places) > 1:
        raise IndexError(f"the index {key!r} has more parts than the strokes have axes, {ndim}")
    at = places[0] if places else len(parts)
    return [*parts[:at], *[slice(None)] * missing, *parts[at + len(places) :]]


def _by_slice(
    arrays: Sequence[npt.NDArray[np.intp]],
) -> Iterator[tuple[Any, Box, tuple[npt.NDArray[np.intp], ...]]]:
    """Yield which of some coordinates lie in the same slice, their box, and their places in it."""
    slices = arrays[0]
    for z in np.unique(slices):
        where = np.nonzero(slices == z)
        own = [array[where] for array in arrays]
        start = tuple(int(array.min()) for array in own)
        box = Box(start, tuple(int(array.max()) + 1 for array in own))
        yield where, box, tuple(array - a for array, a in zip(own, start, strict=True))
