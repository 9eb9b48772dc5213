"""TIFF files: in the dialect of ImageJ, which most programs read, and OME-TIFF.

An ImageJ TIFF is uncompressed, so that ImageJ opens it as a virtual stack; values lie in one piece
and are written at their place. Above 4 GB it is a BigTIFF, which Fiji reads through Bio-Formats.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from napari_unet.core.boxes import Box
from napari_unet.io.units import METERS, unit_name

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    import numpy.typing as npt

    from napari_unet.io.exporters.content import Content

MAX_CLASSIC_BYTES = 2**32 - 2**25
"""Values above this size go into a BigTIFF; what is left to 4 GB is for tags, as in tifffile."""

TILE_EDGE = 512
"""Edge of a tile of an OME-TIFF, in pixels."""

_TILE_STEP = 16  # tile edges are multiples of it by the TIFF specification
_SPAN = 16  # tiles read together

_IMAGEJ_UNITS = {
    "nanometer": "nm",
    "micrometer": "micron",
    "millimeter": "mm",
    "centimeter": "cm",
    "meter": "m",
}
"""ImageJ's spelling; other units are converted to micrometers."""

_OME_UNITS = {
    "angstrom": "Å",
    "picometer": "pm",
    "nanometer": "nm",
    "micrometer": "µm",
    "millimeter": "mm",
    "centimeter": "cm",
    "decimeter": "dm",
    "meter": "m",
    "kilometer": "km",
    "inch": "in",
    "foot": "ft",
}


def write_imagej_tiff(content: Content, path: Path) -> Generator[int]:
    """Write the content as ImageJ does, (z, c, y, x), with voxel size and class names.

    Yields
    ------
    int
        Voxels of each piece that is written.

    Raises
    ------
    OSError
        If the disk refuses.
    """
    offset = _allocate(content, path)
    _, height, width = content.shape
    channels, itemsize = content.num_channels, content.dtype.itemsize
    with open(path, "r+b") as stream:
        for box in content.bands():
            values = content.read(box).astype(content.dtype.newbyteorder("<"), copy=False)
            z, y, _ = box.start
            for channel in range(channels):
                row = ((z * channels + channel) * height + y) * width
                stream.seek(offset + row * itemsize)
                stream.write(values[channel].tobytes())
            yield box.size


def write_ome_tiff(content: Content, path: Path) -> Generator[int]:
    """Write the content as OME-TIFF, (z, c, y, x), in compressed tiles.

    Yields
    ------
    int
        Voxels of each slice that is written.

    Raises
    ------
    OSError
        If the disk refuses.
    """
    depth, height, width = content.shape
    tile = tuple(min(TILE_EDGE, -(-n // _TILE_STEP) * _TILE_STEP) for n in (height, width))
    description = _ome_xml(content).encode()
    with tifffile.TiffWriter(
        path,
        bigtiff=content.nbytes > MAX_CLASSIC_BYTES,
        byteorder="<",
        ome=False,
        shaped=False,
    ) as tif:
        for number in range(content.num_channels * depth):
            z, channel = divmod(number, content.num_channels)
            tif.write(
                _tiles(content, channel, z, tile[0], tile[1]),
                shape=(height, width),
                dtype=content.dtype,
                tile=tile,
                compression="zlib",
                photometric="minisblack",
                # All planes are described with the first one.
                description=description if number == 0 else None,
                metadata=None,
                software="napari-unet",
            )
            if channel == content.num_channels - 1:
                yield height * width


def _allocate(content: Content, path: Path) -> int:
    """Make a file with all tags and no values; return where these begin, in bytes."""
    metadata, resolution = _imagej_metadata(content)
    shape, axes = content.paged_shape, content.paged_axes.upper()
    big = content.nbytes > MAX_CLASSIC_BYTES
    given: dict[str, Any] = {"metadata": {"axes": axes, **metadata}}
    if big:
        # tifffile warns of an ImageJ file that is a BigTIFF; its text is the same for us.
        text = tifffile.imagej_description(shape, axes=axes, **_plain(metadata))
        given = {"description": text, "metadata": None}
    with tifffile.TiffWriter(path, bigtiff=big, byteorder="<", imagej=not big, shaped=False) as tif:
        place = tif.write(
            None,
            shape=shape,
            dtype=content.dtype,
            photometric="minisblack",
            resolution=resolution,
            resolutionunit="NONE",
            software="napari-unet",
            returnoffset=True,
            **given,
        )
    if place is None:
        raise RuntimeError(f"{path}: tifffile did not lay the values out in one piece")
    return int(place[0])


def _imagej_metadata(content: Content) -> tuple[dict[str, Any], tuple[float, float]]:
    """Return what ImageJ keeps in words, and pixels per unit along x and y."""
    unit = unit_name(content.voxel_size.unit)
    factor = 1.0
    metadata: dict[str, Any] = {}
    if unit is not None:
        target = unit if unit in _IMAGEJ_UNITS else "micrometer"
        factor = METERS[unit] / METERS[target] if unit != target else 1.0
        metadata["unit"] = _IMAGEJ_UNITS[target]
    # As written: 1e-6 / 1e-9 is 999.9999999999999.
    z, y, x = (float(f"{length * factor:.12g}") for length in content.voxel_size.zyx)
    if "z" in content.axes:
        metadata["spacing"] = z
    names = [f"{value} = {name}" for value, name in content.label_names]
    if names := names or [f"channel {k} = {n}" for k, n in enumerate(content.channel_names, 1)]:
        metadata["Info"] = "\n".join([content.name, *names])
    return metadata, (1 / x, 1 / y)


def _plain(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata that stand in the description; the others have a tag of their own."""
    return {key: value for key, value in metadata.items() if key != "Info"}


def _ome_xml(content: Content) -> str:
    height, width = content.shape[1:]
    metadata: dict[str, Any] = {"Name": content.name}
    symbol = _OME_UNITS.get(unit_name(content.voxel_size.unit) or "")
    if symbol is not None:
        sizes = dict(zip("zyx", content.voxel_size.zyx, strict=True))
        for axis in content.spatial_axes:
            metadata[f"PhysicalSize{axis.upper()}"] = sizes[axis]
            metadata[f"PhysicalSize{axis.upper()}Unit"] = symbol
    if content.channel_names:
        metadata["Channel"] = {"Name": list(content.channel_names)}
    if content.label_names:
        metadata["Description"] = ", ".join(f"{v} = {name}" for v, name in content.label_names)
    planes = content.num_channels * content.shape[0]
    document = tifffile.OmeXml()
    document.addimage(
        str(content.dtype),
        content.paged_shape,
        (planes, 1, 1, height, width, 1),
        axes=content.paged_axes.upper(),
        **metadata,
    )
    return str(document.tostring())


def _tiles(
    content: Content, channel: int, z: int, tile_height: int, tile_width: int
) -> Iterator[npt.NDArray[Any]]:
    """Yield the tiles of a plane, row by row; several are read together."""
    _, height, width = content.shape
    for y in range(0, height, tile_height):
        for x in range(0, width, _SPAN * tile_width):
            stop = (z + 1, min(y + tile_height, height), min(x + _SPAN * tile_width, width))
            values = content.read(Box((z, y, x), stop))[channel, 0]
            for left in range(0, values.shape[1], tile_width):
                yield np.ascontiguousarray(values[:, left : left + tile_width])
