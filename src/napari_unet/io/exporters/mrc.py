"""MRC files for IMOD, Amira and other programs of electron tomography.

References
----------
.. [1] A. Cheng et al., "MRC2014: Extensions to the MRC format header for electron cryo-microscopy
   and tomography", J. Struct. Biol. 192 (2015).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.errors import ConfigError
from napari_unet.io.units import METERS, unit_name

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from napari_unet.io.exporters.content import Content

MRC_VERSION = 20141
"""MRC2014, with the correction that made the version a field."""

_MODES = {"int8": 0, "float32": 2, "uint16": 6}
_IMAGE, _VOLUME = 0, 1


class _Statistics:
    """Minimum, maximum, mean and deviation of values that come in pieces."""

    def __init__(self) -> None:
        self.count, self.total, self.squares = 0, 0.0, 0.0
        self.low, self.high = math.inf, -math.inf

    def add(self, values: np.ndarray[Any, Any]) -> None:
        self.count += values.size
        self.total += float(values.sum(dtype=np.float64))
        self.squares += float(np.square(values, dtype=np.float64).sum())
        self.low = min(self.low, float(values.min()))
        self.high = max(self.high, float(values.max()))

    @property
    def mean(self) -> float:
        return self.total / self.count

    @property
    def deviation(self) -> float:
        return math.sqrt(max(0.0, self.squares / self.count - self.mean**2))


def check_mrc(content: Content) -> None:
    """Refuse more than one channel, of which MRC has no notion.

    Raises
    ------
    ConfigError
        Naming the option that chooses one.
    """
    if content.num_channels > 1:
        raise ConfigError(
            f"MRC holds one channel, but {content.name} has the probabilities of "
            f"{content.num_channels} classes ({', '.join(content.channel_names)}); choose one with "
            "--channel, from 0"
        )


def write_mrc(content: Content, path: Path) -> Generator[int]:
    """Write one channel as MRC, in the machine's byte order; rows in the order of the result.

    The voxel size is in Angstrom, 1 where it is unknown, as IMOD does. Bytes go up to 127, so that
    they mean the same to programs that take them for signed and for unsigned. Written by plain
    writes, not by mrcfile's memory map: a full disk would end the process there.

    Yields
    ------
    int
        Voxels of each piece that is written.

    Raises
    ------
    OSError
        If the disk refuses.
    """
    header, statistics = _header(content), _Statistics()
    with open(path, "xb") as stream:
        stream.write(header.tobytes())
        for box in content.bands():
            values = content.read(box)[0]
            statistics.add(values)
            stream.write(values.tobytes())
            yield box.size
        header["dmin"], header["dmax"] = statistics.low, statistics.high
        header["dmean"], header["rms"] = statistics.mean, statistics.deviation
        stream.seek(0)
        stream.write(header.tobytes())


def _header(content: Content) -> np.ndarray[Any, Any]:
    # Installed with the extra "formats", hence not at the top.
    from mrcfile.dtypes import HEADER_DTYPE  # type: ignore[import-untyped]  # has no types
    from mrcfile.utils import machine_stamp_from_byte_order  # type: ignore[import-untyped]  # nor here

    lengths, origin = _angstroms(content)
    header = np.zeros((), HEADER_DTYPE)
    for axis, count, length, start in zip("zyx", content.shape, lengths, origin, strict=True):
        header[f"n{axis}"] = header[f"m{axis}"] = count
        header["cella"][axis] = np.float32(count * length)
        header["origin"][axis] = start
    header["cellb"] = (90.0, 90.0, 90.0)
    header["mapc"], header["mapr"], header["maps"] = 1, 2, 3
    header["mode"] = _MODES[str(content.dtype)]
    header["ispg"] = _VOLUME if content.spatial_axes == "zyx" else _IMAGE
    header["map"], header["nversion"] = b"MAP ", MRC_VERSION
    header["machst"] = list(machine_stamp_from_byte_order("="))
    header["nlabl"] = 1
    header["label"][0] = f"{content.name} by napari-unet".encode("ascii", "replace")[:80]
    return header


def _angstroms(content: Content) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return voxel size and origin, (z, y, x)."""
    unit = unit_name(content.voxel_size.unit)
    if unit is None:
        return (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)
    factor = METERS[unit] / METERS["angstrom"]
    lengths, origin = content.voxel_size.zyx, content.origin
    return tuple(v * factor for v in lengths), tuple(v * factor for v in origin)
