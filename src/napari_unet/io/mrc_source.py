"""Images in MRC files, of electron tomography: `.mrc`, `.rec`, `.st`, `.map`; read box by box.

References
----------
.. [1] A. Cheng et al., "MRC2014: Extensions to the MRC format header for electron cryo-microscopy
   and tomography", J. Struct. Biol. 192 (2015).
.. [2] IMOD, "MRC file format", https://bio3d.colorado.edu/imod/doc/mrc_format.txt : the stamp, and
   the flag for signed bytes.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.core.arrays import PyramidLevel
from napari_unet.core.axes import VoxelSize
from napari_unet.errors import AxesError, InputError
from napari_unet.io.damage import input_errors
from napari_unet.io.raw_file import RawFile
from napari_unet.io.selection import plan_layout
from napari_unet.io.stored_image import ImageFacts, StoredImage, check_level

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from napari_unet.core.boxes import Shape
    from napari_unet.io.selection import Selection

REMEDY = "check it with mrcfile-validate, or save it again as MRC mode 0, 1, 2, 6 or 12"
"""What to do about a file that cannot be read."""

_REAL_MODES = (0, 1, 2, 6, 12)
_OTHER_MODES = {
    3: "complex numbers of 16 bits",
    4: "complex numbers",
    7: "integers of 32 bits",
    16: "colors",
    101: "values of 4 bits",
}
_IMOD_STAMP = 1146047817
_IMOD_SIGNED = 1
_IMOD_AT = slice(40, 48)  # bytes 152 to 159 of the header
_MAX_EDGE = 2**31 - 1


class MrcSource(StoredImage):
    """An MRC file read as an image.

    Parameters
    ----------
    facts : ImageFacts
        What is known of it.
    file : RawFile
        The file.
    header : MrcHeader
        Where and how its values lie in it.
    """

    def __init__(self, facts: ImageFacts, file: RawFile, header: MrcHeader) -> None:
        super().__init__(facts)
        self._file = file
        self._header = header

    def close(self) -> None:
        """Close the file."""
        super().close()
        self._file.close()

    def _fetch(self, index: tuple[slice, ...]) -> npt.NDArray[Any]:
        header = self._header
        data = self._file.read_part(header.offset, header.dtype, header.shape, index)
        return data.astype(self.dtype, copy=False)


@dataclass(frozen=True, slots=True)
class MrcHeader:
    """What the header of an MRC file says.

    Parameters
    ----------
    shape : tuple of int
        Shape of the array in the file: (y, x), (z, y, x), or (t, z, y, x) for a stack of volumes.
    axes : str
        Letters of its axes.
    dtype : numpy.dtype
        Type as stored, with its byte order.
    offset : int
        Where the values begin, in bytes: after the extended header.
    voxel_size : VoxelSize
        In Angstrom; 1 without a unit where the header leaves it open.
    """

    shape: Shape
    axes: str
    dtype: np.dtype[Any]
    offset: int
    voxel_size: VoxelSize

    @property
    def end(self) -> int:
        """Where the values end, in bytes."""
        size = self.dtype.itemsize
        for n in self.shape:
            size *= n
        return self.offset + size


def open_mrc(path: Path, selection: Selection) -> MrcSource:
    """Return the image in an MRC file.

    Bytes (mode 0) are signed, as MRC2014 says, unless IMOD wrote them as unsigned or the header's
    minimum and maximum fit unsigned bytes only. Rows come in the order of the file; programs of
    electron tomography draw the first one at the bottom.

    Raises
    ------
    AxesError
        If a time point must be chosen, or the axes do not fit.
    InputError
        If the file is damaged, cut off, or holds complex numbers or colors; or if mrcfile is not
        installed.
    """
    with input_errors(f"{path}: this is not a readable MRC file", REMEDY):
        file = RawFile(path)
        try:
            header = _read_header(file)
            check_level(selection.level, 1, path.name)
            layout = plan_layout(header.shape, header.axes, selection, name=path.name)
            if header.end > file.size:
                raise InputError(
                    f"{path}: the file is cut off: its values end at byte {header.end}, the file "
                    f"at {file.size}; copy it again"
                )
            size = header.voxel_size if layout.axes == header.axes else VoxelSize()
            level = PyramidLevel(layout.spatial_shape, size)
            native = header.dtype.newbyteorder("=")
            facts = ImageFacts(path.stem, str(path), layout, native, (level,))
            return MrcSource(facts, file, header)
        except BaseException:
            file.close()
            raise


def _read_header(file: RawFile) -> MrcHeader:
    try:
        from mrcfile.dtypes import HEADER_DTYPE  # type: ignore[import-untyped]  # has no types
        from mrcfile.utils import data_shape_from_header  # type: ignore[import-untyped]  # nor here
    except ImportError as error:
        raise InputError(
            f'{file.path}: reading MRC needs mrcfile; install it with pip install "napari-unet['
            'formats]"'
        ) from error
    if file.size < HEADER_DTYPE.itemsize:
        raise InputError(
            f"{file.path}: {file.size} bytes cannot be an MRC file, whose header alone has "
            f"{HEADER_DTYPE.itemsize}; copy it again"
        )
    data = file.read_bytes(0, HEADER_DTYPE.itemsize)
    header = _in_right_order(file, np.frombuffer(data, HEADER_DTYPE).reshape(()))
    if int(header.ispg) in range(401, 631) and (header.mz < 1 or header.nz % header.mz):
        raise InputError(
            f"{file.path}: {header.nz} sections do not make up volumes of {header.mz}; {REMEDY}"
        )
    shape = tuple(int(n) for n in data_shape_from_header(header))
    axes = _axes(header, len(shape))
    offset = HEADER_DTYPE.itemsize + int(header.nsymbt)
    return MrcHeader(shape, axes, _dtype(header, file), offset, _voxel_size(header))


def _in_right_order(file: RawFile, header: npt.NDArray[Any]) -> Any:
    """Return the header as a record in the byte order in which it makes sense.

    The machine stamp is tried first, but not believed: old files have none, others a wrong one.
    """
    big_first = bytes(header["machst"][:2]) == b"\x11\x11"
    for order in (">", "<") if big_first else ("<", ">"):
        record = header.view(header.dtype.newbyteorder(order)).view(np.recarray)
        if _is_plausible(record, file.size):
            return record
    raise InputError(
        f"{file.path}: this is no MRC file, or its header is damaged: neither byte order gives it "
        f"a size and a mode; {REMEDY}"
    )


def _is_plausible(header: Any, size: int) -> bool:
    edges = (int(header.nx), int(header.ny), int(header.nz))
    mode, extended = int(header.mode), int(header.nsymbt)
    known = mode in _REAL_MODES or mode in _OTHER_MODES
    if not known or min(edges) < 1 or not 0 <= extended <= size:
        return False
    # Without its mark a file is taken for MRC only if everything is there.
    marked = bytes(header.map)[:3] == b"MAP"
    return marked or edges[0] * edges[1] * edges[2] <= size - header.dtype.itemsize - extended


def _dtype(header: Any, file: RawFile) -> np.dtype[Any]:
    from mrcfile.utils import dtype_from_mode

    mode = int(header.mode)
    if mode in _OTHER_MODES:
        raise InputError(
            f"{file.path}: MRC mode {mode} holds {_OTHER_MODES[mode]}, which cannot be segmented; "
            "convert it, for example with newstack -mode 2 of IMOD"
        )
    if mode == 0:
        return np.dtype(np.int8 if _has_signed_bytes(header) else np.uint8)
    dtype: np.dtype[Any] = np.dtype(dtype_from_mode(mode))
    return dtype.newbyteorder(header.mode.dtype.byteorder)


def _has_signed_bytes(header: Any) -> bool:
    """Return whether bytes are signed: IMOD says it with a flag, and wrote unsigned ones before."""
    order = header.mode.dtype.byteorder
    stamp, flags = np.frombuffer(bytes(header.extra2)[_IMOD_AT], np.dtype("i4").newbyteorder(order))
    if stamp == _IMOD_STAMP:
        return bool(flags & _IMOD_SIGNED)
    return not (header.dmin >= 0 and 127 < header.dmax <= 255)


def _axes(header: Any, ndim: int) -> str:
    """Return the letters of the file's axes; the header may say that its columns are not x."""
    letters = {1: "x", 2: "y", 3: "z"}
    order = [letters.get(int(n), "") for n in (header.maps, header.mapr, header.mapc)]
    if ndim != 3 or sorted(order) != ["x", "y", "z"]:
        return "tzyx"[-ndim:]
    return "".join(order)


def _voxel_size(header: Any) -> VoxelSize:
    cell, counts = header.cella, (header.mz, header.my, header.mx)
    # Absurd sizes (0, NaN) are common in files and must not keep the image from being read.
    with contextlib.suppress(AxesError, ZeroDivisionError):
        z, y, x = (
            # As written: 8 nm is 80 Angstrom, not 80.00000119.
            float(f"{float(length) / int(count):.7g}")
            for length, count in zip((cell.z, cell.y, cell.x), counts, strict=True)
        )
        # IMOD writes 1 Angstrom where it knows nothing, and takes it for that.
        if (z, y, x) != (1.0, 1.0, 1.0):
            return VoxelSize(z, y, x, "angstrom")
    return VoxelSize()
