"""Images in numpy's `.npy` files, read box by box."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numpy.lib import format as npy_format

from napari_unet.errors import InputError
from napari_unet.io.damage import input_errors
from napari_unet.io.raw_file import RawFile
from napari_unet.io.selection import plan_layout
from napari_unet.io.stored_image import ImageFacts, StoredImage, check_level

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from napari_unet.core.boxes import Shape
    from napari_unet.io.selection import Selection

REMEDY = "save it again with numpy.save"
"""What to do about a file that cannot be read."""


MAX_HEADER_BYTES = 10_000
"""Longest header that numpy itself evaluates; it would ask for the memory first."""


class NpySource(StoredImage):
    """A `.npy` file read as an image.

    Parameters
    ----------
    facts : ImageFacts
        What is known of it.
    file : RawFile
        The file.
    offset : int
        Where its values begin, in bytes.
    fortran : bool
        Whether the first axis is the fastest in the file.
    """

    def __init__(self, facts: ImageFacts, file: RawFile, offset: int, *, fortran: bool) -> None:
        super().__init__(facts)
        self._file = file
        self._offset = offset
        self._fortran = fortran
        end = offset + facts.dtype.itemsize * _size(facts.layout.shape)
        if end > file.size:
            raise InputError(
                f"{file.path}: the file is cut off: its values end at byte {end}, the file at "
                f"{file.size}; copy it again"
            )

    def close(self) -> None:
        """Close the file."""
        super().close()
        self._file.close()

    def _fetch(self, index: tuple[slice, ...]) -> npt.NDArray[Any]:
        turn = -1 if self._fortran else 1
        data = self._file.read_part(
            self._offset, self.dtype, self._layout.shape[::turn], index[::turn]
        )
        return data.T if self._fortran else data


def open_npy(path: Path, selection: Selection) -> NpySource:
    """Return the image in a `.npy` file.

    Raises
    ------
    AxesError
        If the axes are ambiguous.
    InputError
        If the file is damaged, cut off, or does not hold real numbers.
    """
    with input_errors(f"{path}: this is not a readable .npy file", REMEDY):
        shape, fortran, dtype, offset = _read_header(path)
        check_level(selection.level, 1, path.name)
        layout = plan_layout(shape, None, selection, name=path.name)
        facts = ImageFacts(path.stem, str(path), layout, dtype)
        file = RawFile(path)
        try:
            return NpySource(facts, file, offset, fortran=fortran)
        except BaseException:
            file.close()
            raise


def _read_header(path: Path) -> tuple[Shape, bool, np.dtype[Any], int]:
    with open(path, "rb") as stream:
        version = npy_format.read_magic(stream)
        readers = {
            (1, 0): npy_format.read_array_header_1_0,
            (2, 0): npy_format.read_array_header_2_0,
        }
        if version not in readers:
            raise InputError(f"{path}: version {version} of the .npy format; {REMEDY}")
        start, width = stream.tell(), 2 if version == (1, 0) else 4
        length = int.from_bytes(stream.read(width), "little")
        if length > MAX_HEADER_BYTES:
            raise InputError(f"{path}: its header claims {length:,} bytes; {REMEDY}")
        stream.seek(start)
        shape, fortran, dtype = readers[version](stream)
        return tuple(shape), bool(fortran), dtype, stream.tell()


def _size(shape: Shape) -> int:
    total = 1
    for n in shape:
        total *= n
    return total
