"""Small runs that are cut off, and what they leave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_unet.app.segment import run_job
from napari_unet.core.events import BlockDone
from napari_unet.core.job import SegmentJob
from napari_unet.io.output_state import read_output_state

BLOCKS = 3 * 2 * 2
METADATA = ("zarr.json", ".zattrs", ".zgroup", ".zarray")
OPTIONS: dict[str, Any] = {"tile_size": 32, "block_size": 48, "threads": 1}


def job_of(tmp_path: Path, stack_path: str, model: str, **options: Any) -> SegmentJob:
    fields = OPTIONS | {"output": str(tmp_path / "out put.zarr"), "name": "found"} | options
    return SegmentJob.parse({"input": stack_path, "model": model} | fields, source="test")


def run(job: SegmentJob) -> list[Any]:
    return list(run_job(job))


def cut_off(job: SegmentJob, blocks: int) -> None:
    """Run a job as far as so many more blocks, and drop it as a crash would."""
    events = run_job(job)
    for event in events:
        blocks -= isinstance(event, BlockDone)
        if not blocks:
            break
    events.close()


def stored(output: str | Path) -> dict[str, bytes]:
    """Return all chunks of an output, byte by byte."""
    root = Path(output)
    files = (path for path in root.rglob("*") if path.is_file() and path.name not in METADATA)
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def state_of(job: SegmentJob) -> str:
    state = read_output_state(job.output, "found")
    assert state is not None
    return state.state


def computed(events: list[Any]) -> int:
    return sum(isinstance(event, BlockDone) for event in events)
