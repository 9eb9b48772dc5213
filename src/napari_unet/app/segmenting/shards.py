"""One of several processes that compute a job's blocks beside each other, without a network.

Whoever comes first makes the output and a header; the others wait for it and check that they were
started with the same options. Nobody talks to anybody: each has its own blocks, ledger and lock.
"""

from __future__ import annotations

import json
import secrets
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.app.device_memory import first_tile_edge
from napari_unet.app.fingerprint import differences
from napari_unet.app.job_files import utc_now
from napari_unet.app.plan import plan_segment
from napari_unet.app.provenance import describe_run
from napari_unet.app.segmenting.checks import findings, read_state, require_complete
from napari_unet.app.segmenting.journal import RUN, check_past, ledger_path, settled_facts
from napari_unet.app.segmenting.preparation import (
    measured_normalization,
    open_backend,
    plan_classes,
)
from napari_unet.app.segmenting.run import Run
from napari_unet.app.segmenting.shard_files import SHARDS, Shard, block_index
from napari_unet.core.events import AlreadyDone, Cancelled, ShardDone, StageChanged, Warned
from napari_unet.core.normalization import Normalization
from napari_unet.errors import ConfigError, InputError, LockedError, OutputExistsError
from napari_unet.io.ledger import Ledger, read_ledger
from napari_unet.io.ome_zarr_writer import reopen_output
from napari_unet.io.output_state import check_writable

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from napari_unet.app.plan import SegmentPlan
    from napari_unet.core.events import JobEvent
    from napari_unet.core.job import SegmentJob
    from napari_unet.inference.control import JobControl
    from napari_unet.inference.device import Backend
    from napari_unet.io.ledger import LedgerContent

POLL_SECONDS = 0.2
"""How often a shard looks whether another one has made the output."""


def run_shard(job: SegmentJob, control: JobControl) -> Generator[JobEvent]:
    """Compute the blocks of one shard, or go on with what an earlier run of it has left.

    Yields
    ------
    JobEvent
        Ends with `ShardDone`, `Cancelled`, or `AlreadyDone` if the whole output is complete.

    Raises
    ------
    UNetError
        If something cannot be used, read, computed or written; also at the end, if blocks failed.
    """
    if job.shard is None:
        raise ConfigError("a shard is to be computed, but the job names none; give --shard i/N")
    started, shard = time.monotonic(), Shard.parse(job.shard)
    yield StageChanged("opening")
    backend = open_backend(job)
    edge, remembered = first_tile_edge(job, backend)
    plan = plan_segment(job, edge)
    with closing(plan.source):
        for note in (*plan.notes, *remembered):
            yield Warned(note)
        check_writable(Path(plan.job.output).parent)
        require_complete(plan)
        whole = ledger_path(Path(plan.job.output), plan.name)
        # First its own lock, then the header: see shard_files.
        with Ledger(shard.ledger_path(whole)) as ledger:
            state = read_state(plan)
            if state is not None and state.state == "complete":
                yield AlreadyDone(plan.job.output, plan.name, state.labels_path, plan_classes(plan))
                return
            header = yield from _common_header(plan, backend, shard, control)
            if header is None:
                yield Cancelled(plan.job.output, 0, 0)
                return
            run = _ShardRun(plan, backend, ledger, header)
            yield from run.compute(control)
            if not run.is_over:
                yield Cancelled(plan.job.output, run.tally.tiles, run.size[0])
                return
            yield from run.finish(started)


def _common_header(
    plan: SegmentPlan, backend: Backend, shard: Shard, control: JobControl
) -> Generator[JobEvent, None, LedgerContent | None]:
    """Return the header that all shards share, made by this process if by no other.

    None: the job was stopped while another process made it.
    """
    whole = ledger_path(Path(plan.job.output), plan.name)
    while not control.ending:
        header = _header_of_output(plan, whole)
        if header is not None:
            _require_same(plan, shard, header)
            return header
        try:
            with Ledger(whole) as ledger:
                # It may have been made since.
                if _header_of_output(plan, whole) is None:
                    yield from _Beginning(plan, backend, ledger, None).begin(shard)
        except LockedError:
            time.sleep(POLL_SECONDS)
    return None


def _header_of_output(plan: SegmentPlan, whole: Path) -> LedgerContent | None:
    """Return the header that belongs to the output; None if that is still to be made."""
    state = read_state(plan)
    header = None if state is None else read_ledger(whole)
    if state is None or header is None or header.settled.get(RUN) != state.attributes.get(RUN):
        return None
    return header


def _require_same(plan: SegmentPlan, shard: Shard, header: LedgerContent) -> None:
    """Refuse a shard of another job, or of another number of shards."""
    now = json.loads(json.dumps(plan.fingerprint))
    what = f"{plan.job.output}: {plan.name!r} was begun"
    if header.fingerprint != now:
        raise OutputExistsError(
            f"{what} with other options ({'; '.join(differences(header.fingerprint, now))}); give "
            "all shards the same, or another --name or --output"
        )
    shards = header.settled.get(SHARDS)
    if shards is None:
        raise OutputExistsError(
            f"{what} without --shard; the same command without --shard goes on, and napari-unet "
            "finish completes it where every block is done"
        )
    if shards != shard.shards:
        raise OutputExistsError(
            f"{what} in {shards} shards, so there is no shard {shard}; give --shard i/{shards}, or "
            "another --name or --output"
        )


class _Beginning(Run):
    """The process that came first, while it makes what all shards share."""

    def begin(self, shard: Shard) -> Iterator[JobEvent]:
        """Make the output, its record, and the header."""
        # What is recorded is the whole job.
        self.plan = replace(self.plan, job=self.plan.job.model_copy(update={"shard": None}))
        yield StageChanged("normalizing")
        normalization = measured_normalization(self.plan)
        batch_size = self.plan.job.batch_size or 1
        self._provenance = {RUN: secrets.token_hex(8)} | describe_run(
            self.plan, self._backend, normalization, batch_size, utc_now()
        )
        self._create(normalization, **{SHARDS: shard.shards})
        self._opened().close()


class _ShardRun(Run):
    """A shard that holds the lock of its ledger."""

    def __init__(
        self, plan: SegmentPlan, backend: Backend, ledger: Ledger, header: LedgerContent
    ) -> None:
        super().__init__(plan, backend, ledger, None)
        self._header = header
        self._shard = Shard.parse(plan.job.shard or "1/1")
        self._share = self._shard.blocks(plan.grid.count_blocks(plan.region))
        self._size = self._counted()

    @property
    def share(self) -> range:
        """Numbers of the blocks that are to be done, in C order."""
        return self._share

    @property
    def size(self) -> tuple[int, int]:
        """Tiles and pixels that are to be done."""
        return self._size

    def finish(self, started: float) -> Generator[JobEvent]:
        """Say that the shard is done; the output stays incomplete."""
        yield StageChanged("finishing")
        with closing(self._opened()):
            yield from findings(self.tally, 0)
            if self.tally.failed:
                raise InputError(self._faults())
        yield ShardDone(
            self.plan.job.output,
            self.plan.name,
            str(self._shard),
            len(self._share),
            time.monotonic() - started,
            self.tally.pixels - self._pixels_before,
        )

    def _settled(self) -> tuple[str, Normalization]:
        settled = self._header.settled
        source = f"ledger of {self.plan.name}"
        return settled[RUN], Normalization.parse(settled["normalization"], source=source)

    def _open_output(self, normalization: Normalization) -> Iterator[JobEvent]:
        run = self._provenance[RUN]
        self._output = reopen_output(self._spec())
        past = self._ledger.read()
        if past is None or past.settled.get(RUN) != run:
            self._ledger.begin(self.plan.fingerprint, settled_facts(run, normalization))
        self._enter_run()
        for note in check_past(self.plan, self._output, self._ledger, alone=False):
            yield Warned(note)

    def _counted(self) -> tuple[int, int]:
        grid, region = self.plan.grid, self.plan.region
        tiles = pixels = 0
        for number in self._share:
            box = grid.block(block_index(grid, region, number), region).write
            tiles += grid.count_tiles(box)
            pixels += box.size
        return tiles, pixels
