"""Blocks of a job computed by several processes on this machine, through dask.distributed.

::

    this process                                 workers, two blocks at a time each
    holds the ledger, hands out blocks  ------>  read, compute, store, make durable, read back
    enters a block when a worker says    <-----  its checksums
    that it is durable

A block whose worker dies is tried again, then once more with nothing beside it, and fails if that
ends its worker, too: so it takes no other block with it. All connections are encrypted with keys
that exist in memory only, and are made to the loopback address.
"""

from __future__ import annotations

import itertools
import logging
import os
import queue
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from napari_unet.app.segmenting.block_work import BEGUN, BlockOutcome, WorkOrder, compute_block
from napari_unet.app.segmenting.journal import RUN
from napari_unet.app.segmenting.run import Run
from napari_unet.core.events import BlockDone, BlockFailed, Paused, TileDone, Warned
from napari_unet.errors import BackendError, ConfigError
from napari_unet.inference.queue import BlockQueue

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from napari_unet.core.boxes import Shape
    from napari_unet.core.events import JobEvent, JobStarted
    from napari_unet.core.normalization import Normalization
    from napari_unet.inference.control import JobControl
    from napari_unet.inference.tile_input import TileRun

Client: TypeAlias = Any
Future: TypeAlias = Any
"""Those of `distributed`, which is installed with an extra only, and typed in part."""

SLOTS = 2
"""Blocks that a worker has at hand: while it computes one, it reads or stores the other."""

WINDOW = 3
"""Blocks under way per worker, with one that waits for it."""

MAX_DEATHS = 3
"""Workers that a block may end; before the last one it is left alone with its worker."""

POLL_SECONDS = 0.1
"""How often it is looked whether the job was stopped."""

PATIENCE_SECONDS = 60.0
"""How long a run waits for a worker when there is none, while dead ones are started again."""


class WorkersRun(Run):
    """A segmentation that holds the lock of its output, and has others compute its blocks."""

    @property
    def workers(self) -> int:
        """How many there are."""
        return self.plan.job.workers or 1

    @property
    def threads(self) -> int:
        """CPU threads of one worker: those that the job names, or its share of the cores."""
        return self.plan.job.threads or max(usable_cores() // self.workers, 1)

    def _prepare(self) -> int:
        """Make sure that workers can be started; the network is loaded by them."""
        try:
            import cryptography  # noqa: F401  # keys of the connections
            import distributed  # noqa: F401  # what counts is that it is there
        except ImportError as error:
            raise ConfigError(
                f"--workers needs {error.name}; install it with "
                'pip install "napari-unet[distributed]", or leave out --workers'
            ) from error
        return self.plan.job.batch_size or 1

    def _open_output(self, normalization: Normalization) -> Iterator[JobEvent]:
        device = self._backend.device.type
        self._provenance |= {
            "device": f"{self.workers} workers on {device}",
            "threads": self.threads,
            "workers": self.workers,
        }
        yield from super()._open_output(normalization)

    def _job_started(self) -> JobStarted:
        threads = f"{self.threads} thread{'s' * (self.threads > 1)} each"
        return replace(super()._job_started(), device=f"{self._provenance['device']}, {threads}")

    def _segment(self, tiles: TileRun, control: JobControl) -> Generator[JobEvent]:
        blocks = BlockQueue(tiles.grid, tiles.region, control.viewport, tiles.done, tiles.share)
        if not len(blocks):
            return
        order = WorkOrder(
            job=self.plan.job.model_copy(update={"workers": None}),
            fingerprint=self.plan.fingerprint,
            grid=tiles.grid,
            region=tiles.region,
            normalization=tiles.normalization,
            output=self._spec(),
            run=self._provenance[RUN],
            threads=self.threads,
        )
        with started_workers(self.workers, self.threads) as client:
            yield from _HandOut(self, client, order, blocks, control).run()

    def enter(self, outcome: BlockOutcome) -> Iterator[JobEvent]:
        """Enter what became of a block into the ledger, and count it."""
        grid, region, tally = self.plan.grid, self.plan.region, self.tally
        box = grid.block(outcome.index, region).write
        if outcome.entry is None:
            self._ledger.enter_failed(outcome.index, outcome.cause)
            tally.failed[box] = outcome.cause
            yield BlockFailed(box, outcome.cause)
            return
        self._ledger.enter_done(outcome.index, outcome.entry)
        tally.tiles += grid.count_tiles(box)
        tally.pixels += box.size
        tally.blocks += 1
        tally.nonfinite += outcome.entry.nonfinite
        # Tiles are not told apart here: a block is one step.
        yield TileDone(box, True, tally.tiles, tally.pixels)
        yield BlockDone(box, tally.blocks)


class _HandOut:
    """Hands out blocks and takes back what became of them."""

    def __init__(
        self,
        run: WorkersRun,
        client: Client,
        order: WorkOrder,
        blocks: BlockQueue,
        control: JobControl,
    ) -> None:
        self._run = run
        self._client = client
        self._order = order
        self._blocks = blocks
        self._control = control
        self._under_way: dict[Shape, Future] = {}
        self._begun: set[Shape] = set()
        self._again: list[Shape] = []
        self._alone: list[Shape] = []
        self._deaths: dict[Shape, int] = {}
        self._said: set[str] = set()
        self._attempts = itertools.count()
        self._news: queue.SimpleQueue[Shape] = queue.SimpleQueue()
        self._workers_seen = time.monotonic()
        client.subscribe_topic(BEGUN, self._note_begun)

    def run(self) -> Generator[JobEvent]:
        """Have every block computed, until there is none left or the job is to end."""
        paused = False
        while not self._control.stopped:
            if self._control.paused != paused:
                paused = self._control.paused
                yield Paused(paused)
            if self._control.winding_down:
                self._call_off_waiting()
            elif not paused:
                self._hand_out()
            if not self._under_way and not paused:
                return
            try:
                index = self._news.get(timeout=POLL_SECONDS)
            except queue.Empty:
                self._require_workers()
                continue
            future = self._under_way.pop(index, None)
            if future is not None:
                yield from self._take_back(index, future)

    def _hand_out(self) -> None:
        self._blocks.look_at(self._control.viewport)
        while len(self._under_way) < WINDOW * self._run.workers:
            index = self._next()
            if index is None:
                break
            self._submit(index)
        if not self._under_way and self._alone:
            self._submit(self._alone.pop())

    def _next(self) -> Shape | None:
        if self._again:
            return self._again.pop()
        block = self._blocks.pop()
        return None if block is None else block.index

    def _submit(self, index: Shape) -> None:
        key = f"block-{self._order.run}-{'.'.join(map(str, index))}-{next(self._attempts)}"
        future = self._client.submit(compute_block, self._order, index, key=key, pure=False)
        self._under_way[index] = future
        future.add_done_callback(partial(self._tell, index))

    def _tell(self, index: Shape, future: Future) -> None:
        self._news.put(index)

    def _note_begun(self, event: tuple[float, Any]) -> None:
        self._begun.add(tuple(event[1]))

    def _call_off_waiting(self) -> None:
        """Take back the blocks that no worker has begun."""
        waiting = [index for index in self._under_way if index not in self._begun]
        self._client.cancel([self._under_way.pop(index) for index in waiting])

    def _take_back(self, index: Shape, future: Future) -> Iterator[JobEvent]:
        self._begun.discard(index)
        if future.status == "finished":
            outcome: BlockOutcome = future.result()
            if outcome.error is not None:
                raise outcome.error from _system_error(outcome.errno)
            for note in outcome.notes:
                if note not in self._said:
                    self._said.add(note)
                    yield Warned(note)
            yield from self._run.enter(outcome)
            return
        error = future.exception() if future.status == "error" else None
        if error is None:
            # Its scheduler has lost it; nothing is known of it, so it is computed again.
            self._again.append(index)
        elif _is_death(error):
            yield from self._bury(index)
        else:
            raise error

    def _bury(self, index: Shape) -> Iterator[JobEvent]:
        """Decide what becomes of a block whose worker has died."""
        deaths = self._deaths[index] = self._deaths.get(index, 0) + 1
        box = self._run.plan.grid.block(index, self._run.plan.region).write
        if deaths >= MAX_DEATHS:
            cause = (
                f"{deaths} workers ended while they computed it, the last one with nothing beside "
                "it; look for a lack of memory in the system's log"
            )
            yield from self._run.enter(BlockOutcome(index, None, cause))
            return
        alone = deaths == MAX_DEATHS - 1
        (self._alone if alone else self._again).append(index)
        when = "at the end, with nothing beside it" if alone else "again"
        where = f"block {box.start}..{box.stop}"
        yield Warned(f"a worker ended while it had {where}, which is computed {when}")

    def _require_workers(self) -> None:
        """End the run if no worker can be started any more."""
        if self._client.nthreads():
            self._workers_seen = time.monotonic()
        elif time.monotonic() - self._workers_seen > PATIENCE_SECONDS:
            raise BackendError(
                f"all workers have ended and none could be started for {PATIENCE_SECONDS:.0f} s; "
                "run the same command without --workers to see why"
            )


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def started_workers(workers: int, threads: int) -> Iterator[Client]:
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
    with tempfile.TemporaryDirectory(prefix="napari-unet-workers-") as scratch:
        try:
            with dask.config.set(_settings(threads)):
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
            yield client


def _settings(threads: int) -> dict[str, Any]:
    """Return what dask must do in another way than it would by itself."""
    # Threads of the libraries of a worker; dask's default is 1.
    variables = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {
        # Every death is reported: what to do then is decided here.
        "distributed.scheduler.allowed-failures": 0,
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


def _system_error(number: int | None) -> OSError | None:
    return None if number is None else OSError(number, os.strerror(number))


def _is_death(error: BaseException) -> bool:
    from distributed.scheduler import KilledWorker

    return isinstance(error, KilledWorker)
