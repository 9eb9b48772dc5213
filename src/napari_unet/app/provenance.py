"""What a result says about how it was made."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch

from napari_unet.app.job_files import command_line

if TYPE_CHECKING:
    from napari_unet.app.plan import SegmentPlan
    from napari_unet.core.normalization import Normalization
    from napari_unet.inference.device import Backend

RECORDED_PACKAGES = ("napari-unet", "torch", "numpy", "zarr", "tifffile")
"""Packages whose versions can change a result."""


def describe_run(
    plan: SegmentPlan,
    backend: Backend,
    normalization: Normalization,
    batch_size: int,
    started: str,
) -> dict[str, Any]:
    """Return everything that is needed to understand and repeat a run, ready for JSON."""
    return {
        "started": started,
        "command": list(command_line(plan.job)),
        "model": {"name": plan.model.name, "sha256": plan.model.sha256},
        "normalization": normalization.model_dump(mode="json"),
        "rescale": None if plan.factors is None else list(plan.factors),
        "device": backend.label,
        "precision": backend.precision,
        "threads": torch.get_num_threads(),
        "tile_shape": list(plan.grid.tile_shape),
        "batch_size": batch_size,
        "versions": {name: version(name) for name in RECORDED_PACKAGES}
        | {"python": platform.python_version()},
        "platform": platform.platform(),
    }
