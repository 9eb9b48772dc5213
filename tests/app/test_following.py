"""A run is followed by its files alone, whoever computes it and wherever."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import zarr
from tests.app.segmenting.runs import BLOCKS, cut_off, job_of, run, stored

from napari_unet.app.finish import run_finish
from napari_unet.app.following import (
    AtWork,
    FollowedRun,
    find_unfinished,
    follow,
    runs_of,
    stop_process,
)
from napari_unet.app.job_files import write_settings_file
from napari_unet.app.segment import run_job
from napari_unet.core.boxes import Box
from napari_unet.core.events import BlockDone
from napari_unet.errors import BackendError, ConfigError, InputError
from napari_unet.io.ledger import Ledger

if TYPE_CHECKING:
    from napari_unet.core.job import SegmentJob

HERE = socket.gethostname()


def followed(job: SegmentJob) -> FollowedRun:
    return follow(Path(job.output), "found")


def test_new_blocks_are_those_that_the_run_says(
    tmp_path: Path, stack_path: str, model: str
) -> None:
    job = job_of(tmp_path, stack_path, model, region="0:3,5:80,20:70")
    cut_off(job, 2)
    look = followed(job)
    assert (look.blocks, look.region) == (BLOCKS, Box((0, 5, 20), (3, 80, 70)))
    assert len(look.classes) > 1
    first = look.look()
    assert first.state == "stopped"
    assert first.blocks_done == len(first.new_blocks) >= 2
    assert not first.at_work
    told: list[Box] = []
    events = run_job(look.job)
    for event in events:
        if not isinstance(event, BlockDone):
            continue
        told.append(event.box)
        if len(told) == 3:
            standing = look.look()
            assert standing.state == "running"
            (at_work,) = standing.at_work
            assert (at_work.pid, at_work.host, at_work.is_here) == (os.getpid(), HERE, True)
            assert at_work.since
            assert set(told) <= set(standing.new_blocks)
            assert not set(standing.new_blocks) & set(first.new_blocks)
            # Nothing is said twice.
            later = look.look().new_blocks
            assert not set(later) & set(standing.new_blocks)
    last = look.look()
    assert (last.state, last.blocks_done, last.at_work) == ("complete", BLOCKS, ())
    array = zarr.open_array(look.labels, mode="r")
    assert np.all(array[look.region.slices] > 0)


def test_the_job_of_a_run_goes_on_with_it(tmp_path: Path, stack_path: str, model: str) -> None:
    uncut = job_of(tmp_path, stack_path, model, output=str(tmp_path / "whole.zarr"))
    run(uncut)
    job = job_of(tmp_path, stack_path, model, overwrite=True)
    cut_off(job, 5)
    ((output, name, recorded),) = find_unfinished(tmp_path)
    assert (output, name, recorded.model) == (Path(job.output), "found", model)
    look = follow(output, name)
    assert look.obstacle is None
    done = look.look().blocks_done
    # A job that was to replace what was there does not replace what it has done itself.
    events = run(look.job)
    assert sum(isinstance(event, BlockDone) for event in events) == BLOCKS - done
    assert stored(job.output) == stored(uncut.output)
    assert not list(find_unfinished(tmp_path))
    assert look.look().state == "complete"


def test_shards_are_followed_together(tmp_path: Path, stack_path: str, model: str) -> None:
    parts = [job_of(tmp_path, stack_path, model, shard=f"{k}/3") for k in (1, 2, 3)]
    run(parts[1])
    look = followed(parts[0])
    assert look.look().blocks_done == BLOCKS // 3
    assert look.shards == 3
    assert look.obstacle is not None
    assert "--shard" in look.obstacle
    cut_off(parts[0], 2)
    before = look.look().blocks_done
    run(parts[0])
    standing = look.look()
    assert len(standing.new_blocks) + before == standing.blocks_done == 2 * BLOCKS // 3
    run(parts[2])
    assert look.look().state == "stopped"
    list(run_finish(parts[0].output))
    last = look.look()
    assert (last.state, last.blocks_done) == ("complete", BLOCKS)
    assert look.obstacle is None


def test_a_run_on_another_computer_is_seen_by_its_lines(
    tmp_path: Path, stack_path: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(tmp_path, stack_path, model)
    monkeypatch.setattr(socket, "gethostname", lambda: "node7")
    cut_off(job, 2)
    monkeypatch.setattr(socket, "gethostname", lambda: HERE)
    look = followed(job)
    # Its past says nothing about now.
    assert look.look().state == "stopped"
    monkeypatch.setattr(socket, "gethostname", lambda: "node7")
    cut_off(job, 2)
    monkeypatch.setattr(socket, "gethostname", lambda: HERE)
    standing = look.look()
    assert standing.state == "running"
    assert standing.at_work[0].host == "node7"
    with pytest.raises(BackendError, match="cannot be stopped from here"):
        stop_process(standing.at_work[0])
    monkeypatch.setattr("napari_unet.app.following.QUIET_SECONDS", 0.0)
    assert look.look().state == "stopped"


def test_an_output_that_begins_anew_is_followed_anew(
    tmp_path: Path, stack_path: str, model: str
) -> None:
    job = job_of(tmp_path, stack_path, model)
    cut_off(job, 6)
    look = followed(job)
    assert look.look().blocks_done >= 6
    other = job_of(tmp_path, stack_path, model, overwrite=True, block_size=96)
    cut_off(other, 1)
    standing = look.look()
    assert look.blocks == 3
    assert standing.blocks_done == len(standing.new_blocks) < 6


def test_a_moved_run_is_found_but_not_gone_on_with(
    tmp_path: Path, stack_path: str, model: str
) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    job = job_of(folder, stack_path, model)
    cut_off(job, 3)
    moved = tmp_path / "elsewhere"
    shutil.move(folder, moved)
    ((output, name),) = runs_of(moved / "found.unet.json")
    assert output == moved / Path(job.output).name
    assert runs_of(output) == [(output, "found")]
    look = follow(output, name)
    assert look.look().blocks_done >= 3
    assert look.obstacle is not None
    assert str(folder) in look.obstacle


def test_what_is_no_run_is_said(tmp_path: Path, stack_path: str, model: str) -> None:
    with pytest.raises(InputError, match="no output of napari-unet"):
        follow(tmp_path / "none.zarr", "found")
    job = job_of(tmp_path, stack_path, model)
    cut_off(job, 1)
    with pytest.raises(ConfigError, match="there are: found"):
        follow(Path(job.output), "lost")
    (tmp_path / "broken.unet.json").write_text("{}")
    assert len(list(find_unfinished(tmp_path))) == 1
    with pytest.raises(ConfigError):
        runs_of(tmp_path / "broken.unet.json")


def test_a_process_that_is_not_ours_is_not_stopped() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        with pytest.raises(BackendError, match="not started as napari-unet"):
            stop_process(AtWork(HERE, process.pid, ""))
        assert process.poll() is None
        process.kill()


def test_a_command_is_followed_stopped_and_killed(
    tmp_path: Path, stack_path: str, model: str
) -> None:
    job = job_of(tmp_path, stack_path, model, tile_size=16, block_size=32)
    config = tmp_path / "job.json"
    write_settings_file(config, job.model_dump(mode="json"))
    words = [sys.executable, "-m", "napari_unet", "segment", "--config", str(config)]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([*words, "--progress", "none"], stdout=subprocess.DEVNULL)

    def wait_for_blocks(more_than: int) -> FollowedRun:
        for _ in range(600):
            try:
                look = followed(job)
                standing = look.look()
                if standing.state == "running" and standing.blocks_done > more_than:
                    return look
            except (ConfigError, InputError):
                pass
            time.sleep(0.02)
        raise AssertionError("no block in time")

    with start() as process:
        look = wait_for_blocks(0)
        (at_work,) = look.look().at_work
        assert at_work.pid == process.pid
        process.send_signal(signal.SIGKILL)
    killed = look.look()
    assert (killed.state, killed.at_work) == ("stopped", ())
    with start() as process:
        look = wait_for_blocks(killed.blocks_done)
        (at_work,) = look.look().at_work
        stop_process(at_work)
        assert process.wait(60) in (0, 130)
    assert look.look().state in ("stopped", "complete")
    with Ledger(look.ledger):
        pass
