"""Workers of a scheduler that runs already: who may be reached, and what each worker must see."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import distributed
import pytest
from tests.app.segmenting.runs import BLOCKS, computed, job_of, run, stored
from tests.app.segmenting.test_shards import whole_of

from napari_unet.app.job_files import read_record, record_path
from napari_unet.app.segmenting import joined_workers
from napari_unet.core.events import Finished, JobStarted, Warned
from napari_unet.core.job import SegmentJob
from napari_unet.errors import BackendError, ConfigError, InputError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed import Security

pytestmark = pytest.mark.usefixtures("quick_workers")


@pytest.fixture(scope="module")
def security() -> Security:
    return distributed.Security.temporary()  # type: ignore[no-any-return, no-untyped-call]


@pytest.fixture
def keys(tmp_path: Path, security: Security) -> dict[str, str]:
    """Return the options of a job that names the certificates of the scheduler."""
    return write_keys(tmp_path, security)


def write_keys(folder: Path, security: Security) -> dict[str, str]:
    files = {"tls_ca": "ca_file", "tls_cert": "cert", "tls_key": "key"}
    found = security.get_tls_config_for_role("client")  # type: ignore[no-untyped-call]
    for option, key in files.items():
        (folder / f"{option}.pem").write_text(found[key])
    return {option: str(folder / f"{option}.pem") for option in files}


@contextmanager
def scheduler(folder: Path, security: Security | None, workers: int = 1) -> Iterator[str]:
    """Start a scheduler and workers as an administrator would; gives its address."""
    options: dict[str, Any] = {"dashboard_address": "127.0.0.1:0", "silence_logs": "CRITICAL"}
    if security is None:
        options["protocol"] = "tcp"
    with distributed.LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=workers,
        threads_per_worker=1,
        host="127.0.0.1",
        security=security,
        local_directory=str(folder),
        **options,
    ) as cluster:
        yield cluster.scheduler_address


def test_they_write_what_one_process_writes_and_forget_it(
    tmp_path: Path,
    stack_path: str,
    model: str,
    security: Security,
    keys: dict[str, str],
) -> None:
    whole = whole_of(tmp_path, stack_path, model)
    job = job_of(tmp_path, stack_path, model)
    with scheduler(tmp_path, security) as address:
        there = job.model_copy(update={"scheduler": address, "threads": None, **keys})
        events = run(there)
        with distributed.Client(address, security=security, set_as_default=False) as client:  # type: ignore[no-untyped-call]
            kept = client.run(lambda dask_worker: hasattr(dask_worker, "_napari_unet_block_worker"))
    assert isinstance(events[-1], Finished)
    assert computed(events) == BLOCKS
    assert stored(job.output) == whole
    (started,) = (event for event in events if isinstance(event, JobStarted))
    assert started.device == f"workers of {address} on auto"
    assert read_record(record_path(Path(job.output), "found")).job.scheduler == address
    # Neither probe nor open files are left.
    assert list(Path(job.output).glob(".*")) == []
    assert set(kept.values()) == {False}


PRELOADS = {
    "output": (
        "from pathlib import Path\n"
        "from napari_unet.app.segmenting import block_work, work_order\n"
        "block_work.PROBE_SECONDS = 0.0\n"
        "work_order.WorkOrder.probe = property(lambda self: Path('elsewhere') / self.token)\n"
    ),
    "image": (
        "from napari_unet.app.segmenting import block_work\n"
        "from napari_unet.errors import InputError\n"
        "def plan(job, edge):\n"
        "    raise InputError(f'{job.input}: there is no such file')\n"
        "block_work.plan_segment = plan\n"
    ),
}


@pytest.mark.parametrize(
    ("what", "error", "named"),
    [
        ("output", StorageError, "choose an --output on a file system that all workers share"),
        ("image", InputError, "my stack.zarr: there is no such file"),
    ],
)
def test_a_worker_that_sees_other_files_ends_the_run_and_is_named(
    tmp_path: Path,
    stack_path: str,
    model: str,
    what: str,
    error: type[Exception],
    named: str,
) -> None:
    preload = tmp_path / "preload.py"
    preload.write_text(PRELOADS[what])
    job = job_of(tmp_path, stack_path, model)
    with (
        dask.config.set({"distributed.worker.preload": [str(preload)]}),
        scheduler(tmp_path, None) as address,
        pytest.raises(error, match=named) as raised,
    ):
        run(job.model_copy(update={"scheduler": address}))
    assert f"the worker on {socket.gethostname()}: " in str(raised.value)
    assert list(Path(job.output).glob(".*")) == []


def test_a_scheduler_without_workers_is_not_waited_for_for_ever(
    tmp_path: Path, stack_path: str, model: str
) -> None:
    with (
        dask.config.set({"distributed.scheduler.no-workers-timeout": None}),
        scheduler(tmp_path, None, workers=0) as address,
        dask.config.set({"distributed.scheduler.no-workers-timeout": "2s"}),
        pytest.raises(BackendError, match=rf"no worker was at {address} for 2 s; start some with"),
    ):
        run(job_of(tmp_path, stack_path, model, scheduler=address))


def test_where_nobody_listens_that_is_said(
    tmp_path: Path, stack_path: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joined_workers, "CONNECT_SECONDS", 0.5)
    with pytest.raises(BackendError, match=r"tcp://127.0.0.1:9: no scheduler can be reached"):
        run(job_of(tmp_path, stack_path, model, scheduler="tcp://127.0.0.1:9"))


def test_keys_of_another_authority_are_no_use(
    tmp_path: Path,
    stack_path: str,
    model: str,
    security: Security,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(joined_workers, "CONNECT_SECONDS", 3.0)
    foreign = write_keys(tmp_path, distributed.Security.temporary())  # type: ignore[no-untyped-call]
    with (
        scheduler(tmp_path, security, workers=0) as address,
        pytest.raises(BackendError, match="no scheduler can be reached there"),
    ):
        run(job_of(tmp_path, stack_path, model, scheduler=address, **foreign))


def test_without_certificates_nothing_is_sent(
    tmp_path: Path, stack_path: str, model: str, keys: dict[str, str]
) -> None:
    job = job_of(tmp_path, stack_path, model, scheduler="tls://127.0.0.1:9")
    with pytest.raises(ConfigError, match="needs certificates: give --tls-ca"):
        run(job)
    Path(keys["tls_cert"]).unlink()
    with pytest.raises(ConfigError, match=rf"{keys['tls_cert']}: there is no such file"):
        run(job.model_copy(update=keys))
    assert not Path(job.output).exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"scheduler": "tcp://node7:8786"}, "not encrypted.*--insecure-cluster"),
        ({"scheduler": "tcp://0.0.0.0:8786"}, "not encrypted"),
        ({"scheduler": "http://node7:8786"}, "write tls://HOST:PORT"),
        ({"scheduler": "tls://node7"}, "write tls://HOST:PORT"),
        ({"scheduler": "tcp://127.0.0.1:1", "tls_ca": "a", "tls_cert": "b"}, "for a scheduler at"),
        ({"scheduler": "tls://node7:1", "tls_cert": "b"}, "belong together"),
        ({"scheduler": "tls://node7:1", "workers": 2}, "give workers or scheduler, not both"),
        ({"cluster": "slurm"}, "cluster and jobs belong together"),
        ({"jobs": 2}, "cluster and jobs belong together"),
        ({"cluster": "slurm", "jobs": 2, "shard": "1/2"}, "give shard or cluster, not both"),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SegmentJob.parse({"input": "a", "model": "b", "output": "c"} | options, source="test")


@pytest.mark.parametrize(
    "options",
    [
        {"scheduler": "tcp://127.0.0.1:8786"},
        {"scheduler": "tcp://localhost:8786"},
        {"scheduler": "tcp://[::1]:8786"},
        {"scheduler": "tls://[2001:db8::7]:8786"},
        {"scheduler": "tcp://node7:8786", "insecure_cluster": True},
        {"cluster": "pbs", "jobs": 3},
    ],
    ids=str,
)
def test_who_computes_is_no_part_of_the_job_as_one_process_does_it(options: dict[str, Any]) -> None:
    plain = {"input": "a", "model": "b", "output": "c"}
    job = SegmentJob.parse(plain | options, source="test")
    assert job != job.undivided() == SegmentJob.parse(plain, source="test")
    assert job.computes_elsewhere


def test_plain_connections_to_another_machine_are_warned_of(
    tmp_path: Path, stack_path: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joined_workers, "CONNECT_SECONDS", 0.2)
    job = job_of(
        tmp_path, stack_path, model, scheduler="tcp://192.0.2.1:8786", insecure_cluster=True
    )
    from napari_unet.app.segment import run_job

    events = list[Any]()
    with pytest.raises(BackendError, match="no scheduler can be reached"):
        events.extend(run_job(job))
    assert any(isinstance(e, Warned) and "are not encrypted" in e.message for e in events)
