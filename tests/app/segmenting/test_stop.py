"""A run that is stopped while it writes the coarser levels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from tests.app.segmenting.runs import stored

from napari_unet.app.segment import run_job
from napari_unet.core.events import BlockDone, Cancelled, Finished, PyramidProgress
from napari_unet.core.job import SegmentJob
from napari_unet.inference.control import JobControl
from napari_unet.io.output_state import read_output_state

if TYPE_CHECKING:
    from pathlib import Path


def test_it_ends_between_two_parts_of_the_pyramid_and_goes_on(tmp_path: Path, model: str) -> None:
    array = zarr.create_array(
        tmp_path / "wide.zarr",
        shape=(2, 32, 4100),
        chunks=(1, 32, 1025),
        dtype="uint8",
        dimension_names=("z", "y", "x"),
    )
    array[:] = np.random.default_rng(0).integers(0, 255, array.shape, dtype=np.uint8)
    job = SegmentJob(
        input=str(tmp_path / "wide.zarr"),
        model=model,
        output=str(tmp_path / "out.zarr"),
        name="found",
        tile_size=512,
    )
    control, events = JobControl(), list[Any]()
    for event in run_job(job, control):
        events.append(event)
        if isinstance(event, PyramidProgress):
            control.wind_down()
    assert sum(isinstance(event, PyramidProgress) for event in events) == 1
    assert isinstance(events[-1], Cancelled)
    assert events[-1].tiles_done == events[-1].tiles
    state = read_output_state(job.output, "found")
    assert state is not None
    assert state.state == "incomplete"
    again = list(run_job(job))
    assert isinstance(again[-1], Finished)
    assert not any(isinstance(event, BlockDone) for event in again)
    whole = job.model_copy(update={"output": str(tmp_path / "whole.zarr")})
    list(run_job(whole))
    assert stored(job.output) == stored(whole.output)
