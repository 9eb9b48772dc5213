"""One segmentation into an OME-Zarr, from its start or from where the last run ended."""

from __future__ import annotations

import secrets
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.app.fingerprint import differences
from napari_unet.app.job_files import JobRecord, command_line, record_path, write_record
from napari_unet.app.plan import SegmentPlan, plan_segment
from napari_unet.app.provenance import describe_run, utc_now
from napari_unet.app.segmenting.journal import (
    RUN,
    Journal,
    check_past,
    find_past,
    ledger_path,
    settled_facts,
)
from napari_unet.core.events import (
    AlreadyDone,
    Cancelled,
    Finished,
    JobStarted,
    PyramidProgress,
    StageChanged,
    Warned,
)
from napari_unet.core.normalization import Normalization, measure_normalization
from napari_unet.errors import BackendError, InputError, OutputExistsError, StorageError
from napari_unet.inference.device import choose_backend
from napari_unet.inference.engine import Tally, TileRun, run_tiles
from napari_unet.inference.predictor import Predictor
from napari_unet.io.ledger import Ledger
from napari_unet.io.ome_zarr_writer import OutputImage, OutputSpec, create_output, reopen_output
from napari_unet.io.output_state import check_writable, read_output_state
from napari_unet.io.pyramid import plan_levels
from napari_unet.model.weights import load_model

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from napari_unet.core.arrays import BlockJournal, LabelSink
    from napari_unet.core.boxes import Shape
    from napari_unet.core.events import JobEvent
    from napari_unet.core.job import SegmentJob
    from napari_unet.inference.control import JobControl
    from napari_unet.inference.device import Backend
    from napari_unet.io.ledger import LedgerContent
    from napari_unet.io.output_state import OutputState

NAMED_FAULTS = 3
"""Failed blocks whose causes the last message quotes; the ledger has them all."""


def run_segmentation(job: SegmentJob, control: JobControl) -> Generator[JobEvent]:
    """Segment an image into classes, or go on with what an earlier run of the job has left.

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
    plan = plan_segment(job, backend.default_tile_edge)
    with closing(plan.source):
        state = _read_state(plan)
        if state is not None and state.state == "complete" and not job.overwrite:
            yield AlreadyDone(plan.job.output, plan.name, state.labels_path, plan_classes(plan))
            return
        for note in plan.notes:
            yield Warned(note)
        # Before minutes of reading and computing, not after.
        check_writable(Path(plan.job.output).parent)
        _require_complete(plan)
        with Ledger(ledger_path(Path(plan.job.output), plan.name)) as ledger:
            # Read again: from here on nobody else changes it.
            past, said = find_past(plan, _read_state(plan), ledger)
            if said is not None:
                yield Warned(said)
            run = _Run(plan, backend, ledger, past)
            yield from run.compute(control)
            if not run.is_over:
                yield Cancelled(
                    plan.job.output, run.tally.tiles, plan.grid.count_tiles(plan.region)
                )
                return
            yield from run.finish(started)


class _Run:
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

    @property
    def is_over(self) -> bool:
        """Whether every block was tried."""
        tried = self.tally.blocks + len(self.tally.failed)
        return tried == self.plan.grid.count_blocks(self.plan.region)

    def compute(self, control: JobControl) -> Generator[JobEvent]:
        """Compute the blocks that are not done yet."""
        plan, run = self.plan, secrets.token_hex(8)
        yield StageChanged("normalizing")
        if self._past is None:
            normalization = measured_normalization(plan)
        else:
            run = self._past.settled[RUN]
            normalization = Normalization.parse(
                self._past.settled["normalization"], source=str(self._ledger.path)
            )
        yield StageChanged("loading")
        predictor = make_predictor(plan, self._backend)
        self._provenance = {RUN: run} | describe_run(
            plan, self._backend, normalization, predictor.batch_size, utc_now()
        )
        yield from self._open_output(normalization)
        output = self._opened()
        self._write_record("incomplete")
        done = {} if self._ledger.content is None else self._ledger.content.done
        self._count(done)
        yield self._job_started()
        yield StageChanged("segmenting")
        tiles = tile_run(plan, output, normalization, done, Journal(self._ledger, output))
        try:
            with closing(run_tiles(tiles, predictor, control, self.tally)) as events:
                yield from events
        except (StorageError, BackendError) as error:
            raise type(error)(f"{error} ({self._how_far()})") from error

    def finish(self, started: float) -> Generator[JobEvent]:
        """Write the coarser levels and say, last of all, that the output is complete."""
        plan, output = self.plan, self._opened()
        with closing(output):
            yield StageChanged("pyramid")
            for done, total in output.build_pyramid(plan.region):
                yield PyramidProgress(done, total)
            yield StageChanged("finishing")
            missing = plan.source.count_missing_chunks(plan.region)
            yield from _findings(self.tally, missing)
            if self.tally.failed:
                raise InputError(self._faults())
            self._provenance |= {
                "finished": utc_now(),
                "nonfinite_voxels": self.tally.nonfinite,
                "missing_input_chunks": missing,
            }
            output.finish(self._attributes())
            self._write_record("complete")
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

    def _open_output(self, normalization: Normalization) -> Iterator[JobEvent]:
        plan, job = self.plan, self.plan.job
        spec = OutputSpec(
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
        how = {key: self._provenance[key] for key in ("device", "threads", "tile_shape")}
        if self._past is None:
            self._output = create_output(spec, replace=True)
            settled = settled_facts(self._provenance[RUN], normalization)
            self._ledger.begin(plan.fingerprint, settled)
            self._ledger.enter_run(utc_now(), **how)
            return
        self._output = reopen_output(spec)
        self._ledger.enter_run(utc_now(), **how)
        for note in check_past(plan, self._output, self._ledger):
            yield Warned(note)

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

    def _how_far(self) -> str:
        done = 0 if self._ledger.content is None else len(self._ledger.content.done)
        blocks = self.plan.grid.count_blocks(self.plan.region)
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
        plan = self.plan
        return JobStarted(
            output=plan.job.output,
            name=plan.name,
            labels=str(self._opened().labels_path),
            record=str(self._record),
            shape=plan.source.shape[-len(plan.source.spatial_axes) :],
            region=plan.region,
            tiles=plan.grid.count_tiles(plan.region),
            blocks=plan.grid.count_blocks(plan.region),
            pixels=plan.region.size,
            tile_shape=plan.grid.tile_shape,
            device=self._backend.label,
            classes=plan_classes(plan),
            pixels_done=self.tally.pixels,
        )


def open_backend(job: SegmentJob) -> Backend:
    """Return where and how a job computes."""
    return choose_backend(job.device, job.precision, tf32=job.tf32, threads=job.threads)


def measured_normalization(plan: SegmentPlan) -> Normalization:
    """Return the normalization that the job names, or that of the volume."""
    return plan.normalization or measure_normalization(plan.source, resampling=plan.grid.resampling)


def make_predictor(plan: SegmentPlan, backend: Backend) -> Predictor:
    """Return the network of a job on its device."""
    loaded = load_model(plan.model.path, expected_sha256=plan.model.sha256)
    job = plan.job
    return Predictor(loaded.net, plan.grid.net, backend, job.batch_size or 1, job.average)


def tile_run(
    plan: SegmentPlan,
    sink: LabelSink,
    normalization: Normalization,
    done: dict[Shape, Any] | None = None,
    journal: BlockJournal | None = None,
) -> TileRun:
    """Return what the engine is to do for a job."""
    return TileRun(
        plan.source,
        sink,
        plan.grid,
        plan.region,
        normalization,
        plan.job.stored_probabilities is not None,
        frozenset(done or ()),
        journal,
    )


def plan_classes(plan: SegmentPlan) -> tuple[tuple[str, str], ...]:
    """Return names and colors of the classes."""
    return tuple((item.name, item.color) for item in plan.model.header.classes)


def _read_state(plan: SegmentPlan) -> OutputState | None:
    """Return what the output holds under the job's name; refuse what this job must not touch."""
    state = read_output_state(plan.job.output, plan.name)
    if state is None:
        return None
    if state.attributes.get("kind") == "objects":
        # Also with --overwrite: that is meant for classes.
        raise OutputExistsError(
            f"{plan.job.output} holds objects under the name {plan.name!r}; give another --name"
        )
    before, now = state.attributes.get("fingerprint") or {}, plan.fingerprint
    if before != now and not plan.job.overwrite:
        raise OutputExistsError(
            f"{plan.job.output} already holds {plan.name!r}, made with other options "
            f"({'; '.join(differences(before, now))}). Give another --name or --output, or "
            "--overwrite to replace it"
        )
    return state


def _require_complete(plan: SegmentPlan) -> None:
    """Refuse an image with chunks that were never written, where the job asks for that."""
    if not plan.job.require_complete:
        return
    missing = plan.source.count_missing_chunks(plan.region)
    if missing:
        raise InputError(
            f"{plan.job.input}: {missing} chunks of the image were never written; complete the "
            "image, or leave out --require-complete to have them read as its fill value"
        )


def _findings(tally: Tally, missing_chunks: int) -> Iterator[Warned]:
    if tally.nonfinite:
        yield Warned(
            f"{tally.nonfinite} voxels of the image are NaN or infinite; they were replaced by "
            "the mean of the volume"
        )
    if missing_chunks:
        yield Warned(
            f"{missing_chunks} chunks of the image were never written; they read as its fill value"
        )
