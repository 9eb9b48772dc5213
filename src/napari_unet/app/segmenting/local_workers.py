"""Worker processes on this machine."""

from __future__ import annotations

import logging
import os
import re
import shutil
import socket
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.app.segmenting.crew import LOST_WORKER_TIMEOUT, WINDOW, Crew, quiet_settings
from napari_unet.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Iterator

SLOTS = 2
"""Blocks that a worker has at hand: while it computes one, it reads or stores the other."""

RESTART_SECONDS = 240.0
"""How long a dead worker may take to start again; on a busy machine a minute is not unheard of."""

SCRATCH = "napari-unet-workers"
"""What folders of workers in the system's folder for temporary files begin with."""


class LocalCrew(Crew):
    """Workers that this process has started; a dead one is started again by its nanny."""

    workers = 1

    @property
    def window(self) -> int:
        """How many blocks may be under way at once, also while a worker starts again."""
        return WINDOW * self.workers


@contextmanager
def started_workers(workers: int, threads: int) -> Iterator[LocalCrew]:
    """Start worker processes, and end them afterwards.

    Nobody else can give them work: they listen on the loopback address, and to those only who have
    the keys of this run.

    Parameters
    ----------
    workers : int
        How many.
    threads : int
        CPU threads of each.

    Raises
    ------
    BackendError
        If they cannot be started.
    """
    import dask
    import distributed

    library: Any = distributed
    sweep_scratch()
    with (
        tempfile.TemporaryDirectory(prefix=_scratch_prefix()) as scratch,
        # Its nanny starts a dead worker again; dask would end that one after 15 s.
        dask.config.set({LOST_WORKER_TIMEOUT: f"{RESTART_SECONDS}s"}),
    ):
        try:
            with dask.config.set(quiet_settings(threads)):
                cluster = library.LocalCluster(
                    n_workers=workers,
                    threads_per_worker=SLOTS,
                    processes=True,
                    host="127.0.0.1",
                    security=library.Security.temporary(),
                    dashboard_address="127.0.0.1:0",
                    scheduler_kwargs={"dashboard": False},
                    silence_logs=logging.CRITICAL,
                    local_directory=scratch,
                )
        except (OSError, RuntimeError, TimeoutError) as error:
            raise BackendError(
                f"{workers} workers could not be started: {error}; try fewer --workers, or none"
            ) from error
        with cluster, library.Client(cluster, set_as_default=False) as client:
            client.register_plugin(_deaf_plugin())
            crew = LocalCrew(client, RESTART_SECONDS)
            crew.workers = workers
            yield crew


def sweep_scratch(folder: Path | None = None) -> list[Path]:
    """Delete folders of workers whose process was killed on this machine; return which.

    Parameters
    ----------
    folder : Path or None
        Where to look; None = the system's folder for temporary files.
    """
    import psutil  # type: ignore[import-untyped]  # it has no annotations

    swept = []
    own = re.compile(rf"{SCRATCH}-{re.escape(socket.gethostname())}-(\d+)-\w+")
    for path in sorted((folder or Path(tempfile.gettempdir())).glob(f"{SCRATCH}-*")):
        match = own.fullmatch(path.name)
        if match and not psutil.pid_exists(int(match.group(1))):
            # Another user's, or one that is being deleted: it stays.
            shutil.rmtree(path, ignore_errors=True)
            swept += [] if path.exists() else [path]
    return swept


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _scratch_prefix() -> str:
    return f"{SCRATCH}-{socket.gethostname()}-{os.getpid()}-"


def _deaf_plugin() -> Any:
    """Return what lets workers ignore the signals of the terminal.

    Ctrl-C reaches all processes of a terminal; who ends the workers is the process that has started
    them, when they have finished their blocks.
    """
    import signal

    from distributed import WorkerPlugin

    class Deaf(WorkerPlugin):
        name = "napari-unet-deaf"

        def setup(self, worker: Any) -> None:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)

    return Deaf()
