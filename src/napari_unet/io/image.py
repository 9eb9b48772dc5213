"""Opening an image, whatever it is stored as."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.core.axes import VoxelSize
from napari_unet.errors import InputError
from napari_unet.io.damage import input_errors
from napari_unet.io.selection import Selection
from napari_unet.io.suffixes import HDF5_SUFFIXES, MRC_SUFFIXES, RASTER_SUFFIXES, TIFF_SUFFIXES

if TYPE_CHECKING:
    from napari_unet.core.arrays import ImageSource

__all__ = ["Selection", "open_image", "wrap_array"]

SUPPORTED = (
    "OME-Zarr and zarr folders, TIFF and OME-TIFF, PNG, JPEG, .npy, HDF5 (FILE.h5 or "
    "FILE.h5/NAME), MRC, and folders of PNG, JPEG or TIFF slices"
)
"""What can be opened, for messages."""


def open_image(path: str | os.PathLike[str], selection: Selection | None = None) -> ImageSource:
    """Return an image opened for reading; no voxel is read yet.

    Parameters
    ----------
    path : path-like
        A zarr array, an OME-Zarr image or group, a TIFF, PNG, JPEG, ``.npy``, HDF5 or MRC file, a
        data set in an HDF5 file (``image.h5/volume/raw``), or a folder of slices, sorted by the
        numbers in their names.
    selection : Selection or None
        Axes, channel, level and time; None = what the file says.

    Raises
    ------
    AxesError
        If axes, channel, time or level are ambiguous or do not exist; names the option.
    InputError
        If the image is missing, damaged, or of a kind that cannot be read.
    """
    # Readers are imported on demand: a PNG must not cost an import of zarr.
    where, chosen = Path(os.path.abspath(path)), selection or Selection()
    with input_errors(f"{where}: the path cannot be reached", "check the path and its permissions"):
        mode = _mode(where)
    if mode is None:
        return _open_inside(where, chosen)
    if stat.S_ISDIR(mode):
        return _open_folder(where, chosen)
    if not stat.S_ISREG(mode):
        raise InputError(f"{where}: this is neither a file nor a folder; give {SUPPORTED}")
    if where.name in {"zarr.json", ".zarray", ".zgroup", ".zattrs"}:
        return open_image(where.parent, chosen)
    return _open_file(where, chosen)


def wrap_array(
    array: Any,
    selection: Selection | None = None,
    *,
    name: str = "image",
    voxel_size: VoxelSize | None = None,
    translation: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> ImageSource:
    """Return an image over a numpy, dask, zarr or xarray array, read lazily.

    Parameters
    ----------
    array : array-like
        Anything with ``shape``, ``dtype`` and indexing by slices.
    selection : Selection or None
        Axes, channel and time. Arrays of two axes are (y, x); more need ``axes``.
    name : str
        What to call it.
    voxel_size : VoxelSize or None
        World length of a voxel; None = 1, without a unit.
    translation : tuple of float
        World position (z, y, x) of the first voxel.

    Raises
    ------
    AxesError
        If axes, channel or time are ambiguous or do not exist.
    InputError
        If it is not an array of real numbers.
    """
    chosen, size = selection or Selection(), voxel_size or VoxelSize()
    if _is_zarr_array(array):
        from napari_unet.io.zarr_open import wrap_zarr_array

        return wrap_zarr_array(array, chosen, name=name, voxel_size=size, translation=translation)
    from napari_unet.io.array_source import wrap_plain_array

    return wrap_plain_array(array, chosen, name=name, voxel_size=size, translation=translation)


def _open_file(where: Path, chosen: Selection) -> ImageSource:
    suffix = where.suffix.lower()
    if suffix in TIFF_SUFFIXES:
        from napari_unet.io.tiff_source import open_tiff

        return open_tiff(where, chosen)
    if suffix in RASTER_SUFFIXES:
        from napari_unet.io.raster_source import open_raster

        return open_raster(where, chosen)
    if suffix == ".npy":
        from napari_unet.io.npy_source import open_npy

        return open_npy(where, chosen)
    if suffix in HDF5_SUFFIXES:
        from napari_unet.io.hdf5_source import open_hdf5

        return open_hdf5(where, "", chosen)
    if suffix in MRC_SUFFIXES:
        from napari_unet.io.mrc_source import open_mrc

        return open_mrc(where, chosen)
    raise InputError(f"{where}: files ending in {suffix!r} cannot be read; give {SUPPORTED}")


def _open_inside(path: Path, selection: Selection) -> ImageSource:
    """Open a path that goes on behind an HDF5 file: ``image.h5/volume/raw``."""
    from napari_unet.io.hdf5_source import open_hdf5, split_hdf5_path

    with input_errors(f"{path}: the path cannot be reached", "check the path and its permissions"):
        parts = split_hdf5_path(path)
    if parts is None:
        raise InputError(f"{path}: there is no such file or folder; check the path")
    return open_hdf5(*parts, selection)


def _open_folder(path: Path, selection: Selection) -> ImageSource:
    from napari_unet.io.zarr_open import is_zarr, open_zarr

    if is_zarr(path):
        return open_zarr(path, selection)
    if path.suffix.lower() == ".zarr":
        raise InputError(
            f"{path}: this folder has no zarr metadata (zarr.json, .zarray or .zgroup); check that "
            "it was copied completely"
        )
    from napari_unet.io.folder_source import open_folder

    return open_folder(path, selection)


def _mode(path: Path) -> int | None:
    """Return what kind of thing is at a path; None = nothing."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


def _is_zarr_array(array: Any) -> bool:
    return type(array).__module__.partition(".")[0] == "zarr" and hasattr(array, "store")
