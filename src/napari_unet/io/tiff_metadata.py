"""What a TIFF says about its axes and voxel size, in the dialects of OME, ImageJ and tifffile."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import tifffile

from napari_unet.core.arrays import PyramidLevel
from napari_unet.core.axes import AXIS_NAMES, VoxelSize
from napari_unet.errors import AxesError
from napari_unet.io.units import common_unit, unit_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tifffile import TiffFile, TiffPageSeries

    from napari_unet.core.boxes import Shape

OME_DEFAULT_UNIT = "µm"
"""Unit of PhysicalSize where it is not said (OME-XML schema 2016-06)."""


def known_axes(axes: str) -> str | None:
    """Return a series' axes in letters of "tczyx"; None when the file leaves them open.

    Trailing samples (red, green, blue of a pixel) are channels. Leading ones are not believed:
    tifffile writes a stack of planes without metadata as samples, too.

    Examples
    --------
    >>> known_axes("YXS"), known_axes("TZCYX"), known_axes("SYX"), known_axes("IYX")
    ('yxc', 'tzcyx', None, None)
    """
    letters = axes.lower()
    if letters.endswith("s") and "c" not in letters:
        letters = letters[:-1] + "c"
    known = set(letters) <= set(AXIS_NAMES) and len(set(letters)) == len(letters)
    return letters if known and {"y", "x"} <= set(letters) else None


def tiff_voxel_size(tif: TiffFile, series: TiffPageSeries) -> VoxelSize:
    """Return the voxel size that OME or ImageJ metadata give; 1 without a unit otherwise.

    Resolution tags alone are not believed: most hold the 72 or 300 dots per inch of a printer.
    """
    # Absurd sizes (0, infinite) are common in files and must not keep the image from being read.
    with contextlib.suppress(AxesError, KeyError, TypeError, ValueError, ZeroDivisionError):
        if tif.is_ome:
            return _ome_size(tif)
        if tif.is_imagej:
            return _imagej_size(tif, series)
    return VoxelSize()


def tiff_levels(
    tif: TiffFile, series: TiffPageSeries, first: int, shapes: Sequence[Shape]
) -> tuple[PyramidLevel, ...]:
    """Return the levels from `first` on, with voxel sizes after the ratio of the shapes (z, y, x).

    Parameters
    ----------
    tif, series
        The file and its full resolution.
    first : int
        The chosen level.
    shapes : sequence of tuple of int
        Spatial shapes of all levels.
    """
    size, full = tiff_voxel_size(tif, series), shapes[0]
    levels = []
    for shape in shapes[first:]:
        z, y, x = (length * (a / b) for length, a, b in zip(size.zyx, full, shape, strict=True))
        # Level voxels begin where those of full resolution do: centers lie half a voxel further.
        shift = ((z - size.z) / 2, (y - size.y) / 2, (x - size.x) / 2)
        levels.append(PyramidLevel(shape, VoxelSize(z, y, x, size.unit), shift))
    return tuple(levels)


def _ome_size(tif: TiffFile) -> VoxelSize:
    images: Any = tifffile.xml2dict(tif.ome_metadata or "")["OME"]["Image"]
    pixels: Mapping[str, Any] = (images[0] if isinstance(images, list) else images)["Pixels"]
    if "PhysicalSizeX" not in pixels or "PhysicalSizeY" not in pixels:
        return VoxelSize()
    names = [str(pixels.get(f"PhysicalSize{a}Unit", OME_DEFAULT_UNIT)) for a in "ZYX"]
    if "PhysicalSizeZ" not in pixels:
        names[0] = names[2]
    unit, factors = common_unit(names[0], names[1], names[2])
    if unit_name(unit) is None:
        return VoxelSize()
    z, y, x = (
        float(pixels.get(f"PhysicalSize{a}", 1.0)) * f for a, f in zip("ZYX", factors, strict=True)
    )
    return VoxelSize(z, y, x, unit_name(unit))


def _imagej_size(tif: TiffFile, series: TiffPageSeries) -> VoxelSize:
    metadata: Mapping[str, Any] = tif.imagej_metadata or {}
    unit = unit_name(metadata.get("unit"))
    if unit is None or unit == "inch":
        return VoxelSize()
    x_per_unit, y_per_unit = series.keyframe.resolution
    return VoxelSize(abs(float(metadata.get("spacing", 1.0))), 1 / y_per_unit, 1 / x_per_unit, unit)
