"""Arrays in memory, and whatever can be indexed like one: numpy, dask, xarray."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.core.arrays import PyramidLevel
from napari_unet.core.axes import AXIS_NAMES
from napari_unet.errors import InputError
from napari_unet.io.damage import input_errors
from napari_unet.io.selection import Selection, plan_layout
from napari_unet.io.stored_image import ImageFacts, StoredImage, check_level

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_unet.core.axes import VoxelSize


class ArraySource(StoredImage):
    """An array with `shape`, `dtype` and indexing by slices; read lazily.

    Parameters
    ----------
    facts : ImageFacts
        What is known of it.
    array : object
        The array, in the axes of ``facts.layout``.
    """

    def __init__(self, facts: ImageFacts, array: Any) -> None:
        super().__init__(facts)
        self._array: Any = array

    def close(self) -> None:
        """Let go of the array."""
        super().close()
        self._array = None

    def _fetch(self, index: tuple[slice, ...]) -> npt.NDArray[Any]:
        with input_errors(f"{self.name}: the array cannot be read", "check the array"):
            data = np.asarray(self._array[index])
        expected = tuple(
            len(range(*s.indices(n))) for s, n in zip(index, self._layout.shape, strict=True)
        )
        if data.shape != expected or data.dtype != self.dtype:
            raise InputError(
                f"{self.name}: the array gave {data.shape} {data.dtype} where its shape and dtype "
                f"promise {expected} {self.dtype}; convert it to numpy or zarr first"
            )
        return data


def wrap_plain_array(
    array: Any,
    selection: Selection,
    *,
    name: str,
    voxel_size: VoxelSize,
    translation: tuple[float, float, float],
) -> ArraySource:
    """Return an image over an array that is not stored by us.

    Raises
    ------
    AxesError
        If the axes are ambiguous.
    InputError
        If it is no array, or its values are not real numbers.
    """
    try:
        shape = tuple(int(n) for n in array.shape)
        dtype = np.dtype(array.dtype)
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"{name}: an object of type {type(array).__name__} is not an array with shape and "
            "dtype; convert it with numpy.asarray"
        ) from error
    check_level(selection.level, 1, name)
    layout = plan_layout(shape, _named_axes(array), selection, name=name)
    level = PyramidLevel(layout.spatial_shape, voxel_size, translation)
    return ArraySource(ImageFacts(name, None, layout, dtype, (level,)), array)


def _named_axes(array: Any) -> str | None:
    """Return the axes of an xarray.DataArray when they are ours."""
    dims = getattr(array, "dims", None)
    if not isinstance(dims, tuple) or not all(isinstance(d, str) for d in dims):
        return None
    letters = [d.lower() for d in dims]
    known = all(d in AXIS_NAMES and len(d) == 1 for d in letters)
    return "".join(letters) if known and {"y", "x"} <= set(letters) else None
