"""How large a tile may be: the arithmetic, and what a job makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import zarr

from napari_unet.app.models import find_model
from napari_unet.app.plan import BASE_MEMORY, estimate, plan_segment
from napari_unet.app.tile_memory import tile_bytes, tile_edge_within
from napari_unet.core.job import SegmentJob

if TYPE_CHECKING:
    from pathlib import Path


def test_no_limit_and_much_memory_leave_the_choice_to_the_engine() -> None:
    header = find_model("em-membranes").header
    assert tile_edge_within(0, header) is None
    assert tile_edge_within(10e9, header) is None


@pytest.mark.parametrize("memory", [1e6, 30e6, 80e6, 200e6, 400e6])
def test_the_largest_tile_that_fits(memory: float) -> None:
    header = find_model("em-membranes").header
    stride = header.geometry().stride[-1]
    edge = tile_edge_within(memory, header)
    assert edge is not None
    assert edge % stride == 0
    # The smallest tile needs what it needs.
    assert tile_bytes(header, edge) <= memory or edge == stride
    # Never larger than a chunk, which is fastest on a CPU.
    assert edge == 512 or tile_bytes(header, edge + stride) > memory


def test_it_is_the_share_of_tiles_in_the_estimate_of_a_job(tmp_path: Path) -> None:
    path = str(tmp_path / "empty.zarr")
    zarr.create_array(path, shape=(1, 600, 600), chunks=(1, 600, 600), dtype="uint8")
    names = {"input": path, "axes": "zyx", "model": "em-membranes", "output": "out.zarr"}
    job = SegmentJob(**names, tile_size=256)
    plan = plan_segment(job, 512)
    rest = 4 * plan.job.block_size**2
    assert estimate(plan).memory_bytes == pytest.approx(
        BASE_MEMORY + rest + tile_bytes(plan.model.header, 256), rel=0.01
    )
