"""What a segmentation needs before its first tile: device, network, normalization, tiles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from napari_unet.core.normalization import measure_normalization
from napari_unet.inference.device import Backend, choose_backend
from napari_unet.inference.engine import TileRun
from napari_unet.inference.predictor import Predictor
from napari_unet.model.weights import load_model

if TYPE_CHECKING:
    from napari_unet.app.plan import SegmentPlan
    from napari_unet.core.arrays import BlockJournal, LabelSink
    from napari_unet.core.boxes import Shape
    from napari_unet.core.job import SegmentJob
    from napari_unet.core.normalization import Normalization


def open_backend(job: SegmentJob) -> Backend:
    """Return where and how a job computes.

    Where others compute, what this process does for them needs no device of theirs.
    """
    if job.computes_elsewhere:
        return Backend(torch.device("cpu"), job.precision)
    return choose_backend(job.device, job.precision, tf32=job.tf32, threads=job.threads)


def measured_normalization(plan: SegmentPlan) -> Normalization:
    """Return the normalization that the job names, or that of the volume."""
    return plan.normalization or measure_normalization(plan.source, resampling=plan.grid.resampling)


def make_predictor(plan: SegmentPlan, backend: Backend) -> Predictor:
    """Return the network of a job on its device."""
    loaded = load_model(plan.model.path, expected_sha256=plan.model.sha256)
    job = plan.job
    return Predictor(loaded.net, plan.grid.net, backend, job.batch_size or 1, job.average)


def tile_run(
    plan: SegmentPlan,
    sink: LabelSink,
    normalization: Normalization,
    done: dict[Shape, Any] | None = None,
    journal: BlockJournal | None = None,
) -> TileRun:
    """Return what the engine is to do for a job."""
    return TileRun(
        plan.source,
        sink,
        plan.grid,
        plan.region,
        normalization,
        plan.job.stored_probabilities is not None,
        frozenset(done or ()),
        journal,
    )


def plan_classes(plan: SegmentPlan) -> tuple[tuple[str, str], ...]:
    """Return names and colors of the classes."""
    return tuple((item.name, item.color) for item in plan.model.header.classes)
