"""The workers that a run has, as far as the process that hands out blocks looks after them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeAlias

from napari_unet.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Iterator

Client: TypeAlias = Any
"""That of `distributed`, which is installed with an extra only, and typed in part."""

WINDOW = 3
"""Blocks under way per worker, with one that waits for it."""

PATIENCE_SECONDS = 60.0
"""How long a run waits for a worker when there is none."""

NO_WORKERS_TIMEOUT = "distributed.scheduler.no-workers-timeout"
"""Setting of dask by which a user says how long to wait for workers."""

LOST_WORKER_TIMEOUT = "distributed.deploy.lost-worker-timeout"
"""Setting of dask: after how long a worker that has died, and did not come back, is given up."""


class Crew:
    """Workers, and what is to be done about them while they work.

    Parameters
    ----------
    client : distributed.Client
        Connected to their scheduler.
    patience : float
        Seconds without any worker after which the run ends.
    """

    shared = False
    """Whether workers may be on other machines."""

    def __init__(self, client: Client, patience: float = PATIENCE_SECONDS) -> None:
        self.client = client
        self.size = 0
        self.patience = patience
        self._last_seen = time.monotonic()

    @property
    def window(self) -> int:
        """How many blocks may be under way at once."""
        return WINDOW * max(self.size, 1)

    @property
    def lonely_seconds(self) -> float:
        """For how long there has been no worker."""
        return time.monotonic() - self._last_seen

    def tend(self) -> Iterator[str]:
        """Count the workers; call it now and then.

        Yields
        ------
        str
            What the user should know, in a sentence.

        Raises
        ------
        BackendError
            If there is no worker for too long, or the scheduler is gone.
        """
        self.require_connection()
        try:
            self.size = len(self.client.nthreads())
        except OSError as error:
            raise BackendError(self.lost()) from error
        if self.size:
            self._last_seen = time.monotonic()
        elif self.lonely_seconds > self.patience:
            raise BackendError(self.absence())
        yield from ()

    def note_progress(self) -> None:
        """Take into account that a block came back."""

    def require_connection(self) -> None:
        """Refuse to go on without the scheduler.

        Raises
        ------
        BackendError
            If the connection is closed for good.
        """
        if self.client.status in ("closing", "closed"):
            raise BackendError(self.lost())

    def left_in_order(self, worker: Any) -> bool:
        """Return whether a worker that is gone has said so before, instead of being killed.

        Parameters
        ----------
        worker : distributed.scheduler.WorkerState
            It.
        """
        try:
            events = self.client.get_events(worker.address)
        except OSError:
            return False
        return any(
            isinstance(event, dict) and event.get("action") == "closing-worker"
            for _, event in events or ()
        )

    def absence(self) -> str:
        """Return what is said when there is no worker for too long: why, and what to do."""
        return (
            f"all workers have ended and none could be started for {self.patience:.0f} s; "
            "run the same command without --workers to see why"
        )

    def lost(self) -> str:
        """Return what is said when the scheduler is gone."""
        return "the scheduler of the workers has ended; run the same command again"


def wanted_patience(default: float) -> float:
    """Return the seconds to wait for workers that dask's configuration says; else the default."""
    import dask
    from dask.utils import parse_timedelta

    value = dask.config.get(NO_WORKERS_TIMEOUT, None)
    return default if value is None else float(parse_timedelta(value))


def quiet_settings(threads: int) -> dict[str, Any]:
    """Return what dask must do in another way than it would by itself.

    Parameters
    ----------
    threads : int
        Of the libraries of a worker; dask's default is 1.
    """
    variables = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {
        # Every death is reported: what to do then is decided here.
        "distributed.scheduler.allowed-failures": 0,
        # Blocks wait as long as the run has patience.
        NO_WORKERS_TIMEOUT: None,
        "distributed.scheduler.http.routes": ["distributed.http.health"],
        "distributed.worker.http.routes": ["distributed.http.health"],
        # There is nothing to spill, and a worker that pauses for ever would hold up its block.
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": False,
        # Profiles and statistics that nobody looks at take the cores from the network.
        "distributed.worker.profile.enabled": False,
        "distributed.worker.memory.monitor-interval": "1s",
        "distributed.admin.tick.interval": "1s",
        "distributed.admin.system-monitor.interval": "10s",
        "distributed.diagnostics.nvml": False,
        "distributed.nanny.pre-spawn-environ": dict.fromkeys(variables, str(threads)),
    }
