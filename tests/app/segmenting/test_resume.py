"""A segmentation goes on where it ended, however it ended, and its result is that of one run."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.app.segmenting.runs import BLOCKS, computed, cut_off, job_of, run, state_of, stored
from tests.nets import save_lively_model
from zarr.storage import LocalStore

from napari_unet.app.job_files import read_record
from napari_unet.app.segment import run_job
from napari_unet.app.segmenting.journal import ledger_path
from napari_unet.core.events import (
    AlreadyDone,
    BlockDone,
    BlockFailed,
    Cancelled,
    Finished,
    JobEvent,
    JobStarted,
    Warned,
)
from napari_unet.errors import InputError, LockedError, OutputExistsError, StorageError
from napari_unet.inference.control import JobControl
from napari_unet.io.ledger import read_ledger
from napari_unet.io.output_state import read_output_state
from napari_unet.io.stored_image import StoredImage

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_unet.core.boxes import Box
    from napari_unet.core.job import SegmentJob


def done_blocks(job: SegmentJob) -> int:
    content = read_ledger(ledger_path(Path(job.output), "found"))
    return 0 if content is None else len(content.done)


def warnings(events: list[Any]) -> str:
    return "\n".join(event.message for event in events if isinstance(event, Warned))


@pytest.fixture
def whole(tmp_path: Path, stack_path: str, model: str) -> dict[str, bytes]:
    """Return the chunks of a run that nothing interrupted."""
    job = job_of(tmp_path, stack_path, model, output=str(tmp_path / "whole.zarr"))
    run(job)
    return stored(job.output)


@pytest.mark.parametrize("blocks", [1, 5, 11, BLOCKS])
def test_it_goes_on_and_the_result_is_that_of_one_run(
    tmp_path: Path, stack_path: str, model: str, whole: dict[str, bytes], blocks: int
) -> None:
    job = job_of(tmp_path, stack_path, model)
    cut_off(job, blocks)
    assert state_of(job) == "incomplete"
    before = done_blocks(job)
    assert blocks <= before <= BLOCKS
    events = run(job)
    assert computed(events) == BLOCKS - before
    assert f"{before} of {BLOCKS} blocks of found are done already" in warnings(events)
    (started,) = (event for event in events if isinstance(event, JobStarted))
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert started.pixels_done + finished.pixels == started.pixels
    assert stored(job.output) == whole
    assert state_of(job) == read_record(tmp_path / "found.unet.json").state == "complete"
    assert isinstance(run(job)[-1], AlreadyDone)


@pytest.mark.parametrize(
    "options",
    [
        {"probabilities": True, "probability_type": "float16"},
        {"shards": True},
        {"ome_version": "0.4", "probabilities": True},
        {"region": "0:3,5:80,20:70"},
        {"rescale": 0.5},
    ],
    ids=str,
)
def test_it_goes_on_with_every_kind_of_output(
    tmp_path: Path, stack_path: str, model: str, options: dict[str, Any]
) -> None:
    uncut = job_of(tmp_path, stack_path, model, output=str(tmp_path / "whole.zarr"), **options)
    run(uncut)
    job = job_of(tmp_path, stack_path, model, **options)
    cut_off(job, 4)
    assert computed(run(job)) < BLOCKS
    assert stored(job.output) == stored(uncut.output)


def test_a_planar_image_goes_on(tmp_path: Path, stack: npt.NDArray[np.uint8], model: str) -> None:
    np.save(tmp_path / "plane.npy", stack[0])
    uncut, job = (
        job_of(tmp_path, str(tmp_path / "plane.npy"), model, axes="yx", output=str(tmp_path / name))
        for name in ("whole.zarr", "cut.zarr")
    )
    run(uncut)
    cut_off(job, 1)
    run(job)
    assert stored(job.output) == stored(uncut.output)


@pytest.mark.parametrize("damage", ["flipped", "empty", "deleted", "another"])
def test_what_was_damaged_since_is_computed_again(
    tmp_path: Path, stack_path: str, model: str, whole: dict[str, bytes], damage: str
) -> None:
    job = job_of(tmp_path, stack_path, model)
    cut_off(job, 5)
    before = done_blocks(job)
    chunk = Path(job.output) / "labels/found/0/c/0/0/1"
    content = bytearray(chunk.read_bytes())
    if damage == "deleted":
        chunk.unlink()
    elif damage == "another":
        array = zarr.open_array(LocalStore(Path(job.output) / "labels/found"), path="0", mode="r+")
        array[0, 3, 60] = 3 - int(array[0, 3, 60])
    else:
        content[len(content) // 2] ^= 4
        chunk.write_bytes(content if damage == "flipped" else b"")
    events = run(job)
    assert computed(events) == BLOCKS - before + 1
    assert "1 blocks were damaged" in warnings(events)
    assert stored(job.output) == whole


def test_leftovers_of_a_crash_are_swept(tmp_path: Path, stack_path: str, model: str) -> None:
    job = job_of(tmp_path, stack_path, model)
    cut_off(job, 2)
    torn = Path(job.output) / "labels/found/0/c/0/0" / f"1.{'ab' * 16}.partial"
    torn.write_bytes(b"torn")
    run(job)
    assert not torn.exists()


def test_without_its_ledger_it_starts_again(
    tmp_path: Path, stack_path: str, model: str, whole: dict[str, bytes]
) -> None:
    job = job_of(tmp_path, stack_path, model)
    cut_off(job, 3)
    ledger_path(Path(job.output), "found").unlink()
    events = run(job)
    assert computed(events) == BLOCKS
    assert "there is no ledger" in warnings(events)
    assert stored(job.output) == whole


def test_a_ledger_of_another_output_is_not_believed(
    tmp_path: Path, stack_path: str, model: str, whole: dict[str, bytes]
) -> None:
    job = job_of(tmp_path, stack_path, model)
    cut_off(job, 3)
    ledger = ledger_path(Path(job.output), "found")
    kept = ledger.read_bytes()
    cut_off(job.model_copy(update={"overwrite": True}), 1)
    ledger.write_bytes(kept)
    events = run(job)
    assert computed(events) == BLOCKS
    assert "is of another output" in warnings(events)
    assert stored(job.output) == whole


def test_other_options_are_refused_with_what_differs(
    tmp_path: Path, stack_path: str, model: str
) -> None:
    job = job_of(tmp_path, stack_path, model)
    cut_off(job, 3)
    before = stored(job.output)
    for options, said in (
        ({"precision": "bf16"}, "precision: fp32 -> bf16"),
        ({"region": "0:2,0:90,0:70"}, "region: "),
        ({"block_size": 64}, "block_size: 48 -> 64"),
    ):
        with pytest.raises(OutputExistsError, match=said):
            run(job.model_copy(update=options))
    assert stored(job.output) == before
    # What does not change the answer may change.
    events = run(job.model_copy(update={"tile_size": 48, "batch_size": 2}))
    assert isinstance(events[-1], Finished)
    assert computed(events) < BLOCKS


def test_an_overwriting_command_goes_on_with_what_it_began(
    tmp_path: Path, stack_path: str, model: str, whole: dict[str, bytes]
) -> None:
    job = job_of(tmp_path, stack_path, model)
    run(job.model_copy(update={"average": "mirror"}))
    again = job.model_copy(update={"overwrite": True})
    cut_off(again, 4)
    before = done_blocks(job)
    events = run(again)
    assert computed(events) == BLOCKS - before < BLOCKS
    assert f"{before} of {BLOCKS} blocks of found are done already" in warnings(events)
    assert stored(job.output) == whole
    # What is complete is replaced.
    assert computed(run(again)) == BLOCKS
    # The plain command goes on with it, too.
    cut_off(again, 4)
    assert computed(run(job)) < BLOCKS
    assert stored(job.output) == whole


def test_an_overwriting_command_replaces_what_others_began(
    tmp_path: Path, stack_path: str, model: str, whole: dict[str, bytes]
) -> None:
    job = job_of(tmp_path, stack_path, model)
    again = job.model_copy(update={"overwrite": True})
    cut_off(job, 4)
    assert computed(run(again)) == BLOCKS
    # Also what the same command began with other options.
    cut_off(again.model_copy(update={"average": "mirror"}), 4)
    assert computed(run(again)) == BLOCKS
    assert stored(job.output) == whole
    cut_off(again, 4)
    ledger = ledger_path(Path(job.output), "found")
    ledger.write_bytes(b"damaged" + ledger.read_bytes())
    with pytest.raises(StorageError, match="--overwrite computes everything"):
        run(job)
    assert computed(run(again)) == BLOCKS
    assert stored(job.output) == whole


def test_an_image_that_was_mended_meanwhile_is_another_one_and_that_is_said(
    tmp_path: Path, stack: npt.NDArray[np.uint8], model: str
) -> None:
    # So few chunks that all of them are looked at to tell images apart.
    root = tmp_path / "stack.zarr"
    array = zarr.create_array(root, shape=stack.shape, chunks=(1, 90, 70), dtype=stack.dtype)
    array[:] = stack
    chunk = root / "c/1/0/0"
    kept = chunk.read_bytes()
    chunk.write_bytes(b"damaged")
    job = job_of(tmp_path, str(root), model, axes="zyx", normalization="100,40")
    with pytest.raises(InputError, match="blocks could not be computed"):
        run(job)
    chunk.write_bytes(kept)
    with pytest.raises(OutputExistsError, match=r"made from another image \(input sha256") as said:
        run(job)
    assert "which of the blocks that are done saw the old one is not known" in str(said.value)
    assert "--overwrite computes all of it anew" in str(said.value)
    assert computed(run(job.model_copy(update={"overwrite": True}))) == BLOCKS


def test_two_runs_on_one_output_are_told_of_each_other(
    tmp_path: Path, stack_path: str, model: str
) -> None:
    job = job_of(tmp_path, stack_path, model)
    first = run_job(job)
    for event in first:
        if isinstance(event, BlockDone):
            break
    with pytest.raises(LockedError, match=f"process {os.getpid()} on"):
        run(job)
    with pytest.raises(LockedError):
        run(job.model_copy(update={"overwrite": True}))
    assert isinstance(list(first)[-1], Finished)


def test_winding_down_drops_nothing(
    tmp_path: Path, stack_path: str, model: str, whole: dict[str, bytes]
) -> None:
    job, control, seen = job_of(tmp_path, stack_path, model), JobControl(), list[JobEvent]()
    for event in run_job(job, control):
        seen.append(event)  # type: ignore[arg-type]  # no objects here
        if isinstance(event, BlockDone):
            control.wind_down()
    assert isinstance(seen[-1], Cancelled)
    assert done_blocks(job) == computed(seen)
    run(job)
    assert stored(job.output) == whole


def test_a_part_of_the_image_that_cannot_be_read_fails_alone_and_is_tried_again(
    tmp_path: Path,
    stack_path: str,
    model: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = StoredImage.read

    def refused(self: StoredImage, box: Box) -> npt.NDArray[Any]:
        # Statistics are taken over all of it.
        if box.start[0] == 1 and box.shape[0] == 1:
            raise InputError("stack.zarr: chunk c/1/0/0 is damaged")
        return read(self, box)

    job, events = job_of(tmp_path, stack_path, model, normalization="100,40"), list[Any]()
    monkeypatch.setattr(StoredImage, "read", refused)
    with pytest.raises(InputError, match=r"4 blocks could not be computed .*c/1/0/0.*8 of 12"):
        events.extend(run_job(job))
    monkeypatch.undo()
    assert state_of(job) == "incomplete"
    assert done_blocks(job) == 8
    again = run(job)
    assert computed(again) == 4
    assert not any(isinstance(event, BlockFailed) for event in again)
    uncut = job.model_copy(update={"output": str(tmp_path / "uncut.zarr")})
    run(uncut)
    assert stored(job.output) == stored(uncut.output)


def test_chunks_that_were_never_written_can_be_refused(
    tmp_path: Path, stack: npt.NDArray[np.uint8], model: str
) -> None:
    root = tmp_path / "stack.zarr"
    array = zarr.create_array(root, shape=stack.shape, chunks=(1, 90, 70), dtype=stack.dtype)
    array[:2] = stack[:2]
    job = job_of(tmp_path, str(root), model, axes="zyx", require_complete=True)
    with pytest.raises(InputError, match="1 chunks of the image were never written"):
        run(job)
    assert not Path(job.output).exists()


def test_a_full_disk_says_how_far_it_came(
    tmp_path: Path, stack_path: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(tmp_path, stack_path, model)
    fsync, count = os.fsync, itertools.count()

    def full(descriptor: int) -> None:
        if next(count) > 60:
            raise OSError(28, os.strerror(28))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        StorageError, match=r"disk is full.*; \d+ of 12 blocks .*; free 1 MB and run"
    ):
        run(job)
    monkeypatch.setattr(os, "fsync", fsync)
    assert isinstance(run(job)[-1], Finished)


class Interrupted(RuleBasedStateMachine):
    """Runs that end anywhere, between them damage; at the end the result is that of one run."""

    @initialize()
    def begin(self) -> None:
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        root = Path(self.folder.name)
        rng = np.random.default_rng(0)
        np.save(root / "image.npy", rng.integers(0, 255, (2, 60, 50)).astype(np.uint8))
        save_lively_model(root / "tiny.safetensors")
        self.job = job_of(
            root, str(root / "image.npy"), str(root / "tiny.safetensors"), axes="zyx", block_size=32
        )
        whole = self.job.model_copy(update={"output": str(root / "whole.zarr")})
        run(whole)
        self.whole = stored(whole.output)
        self.ledger = ledger_path(Path(self.job.output), "found")

    @rule(blocks=st.integers(1, 4))
    def crash(self, blocks: int) -> None:
        cut_off(self.job, blocks)

    @rule(share=st.floats(0, 1))
    def tear_the_ledger(self, share: float) -> None:
        if self.ledger.exists() and state_of(self.job) == "incomplete":
            content = self.ledger.read_bytes()
            header = content.index(b"\n") + 1
            self.ledger.write_bytes(content[: header + int(share * (len(content) - header))])

    @rule(which=st.integers(0, 7), how=st.sampled_from(["flip", "empty", "delete"]))
    def damage(self, which: int, how: str) -> None:
        chunks = sorted((Path(self.job.output) / "labels/found/0").rglob("c/*/*/*"))
        if not chunks or state_of(self.job) == "complete":
            return
        chunk = chunks[which % len(chunks)]
        content = bytearray(chunk.read_bytes())
        if how == "delete":
            chunk.unlink()
        elif content:
            content[which % len(content)] ^= 1
            chunk.write_bytes(content if how == "flip" else b"")

    @rule()
    def finish(self) -> None:
        assert isinstance(run(self.job)[-1], Finished | AlreadyDone)
        assert stored(self.job.output) == self.whole

    @invariant()
    def complete_means_right(self) -> None:
        if hasattr(self, "job") and Path(self.job.output).exists():
            state = read_output_state(self.job.output, "found")
            if state is not None and state.state == "complete":
                assert stored(self.job.output) == self.whole

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()


TestInterrupted = Interrupted.TestCase
TestInterrupted.settings = settings(
    max_examples=6,
    stateful_step_count=6,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
