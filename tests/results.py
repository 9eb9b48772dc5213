"""Results as a segmentation leaves them, made of given arrays, without a network."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.core.arrays import PyramidLevel
from napari_unet.core.axes import VoxelSize
from napari_unet.core.boxes import Box
from napari_unet.core.classes import ClassInfo
from napari_unet.io.ome_zarr_writer import OutputSpec, create_output

if TYPE_CHECKING:
    from pathlib import Path

CLASSES = (
    ClassInfo(name="cytosol", color="#4c78a8"),
    ClassInfo(name="membrane", color="#ffb000"),
    ClassInfo(name="vesicle", color="#54a24b"),
)


def write_result(
    path: Path,
    labels: np.ndarray[Any, Any],
    probabilities: np.ndarray[Any, Any] | None = None,
    *,
    name: str = "tiny",
    voxel_size: VoxelSize | None = None,
    complete: bool = True,
) -> Path:
    """Write labels, (y, x) or (z, y, x): uint8 classes, or objects of a wider type.

    Probabilities are (c, y, x) or (c, z, y, x). Returns the path of the zarr.
    """
    shape = (1,) * (3 - labels.ndim) + labels.shape
    size = voxel_size or VoxelSize(50.0, 8.0, 4.0, "nanometer")
    spec = OutputSpec(
        path=path,
        name=name,
        spatial_axes="zyx"[-labels.ndim :],
        levels=(PyramidLevel(shape, size),),
        classes=CLASSES if labels.dtype == np.uint8 else (),
        block_edge=32,
        probability_type=None if probabilities is None else "float32",
        label_type=str(labels.dtype),
    )
    with closing(create_output(spec, replace=False)) as output:
        box = Box.of_shape(shape)
        output.write_labels(box, labels.reshape(shape))
        if probabilities is not None:
            output.write_probabilities(box, probabilities.reshape(len(CLASSES), *shape))
        if complete:
            output.finish({})
    return path
