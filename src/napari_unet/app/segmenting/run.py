"""One segmentation into an OME-Zarr, from its start or from where the last run ended."""

from __future__ import annotations

import secrets
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.app.device_memory import FitKeeper, first_tile_edge
from napari_unet.app.job_files import JobRecord, command_line, record_path, utc_now, write_record
from napari_unet.app.plan import SegmentPlan, plan_segment
from napari_unet.app.provenance import describe_run
from napari_unet.app.segmenting.checks import findings, read_state, require_complete
from napari_unet.app.segmenting.journal import (
    OVERWRITES,
    RUN,
    Journal,
    check_past,
    find_past,
    ledger_path,
    settled_facts,
)
from napari_unet.app.segmenting.preparation import (
    make_predictor,
    measured_normalization,
    open_backend,
    plan_classes,
    tile_run,
)
from napari_unet.app.segmenting.shard_files import shards_forgotten
from napari_unet.app.segmenting.space import DiskSpace, telling_of_full_disks
from napari_unet.core.events import (
    AlreadyDone,
    BlockDone,
    Cancelled,
    Finished,
    JobStarted,
    PyramidProgress,
    StageChanged,
    Warned,
)
from napari_unet.core.normalization import Normalization
from napari_unet.errors import BackendError, InputError, StorageError
from napari_unet.inference.engine import Tally, run_tiles
from napari_unet.io.ledger import Ledger
from napari_unet.io.ome_zarr_writer import OutputImage, OutputSpec, create_output, reopen_output
from napari_unet.io.output_state import check_writable
from napari_unet.io.pyramid import plan_levels
from napari_unet.io.stored_objects import sweep_parts

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from napari_unet.core.boxes import Shape
    from napari_unet.core.events import JobEvent
    from napari_unet.core.job import SegmentJob
    from napari_unet.inference.control import JobControl
    from napari_unet.inference.device import Backend
    from napari_unet.inference.engine import TileRun
    from napari_unet.inference.predictor import Predictor
    from napari_unet.io.ledger import BlockEntry, LedgerContent

NAMED_FAULTS = 3
"""Failed blocks whose causes the last message quotes; the ledger has them all."""


def run_segmentation(
    job: SegmentJob, control: JobControl, kind: type[Run] | None = None
) -> Generator[JobEvent]:
    """Segment an image into classes, or go on with what an earlier run of the job has left.

    Parameters
    ----------
    job : SegmentJob
        What to do.
    control : JobControl
        To stop, pause, and say where the user is looking.
    kind : type of Run or None
        How blocks are computed; None = one after the other, here.

    Yields
    ------
    JobEvent
        Ends with `Finished`, `Cancelled` or `AlreadyDone`.

    Raises
    ------
    UNetError
        If something cannot be used, read, computed or written; also at the end, if blocks failed.
    """
    started = time.monotonic()
    yield StageChanged("opening")
    backend = open_backend(job)
    edge, remembered = first_tile_edge(job, backend)
    plan = plan_segment(job, edge)
    with closing(plan.source):
        state = read_state(plan)
        if state is not None and state.state == "complete" and not job.overwrite:
            yield AlreadyDone(plan.job.output, plan.name, state.labels_path, plan_classes(plan))
            return
        for note in (*plan.notes, *remembered):
            yield Warned(note)
        # Before minutes of reading and computing, not after.
        check_writable(Path(plan.job.output).parent)
        require_complete(plan)
        with Ledger(ledger_path(Path(plan.job.output), plan.name)) as ledger:
            # Read again: from here on nobody else changes it.
            past, said = find_past(plan, read_state(plan), ledger)
            if said is not None:
                yield Warned(said)
            run = (kind or Run)(plan, backend, ledger, past)
            yield from run.compute(control)
            if not run.is_over:
                yield Cancelled(plan.job.output, run.tally.tiles, run.size[0])
                return
            with closing(run.finish(started)) as events:
                for event in events:
                    yield event
                    coarse = event if isinstance(event, PyramidProgress) else None
                    if coarse and coarse.done < coarse.total and control.ending:
                        yield Cancelled(plan.job.output, run.tally.tiles, run.size[0])
                        return


class Run:
    """A segmentation that holds the lock of its output."""

    def __init__(
        self, plan: SegmentPlan, backend: Backend, ledger: Ledger, past: LedgerContent | None
    ) -> None:
        self.plan = plan
        self.tally = Tally()
        self._backend = backend
        self._ledger = ledger
        self._past = past
        self._record = record_path(Path(plan.job.output), plan.name)
        self._provenance: dict[str, Any] = {}
        self._pixels_before = 0
        self._output: OutputImage | None = None
        self._predictor: Predictor | None = None

    @property
    def share(self) -> range:
        """Numbers of the blocks that are to be done, in C order."""
        return range(self.plan.grid.count_blocks(self.plan.region))

    @property
    def size(self) -> tuple[int, int]:
        """Tiles and pixels that are to be done."""
        return self.plan.grid.count_tiles(self.plan.region), self.plan.region.size

    @property
    def is_over(self) -> bool:
        """Whether every block was tried."""
        return self.tally.blocks + len(self.tally.failed) == len(self.share)

    def compute(self, control: JobControl) -> Generator[JobEvent]:
        """Compute the blocks that are not done yet."""
        plan = self.plan
        yield StageChanged("normalizing")
        run, normalization = self._settled()
        yield StageChanged("loading")
        batch_size = self._prepare()
        self._provenance = {RUN: run} | describe_run(
            plan, self._backend, normalization, batch_size, utc_now()
        )
        with telling_of_full_disks(self._space):
            yield from self._open_output(normalization)
            if scarce := self._space().warning():
                yield Warned(scarce)
            done = self._done()
            self._count(done)
            yield self._job_started()
            yield StageChanged("segmenting")
            output = self._opened()
            tiles = tile_run(plan, output, normalization, done, Journal(self._ledger, output))
            try:
                with closing(self._segment(replace(tiles, share=self.share), control)) as events:
                    yield from events
            except (StorageError, BackendError) as error:
                raise type(error)(f"{error} ({self._how_far()})") from error

    def finish(self, started: float) -> Generator[JobEvent]:
        """Write the coarser levels and say, last of all, that the output is complete."""
        plan, output = self.plan, self._opened()
        with closing(output), telling_of_full_disks(self._space):
            yield StageChanged("pyramid")
            for done, total in output.build_pyramid(plan.region):
                yield PyramidProgress(done, total)
            yield StageChanged("finishing")
            missing = plan.source.count_missing_chunks(plan.region)
            yield from findings(self.tally, missing)
            if self.tally.failed:
                raise InputError(self._faults())
            self._provenance |= {
                "finished": utc_now(),
                "nonfinite_voxels": self.tally.nonfinite,
                "missing_input_chunks": missing,
            }
            # What OUT says decides: it comes last.
            self._write_record("complete")
            output.finish(self._attributes())
            labels = str(output.labels_path)
        yield Finished(
            plan.job.output,
            plan.name,
            labels,
            time.monotonic() - started,
            self.tally.pixels - self._pixels_before,
            self.tally.nonfinite,
            missing,
        )

    def _settled(self) -> tuple[str, Normalization]:
        """Return the name of the run and its normalization, those of its beginning."""
        if self._past is None:
            return secrets.token_hex(8), measured_normalization(self.plan)
        settled = self._past.settled
        source = str(self._ledger.path)
        return settled[RUN], Normalization.parse(settled["normalization"], source=source)

    def _prepare(self) -> int:
        """Load the network; return how many tiles it computes together."""
        self._predictor = make_predictor(self.plan, self._backend)
        return self._predictor.batch_size

    def _segment(self, tiles: TileRun, control: JobControl) -> Generator[JobEvent]:
        """Compute what is not done."""
        if self._predictor is None:
            return
        keeper = FitKeeper(self.plan, self._backend, self._predictor)
        with closing(run_tiles(tiles, self._predictor, control, self.tally)) as events:
            for event in events:
                if isinstance(event, BlockDone):
                    keeper.note()
                yield event
        self._provenance |= keeper.provenance()

    def _open_output(self, normalization: Normalization) -> Iterator[JobEvent]:
        sweep_parts(self._record, self._ledger.path)
        if self._past is None:
            with shards_forgotten(self._ledger.path):
                self._create(normalization)
            self._enter_run()
            return
        self._output = reopen_output(self._spec())
        self._enter_run()
        for note in check_past(self.plan, self._output, self._ledger):
            yield Warned(note)
        self._write_record("incomplete")

    def _create(self, normalization: Normalization, **settled: Any) -> None:
        """Make the output, its record, and last the header of its ledger."""
        self._output = create_output(self._spec(), replace=True)
        self._write_record("incomplete")
        if self.plan.job.overwrite:
            settled[OVERWRITES] = True
        facts = settled_facts(self._provenance[RUN], normalization) | settled
        self._ledger.begin(self.plan.fingerprint, facts)

    def _enter_run(self) -> None:
        keys = ("device", "threads", "tile_shape")
        self._ledger.enter_run(utc_now(), **{key: self._provenance[key] for key in keys})

    def _spec(self) -> OutputSpec:
        plan, job = self.plan, self.plan.job
        return OutputSpec(
            path=Path(job.output),
            name=plan.name,
            spatial_axes=plan.source.spatial_axes,
            levels=plan_levels(plan.source),
            classes=plan.model.header.classes,
            block_edge=job.block_size,
            shards=job.shards,
            probability_type=job.stored_probabilities,
            ome_version=job.ome_version,
            source_path=job.input,
            attributes=self._attributes(),
        )

    def _opened(self) -> OutputImage:
        if self._output is None:
            raise StorageError(f"{self.plan.job.output}: the output is not open")
        return self._output

    def _count(self, done: dict[Shape, Any]) -> None:
        """Take into account what was done before."""
        grid, region = self.plan.grid, self.plan.region
        for index, entry in done.items():
            box = grid.block(index, region).write
            self.tally.blocks += 1
            self.tally.pixels += box.size
            self.tally.tiles += grid.count_tiles(box)
            self.tally.nonfinite += entry.nonfinite
        self._pixels_before = self.tally.pixels

    def _done(self) -> dict[Shape, BlockEntry]:
        return {} if self._ledger.content is None else self._ledger.content.done

    def _space(self) -> DiskSpace:
        return DiskSpace(self.plan, len(self.share), self.size[1], self._done())

    def _how_far(self) -> str:
        done, blocks = len(self._done()), len(self.share)
        return f"{done} of {blocks} blocks are done and kept; the same command goes on from there"

    def _faults(self) -> str:
        failed = self.tally.failed
        named = "; ".join(
            f"{box.start}..{box.stop}: {cause}"
            for box, cause in list(failed.items())[:NAMED_FAULTS]
        )
        more = f"; {len(failed) - NAMED_FAULTS} more" if len(failed) > NAMED_FAULTS else ""
        return (
            f"{len(failed)} blocks could not be computed ({named}{more}); {self._how_far()}, and "
            "tries these again"
        )

    def _attributes(self) -> dict[str, Any]:
        objects = self.plan.model.header.objects
        return {
            # What the model says of objects goes with the classes: it may not be at hand later.
            **({} if objects is None else {"objects": objects.model_dump(mode="json")}),
            RUN: self._provenance[RUN],
            "fingerprint": self.plan.fingerprint,
            "job": self.plan.job.model_dump(),
            "provenance": dict(self._provenance),
        }

    def _write_record(self, state: str) -> None:
        plan = self.plan
        record = JobRecord.parse(
            {
                "state": state,
                "job": plan.job,
                "command": command_line(plan.job),
                "output": plan.job.output,
                "name": plan.name,
                "labels": str(self._opened().labels_path),
                "classes": plan_classes(plan),
                "provenance": self._provenance,
            },
            source="job record",
        )
        write_record(self._record, record)

    def _job_started(self) -> JobStarted:
        plan, (tiles, pixels) = self.plan, self.size
        return JobStarted(
            output=plan.job.output,
            name=plan.name,
            labels=str(self._opened().labels_path),
            record=str(self._record),
            shape=plan.source.shape[-len(plan.source.spatial_axes) :],
            region=plan.region,
            tiles=tiles,
            blocks=len(self.share),
            pixels=pixels,
            tile_shape=plan.grid.tile_shape,
            device=self._backend.label,
            classes=plan_classes(plan),
            pixels_done=self.tally.pixels,
        )
