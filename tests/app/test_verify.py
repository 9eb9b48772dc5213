"""Verifying finds all that is not as it was written, and a repair makes exactly that again."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from tests.faults.drive import make_image
from tests.results import write_result
from zarr.storage import LocalStore

from napari_unet.app.finish import run_finish
from napari_unet.app.job_files import read_record
from napari_unet.app.segment import run_job
from napari_unet.app.segmenting.journal import ledger_path
from napari_unet.app.verify import run_verify
from napari_unet.cli.main import app
from napari_unet.core.boxes import Box
from napari_unet.core.events import BlockDone, BlockFailed, Finished, Warned
from napari_unet.core.job import SegmentJob
from napari_unet.core.verify_events import (
    BlockDamaged,
    Repaired,
    Verified,
    VerifyCancelled,
    VerifyProgress,
)
from napari_unet.errors import ConfigError, InputError, LockedError, StorageError
from napari_unet.inference.control import JobControl
from napari_unet.io.ledger import BlockEntry, Ledger, read_ledger
from napari_unet.io.output_state import read_output_state
from napari_unet.io.stored_objects import checksum

BLOCKS = 2 * 2 * 2
CHUNK = "labels/found/0/c/0/1/0"
BOX = Box((0, 32, 0), (1, 60, 32))


@pytest.fixture
def job(tmp_path: Path, model: str) -> SegmentJob:
    """Return a job over an image of two levels, and so of two levels of its result."""
    make_image(tmp_path / "image.zarr")
    return job_of(tmp_path, model)


def job_of(tmp_path: Path, model: str, **options: Any) -> SegmentJob:
    fields = {"input": str(tmp_path / "image.zarr"), "model": model, "name": "found"}
    fields |= {"output": str(tmp_path / "out.zarr"), "block_size": 32, "threads": 1} | options
    return SegmentJob.parse(fields, source="test")


def finished(job: SegmentJob) -> dict[str, bytes]:
    """Run a job to its end and return its chunks."""
    assert isinstance(list(run_job(job))[-1], Finished)
    return stored(job)


def stored(job: SegmentJob) -> dict[str, bytes]:
    root = Path(job.output)
    files = (
        path for path in root.rglob("*") if path.is_file() and path.name[:2] not in ("za", ".z")
    )
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def verdict(events: list[Any]) -> Verified:
    (verified,) = (event for event in events if isinstance(event, Verified))
    return verified


def counts(job: SegmentJob) -> tuple[int, int, int, int]:
    """Verify, and return right, damaged and missing blocks, and damaged coarse parts."""
    found = verdict(list(run_verify(job.output)))
    assert found.blocks == BLOCKS == found.right + found.damaged + found.missing
    return found.right, found.damaged, found.missing, found.coarse


def verify(*words: str) -> int:
    """Run the command in this process and return its exit code."""
    with pytest.raises(SystemExit) as ended:
        app(["verify", *words])
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"probabilities": True, "probability_type": "float16"},
        {"shards": True, "probabilities": True},
        {"ome_version": "0.4", "probabilities": True},
        {"region": "0:1,5:50,20:40"},
        {"rescale": 0.5},
    ],
    ids=str,
)
def test_what_nobody_touched_is_right_and_stays_as_it_is(
    job: SegmentJob, options: dict[str, Any]
) -> None:
    job = job.model_copy(update=options)
    before = finished(job)
    ledger = ledger_path(Path(job.output), "found").read_bytes()
    events = list(run_verify(job.output, repair=True))
    found = verdict(events)
    assert found.is_right
    assert found.right == found.blocks > 0
    assert not any(isinstance(event, Repaired | BlockDone) for event in events)
    assert sum(isinstance(event, VerifyProgress) for event in events) > found.blocks
    assert stored(job) == before
    assert ledger_path(Path(job.output), "found").read_bytes() == ledger


def test_the_ledger_holds_the_sums_of_what_was_computed(job: SegmentJob) -> None:
    finished(job)
    content = read_ledger(ledger_path(Path(job.output), "found"))
    assert content is not None
    labels = np.asarray(zarr.open_array(Path(job.output) / "labels/found/0", mode="r")[:])
    assert content.done[0, 1, 0] == BlockEntry(checksum(labels[BOX.slices]))


@pytest.mark.parametrize("damage", ["flipped", "short", "empty", "deleted", "another", "value"])
@pytest.mark.parametrize(
    "chunk", [CHUNK, "probabilities/found/0/c/1/0/1/0"], ids=["labels", "probabilities"]
)
def test_damage_is_found_named_and_repaired(job: SegmentJob, chunk: str, damage: str) -> None:
    job = job.model_copy(update={"probabilities": True})
    whole = finished(job)
    path = Path(job.output) / chunk
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "short":
        path.write_bytes(content[:-3])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "deleted":
        path.unlink()
    elif damage == "another":
        path.write_bytes((path.parent / "1").read_bytes())
    else:
        kind = chunk.partition("/")[0]
        array = zarr.open_array(LocalStore(Path(job.output) / kind / "found"), path="0", mode="r+")
        array[..., 0, 40, 3] = 1
        array[..., 0, 41, 3] = 0
    events = list(run_verify(job.output))
    (damaged,) = (event for event in events if isinstance(event, BlockDamaged))
    assert (damaged.level, damaged.box) == (0, BOX)
    if damage in ("empty", "deleted"):
        assert str(path) in damaged.cause
    found = verdict(events)
    assert (found.right, found.damaged, found.missing) == (BLOCKS - 1, 1, 0)
    assert not found.is_right
    state = read_output_state(job.output, "found")
    assert state is not None
    assert state.state == "complete", "nothing is written without --repair"
    repaired = list(run_verify(job.output, repair=True))
    assert sum(isinstance(event, BlockDone) for event in repaired) == 1
    assert repaired[-1] == Repaired(job.output, "found", 1)
    assert stored(job) == whole
    assert counts(job) == (BLOCKS, 0, 0, 0)


@pytest.mark.parametrize("damage", ["deleted", "another"])
def test_damage_of_a_coarser_level_is_found_and_repaired(job: SegmentJob, damage: str) -> None:
    whole = finished(job)
    path = Path(job.output) / "labels/found/1/c/1/0/0"
    if damage == "deleted":
        path.unlink()
    else:
        path.write_bytes((path.parents[2] / "0/0/0").read_bytes())
    assert counts(job) == (BLOCKS, 0, 0, 1)
    events = list(run_verify(job.output, repair=True))
    assert events[-1] == Repaired(job.output, "found", 0)
    assert stored(job) == whole


def test_a_repair_says_first_that_the_output_is_not_complete(job: SegmentJob) -> None:
    finished(job)
    (Path(job.output) / CHUNK).unlink()
    events = run_verify(job.output, repair=True)
    for event in events:
        if isinstance(event, BlockDamaged):
            break
    events.close()
    state = read_output_state(job.output, "found")
    assert state is not None
    assert state.state == "incomplete"
    assert read_record(Path(job.output).parent / "found.unet.json").state == "incomplete"
    # The same command as ever makes it good, too.
    assert sum(isinstance(event, BlockDone) for event in run_job(job)) == 1


def test_what_is_not_done_is_counted_with_its_cause_and_made(job: SegmentJob) -> None:
    whole = finished(job.model_copy(update={"output": job.output + "2"}))
    events = run_job(job)
    for event in events:
        if isinstance(event, BlockDone) and event.blocks_done == 3:
            break
    events.close()
    path = ledger_path(Path(job.output), "found")
    with Ledger(path) as ledger:
        ledger.read()
        ledger.enter_run("later")
        ledger.enter_failed((1, 1, 1), "chunk 1/1/1 of the image is damaged")
    done = len(getattr(read_ledger(path), "done", ()))
    seen = list(run_verify(job.output))
    assert (verdict(seen).right, verdict(seen).missing) == (done, BLOCKS - done)
    (failed,) = (event for event in seen if isinstance(event, BlockFailed))
    assert "1/1/1" in failed.cause
    assert isinstance(list(run_verify(job.output, repair=True))[-1], Repaired)
    assert stored(job) == whole


def test_an_end_of_the_ledger_that_is_torn_is_said(job: SegmentJob) -> None:
    whole = finished(job)
    path = ledger_path(Path(job.output), "found")
    path.write_bytes(path.read_bytes()[:-5])
    events = list(run_verify(job.output))
    assert any(isinstance(event, Warned) and "torn" in event.message for event in events)
    assert (verdict(events).right, verdict(events).missing) == (BLOCKS - 1, 1)
    assert list(run_verify(job.output, repair=True))[-1] == Repaired(job.output, "found", 1)
    assert stored(job) == whole


def test_neither_image_nor_model_is_needed_and_all_may_be_moved(
    job: SegmentJob, tmp_path: Path
) -> None:
    finished(job)
    (tmp_path / "archive").mkdir()
    for path in tmp_path.glob("found.unet.*"):
        shutil.move(path, tmp_path / "archive" / path.name)
    shutil.move(job.output, tmp_path / "archive" / "renamed.zarr")
    shutil.rmtree(job.input)
    Path(job.model).unlink()
    moved = str(tmp_path / "archive" / "renamed.zarr")
    assert verdict(list(run_verify(moved))).is_right
    (tmp_path / "archive" / "renamed.zarr" / CHUNK).unlink()
    assert verdict(list(run_verify(moved))).damaged == 1
    with pytest.raises(ConfigError, match=r"was moved.*rename found\.unet\.ledger"):
        list(run_verify(moved, repair=True))


def test_who_is_at_work_is_not_disturbed(job: SegmentJob) -> None:
    events = run_job(job)
    for event in events:
        if isinstance(event, BlockDone):
            break
    with pytest.raises(LockedError, match="is being computed by process"):
        list(run_verify(job.output))
    assert isinstance(list(events)[-1], Finished)


def test_it_can_be_stopped(job: SegmentJob) -> None:
    finished(job)
    control, events = JobControl(), list[Any]()
    for event in run_verify(job.output, control=control):
        events.append(event)
        if isinstance(event, VerifyProgress) and event.done == 3:
            control.stop()
    assert events[-1] == VerifyCancelled(job.output, "found", 3, BLOCKS)


def test_what_cannot_be_verified_is_said(job: SegmentJob, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no output"):
        list(run_verify(tmp_path / "nothing.zarr"))
    zarr.create_group(tmp_path / "foreign.zarr")
    with pytest.raises(StorageError, match="did not make"):
        list(run_verify(tmp_path / "foreign.zarr"))
    finished(job)
    with pytest.raises(ConfigError, match="holds no 'other'; choose with --name: found"):
        list(run_verify(job.output, "other"))
    objects = write_result(Path(job.output), np.ones((2, 60, 48), np.uint32), name="cells")
    with pytest.raises(ConfigError, match="holds objects, which have no ledger"):
        list(run_verify(objects, "cells"))
    assert counts(job) == (BLOCKS, 0, 0, 0), "the only label image of classes is meant"
    ledger = ledger_path(Path(job.output), "found")
    kept = ledger.read_bytes()
    ledger.unlink()
    with pytest.raises(InputError, match="there is no ledger"):
        list(run_verify(job.output))
    assert not ledger.with_name(ledger.name + ".lock").exists() or not ledger.exists()
    finished(job.model_copy(update={"overwrite": True}))
    ledger.write_bytes(kept)
    with pytest.raises(StorageError, match="ledger of another run"):
        list(run_verify(job.output))
    zarr.open_group(job.output, mode="r")
    write_result(tmp_path / "old.zarr", np.ones((2, 60, 48), np.uint8))
    with pytest.raises(InputError, match="cannot be read"):
        list(run_verify(tmp_path / "old.zarr"))


def test_shards_are_verified_when_they_are_put_together(job: SegmentJob) -> None:
    list(run_job(job.model_copy(update={"shard": "1/2"})))
    for repair in (False, True):
        with pytest.raises(ConfigError, match="in 2 shards that are not put together yet"):
            list(run_verify(job.output, repair=repair))
    list(run_job(job.model_copy(update={"shard": "2/2"})))
    list(run_finish(job.output))
    whole = stored(job)
    assert counts(job) == (BLOCKS, 0, 0, 0)
    (Path(job.output) / CHUNK).unlink()
    assert list(run_verify(job.output, repair=True))[-1] == Repaired(job.output, "found", 1)
    assert stored(job) == whole


def test_the_command_says_it_in_sentences_and_by_its_exit_code(
    job: SegmentJob, capfd: pytest.CaptureFixture[str]
) -> None:
    finished(job)
    assert verify(job.output) == 0
    assert "8 of 8 blocks are right, 0 damaged, 0 not done" in capfd.readouterr().err
    (Path(job.output) / CHUNK).unlink()
    assert verify(job.output, "--progress", "none") == 3
    said = capfd.readouterr().err
    assert "damaged: block (0, 32, 0)..(1, 60, 32):" in said
    assert "7 of 8 blocks are right, 1 damaged, 0 not done; --repair" in said
    assert verify(job.output, "--progress", "json") == 3
    events = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [e["event"] for e in events if e["event"] != "verify_progress"] == [
        "stage_changed",
        "stage_changed",
        "block_damaged",
        "verified",
    ]
    assert verify(job.output, "--progress", "bar", "--repair") == 0
    assert "1 blocks were computed again" in " ".join(capfd.readouterr().err.split())
    assert verify(job.output, "--name", "other") == 2
    assert "choose with --name" in capfd.readouterr().err
    assert verify(job.output, "--progress", "loud") == 2
    assert verify(job.output + "3") == 3


def test_memory_does_not_grow_with_the_volume(tmp_path: Path, model: str) -> None:
    peaks = []
    for slices in (2, 12):
        folder = tmp_path / str(slices)
        folder.mkdir()
        image = np.random.default_rng(0).integers(0, 255, (slices, 256, 256), np.uint8)
        np.save(folder / "image.npy", image)
        job = job_of(folder, model, input=str(folder / "image.npy"), axes="zyx", block_size=256)
        finished(job)
        tracemalloc.start()
        for event in run_verify(job.output):
            assert not isinstance(event, Verified) or event.is_right
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 256 * 256, "ten more slices take less than one does"
