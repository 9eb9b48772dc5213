"""A disk that is full, or will be: said before and after, and the same command goes on."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import namedtuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr

from napari_unet.app.plan import plan_segment
from napari_unet.app.segment import run_job
from napari_unet.app.segmenting.journal import ledger_path
from napari_unet.app.segmenting.space import DiskSpace, full_disk
from napari_unet.core.events import BlockDone, Finished, PyramidProgress, Warned
from napari_unet.core.job import SegmentJob
from napari_unet.errors import StorageError
from napari_unet.io.ledger import read_ledger
from napari_unet.io.ome_zarr_writer import OutputImage
from napari_unet.io.stored_size import stored_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_unet.core.boxes import Box

Usage = namedtuple("Usage", "total used free")
BLOCKS = 3 * 2 * 2


def job_of(tmp_path: Path, image: str, model: str, **options: Any) -> SegmentJob:
    fields = {"output": str(tmp_path / "out.zarr"), "name": "found", "block_size": 48}
    return SegmentJob.parse({"input": image, "model": model} | fields | options, source="test")


def space_of(job: SegmentJob) -> DiskSpace:
    plan = plan_segment(job, 32)
    content = read_ledger(ledger_path(Path(job.output), "found"))
    done = {} if content is None else content.done
    blocks = plan.grid.count_blocks(plan.region)
    return DiskSpace(plan, blocks, plan.region.size, done)


def cut_off(job: SegmentJob, blocks: int) -> None:
    events = run_job(job)
    for event in events:
        blocks -= isinstance(event, BlockDone)
        if not blocks:
            break
    events.close()


def chunk_bytes(output: str) -> int:
    """Return the length of all chunks, counted from the files."""
    files = (path for path in Path(output).rglob("c/*/*") if path.is_file())
    deep = (path for path in Path(output).rglob("c/**/*") if path.is_file())
    return sum(path.stat().st_size for path in {*files, *deep})


@pytest.mark.parametrize(
    "options",
    [{}, {"probabilities": True}, {"shards": True}, {"ome_version": "0.4", "probabilities": True}],
    ids=str,
)
def test_what_is_left_is_foreseen_from_what_is_done(
    tmp_path: Path, stack_path: str, model: str, options: dict[str, Any]
) -> None:
    job = job_of(tmp_path, stack_path, model, **options)
    nothing = space_of(job).wanted()
    values = 1 + (4 * 2 if job.probabilities else 0)
    assert nothing == 3 * 90 * 70 * values, "nothing is known: at most the values themselves"
    cut_off(job, 8)
    foreseen = space_of(job).wanted()
    done = len(space_of(job).done)
    before = stored_bytes(Path(job.output), "found", [b.write for b in blocks_of(job)])
    list(run_job(job))
    after = stored_bytes(Path(job.output), "found", [b.write for b in blocks_of(job)])
    assert done >= 8
    assert foreseen == pytest.approx(after - before, rel=0.35, abs=400)
    assert space_of(job).wanted() == 0, "there are no coarser levels"


def blocks_of(job: SegmentJob) -> list[Any]:
    return list(plan_segment(job, 32).grid.blocks())


def test_files_that_boxes_share_count_once(tmp_path: Path, stack_path: str, model: str) -> None:
    job = job_of(tmp_path, stack_path, model, probabilities=True, ome_version="0.5")
    list(run_job(job))
    boxes = [block.write for block in blocks_of(job)]
    total = stored_bytes(Path(job.output), "found", boxes)
    assert total == chunk_bytes(job.output)
    assert stored_bytes(Path(job.output), "found", boxes * 2) == total
    assert 0 < stored_bytes(Path(job.output), "found", boxes[:1]) < total
    assert stored_bytes(Path(job.output), "nothing", boxes) == 0


@pytest.fixture
def wide(tmp_path: Path) -> str:
    """Path of an image that has coarser levels, most of them never written."""
    path = tmp_path / "wide.zarr"
    array = zarr.create_array(
        path, shape=(64, 4100), chunks=(64, 410), dtype="uint8", dimension_names=("y", "x")
    )
    array[:] = np.random.default_rng(0).integers(0, 255, array.shape, dtype=np.uint8)
    return str(path)


def test_coarser_levels_are_part_of_it(
    tmp_path: Path, wide: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(tmp_path, wide, model, block_size=1024)
    pyramid = OutputImage.build_pyramid

    def full(self: OutputImage, region: Box) -> Iterator[tuple[int, int]]:
        yield from ()
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise StorageError("it cannot be written") from error

    monkeypatch.setattr(OutputImage, "build_pyramid", full)
    with pytest.raises(StorageError, match=r"5 of 5 blocks are done and kept; free 1 MB and run"):
        list(run_job(job))
    before = chunk_bytes(job.output)
    wanted = space_of(job).wanted()
    monkeypatch.setattr(OutputImage, "build_pyramid", pyramid)
    events = list(run_job(job))
    assert isinstance(events[-1], Finished)
    assert any(isinstance(event, PyramidProgress) for event in events)
    assert not any(isinstance(event, BlockDone) for event in events)
    assert wanted == pytest.approx(chunk_bytes(job.output) - before, rel=0.35)


def test_a_disk_that_may_become_full_is_said_before(
    tmp_path: Path, stack_path: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(tmp_path, stack_path, model)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**6, 10**6 - 100, 100))
    warned = [event.message for event in run_job(job) if isinstance(event, Warned)]
    (text,) = warned
    assert "has 1 MB left, and what is to be written takes at most 1 MB" in text
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 0, 10**9))
    again = job.model_copy(update={"overwrite": True, "tile_size": 16, "precision": "bf16"})
    assert not [event for event in run_job(again) if isinstance(event, Warned)]


def test_how_much_to_free_is_what_is_wanted_less_what_is_free(
    tmp_path: Path, stack_path: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = space_of(job_of(tmp_path, stack_path, model))
    monkeypatch.setattr(DiskSpace, "wanted", lambda self: 5 * 10**9)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 0, 2 * 10**9))
    full, quota = (OSError(n, os.strerror(n)) for n in (errno.ENOSPC, errno.EDQUOT))
    assert "0 of 12 blocks are done and kept; free 3.0 GB and run" in str(space.refused(full))
    assert "free 5.0 GB and run" in str(space.refused(quota)), "of a quota nobody knows the rest"


def test_other_errors_are_not_taken_for_a_full_disk() -> None:
    assert full_disk(StorageError("torn")) is None
    assert full_disk(OSError(errno.EACCES, "no")) is None
    error = StorageError("it cannot be written")
    error.__cause__ = OSError(errno.ENOSPC, "full")
    assert full_disk(error) is error.__cause__


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
from napari_unet.cli.main import app
app(sys.argv[2:])
"""


def chunks(output: str) -> dict[str, bytes]:
    root = Path(output)
    files = (path for path in root.rglob("*") if path.is_file() and path.name != "zarr.json")
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def test_a_limit_on_the_size_of_files_loses_nothing(
    tmp_path: Path, stack_path: str, model: str
) -> None:
    options = {"block_size": 16, "tile_size": 16, "device": "cpu", "threads": 1}
    whole = job_of(tmp_path, stack_path, model, output=str(tmp_path / "whole.zarr"), **options)
    list(run_job(whole))
    ledger = ledger_path(Path(whole.output), "found").stat().st_size
    (tmp_path / "limited").mkdir()
    job = job_of(tmp_path / "limited", stack_path, model, **options)
    words = [job.input, "--model", model, "--output", job.output, "--name", "found"]
    words += ["--block-size", "16", "--tile-size", "16", "--device", "cpu", "--threads", "1"]
    # The ledger is what outgrows it.
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED, str(ledger - 2000), "segment", *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 3
    assert "Traceback" not in ended.stderr
    found = re.search(r"File too large.*\((\d+) of 90 blocks are done and kept", ended.stderr)
    assert found, ended.stderr
    done = int(found[1])
    assert 0 < done < 90
    events = list(run_job(job))
    assert sum(isinstance(event, BlockDone) for event in events) == 90 - done
    assert chunks(job.output) == chunks(whole.output)


def mount(folder: Path, options: str) -> bool:
    """Mount a file system in memory; False where that is not allowed."""
    if sys.platform != "linux" or shutil.which("mount") is None:
        return False
    words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def may_mount() -> bool:
    with tempfile.TemporaryDirectory() as name:
        allowed = mount(Path(name), "size=1m")
        if allowed:
            subprocess.run(["umount", name], check=True)
    return allowed


def fill_and_free(disk: Path, job: SegmentJob) -> list[Any]:
    """Run a job until its disk is full, make that larger, and run it again."""
    with pytest.raises(StorageError, match=r"disk is full .* free 1 MB and run the same") as full:
        list(run_job(job))
    done = int(re.findall(r"(\d+) of 12 blocks", str(full.value))[0])
    assert 0 < done < BLOCKS
    with pytest.raises(StorageError, match="No space left on device"):
        list(run_job(job))
    assert mount(disk, "remount,size=10m")
    events = list(run_job(job))
    assert sum(isinstance(event, BlockDone) for event in events) == BLOCKS - done
    return events


if may_mount():

    def test_a_disk_that_is_really_full_loses_nothing(
        tmp_path: Path, stack_path: str, model: str
    ) -> None:
        whole = job_of(tmp_path, stack_path, model, probabilities=True)
        list(run_job(whole))
        disk = tmp_path / "disk"
        disk.mkdir()
        assert mount(disk, "size=160k")
        try:
            job = whole.model_copy(update={"output": str(disk / "out.zarr")})
            assert isinstance(fill_and_free(disk, job)[-1], Finished)
            assert chunks(job.output) == chunks(whole.output)
        finally:
            subprocess.run(["umount", str(disk)], check=True)
