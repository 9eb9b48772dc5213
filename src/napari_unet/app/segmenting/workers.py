"""Blocks of a job computed by several processes, here or elsewhere, through dask.distributed.

::

    this process                                 workers, some blocks at a time each
    holds the ledger, hands out blocks  ------>  read, compute, store, make durable, read back
    enters a block when a worker says    <-----  its checksums
    that it is durable

The workers are processes of this machine (`local_workers`), those of a scheduler that somebody has
started (`joined_workers`), or jobs of a cluster (`cluster_jobs`). All connections are encrypted.
"""

from __future__ import annotations

import glob
import importlib.util
import secrets
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_unet.app.device_memory import remember
from napari_unet.app.segmenting.cluster_jobs import (
    Submission,
    load_jobqueue,
    required_cores,
    submitted_jobs,
)
from napari_unet.app.segmenting.hand_out import HandOut
from napari_unet.app.segmenting.joined_workers import certificates, joined_workers
from napari_unet.app.segmenting.journal import RUN
from napari_unet.app.segmenting.local_workers import started_workers, usable_cores
from napari_unet.app.segmenting.run import Run
from napari_unet.app.segmenting.work_order import WorkOrder, probe_path
from napari_unet.core.events import BlockDone, BlockFailed, TileDone, Warned
from napari_unet.core.job import is_loopback
from napari_unet.errors import ConfigError
from napari_unet.inference.queue import BlockQueue
from napari_unet.io.output_state import storage_errors

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from contextlib import AbstractContextManager

    from napari_unet.app.device_memory import Shrunk
    from napari_unet.app.segmenting.crew import Crew
    from napari_unet.app.segmenting.work_order import BlockOutcome
    from napari_unet.core.events import JobEvent, JobStarted
    from napari_unet.core.normalization import Normalization
    from napari_unet.inference.control import JobControl
    from napari_unet.inference.tile_input import TileRun

TOKEN_BYTES = 8
"""Of the token of a process that hands out; twice as many letters in the name of its probe."""


class WorkersRun(Run):
    """A segmentation that holds the lock of its output, and has others compute its blocks."""

    _shrunk: Shrunk | None = None

    @property
    def threads(self) -> int | None:
        """CPU threads of one worker; None = each has those that it was started with.

        Those that the job names, or on this machine a share of the cores.
        """
        job = self.plan.job
        if job.threads is not None or job.workers is None:
            return job.threads
        return max(usable_cores() // job.workers, 1)

    def compute(self, control: JobControl) -> Generator[JobEvent]:
        """Compute the blocks that are not done yet.

        Raises
        ------
        ConfigError
            Before anything is read or written, if there can be no workers here.
        """
        self._check_means()
        yield from super().compute(control)

    def _prepare(self) -> int:
        # The network is loaded by the workers.
        return self.plan.job.batch_size or 1

    def _check_means(self) -> None:
        """Refuse what is not installed, not configured, or has no certificates."""
        job = self.plan.job
        option, needed = "--workers", ["distributed", "cryptography"]
        if job.scheduler is not None:
            option = "--scheduler"
        if job.cluster is not None:
            option, needed = "--cluster", [*needed, "dask_jobqueue"]
        for name in needed:
            if importlib.util.find_spec(name) is None:
                raise ConfigError(
                    f"{option} needs {name}; install it with "
                    f'pip install "napari-unet[distributed]", or leave out {option}'
                )
        if job.scheduler is not None:
            certificates(job)
        if job.cluster is not None:
            load_jobqueue()
            required_cores(job.cluster)
            Submission(job.cluster, job.jobs or 1, self._ledger.path.parent).job_class()

    def _open_output(self, normalization: Normalization) -> Iterator[JobEvent]:
        job = self.plan.job
        who = f"{job.workers} workers on {self._backend.device.type}"
        if job.scheduler is not None:
            who = f"workers of {job.scheduler} on {job.device}"
        if job.cluster is not None:
            several = "s" * ((job.jobs or 1) > 1)
            who = f"{job.jobs} {job.cluster} job{several} on {job.device}"
        self._provenance |= {"device": who, "threads": self.threads}
        if job.workers is not None:
            self._provenance["workers"] = job.workers
        yield from super()._open_output(normalization)

    def _job_started(self) -> JobStarted:
        device = self._provenance["device"]
        if self.threads is not None:
            device += f", {self.threads} thread{'s' * (self.threads > 1)} each"
        return replace(super()._job_started(), device=device)

    def _segment(self, tiles: TileRun, control: JobControl) -> Generator[JobEvent]:
        blocks = BlockQueue(tiles.grid, tiles.region, control.viewport, tiles.done, tiles.share)
        if not len(blocks):
            return
        job = self.plan.job
        if job.insecure_cluster and job.scheduler is not None and not is_loopback(job.scheduler):
            yield Warned(
                f"connections to {job.scheduler} are not encrypted: whoever reaches it can run "
                "code as you"
            )
        order = WorkOrder(
            job=job.undivided().model_copy(update={"model": str(self.plan.model.path)}),
            model=job.model,
            fingerprint=self.plan.fingerprint,
            grid=tiles.grid,
            region=tiles.region,
            normalization=tiles.normalization,
            output=self._spec(),
            run=self._provenance[RUN],
            token=secrets.token_hex(TOKEN_BYTES),
            threads=self.threads,
            shared=job.computes_elsewhere,
        )
        with _probe(order), self._crew(order) as crew:
            yield from HandOut(crew, order, blocks, self.enter, control).run()

    def _crew(self, order: WorkOrder) -> AbstractContextManager[Crew]:
        """Return the workers that the job names."""
        job = self.plan.job
        if job.cluster is not None:
            return submitted_jobs(job.cluster, job.jobs or 1, self._ledger.path)
        if job.scheduler is not None:
            return joined_workers(job, order.token)
        return started_workers(job.workers or 1, self.threads or 1)

    def enter(self, outcome: BlockOutcome) -> Iterator[JobEvent]:
        """Enter what became of a block into the ledger, and count it."""
        grid, region, tally = self.plan.grid, self.plan.region, self.tally
        box = grid.block(outcome.index, region).write
        if outcome.shrunk is not None and outcome.shrunk.is_less_than(self._shrunk):
            # Workers have no memory of their own from run to run.
            self._shrunk = outcome.shrunk
            remember(outcome.shrunk.occasion, outcome.shrunk.fit)
            self._provenance |= outcome.shrunk.provenance
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


@contextmanager
def _probe(order: WorkOrder) -> Iterator[None]:
    """Keep a file in the output by which workers on other machines know it."""
    if not order.shared:
        yield
        return
    output, name = order.output.path, order.output.name
    hexadecimal = "[0-9a-f]" * (2 * TOKEN_BYTES)
    with storage_errors(f"{order.probe}: it cannot be written"):
        # Left by processes that were killed: this one holds the lock.
        for old in output.glob(probe_path(output, glob.escape(name), hexadecimal).name):
            old.unlink(missing_ok=True)
        order.probe.write_text(order.token)
    try:
        yield
    finally:
        with storage_errors(f"{order.probe}: it cannot be deleted"):
            order.probe.unlink(missing_ok=True)
