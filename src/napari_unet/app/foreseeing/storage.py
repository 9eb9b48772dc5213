"""How much disk, and how many files, an output takes."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.app.plan import estimate
from napari_unet.io.output_spec import OutputSpec
from napari_unet.io.pyramid import plan_levels

if TYPE_CHECKING:
    from napari_unet.app.plan import SegmentPlan
    from napari_unet.core.job import ProbabilityType


@dataclass(frozen=True, slots=True)
class Storage:
    """What the output takes; bytes are upper bounds: uncompressed, with all levels.

    Parameters
    ----------
    labels_bytes, probabilities_bytes : int
        Of the labels alone; of labels and probabilities.
    files, files_sharded : int
        Stored objects of this job, as it is and with ``--shards``.
    free_bytes : int
        Free where the output goes.
    """

    labels_bytes: int
    probabilities_bytes: int
    files: int
    files_sharded: int
    free_bytes: int


def foresee_storage(plan: SegmentPlan) -> Storage:
    """Return what the output of a job takes."""
    job = plan.job
    kept = job.stored_probabilities
    both = {"probabilities": True, "probability_type": kept or job.probability_type}
    folder = next(path for path in Path(job.output).parents if path.is_dir())
    return Storage(
        labels_bytes=_disk_bytes(plan, {"probabilities": False, "output_kind": "classes"}),
        probabilities_bytes=_disk_bytes(plan, {**both, "output_kind": "classes"}),
        files=count_files(plan, kept, shards=job.shards),
        files_sharded=count_files(plan, kept, shards=True),
        free_bytes=shutil.disk_usage(folder).free,
    )


def _disk_bytes(plan: SegmentPlan, changed: dict[str, Any]) -> int:
    return estimate(replace(plan, job=plan.job.model_copy(update=changed))).disk_bytes


def count_files(plan: SegmentPlan, stored: ProbabilityType | None, *, shards: bool) -> int:
    """Return how many stored objects the labels, and the probabilities if kept, have at most."""
    classes = plan.model.header.classes
    spec = OutputSpec(
        path=Path(plan.job.output),
        name=plan.name,
        spatial_axes=plan.source.spatial_axes,
        levels=plan_levels(plan.source),
        block_edge=plan.job.block_size,
        shards=shards,
    )
    full, labels = spec.levels[0].shape, 0
    for index, level in enumerate(spec.levels):
        # The part of a coarser level that lies over the region, rounded outwards.
        ranges = (
            (a * coarse // fine // edge, math.ceil(math.ceil(b * coarse / fine) / edge))
            for a, b, coarse, fine, edge in zip(
                plan.region.start,
                plan.region.stop,
                level.shape,
                full,
                spec.object_shape(index),
                strict=True,
            )
        )
        labels += math.prod(b - a for a, b in ranges)
    # A shard holds all classes, a chunk one.
    return labels * (1 + (0 if stored is None else 1 if shards else len(classes)))
