"""HDF5 files as ilastik writes and opens them: one data set, with its axes in ``axistags``."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

from napari_unet.io.exporters.calm_file import CalmFile
from napari_unet.io.units import METERS, unit_name

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from napari_unet.io.exporters.content import Content

DATASET = "exported_data"
"""Name of the data set, as in the exports of ilastik."""

CHUNK_EDGE = 512
"""Longest edge of a chunk in y and x, in voxels."""

_CHANNEL, _SPACE = 1, 2  # vigra.AxisType, which ilastik's tags are made of


def write_hdf5(content: Content, path: Path) -> Generator[int]:
    """Write the content as HDF5, compressed with gzip.

    Yields
    ------
    int
        Voxels of each piece that is written.

    Raises
    ------
    OSError, RuntimeError
        If the disk refuses.
    """
    # Installed with the extra "formats", hence not at the top.
    import h5py  # type: ignore[import-untyped]  # has no types

    chunks = (1,) * (len(content.axes) - 2) + tuple(min(CHUNK_EDGE, n) for n in content.shape[1:])
    with closing(CalmFile(path)) as calm:
        with h5py.File(calm, "w") as file:
            dataset = file.create_dataset(
                DATASET,
                content.full_shape,
                content.dtype,
                chunks=chunks,
                compression="gzip",
                compression_opts=1,
                shuffle=content.dtype.itemsize > 1,
            )
            dataset.attrs.update(_attributes(content))
            for box in content.tiles(CHUNK_EDGE):
                dataset[content.index(box)] = content.read_own_axes(box)
                calm.check()
                yield box.size
        calm.check()


def _attributes(content: Content) -> dict[str, Any]:
    attributes: dict[str, Any] = {"axistags": _axistags(content.axes)}
    if size := _micrometers(content):
        attributes["element_size_um"] = size
    if content.label_names:
        names = {str(value): name for value, name in content.label_names}
        attributes["class_names"] = json.dumps(names)
    if content.channel_names:
        attributes["channel_names"] = json.dumps(content.channel_names)
    return attributes


def _axistags(axes: str) -> str:
    """Return the tags as vigra writes them."""
    tags = [
        {
            "key": axis,
            "typeFlags": _CHANNEL if axis == "c" else _SPACE,
            "resolution": 0,
            "description": "",
        }
        for axis in axes
    ]
    return json.dumps({"axes": tags})


def _micrometers(content: Content) -> tuple[float, ...] | None:
    """Return the voxel size along the spatial axes; None = unknown."""
    unit = unit_name(content.voxel_size.unit)
    if unit is None:
        return None
    factor = METERS[unit] / METERS["micrometer"]
    lengths = content.voxel_size.zyx[-len(content.spatial_axes) :]
    # As written: 8 nm is 0.008, not 0.008000000000000002.
    return tuple(float(f"{length * factor:.12g}") for length in lengths)
