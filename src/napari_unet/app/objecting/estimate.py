"""What an object job costs, from its geometry alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_unet.app.objecting.plan import object_dimension, object_grid
from napari_unet.core.objects_job import ObjectsJob

if TYPE_CHECKING:
    from napari_unet.app.objecting.plan import ObjectsPlan
    from napari_unet.core.arrays import PyramidLevel
    from napari_unet.core.boxes import Box
    from napari_unet.core.object_method import ObjectDefaults, ObjectMethod
    from napari_unet.labels.block_grid import BlockGrid

BASE_MEMORY = 200 * 2**20
"""Bytes of a process that has zarr, SciPy and scikit-image loaded."""

BLOCK_BYTES = {"components": 40, "watershed": 50, "interior": 50}
"""Bytes for each voxel of a slice or block that is worked on, at the peak (measured on Linux)."""


@dataclass(frozen=True, slots=True)
class ObjectsEstimate:
    """What an object job costs.

    Parameters
    ----------
    blocks : int
        Slices or blocks in which objects are searched.
    voxels : int
        Voxels of the region.
    memory_bytes : int
        Upper estimate of the process's memory, without the table: 90 bytes for each object.
    disk_bytes : int
        Upper bound of the result, uncompressed, with all levels.
    """

    blocks: int
    voxels: int
    memory_bytes: int
    disk_bytes: int


def estimate_objects(plan: ObjectsPlan) -> ObjectsEstimate:
    """Return what an object job costs, from its geometry alone."""
    return _estimate(plan.grid, plan.rules.method, plan.job.workers, plan.levels)


def foresee_objects(
    rules: ObjectDefaults, levels: tuple[PyramidLevel, ...], region: Box, spatial_axes: str
) -> ObjectsEstimate:
    """Return what the objects of a segmentation will cost that is not there yet.

    Parameters
    ----------
    rules : ObjectDefaults
        What the model says of its objects.
    levels : tuple of PyramidLevel
        Of the segmentation to come.
    region : Box
        What is going to be segmented.
    spatial_axes : {"zyx", "yx"}
        Axes of the image.
    """
    job = ObjectsJob(output="")
    dimension, _ = object_dimension(job, rules, spatial_axes, levels[0].voxel_size)
    return _estimate(
        object_grid(job, rules.method, dimension, region.shape), rules.method, 1, levels
    )


def _estimate(
    grid: BlockGrid, method: ObjectMethod, workers: int, levels: tuple[PyramidLevel, ...]
) -> ObjectsEstimate:
    block = max(grid.extended(k).size for k in range(min(grid.count, 2)))
    voxels = math.prod(grid.shape)
    share = sum(math.prod(level.shape) for level in levels) / math.prod(levels[0].shape)
    return ObjectsEstimate(
        blocks=grid.count,
        voxels=voxels,
        memory_bytes=BASE_MEMORY + BLOCK_BYTES[method] * block * workers,
        disk_bytes=round(4 * voxels * share),
    )
