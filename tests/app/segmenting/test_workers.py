"""Worker processes write what one process writes, also where some of them die."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
import psutil
import pytest
from tests.app.segmenting.conftest import METHOD
from tests.app.segmenting.runs import BLOCKS, computed, job_of, run, state_of, stored
from tests.app.segmenting.test_shards import whole_ledger, whole_of

import napari_unet
from napari_unet.app.job_files import command_line, read_record, record_path
from napari_unet.app.segment import run_job
from napari_unet.app.segmenting.block_work import own_device
from napari_unet.app.segmenting.local_workers import sweep_scratch, usable_cores
from napari_unet.core.events import (
    BlockDone,
    BlockFailed,
    Cancelled,
    Finished,
    JobStarted,
    TileDone,
    Warned,
)
from napari_unet.core.job import SegmentJob
from napari_unet.errors import ConfigError, InputError, StorageError
from napari_unet.inference.control import JobControl
from napari_unet.io.ledger import read_ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

pytestmark = pytest.mark.usefixtures("quick_workers")

POISON = """
import os, pathlib, signal
from napari_unet.app.segmenting import block_work
# A preload may be executed twice.
block_work.healthy = getattr(block_work, "healthy", block_work.BlockWorker.compute)

def poisoned(self, index):
    mark = pathlib.Path({mark!r})
    if index == {index!r} and len(list(mark.iterdir())) < {times}:
        (mark / str(os.getpid())).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return block_work.healthy(self, index)

block_work.BlockWorker.compute = poisoned
"""


@pytest.fixture
def poison(tmp_path: Path) -> Callable[[tuple[int, ...], int], Any]:
    """Return what lets a block end its worker so many times."""

    def prepare(index: tuple[int, ...], times: int) -> Any:
        mark, preload = tmp_path / "deaths", tmp_path / "poison.py"
        mark.mkdir()
        preload.write_text(POISON.format(mark=str(mark), index=index, times=times))
        return dask.config.set({"distributed.worker.preload": [str(preload)]})

    return prepare


def with_workers(job: SegmentJob, workers: int = 2) -> SegmentJob:
    return job.model_copy(update={"workers": workers})


def collect(job: SegmentJob, events: list[Any]) -> None:
    """Run a job and keep its events, also where it raises in the end."""
    events.extend(run_job(job))


def done_blocks(job: SegmentJob) -> int:
    content = read_ledger(whole_ledger(job))
    return 0 if content is None else len(content.done)


def listening() -> list[str]:
    """Return the addresses that this process and its children listen on."""
    own = psutil.Process()
    return [
        connection.laddr.ip
        for process in (own, *own.children(recursive=True))
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]


def test_two_workers_write_what_one_process_writes(
    tmp_path: Path, stack_path: str, model: str
) -> None:
    options = {"probabilities": True, "region": "0:3,5:90,0:70"}
    whole = whole_of(tmp_path, stack_path, model, **options)
    job, events, addresses = job_of(tmp_path, stack_path, model, **options), list[Any](), set()
    # As it is outside of tests.
    with dask.config.set({METHOD: "spawn"}):
        for event in run_job(with_workers(job)):
            events.append(event)
            if isinstance(event, BlockDone):
                addresses.update(listening())
    assert isinstance(events[-1], Finished)
    assert stored(job.output) == whole
    assert computed(events) == BLOCKS
    (started,) = (event for event in events if isinstance(event, JobStarted))
    tiles = [event for event in events if isinstance(event, TileDone)]
    assert tiles[-1].tiles_done == started.tiles
    assert tiles[-1].pixels_done == started.pixels
    assert started.device == "2 workers on cpu, 1 thread each"
    assert addresses == {"127.0.0.1"}
    provenance = read_record(record_path(Path(job.output), "found")).provenance
    assert (provenance["workers"], provenance["threads"]) == (2, 1)
    assert not [line for line in commands_of_children() if "spawn" in line]


def commands_of_children() -> list[str]:
    """Return the command lines of the processes that this one has started and that live."""
    found = []
    for child in psutil.Process().children():
        # One may end, or be dead already, while it is looked at.
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append(" ".join(child.cmdline()))
    return found


def test_a_block_whose_worker_died_is_computed_again(
    tmp_path: Path,
    stack_path: str,
    model: str,
    poison: Callable[[tuple[int, ...], int], Any],
) -> None:
    whole = whole_of(tmp_path, stack_path, model)
    job = job_of(tmp_path, stack_path, model)
    with poison((1, 0, 1), 1):
        events = run(with_workers(job))
    assert isinstance(events[-1], Finished)
    assert len(list((tmp_path / "deaths").iterdir())) == 1
    assert any(isinstance(e, Warned) and "a worker ended" in e.message for e in events)
    assert stored(job.output) == whole


def test_a_block_that_always_ends_its_worker_fails_alone(
    tmp_path: Path,
    stack_path: str,
    model: str,
    poison: Callable[[tuple[int, ...], int], Any],
) -> None:
    whole = whole_of(tmp_path, stack_path, model)
    job, events = job_of(tmp_path, stack_path, model), list[Any]()
    with (
        poison((1, 0, 1), 99),
        pytest.raises(InputError, match=rf"1 blocks could not .*3 workers ended.*{BLOCKS - 1} of"),
    ):
        collect(with_workers(job), events)
    assert len(list((tmp_path / "deaths").iterdir())) == 3
    (failed,) = (event for event in events if isinstance(event, BlockFailed))
    assert failed.box.start == (1, 0, 48)
    assert done_blocks(job) == BLOCKS - 1
    assert state_of(job) == "incomplete"
    # Another run goes on with what is missing.
    assert computed(run(job)) == 1
    assert stored(job.output) == whole


def test_winding_down_lets_workers_finish_their_blocks(
    tmp_path: Path, stack_path: str, model: str
) -> None:
    whole = whole_of(tmp_path, stack_path, model)
    job, control, events = job_of(tmp_path, stack_path, model), JobControl(), list[Any]()
    for event in run_job(with_workers(job), control):
        events.append(event)
        if isinstance(event, BlockDone):
            control.wind_down()
    assert isinstance(events[-1], Cancelled)
    assert 1 <= done_blocks(job) == computed(events) < BLOCKS
    run(job)
    assert stored(job.output) == whole


def _run_in_process(values: dict[str, Any]) -> None:
    os.setsid()
    for _ in run_job(SegmentJob.parse(values, source="test")):
        pass


def test_workers_end_with_the_process_that_started_them(
    tmp_path: Path, stack_path: str, model: str
) -> None:
    whole = whole_of(tmp_path, stack_path, model, block_size=16, tile_size=16)
    job = job_of(tmp_path, stack_path, model, block_size=16, tile_size=16)
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_run_in_process, args=(with_workers(job).model_dump(),))
    process.start()
    while not done_blocks(job):
        process.join(0.02)
        assert process.is_alive()
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.join()
    assert psutil.wait_procs(children, timeout=30)[1] == []
    run(job)
    assert stored(job.output) == whole


def test_ctrl_c_reaches_all_processes_and_drops_no_block(
    tmp_path: Path, stack_path: str, model: str
) -> None:
    job = job_of(tmp_path, stack_path, model, block_size=16, tile_size=16)
    words = [sys.executable, "-m", "napari_unet", *command_line(with_workers(job))[1:]]
    process = subprocess.Popen(
        [*words, "--progress", "json"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        # A terminal sends its signals to a whole process group.
        start_new_session=True,
    )
    with process:
        assert process.stdout is not None
        events = [json.loads(line)["event"] for line in _until_begun(process, process.stdout)]
    assert process.returncode == 130
    assert events[-1] == "cancelled"
    assert "block_failed" not in events
    assert done_blocks(job) == events.count("block_done")
    assert isinstance(run(job)[-1], Finished)
    assert stored(job.output) == whole_of(tmp_path, stack_path, model, block_size=16, tile_size=16)


def _until_begun(process: subprocess.Popen[str], lines: Iterable[str]) -> Iterator[str]:
    """Yield what a process prints; interrupt its group after the first block."""
    interrupted = False
    for line in lines:
        yield line
        if '"block_done"' in line and not interrupted:
            interrupted = True
            os.killpg(process.pid, signal.SIGINT)


def test_damage_of_the_image_fails_its_block_only(
    tmp_path: Path, stack_path: str, model: str
) -> None:
    (Path(stack_path) / "c/1/0/0").write_bytes(b"damaged")
    job = job_of(tmp_path, stack_path, model, normalization="100,40")
    with pytest.raises(InputError, match="blocks could not be computed"):
        run(with_workers(job))
    content = read_ledger(whole_ledger(job))
    assert content is not None
    assert content.failed
    assert all("c/1/0/0" in cause for cause in content.failed.values())
    assert len(content.done) + len(content.failed) == BLOCKS


def test_what_ends_the_run_in_a_worker_ends_it_here(
    tmp_path: Path, stack_path: str, model: str
) -> None:
    job, preload = job_of(tmp_path, stack_path, model), tmp_path / "full.py"
    preload.write_text(
        "import errno, os\n"
        "def full(descriptor):\n"
        "    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))\n"
        "os.fsync = full\n"
    )
    with (
        dask.config.set({"distributed.worker.preload": [str(preload)]}),
        pytest.raises(StorageError, match=r"0 of 12 blocks are done and kept; free .* and run"),
    ):
        run(with_workers(job))


def test_without_the_library_it_says_what_to_install(
    tmp_path: Path, stack_path: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match=r"napari-unet\[distributed\]"):
        run(with_workers(job_of(tmp_path, stack_path, model)))
    assert not (tmp_path / "out put.zarr").exists()


def test_workers_of_a_shard_are_refused() -> None:
    values = {"input": "a", "model": "b", "output": "c", "shard": "1/2", "workers": 2}
    with pytest.raises(ConfigError, match="shard or workers, not both"):
        SegmentJob.parse(values, source="test")


def test_arrays_in_memory_have_no_workers(model: str) -> None:
    with pytest.raises(ConfigError, match="use run_job"):
        napari_unet.segment(np.zeros((20, 30), np.uint8), model, workers=2)


SMALL_MEMORY = """
import torch
from napari_unet.model.unet import UNet
UNet.healthy = getattr(UNet, "healthy", UNet.forward)

def limited(net, image):
    if image.shape[0] > 1:
        raise torch.OutOfMemoryError("CUDA out of memory")
    return UNet.healthy(net, image)

UNet.forward = limited
"""


def test_what_fits_a_worker_is_remembered_here(
    tmp_path: Path, stack_path: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, preload = tmp_path / "cache", tmp_path / "small.py"
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: cache)
    preload.write_text(SMALL_MEMORY)
    job = job_of(tmp_path, stack_path, model, batch_size=2)
    with dask.config.set({"distributed.worker.preload": [str(preload)]}):
        events = run(with_workers(job, 1))
    assert isinstance(events[-1], Finished)
    assert sum(isinstance(e, Warned) and "with 1 tile at once" in e.message for e in events) == 1
    (known,) = json.loads((cache / "device-memory.json").read_bytes())["fits"]
    assert known["fit"] == {"tile_edge": 32, "batch_size": 1}
    provenance = read_record(record_path(Path(job.output), "found")).provenance
    assert provenance["batch_size"] == 1
    assert provenance["shrunk_from"] == {"tile_shape": [1, 32, 32], "batch_size": 2}


def test_folders_of_killed_runs_are_swept_and_no_others(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    host = socket.gethostname()
    names = {
        f"napari-unet-workers-{host}-{dead.pid}-ab12cd_4": True,
        f"napari-unet-workers-{host}-{os.getpid()}-ab12cd_4": False,
        f"napari-unet-workers-{host}2-{dead.pid}-ab12cd_4": False,
        "napari-unet-workers-older": False,
    }
    for name in names:
        (tmp_path / name / "dask-scratch-space").mkdir(parents=True)
    swept = sweep_scratch(tmp_path)
    assert {name: tmp_path / name in swept for name in names} == names
    assert {name: not (tmp_path / name).exists() for name in names} == names


def test_each_worker_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert [own_device("auto", k) for k in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert own_device("cuda:1", 0) == "cuda:1"
    assert own_device("cpu", 1) == "cpu"


def test_cores_are_those_that_this_process_may_use() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
