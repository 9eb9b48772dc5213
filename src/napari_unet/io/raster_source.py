"""Single planes in PNG and JPEG files; decoded as a whole, since their formats allow no less."""

from __future__ import annotations

import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import imageio.v3 as iio
import numpy as np
from imageio.core.request import InitializationError

from napari_unet.errors import InputError
from napari_unet.io.cache import PieceCache
from napari_unet.io.damage import check_decoded_size, input_errors
from napari_unet.io.selection import Selection, plan_layout
from napari_unet.io.stored_image import ImageFacts, StoredImage, check_level

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from napari_unet.core.boxes import Shape

REMEDY = "open it in an image program and save it again as PNG or TIFF"
"""What to do about a plane that cannot be read."""

_LOCK = threading.Lock()


class RasterSource(StoredImage):
    """A PNG or JPEG file read as an image.

    Parameters
    ----------
    facts : ImageFacts
        What is known of it.
    path : Path
        The file.
    """

    def __init__(self, facts: ImageFacts, path: Path) -> None:
        super().__init__(facts)
        self._file = path
        self._cache = PieceCache()

    def close(self) -> None:
        """Forget the decoded plane."""
        super().close()
        self._cache.clear()

    def _fetch(self, index: tuple[slice, ...]) -> npt.NDArray[Any]:
        plane = self._cache.get(0, lambda: read_plane(self._file))
        if plane.shape != self._layout.shape or plane.dtype != self.dtype:
            raise InputError(
                f"{self._file}: the file changed while it was open, to {plane.shape} "
                f"{plane.dtype}; open it again"
            )
        return plane[index]


def open_raster(path: Path, selection: Selection) -> RasterSource:
    """Return the image in a PNG or JPEG file.

    Raises
    ------
    AxesError
        If a channel must be chosen.
    InputError
        If the file is damaged or too large.
    """
    shape, dtype = plane_facts(path)
    check_level(selection.level, 1, path.stem)
    layout = plan_layout(shape, plane_axes(shape), selection, name=path.name)
    return RasterSource(ImageFacts(path.stem, str(path), layout, dtype), path)


def plane_axes(shape: Shape) -> str:
    """Return the axes of a decoded plane: (y, x), with colors (y, x, c)."""
    return "yx" if len(shape) == 2 else "yxc"


def plane_facts(path: Path) -> tuple[Shape, np.dtype[Any]]:
    """Return shape and type of a PNG or JPEG file without decoding it.

    Raises
    ------
    InputError
        If it is damaged or too large.
    """
    with input_errors(f"{path}: this image cannot be read", REMEDY), _opened(path) as file:
        properties = file.properties(index=0)
    shape = tuple(int(n) for n in properties.shape)
    dtype = np.dtype(properties.dtype)
    check_decoded_size(int(np.prod(shape, dtype=object)) * dtype.itemsize, f"{path}: the plane")
    return shape, dtype


def read_plane(path: Path) -> npt.NDArray[Any]:
    """Return all values of a PNG or JPEG file, (y, x) or (y, x, c).

    Raises
    ------
    InputError
        If it is damaged.
    """
    with input_errors(f"{path}: this image cannot be decoded", REMEDY), _opened(path) as file:
        return np.asarray(file.read(index=0))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file without pillow's warning about 89 to 179 megapixels, common in microscopy.

    Above that pillow refuses. Warning filters are global, so one thread opens at a time.
    """
    with _LOCK, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Image size .* exceeds limit")
        try:
            file = iio.imopen(path, "r", plugin="pillow")
        except OSError as error:
            if isinstance(error.__cause__, InitializationError):
                raise InputError(
                    f"{path}: this is neither a PNG nor a JPEG, whatever its name says, or its "
                    "first bytes are damaged; save it again as PNG or TIFF"
                ) from error
            raise
    with file:
        yield file
