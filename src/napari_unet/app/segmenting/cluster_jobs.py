"""Jobs of a batch system that compute blocks: one worker each, through dask-jobqueue.

What a job asks for (cores, memory, time, GPU, queue) is in dask's own configuration of the cluster.
This process is their scheduler: it must be reached from the nodes, and live until the end. Jobs
that end before are submitted again. All connections are encrypted with keys of this run, which lie
in a folder beside the output that only this user may read, until the run ends.
"""

from __future__ import annotations

import glob
import importlib
import logging
import os
import re
import shlex
import shutil
import signal
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.app.segmenting.crew import (
    LOST_WORKER_TIMEOUT,
    NO_WORKERS_TIMEOUT,
    Crew,
    quiet_settings,
    wanted_patience,
)
from napari_unet.errors import BackendError, ConfigError
from napari_unet.io.output_state import storage_errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_unet.core.job import ClusterKind

QUEUE_PATIENCE_SECONDS = 24 * 3600.0
"""How long a run waits while none of its jobs runs, unless dask's configuration says."""

TOLD_AFTER_SECONDS = 60.0
"""After how long without a running job that is said."""

LOST_SECONDS = 120.0
"""How long a dead worker may take to start again in its job, before that is cancelled."""

RESUBMIT_SECONDS = 15.0
"""How often it is looked whether jobs have ended that are to be submitted again."""

MAX_FRUITLESS = 3
"""How often each job may end before any block is done, until the run gives up."""

LOG_LINES = 12
"""Lines of a job's log that a message quotes."""

QUEUES: dict[str, str] = {
    "slurm": "squeue --me",
    "pbs": "qstat -u $USER",
    "lsf": "bjobs",
    "sge": "qstat",
}
"""What shows a user's jobs."""


class JobsCrew(Crew):
    """Workers in jobs that this process has submitted."""

    shared = True

    def __init__(self, client: Any, cluster: Any, submission: Submission) -> None:
        super().__init__(client, wanted_patience(QUEUE_PATIENCE_SECONDS))
        self._cluster = cluster
        self._submission = submission
        self._told = False
        self._ended = 0
        self._all_submitted = False
        self._looked = time.monotonic()

    def tend(self) -> Iterator[str]:
        """Count the workers, and submit jobs that have ended again; call it now and then.

        Yields
        ------
        str
            What the user should know, in a sentence.

        Raises
        ------
        BackendError
            If no job runs for too long, the cluster refuses them, or they end again and again.
        """
        yield from super().tend()
        submission = self._submission
        if submission.refusals and not self.size:
            raise BackendError(f"{submission.kind} refuses the job: {submission.refusals[0]}")
        if not self.size and not self._told and self.lonely_seconds > TOLD_AFTER_SECONDS:
            self._told = True
            yield (
                f"none of the {submission.jobs} jobs runs yet; they may wait in the queue (see "
                f"{QUEUES[submission.kind]}), and this command waits for them. Ctrl-C cancels "
                f"them{submission.last_words()}"
            )
        if time.monotonic() - self._looked > RESUBMIT_SECONDS:
            self._looked = time.monotonic()
            self._submit_again()

    def note_progress(self) -> None:
        """Take into account that a block came back."""
        self._ended = 0

    def absence(self) -> str:
        """Return what is said when there is no worker for too long: why, and what to do."""
        submission = self._submission
        return (
            f"none of the {submission.jobs} {submission.kind} jobs has run for "
            f"{self.patience:.0f} s and they were cancelled; the queue may be full "
            f"({QUEUES[submission.kind]} shows it): run the same command later, with fewer --jobs, "
            f"or set {NO_WORKERS_TIMEOUT} in dask's configuration to wait longer"
            f"{submission.last_words()}"
        )

    def _submit_again(self) -> None:
        wanted, there = self._submission.jobs, len(self._cluster.workers)
        if there >= wanted:
            self._all_submitted = True
            return
        if self._all_submitted:
            self._ended += wanted - there
            self._all_submitted = False
        if self._ended > MAX_FRUITLESS * wanted:
            raise BackendError(
                f"{self._ended} jobs have ended without finishing a block; look at their logs"
                f"{self._submission.last_words()}"
            )
        self._cluster.scale(jobs=wanted)


class Submission:
    """What is submitted, and what became of that.

    Parameters
    ----------
    kind : str
        Batch system.
    jobs : int
        How many.
    folder : Path
        That of keys and logs.
    """

    def __init__(self, kind: ClusterKind, jobs: int, folder: Path) -> None:
        self.kind = kind
        self.jobs = jobs
        self.folder = folder
        self.refusals: list[str] = []

    def job_class(self) -> Any:
        """Return the job of dask-jobqueue, with paths that may hold spaces, and told refusals.

        Raises
        ------
        ConfigError
            If the command that submits is not on this machine.
        """
        from distributed.core import Status

        module = importlib.import_module(f"dask_jobqueue.{self.kind}")
        base: Any = getattr(module, f"{self.kind.upper()}Job")
        command = shlex.split(base.submit_command)[0]
        if shutil.which(command) is None:
            raise ConfigError(
                f"--cluster {self.kind}: there is no {command} on this machine; run it where jobs "
                "can be submitted, such as the login node"
            )
        folder, refusals = str(self.folder), self.refusals

        class OwnJob(base):  # type: ignore[misc]  # the library is typed in part
            def job_script(self) -> str:
                text: str = super().job_script()
                return text.replace(folder, shlex.quote(folder))

            async def start(self) -> None:
                try:
                    await super().start()
                except (OSError, RuntimeError, ValueError) as error:
                    refusals.append(" ".join(str(error).split()))
                    self.status = Status.running

            async def close(self) -> None:
                await super().close()
                self.status = Status.closed

        return OwnJob

    def last_words(self) -> str:
        """Return the end of the newest log of a job, to be put after a message; may be empty."""
        logs = [p for p in self.folder.glob("*.err") if p.is_file() and p.stat().st_size]
        if not logs:
            return ""
        newest = max(logs, key=lambda path: path.stat().st_mtime_ns)
        lines = newest.read_text(errors="replace").splitlines()[-LOG_LINES:]
        return "\nThe last lines of a job's log:\n" + "\n".join(lines)


@contextmanager
def submitted_jobs(kind: ClusterKind, jobs: int, ledger: Path) -> Iterator[JobsCrew]:
    """Submit jobs in which workers run, and cancel them afterwards.

    Parameters
    ----------
    kind : {"slurm", "pbs", "lsf", "sge"}
        Batch system.
    jobs : int
        How many jobs.
    ledger : Path
        Of the run, locked by this process; keys lie beside it for the time of the run.

    Raises
    ------
    ConfigError
        If dask's configuration does not say what a job needs, or jobs cannot be submitted here.
    BackendError
        If the scheduler cannot be started.
    """
    import dask
    import distributed

    library: Any = distributed
    jobqueue = load_jobqueue()
    lost = {LOST_WORKER_TIMEOUT: f"{LOST_SECONDS}s"}
    with _own_folder(ledger) as folder, dask.config.set(lost):
        submission = Submission(kind, jobs, folder)
        cores = required_cores(kind)
        settings = quiet_settings(cores)
        try:
            with dask.config.set(settings):
                cluster = jobqueue.JobQueueCluster(
                    job_cls=submission.job_class(), **_cluster_options(kind, folder, settings)
                )
        except (OSError, RuntimeError, ValueError) as error:
            if isinstance(error, ConfigError):
                raise
            raise BackendError(f"--cluster {kind}: no jobs can be submitted: {error}") from error
        with cluster, library.Client(cluster, set_as_default=False) as client:
            cluster.scale(jobs=jobs)
            yield JobsCrew(client, cluster, submission)


def load_jobqueue() -> Any:
    """Return dask-jobqueue, loaded so that this process goes on to obey Ctrl-C in its own way.

    Raises
    ------
    BackendError
        If it cannot be loaded here.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        # It lets Ctrl-C end the process, without a word and with the exit code 0.
        library = importlib.import_module("dask_jobqueue")
    except ValueError as error:
        raise BackendError(
            f"dask_jobqueue cannot be loaded ({error}); import it in the main thread first"
        ) from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, before)
    return library


def required_cores(kind: str) -> int:
    """Return the cores of a job; refuse a configuration that does not say what a job needs."""
    import dask

    missing = [
        key
        for key in ("cores", "memory")
        if dask.config.get(f"jobqueue.{kind}.{key}", None) is None
    ]
    if missing:
        named = " and ".join(f"jobqueue.{kind}.{key}" for key in missing)
        raise ConfigError(
            f"--cluster {kind}: dask's configuration does not say {named}; write what a job needs "
            f"into {dask.config.PATH}/jobqueue.yaml"
        )
    return int(dask.config.get(f"jobqueue.{kind}.cores"))


def _cluster_options(kind: str, folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of the cluster: what dask's configuration says, and what must be."""
    import dask

    def configured(key: str, default: Any) -> Any:
        return dask.config.get(f"jobqueue.{kind}.{key}", None) or default

    arguments = [str(word) for word in configured("worker-extra-args", [])]
    # Profiles of a worker are for it alone: on all addresses everybody could read them.
    arguments += ["--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
    seconds = parse_walltime(str(configured("walltime", "")))
    if seconds is not None and "--lifetime" not in arguments:
        # Before it is cut off a worker takes no more blocks.
        margin = ending_margin(seconds)
        arguments += ["--lifetime", f"{seconds - margin:.0f}s"]
        arguments += ["--lifetime-stagger", f"{margin / 4:.0f}s"]
    scheduler = {**configured("scheduler-options", {}), "dashboard_address": "127.0.0.1:0"}
    scheduler |= {"dashboard": False, "protocol": "tls://"}
    # The keys are those of the cluster, never those of the configuration.
    scheduler.pop("security", None)
    logs = {"log_directory": str(folder)} if kind == "slurm" else {}
    return {
        **({} if configured("log-directory", None) else logs),
        "name": "napari-unet",
        "processes": 1,
        "protocol": "tls://",
        "security": _keys_in(folder),
        "scheduler_options": scheduler,
        "worker_extra_args": arguments,
        "job_script_prologue": [*configured("job-script-prologue", []), *_exports(settings)],
        "silence_logs": logging.CRITICAL,
    }


def _keys_in(folder: Path) -> Any:
    """Return new keys that lie in files of a folder, where jobs find them."""
    import distributed

    library: Any = distributed
    made = library.Security.temporary().get_tls_config_for_role("worker")
    files = {key: folder / f"{key}.pem" for key in ("ca_file", "cert", "key")}
    for key, path in files.items():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(made[key])
    own = {"tls_ca_file": str(files["ca_file"])}
    for role in ("client", "scheduler", "worker"):
        own |= {f"tls_{role}_{key}": str(files[key]) for key in ("cert", "key")}
    return library.Security(require_encryption=True, **own)


def _exports(settings: dict[str, Any]) -> list[str]:
    """Return lines of a shell that tell dask its settings in a job."""
    lines = []
    for key, value in settings.items():
        if not key.startswith("distributed.scheduler."):
            name = key.upper().replace(".", "__").replace("-", "_")
            lines.append(f"export DASK_{name}={shlex.quote(repr(value))}")
    return lines


def parse_walltime(text: str) -> float | None:
    """Return the seconds of a time limit as batch systems write it; None if it is none of these.

    Examples
    --------
    >>> [parse_walltime(text) for text in ("00:30:00", "2-12:00:00", "00:30", "45", "")]
    [1800.0, 216000.0, 1800.0, 2700.0, None]
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text.strip())
    if match is None:
        return None
    days, *parts = match.groups()
    first, second, third = (int(part) if part else 0 for part in parts)
    if days is not None or parts[2] is not None:
        hours, minutes, seconds = first, second, third
    elif parts[1] is not None:
        # As LSF writes it; Slurm would take it for minutes and seconds, which is shorter.
        hours, minutes, seconds = first, second, 0
    else:
        hours, minutes, seconds = 0, first, 0
    return float(int(days or 0) * 86400 + hours * 3600 + minutes * 60 + seconds)


def ending_margin(walltime: float) -> float:
    """Return how many seconds before its time limit a worker takes no more blocks.

    Examples
    --------
    >>> [ending_margin(seconds) for seconds in (60.0, 1800.0, 86400.0)]
    [30.0, 180.0, 600.0]
    """
    return min(max(60.0, walltime / 10), 600.0, walltime / 2)


@contextmanager
def _own_folder(ledger: Path) -> Iterator[Path]:
    """Make a folder that only this user may read, beside a ledger whose lock is held."""
    stem = f".{ledger.name}.jobs-"
    with storage_errors(f"{ledger.parent}: the folder for keys of jobs cannot be made"):
        for old in ledger.parent.glob(f"{glob.escape(stem)}????????"):
            # Whoever made it is dead: this process holds the lock.
            shutil.rmtree(old, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=stem, dir=ledger.parent)).absolute()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
