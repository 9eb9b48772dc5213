"""Several processes share the blocks of a job, and together they write what one would have."""

from __future__ import annotations

import itertools
import json
import multiprocessing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.app.segmenting.runs import BLOCKS, computed, cut_off, job_of, run, state_of, stored

from napari_unet.app.finish import run_finish
from napari_unet.app.job_files import read_record, record_path
from napari_unet.app.segment import run_job
from napari_unet.app.segmenting.journal import ledger_path
from napari_unet.app.segmenting.shard_files import Shard, block_index, block_number, shard_ledgers
from napari_unet.app.verify import run_verify
from napari_unet.core.boxes import Box
from napari_unet.core.events import (
    AlreadyDone,
    BlockDone,
    Cancelled,
    Finished,
    JobStarted,
    PyramidProgress,
    ShardDone,
)
from napari_unet.core.job import SegmentJob
from napari_unet.core.receptive import unet_geometry
from napari_unet.core.tiling import TileGrid
from napari_unet.core.verify_events import Verified
from napari_unet.errors import (
    ConfigError,
    InputError,
    LockedError,
    OutputExistsError,
    StorageError,
)
from napari_unet.inference.control import JobControl
from napari_unet.io.ledger import Ledger, read_ledger
from napari_unet.io.output_state import read_output_state
from napari_unet.io.stored_image import StoredImage

if TYPE_CHECKING:
    import numpy.typing as npt


def part_of(job: SegmentJob, shard: str) -> SegmentJob:
    return job.model_copy(update={"shard": shard})


def whole_ledger(job: SegmentJob) -> Path:
    return ledger_path(Path(job.output), "found")


def whole_of(tmp_path: Path, stack_path: str, model: str, **options: Any) -> dict[str, bytes]:
    """Return the chunks that one process writes."""
    job = job_of(tmp_path, stack_path, model, output=str(tmp_path / "whole.zarr"), **options)
    run(job)
    return stored(job.output)


@given(count=st.integers(0, 1000), shards=st.integers(1, 40))
def test_shards_hold_every_block_once_and_are_equally_large(count: int, shards: int) -> None:
    parts = [Shard(number, shards).blocks(count) for number in range(1, shards + 1)]
    assert list(itertools.chain(*parts)) == list(range(count))
    sizes = {len(part) for part in parts}
    assert max(sizes) - min(sizes) <= 1


def test_numbers_of_blocks_are_those_of_c_order() -> None:
    grid = TileGrid((3, 90, 70), unet_geometry(2), (1, 16, 16), (1, 32, 32))
    region = Box((1, 33, 0), (3, 90, 50))
    for number, block in enumerate(grid.blocks(region)):
        assert block_number(grid, region, block.index) == number
        assert block_index(grid, region, number) == block.index


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/0", "a/b", "1/2/3", " 1/2"])
def test_other_shards_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="shard"):
        SegmentJob.parse({"input": "a", "model": "b", "output": "c", "shard": text}, source="t")
    with pytest.raises(ConfigError, match="i/N"):
        Shard.parse(text)


def test_overwriting_is_refused_in_a_shard() -> None:
    values = {"input": "a", "model": "b", "output": "c", "shard": "1/2", "overwrite": True}
    with pytest.raises(ConfigError, match="delete what the others made"):
        SegmentJob.parse(values, source="test")


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
def test_shards_and_finish_give_what_one_process_gives(
    tmp_path: Path, stack_path: str, model: str, order: tuple[int, ...]
) -> None:
    whole = whole_of(tmp_path, stack_path, model)
    job = job_of(tmp_path, stack_path, model)
    count = 0
    for number in order:
        events = run(part_of(job, f"{number}/3"))
        (started,) = (event for event in events if isinstance(event, JobStarted))
        done = events[-1]
        assert isinstance(done, ShardDone)
        assert (done.shard, done.blocks) == (f"{number}/3", BLOCKS // 3)
        assert done.pixels == started.pixels
        assert not any(isinstance(event, PyramidProgress) for event in events)
        count += computed(events)
        assert state_of(job) == "incomplete"
    assert count == BLOCKS
    assert isinstance(list(run_finish(job.output))[-1], Finished)
    assert stored(job.output) == whole
    record = read_record(record_path(Path(job.output), "found"))
    assert state_of(job) == record.state == "complete"
    assert record.job.shard is None
    assert len(record.provenance["shards"]) == 3
    ledger = read_ledger(whole_ledger(job))
    assert ledger is not None
    assert len(ledger.done) == BLOCKS
    assert shard_ledgers(whole_ledger(job)) == []
    # Again, and what is complete stays as it is.
    assert isinstance(list(run_finish(job.output, "found"))[-1], AlreadyDone)
    assert isinstance(run(part_of(job, "1/3"))[-1], AlreadyDone)
    assert isinstance(run(job)[-1], AlreadyDone)
    assert stored(job.output) == whole


@pytest.mark.parametrize(
    "options",
    [
        {"probabilities": True, "probability_type": "float16"},
        {"shards": True},
        {"ome_version": "0.4"},
        {"region": "0:3,5:80,20:70"},
        {"rescale": 0.5},
    ],
    ids=str,
)
def test_every_kind_of_output_can_be_shared(
    tmp_path: Path, stack_path: str, model: str, options: dict[str, Any]
) -> None:
    whole = whole_of(tmp_path, stack_path, model, **options)
    job = job_of(tmp_path, stack_path, model, **options)
    for number in (1, 2):
        run(part_of(job, f"{number}/2"))
    list(run_finish(job.output))
    assert stored(job.output) == whole


def test_more_shards_than_blocks(tmp_path: Path, stack: npt.NDArray[Any], model: str) -> None:
    np.save(tmp_path / "plane.npy", stack[0, :40, :40])
    job = job_of(tmp_path, str(tmp_path / "plane.npy"), model, axes="yx")
    blocks = [run(part_of(job, f"{number}/3"))[-1].blocks for number in (1, 2, 3)]
    assert sum(blocks) == 1
    assert isinstance(list(run_finish(job.output))[-1], Finished)


def _run_in_process(values: dict[str, Any]) -> None:
    for _ in run_job(SegmentJob.parse(values, source="test")):
        pass


def test_they_run_at_the_same_time(tmp_path: Path, stack_path: str, model: str) -> None:
    whole = whole_of(tmp_path, stack_path, model)
    job = job_of(tmp_path, stack_path, model)
    # Fork would copy threads of this process.
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_run_in_process, args=(part_of(job, f"{n}/2").model_dump(),))
        for n in (1, 2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    list(run_finish(job.output))
    assert stored(job.output) == whole


def test_a_shard_goes_on_where_it_ended(tmp_path: Path, stack_path: str, model: str) -> None:
    whole = whole_of(tmp_path, stack_path, model)
    job = job_of(tmp_path, stack_path, model)
    cut_off(part_of(job, "2/2"), 2)
    ledger = read_ledger(Shard(2, 2).ledger_path(whole_ledger(job)))
    assert ledger is not None
    before = len(ledger.done)
    assert 2 <= before <= BLOCKS // 2
    # What another shard is writing at the moment is nothing to sweep.
    torn = Path(job.output) / "labels/found/0/c/0/0" / f"1.{'ab' * 16}.partial"
    torn.parent.mkdir(parents=True, exist_ok=True)
    torn.write_bytes(b"torn")
    events = run(part_of(job, "2/2"))
    assert computed(events) == BLOCKS // 2 - before
    assert torn.exists()
    run(part_of(job, "1/2"))
    list(run_finish(job.output))
    assert stored(job.output) == whole


def test_finish_says_which_shards_are_missing(tmp_path: Path, stack_path: str, model: str) -> None:
    job = job_of(tmp_path, stack_path, model)
    run(part_of(job, "2/3"))
    cut_off(part_of(job, "3/3"), 1)
    with pytest.raises(StorageError, match=r"--shard 1/3 \(4 of 4 blocks\), --shard 3/3 \("):
        list(run_finish(job.output))
    assert state_of(job) == "incomplete"
    for shard in ("1/3", "3/3"):
        run(part_of(job, shard))
    assert isinstance(list(run_finish(job.output))[-1], Finished)


def test_finish_can_be_interrupted(tmp_path: Path, stack_path: str, model: str) -> None:
    job = job_of(tmp_path, stack_path, model)
    for number in (1, 2):
        run(part_of(job, f"{number}/2"))
    control = JobControl()
    control.stop()
    assert isinstance(list(run_finish(job.output, None, control))[-1], Cancelled | Finished)
    events = run_finish(job.output)
    next(events)
    events.close()
    assert isinstance(list(run_finish(job.output))[-1], Finished | AlreadyDone)
    assert state_of(job) == "complete"


def test_what_one_process_began_is_finished_too(
    tmp_path: Path, stack_path: str, model: str
) -> None:
    job = job_of(tmp_path, stack_path, model)
    cut_off(job, 3)
    with pytest.raises(StorageError, match="the command that began it goes on"):
        list(run_finish(job.output))


def test_one_shard_is_computed_by_one_process(tmp_path: Path, stack_path: str, model: str) -> None:
    job = job_of(tmp_path, stack_path, model)
    first = run_job(part_of(job, "1/2"))
    for event in first:
        if isinstance(event, BlockDone):
            break
    with pytest.raises(LockedError, match="shard-1-of-2 is being computed by process"):
        run(part_of(job, "1/2"))
    with pytest.raises(LockedError, match="shard-1-of-2"):
        list(run_finish(job.output))
    # Also who wants to begin anew has to wait, and nothing is lost meanwhile.
    with pytest.raises(LockedError):
        run(job.model_copy(update={"overwrite": True}))
    assert isinstance(run(part_of(job, "2/2"))[-1], ShardDone)
    assert isinstance(list(first)[-1], ShardDone)
    assert isinstance(list(run_finish(job.output))[-1], Finished)


def test_a_shard_of_another_job_is_refused(tmp_path: Path, stack_path: str, model: str) -> None:
    job = job_of(tmp_path, stack_path, model)
    cut_off(part_of(job, "1/2"), 1)
    with pytest.raises(OutputExistsError, match="precision: fp32 -> bf16"):
        run(part_of(job, "2/2").model_copy(update={"precision": "bf16"}))
    with pytest.raises(OutputExistsError, match="in 2 shards, so there is no shard 2/3"):
        run(part_of(job, "2/3"))
    with pytest.raises(OutputExistsError, match="begun in 2 shards"):
        run(job)
    assert isinstance(run(job.model_copy(update={"overwrite": True}))[-1], Finished)
    assert shard_ledgers(whole_ledger(job)) == []


def test_a_shard_of_what_one_process_began_is_refused(
    tmp_path: Path, stack_path: str, model: str
) -> None:
    job = job_of(tmp_path, stack_path, model)
    cut_off(job, 1)
    with pytest.raises(OutputExistsError, match="begun without --shard"):
        run(part_of(job, "1/2"))


def test_shards_wait_for_who_makes_the_output(tmp_path: Path, stack_path: str, model: str) -> None:
    job, control = job_of(tmp_path, stack_path, model), JobControl()
    Path(job.output).parent.mkdir(exist_ok=True)
    with Ledger(whole_ledger(job)):
        events = run_job(part_of(job, "1/2"), control)
        next(events)
        control.stop()
        assert isinstance(list(events)[-1], Cancelled)
    assert not Path(job.output).exists()
    assert isinstance(run(part_of(job, "1/2"))[-1], ShardDone)


def test_leftovers_of_an_older_output_are_not_believed(
    tmp_path: Path, stack_path: str, model: str
) -> None:
    job = job_of(tmp_path, stack_path, model)
    run(part_of(job, "1/2"))
    import shutil

    shutil.rmtree(job.output)
    assert computed(run(part_of(job, "1/2"))) == BLOCKS // 2
    run(part_of(job, "2/2"))
    assert isinstance(list(run_finish(job.output))[-1], Finished)
    assert stored(job.output) == whole_of(tmp_path, stack_path, model)


def test_damage_is_found_by_the_shard_that_goes_on(
    tmp_path: Path, stack_path: str, model: str
) -> None:
    whole = whole_of(tmp_path, stack_path, model)
    job = job_of(tmp_path, stack_path, model)
    for number in (1, 2):
        run(part_of(job, f"{number}/2"))
    (Path(job.output) / "labels/found/0/c/0/0/0").write_bytes(b"")
    assert computed(run(part_of(job, "2/2"))) == 0
    assert computed(run(part_of(job, "1/2"))) == 1
    list(run_finish(job.output))
    assert stored(job.output) == whole


def test_failed_blocks_are_named_and_missing(
    tmp_path: Path, stack_path: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = StoredImage.read

    def refused(self: StoredImage, box: Box) -> npt.NDArray[Any]:
        if box.start[0] == 2 and box.shape[0] == 1:
            raise InputError("stack.zarr: chunk c/2/0/0 is damaged")
        return read(self, box)

    job = job_of(tmp_path, stack_path, model, normalization="100,40")
    assert isinstance(run(part_of(job, "1/3"))[-1], ShardDone)
    monkeypatch.setattr(StoredImage, "read", refused)
    with pytest.raises(InputError, match=r"4 blocks could not be computed .*0 of 4 blocks"):
        run(part_of(job, "3/3"))
    monkeypatch.undo()
    run(part_of(job, "2/3"))
    with pytest.raises(StorageError, match=r"--shard 3/3 \(4 of 4 blocks\)"):
        list(run_finish(job.output))
    run(part_of(job, "3/3"))
    assert isinstance(list(run_finish(job.output))[-1], Finished)


def test_objects_are_found_at_the_end(tmp_path: Path, stack_path: str, model: str) -> None:
    job = job_of(tmp_path, stack_path, model, output_kind="instances")
    for number in (1, 2):
        assert isinstance(run(part_of(job, f"{number}/2"))[-1], ShardDone)
    assert read_output_state(job.output, "found-objects") is None
    assert isinstance(list(run_finish(job.output))[-1], Finished)
    objects = read_output_state(job.output, "found-objects")
    assert objects is not None
    assert objects.state == "complete"


def test_finish_of_nothing_names_what_there_is(tmp_path: Path, stack_path: str, model: str) -> None:
    with pytest.raises(InputError, match="there is no output"):
        list(run_finish(str(tmp_path / "nothing.zarr")))
    job = job_of(tmp_path, stack_path, model)
    run(part_of(job, "1/2"))
    with pytest.raises(ConfigError, match="--name: found"):
        list(run_finish(job.output, "other"))
    whole_ledger(job).unlink()
    with pytest.raises(StorageError, match="there is no ledger"):
        list(run_finish(job.output))


def test_verify_knows_what_shards_have_written(tmp_path: Path, stack_path: str, model: str) -> None:
    job = job_of(tmp_path, stack_path, model)
    for number in (1, 2):
        run(part_of(job, f"{number}/2"))
    list(run_finish(job.output))
    verdict = list(run_verify(job.output))[-1]
    assert isinstance(verdict, Verified)
    assert verdict.is_right
    (Path(job.output) / "labels/found/0/c/0/0/0").write_bytes(b"")
    list(run_verify(job.output, repair=True))
    repaired = list(run_verify(job.output))[-1]
    assert isinstance(repaired, Verified)
    assert repaired.is_right


def test_the_header_holds_what_all_share(tmp_path: Path, stack_path: str, model: str) -> None:
    job = job_of(tmp_path, stack_path, model)
    cut_off(part_of(job, "2/2"), 1)
    header = whole_ledger(job).read_bytes()
    own = read_ledger(Shard(2, 2).ledger_path(whole_ledger(job)))
    settled = json.loads(header[9:])["settled"]
    assert settled["shards"] == 2
    assert own is not None
    assert own.settled == {key: settled[key] for key in ("run", "normalization")}
    run(part_of(job, "1/2"))
    assert whole_ledger(job).read_bytes() == header
