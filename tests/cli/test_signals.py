"""Ctrl-C and SIGTERM, sent to real processes: once, twice, three times."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from tests.app.segmenting.runs import stored
from tests.segmentations import smooth_chances, write_segmentation

from napari_unet.app.segment import run_job
from napari_unet.app.segmenting.journal import ledger_path
from napari_unet.cli.main import app
from napari_unet.cli.progress import MessageReporter
from napari_unet.core.events import BlockDone, Finished
from napari_unet.core.job import SegmentJob
from napari_unet.io.ledger import read_ledger
from napari_unet.io.output_state import read_output_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SLOW = """
import sys, time
from napari_unet.model.unet import UNet
quick, pauses = UNet.forward, [float(word) for word in sys.argv[1].split(",")]
def slow(net, image):
    time.sleep(pauses.pop(0) if len(pauses) > 1 else pauses[0])
    return quick(net, image)
UNet.forward = slow
from napari_unet.cli.main import app
app(sys.argv[2:])
"""
"""The command with a network that takes so many seconds for each of its tiles."""

BLOCKS, TILES_PER_BLOCK = 3 * 2 * 2, 16
BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@pytest.fixture
def job(tmp_path: Path, stack_path: str, model: str) -> SegmentJob:
    return SegmentJob(
        input=stack_path,
        model=model,
        output=str(tmp_path / "out.zarr"),
        name="found",
        block_size=64,
        tile_size=16,
        device="cpu",
        threads=1,
    )


@contextmanager
def started(job: SegmentJob, pauses: str) -> Iterator[subprocess.Popen[str]]:
    """Run a job as a command of its own."""
    words = ["segment", job.input, "--model", job.model, "--output", job.output, "--name", "found"]
    words += ["--block-size", "64", "--tile-size", "16", "--device", "cpu", "--threads", "1"]
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, pauses, *words, "--progress", "json"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def heard(process: subprocess.Popen[str], name: str, times: int = 1) -> None:
    """Wait until a process has said something so many times."""
    assert process.stdout is not None
    for line in process.stdout:
        times -= json.loads(line)["event"] == name
        if not times:
            return
    pytest.fail(f"the process ended without saying {name}")


def rest(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    assert process.stdout is not None
    return [json.loads(line) for line in process.stdout]


def done_blocks(job: SegmentJob) -> int:
    content = read_ledger(ledger_path(Path(job.output), "found"))
    return 0 if content is None else len(content.done)


def assert_the_rest_follows(job: SegmentJob) -> None:
    """The same job computes what is not done, and the result is that of one run."""
    state = read_output_state(job.output, "found")
    assert state is not None
    assert state.state == "incomplete"
    before = done_blocks(job)
    events = list(run_job(job))
    assert isinstance(events[-1], Finished)
    assert sum(isinstance(event, BlockDone) for event in events) == BLOCKS - before
    whole = job.model_copy(update={"output": str(Path(job.output).with_name("whole.zarr"))})
    list(run_job(whole))
    assert stored(job.output) == stored(whole.output)


@BOTH
def test_the_first_finishes_the_blocks_that_were_begun(job: SegmentJob, number: int) -> None:
    with started(job, "0.02") as process:
        heard(process, "tile_done", 3)
        process.send_signal(number)
        events = rest(process)
        assert process.wait(30) == 130
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert events[-1]["event"] == "cancelled"
    done = sum(event["event"] == "block_done" for event in events)
    # One is computed, and of the next one tiles are read ahead.
    assert 1 <= done <= 2
    assert done_blocks(job) == done
    assert events[-1]["tiles"] == 3 * 6 * 5
    sizes = [event["pixels_done"] for event in events if event["event"] == "tile_done"]
    assert sizes[-1] in (64 * 64, 64 * 64 + 64 * 6), "whole blocks only"
    assert_the_rest_follows(job)


def test_a_second_one_drops_the_block(job: SegmentJob) -> None:
    with started(job, "0.1") as process:
        heard(process, "tile_done", 2)
        process.send_signal(signal.SIGTERM)
        heard(process, "tile_done", 2)
        process.send_signal(signal.SIGTERM)
        events = rest(process)
        assert process.wait(30) == 130
    assert events[-1]["event"] == "cancelled"
    assert 4 <= events[-1]["tiles_done"] < TILES_PER_BLOCK
    assert not any(event["event"] == "block_done" for event in events)
    assert done_blocks(job) == 0
    assert_the_rest_follows(job)


def test_a_third_one_ends_the_process_at_once(job: SegmentJob) -> None:
    pauses = ",".join(["0"] * 20 + ["100"])
    with started(job, pauses) as process:
        heard(process, "tile_done", 18)
        began = time.monotonic()
        for _ in range(3):
            # One at a time: the system joins those that wait.
            time.sleep(0.3)
            process.send_signal(signal.SIGTERM)
        assert process.wait(30) == -signal.SIGTERM
        assert time.monotonic() - began < 10
    assert done_blocks(job) in (1, 2)
    assert_the_rest_follows(job)


def call(*words: str) -> int:
    """Run the command in this process and return its exit code."""
    with pytest.raises(SystemExit) as ended:
        app([*words, "--progress", "auto"])
    return int(ended.value.code or 0)


def send_at(
    monkeypatch: pytest.MonkeyPatch, number: int, moment: Callable[[Any], bool]
) -> list[str]:
    """Let this process get a signal when the first event comes that fits; return all names."""
    seen: list[str] = []
    sent: list[Any] = []

    def show(self: MessageReporter, event: Any) -> None:
        seen.append(type(event).__name__)
        if not sent and moment(event):
            sent.append(event)
            os.kill(os.getpid(), number)

    monkeypatch.setattr(MessageReporter, "show", show)
    return seen


@BOTH
def test_a_job_at_its_end_is_done_in_spite_of_a_signal(
    tmp_path: Path, stack_path: str, model: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [stack_path, "--model", model, "--output", str(tmp_path / "out.zarr")]
    seen = send_at(monkeypatch, number, lambda event: getattr(event, "stage", "") == "finishing")
    assert call("segment", *words) == 0
    assert seen[-1] == "Finished"


def test_the_other_images_of_a_command_are_left_out(
    tmp_path: Path, stack_path: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((20, 20), np.uint8))
    words = [stack_path, str(tmp_path / "b.tif"), "--model", model, "--output", str(tmp_path / "o")]
    seen = send_at(
        monkeypatch, signal.SIGTERM, lambda event: getattr(event, "stage", "") == "finishing"
    )
    assert call("segment", *words) == 130
    assert seen.count("Finished") == 1
    assert not (tmp_path / "o/b.zarr").exists()


@BOTH
def test_objects_stop_at_the_first(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.zarr"
    write_segmentation(out, smooth_chances(0, (3, 40, 50), 2), ("interior", "membrane"))
    seen = send_at(monkeypatch, number, lambda event: type(event).__name__ == "ObjectsStarted")
    assert call("objects", str(out), "--block-size", "16") == 130
    assert seen[-1] == "ObjectsCancelled"


def test_objects_behind_a_segmentation_stop_at_the_first(
    tmp_path: Path, stack_path: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [stack_path, "--model", model, "--output", str(tmp_path / "out.zarr")]
    seen = send_at(
        monkeypatch, signal.SIGTERM, lambda event: type(event).__name__ == "ObjectsStarted"
    )
    assert call("segment", *words, "--output-kind", "instances") == 130
    assert seen[-1] == "ObjectsCancelled"


@BOTH
def test_a_training_stops_at_the_first(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    rng = np.random.default_rng(0)
    inside = rng.integers(0, 2, (2, 6, 6), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    image = (90 * inside + rng.normal(60, 9, inside.shape)).clip(0, 255).astype(np.uint8)
    tifffile.imwrite(tmp_path / "image.tif", image)
    tifffile.imwrite(tmp_path / "labels.tif", inside * 255)
    settings = "threads = 1\n[network]\nbase_channels = 4\ndepth = 2\n[sampler]\noutput_edge = 24\n"
    (tmp_path / "tiny.toml").write_text(settings)
    words = ["--config", str(tmp_path / "tiny.toml"), "--image", str(tmp_path / "image.tif")]
    words += ["--axes", "zyx", "--labels", str(tmp_path / "labels.tif"), "--label-kind", "classes"]
    words += ["--class-values", "0=out,255=in", "--validation", "none", "--steps", "500"]
    words += ["--output", str(tmp_path / "net.safetensors")]
    seen = send_at(monkeypatch, number, lambda event: type(event).__name__ == "StepDone")
    assert call("train", *words) == 130
    assert seen.count("StepDone") <= 2
