"""PNG files: one for a plane, or a folder with one per slice of a volume."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import imageio.v3 as iio

from napari_unet.core.boxes import Box
from napari_unet.errors import ConfigError
from napari_unet.io.units import METERS, unit_name

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from napari_unet.io.exporters.content import Content

MAX_PLANE_PIXELS = 178_000_000
"""Pillow refuses to open larger planes, and a PNG is compressed as a whole."""

_INCH = METERS["inch"]
_MAX_PER_METER = 2**32 - 1  # the field of 32 bits in the chunk pHYs


def check_png(content: Content) -> None:
    """Refuse planes that are too large for a PNG.

    Raises
    ------
    ConfigError
        Naming the size and the remedy.
    """
    _, height, width = content.shape
    if height * width > MAX_PLANE_PIXELS:
        raise ConfigError(
            f"a plane of {height} x {width} pixels is too large for a PNG, which other programs "
            f"open up to {MAX_PLANE_PIXELS // 10**6} megapixels; export a --region, or use "
            "--format ome-tiff"
        )


def write_png(content: Content, path: Path) -> Generator[int]:
    """Write the content as a PNG, or as one per slice into a folder that exists.

    Slices are named by their number in the result, so that those of a region keep theirs.

    Yields
    ------
    int
        Voxels of each plane that is written.

    Raises
    ------
    OSError
        If the disk refuses.
    """
    depth, height, width = content.shape
    first, digits = content.region.start[0], len(str(content.source.shape[0] - 1))
    for z in range(depth):
        plane = content.read(Box((z, 0, 0), (z + 1, height, width)))[0, 0]
        file = path / f"{content.name}_z{first + z:0{digits}d}.png" if path.is_dir() else path
        with open(file, "xb") as stream:
            iio.imwrite(stream, plane, extension=".png", plugin="pillow", **_resolution(content))
        yield plane.size


def _resolution(content: Content) -> dict[str, Any]:
    """Return the pixels per inch, which Pillow stores as pixels per meter; nothing if unknown."""
    unit = unit_name(content.voxel_size.unit)
    if unit is None:
        return {}
    _, y, x = (length * METERS[unit] for length in content.voxel_size.zyx)
    # Pillow rounds to whole pixels per meter.
    if not 1 <= 1 / max(x, y) <= 1 / min(x, y) < _MAX_PER_METER:
        return {}
    return {"dpi": (_INCH / x, _INCH / y)}
