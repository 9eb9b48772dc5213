"""Jobs of a batch system compute blocks; they die, never begin, are refused and cancelled."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import psutil
import pytest
from tests.app.segmenting.batch_system import BatchSystem
from tests.app.segmenting.runs import BLOCKS, computed, job_of, run, stored
from tests.app.segmenting.test_shards import whole_of

from napari_unet.app.segment import run_job
from napari_unet.app.segmenting import cluster_jobs, hand_out
from napari_unet.app.segmenting.cluster_jobs import Submission, load_jobqueue
from napari_unet.core.events import BlockDone, Cancelled, Finished, JobStarted, Warned
from napari_unet.errors import BackendError, ConfigError
from napari_unet.inference.control import JobControl

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_unet.core.job import SegmentJob

SETTINGS = {
    "cores": 1,
    "memory": "4GB",
    "processes": 4,
    "walltime": "01:00:00",
    "queue": "gpu",
    "job-extra-directives": ["--gres=gpu:1"],
}


@pytest.fixture
def batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchSystem]:
    """Put a fake batch system in front, and let dask know what its jobs need."""
    # The library copies an example into the user's folder of settings when it is imported.
    monkeypatch.setattr(dask.config, "PATH", str(tmp_path / "dask settings"))
    load_jobqueue()
    system = BatchSystem(tmp_path)
    monkeypatch.setenv("PATH", f"{system.bin}{os.pathsep}{os.environ['PATH']}")
    settings = {f"jobqueue.slurm.{key}": value for key, value in SETTINGS.items()}
    with dask.config.set(settings):
        yield system
    system.end()


def on_cluster(job: SegmentJob, jobs: int = 1) -> SegmentJob:
    return job.model_copy(update={"cluster": "slurm", "jobs": jobs})


def keys_of(job: SegmentJob) -> list[Path]:
    """Return the folders of keys beside an output."""
    return list(Path(job.output).parent.glob(".*.jobs-*"))


def listening(processes: list[psutil.Process]) -> set[tuple[str, int]]:
    """Return where processes listen beyond this machine."""
    found = set()
    for process in processes:
        for item in process.net_connections("inet"):
            if item.status == psutil.CONN_LISTEN and item.laddr.ip not in ("127.0.0.1", "::1"):
                everywhere = item.laddr.ip in ("0.0.0.0", "::")
                found.add(("localhost" if everywhere else item.laddr.ip, item.laddr.port))
    return found


def refuses_strangers(address: tuple[str, int]) -> bool:
    """Return whether what listens at an address answers nobody who has not our keys."""
    with socket.create_connection(address, timeout=10) as plain:
        plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
        try:
            answer = plain.recv(64)
        except ConnectionError:
            answer = b""
    # 21 is an alert of TLS.
    if answer and answer[0] != 21:
        return False
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection(address, timeout=10) as connection,
            context.wrap_socket(connection) as stranger,
        ):
            stranger.settimeout(10)
            return stranger.recv(64) == b""
    except (ssl.SSLError, ConnectionError):
        return True


def test_jobs_write_what_one_process_writes_and_only_they_can_talk(
    tmp_path: Path, stack_path: str, model: str, batch: BatchSystem
) -> None:
    whole = whole_of(tmp_path, stack_path, model)
    job, events = on_cluster(job_of(tmp_path, stack_path, model)), list[Any]()
    addresses, modes, own = set[tuple[str, int]](), set[int](), psutil.Process()
    for event in run_job(job):
        events.append(event)
        if isinstance(event, BlockDone) and not addresses:
            addresses = listening([own, *batch.processes()])
            assert all(map(refuses_strangers, addresses))
            (folder,) = keys_of(job)
            modes = {path.stat().st_mode & 0o077 for path in folder.glob("*.pem")}
            modes.add(folder.stat().st_mode & 0o077)
    assert isinstance(events[-1], Finished)
    assert computed(events) == BLOCKS
    assert stored(job.output) == whole
    (started,) = (event for event in events if isinstance(event, JobStarted))
    assert started.device == "1 slurm job on auto, 1 thread each"
    # Scheduler, nanny and worker were seen, and nobody else may read the keys.
    assert len(addresses) >= 3
    assert modes == {0}
    assert batch.submitted == 1
    assert batch.cancelled == {1}
    assert keys_of(job) == []
    psutil.wait_procs(batch.processes(), timeout=30)
    assert batch.processes() == []
    script = (batch.queue / "1.sh").read_text()
    assert "#SBATCH --gres=gpu:1" in script
    # One worker, which ends before its time is up.
    assert "--nworkers" not in script
    assert "--lifetime 3240s --lifetime-stagger 90s" in script


def test_a_job_that_dies_is_submitted_again(
    tmp_path: Path,
    stack_path: str,
    model: str,
    batch: BatchSystem,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster_jobs, "LOST_SECONDS", 0.1)
    monkeypatch.setattr(cluster_jobs, "RESUBMIT_SECONDS", 0.5)
    monkeypatch.setattr(hand_out, "ANSWER_SECONDS", 2.0)
    whole = whole_of(tmp_path, stack_path, model)
    job, events = on_cluster(job_of(tmp_path, stack_path, model)), list[Any]()
    for event in run_job(job):
        events.append(event)
        if isinstance(event, BlockDone) and batch.submitted == 1:
            batch.kill(1)
    assert isinstance(events[-1], Finished)
    assert computed(events) == BLOCKS
    assert stored(job.output) == whole
    assert batch.submitted == 2


def test_jobs_that_never_begin_are_told_of_and_given_up(
    tmp_path: Path,
    stack_path: str,
    model: str,
    batch: BatchSystem,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster_jobs, "TOLD_AFTER_SECONDS", 1.0)
    batch.be("full")
    job, events = on_cluster(job_of(tmp_path, stack_path, model), 2), list[Any]()
    with (
        dask.config.set({"distributed.scheduler.no-workers-timeout": "4s"}),
        pytest.raises(BackendError, match=r"none of the 2 slurm jobs has run for 4 s.*squeue"),
    ):
        events.extend(run_job(job))
    said = [event.message for event in events if isinstance(event, Warned)]
    assert sum("may wait in the queue" in message for message in said) == 1
    assert batch.cancelled == {1, 2}
    assert keys_of(job) == []


def test_ctrl_c_cancels_jobs_that_wait(
    tmp_path: Path,
    stack_path: str,
    model: str,
    batch: BatchSystem,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster_jobs, "TOLD_AFTER_SECONDS", 1.0)
    batch.be("full")
    control, events = JobControl(), list[Any]()
    for event in run_job(on_cluster(job_of(tmp_path, stack_path, model)), control):
        events.append(event)
        if isinstance(event, Warned) and "Ctrl-C cancels" in event.message:
            control.wind_down()
    assert isinstance(events[-1], Cancelled)
    assert batch.cancelled == {1}


def test_a_job_that_is_refused_is_said_in_the_words_of_the_cluster(
    tmp_path: Path, stack_path: str, model: str, batch: BatchSystem
) -> None:
    batch.be("refuses")
    with pytest.raises(BackendError, match=r"slurm refuses the job: .*invalid partition"):
        run(on_cluster(job_of(tmp_path, stack_path, model)))


def test_where_no_job_can_be_submitted_that_is_said_first(
    tmp_path: Path,
    stack_path: str,
    model: str,
    batch: BatchSystem,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = on_cluster(job_of(tmp_path, stack_path, model))
    with (
        dask.config.set({"jobqueue.slurm.memory": None}),
        pytest.raises(ConfigError, match=r"does not say jobqueue.slurm.memory; .*jobqueue.yaml"),
    ):
        run(job)
    (batch.bin / "sbatch").unlink()
    with pytest.raises(ConfigError, match="there is no sbatch on this machine"):
        run(job)
    assert keys_of(job) == []
    assert not Path(job.output).exists()


def test_without_the_library_it_says_what_to_install(
    tmp_path: Path, stack_path: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(ConfigError, match=r"--cluster needs dask_jobqueue; .*\[distributed\]"):
        run(on_cluster(job_of(tmp_path, stack_path, model)))


def test_the_library_does_not_take_ctrl_c_away(tmp_path: Path) -> None:
    code = (
        "import signal\n"
        "from napari_unet.app.segmenting.cluster_jobs import load_jobqueue\n"
        "before = signal.getsignal(signal.SIGINT)\n"
        "load_jobqueue()\n"
        "print(signal.getsignal(signal.SIGINT) is before)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"DASK_CONFIG": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == "True\n"


def test_the_log_of_a_job_is_quoted(tmp_path: Path) -> None:
    submission = Submission("slurm", 2, tmp_path)
    assert submission.last_words() == ""
    (tmp_path / "1.err").write_text("\n".join(f"line {k}" for k in range(50)))
    words = submission.last_words().splitlines()
    assert words[-1] == "line 49"
    assert len(words) == cluster_jobs.LOG_LINES + 2
