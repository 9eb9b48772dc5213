"""Segment an image: from a job to a finished label image, as a stream of events."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.app.fingerprint import differences
from napari_unet.app.job_files import JobRecord, command_line, record_path, write_record
from napari_unet.app.models import DEFAULT_MODEL, find_model
from napari_unet.app.objects import run_objects
from napari_unet.app.plan import SegmentPlan, plan_segment, selection_of
from napari_unet.app.provenance import describe_run, utc_now
from napari_unet.core.events import (
    AlreadyDone,
    Cancelled,
    Finished,
    JobStarted,
    PyramidProgress,
    StageChanged,
    Warned,
)
from napari_unet.core.job import SegmentJob
from napari_unet.core.normalization import Normalization, measure_normalization
from napari_unet.core.objects_events import ObjectsCancelled, ObjectsFound
from napari_unet.core.objects_job import ObjectsJob
from napari_unet.errors import OutputExistsError
from napari_unet.inference.control import JobControl
from napari_unet.inference.device import Backend, choose_backend
from napari_unet.inference.engine import Tally, TileRun, run_tiles
from napari_unet.inference.memory import MemorySink
from napari_unet.inference.predictor import Predictor
from napari_unet.io.image import open_image, wrap_array
from napari_unet.io.ome_zarr_writer import OutputImage, OutputSpec, create_output
from napari_unet.io.output_state import check_writable, read_output_state
from napari_unet.io.pyramid import plan_levels
from napari_unet.model.weights import load_model

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    import numpy as np
    import numpy.typing as npt

    from napari_unet.core.arrays import LabelSink
    from napari_unet.core.events import JobEvent
    from napari_unet.core.objects_events import ObjectsEvent


def segment(
    image: str | Path | npt.ArrayLike, model: str = DEFAULT_MODEL, **options: Any
) -> npt.NDArray[np.uint8]:
    """Return the classes of an image that fits into memory.

    For larger ones use `run_job`, which writes to disk as it goes.

    Parameters
    ----------
    image : path or array
        A file or folder that the command line reads too; or an array (NumPy, dask, zarr), (y, x)
        or with `axes` named.
    model : str
        Name of a model, or path of a ``.safetensors`` file.
    **options
        Fields of `napari_unet.core.job.SegmentJob` that are not about the output: ``axes``,
        ``channel``, ``level``, ``time``, ``region``, ``tile_size``, ``batch_size``, ``device``,
        ``threads``, ``precision``, ``tf32``, ``average``, ``rescale``, ``normalization``,
        ``block_size``.

    Returns
    -------
    numpy.ndarray
        uint8, with the image's spatial axes; the k-th class of the model is k. Outside `region`
        it is 0 = not computed.

    Raises
    ------
    UNetError
        If the image, the model or an option cannot be used; the message names the remedy.

    Examples
    --------
    >>> import numpy as np
    >>> import napari_unet
    >>> napari_unet.segment(np.zeros((20, 30), np.uint8), model="em-membranes").shape
    (20, 30)
    """
    path = str(image) if isinstance(image, str | Path) else ""
    job = SegmentJob.parse(
        {"input": path, "model": str(model), "output": "", **options}, source="segment"
    )
    selection = selection_of(job, find_model(job.model).header)
    source = (
        open_image(Path(path).expanduser(), selection) if path else wrap_array(image, selection)
    )
    with closing(source):
        backend = _backend(job)
        plan = plan_segment(job, backend.default_tile_edge, source)
        sink = MemorySink(source.shape)
        for _ in run_tiles(
            _tile_run(plan, sink, _normalization(plan)),
            _predictor(plan, backend),
            JobControl(),
            Tally(),
        ):
            pass
    return sink.labels[0] if len(source.spatial_axes) == 2 else sink.labels


def run_job(
    job: SegmentJob, control: JobControl | None = None
) -> Generator[JobEvent | ObjectsEvent]:
    """Segment an image into an OME-Zarr, yielding what happens.

    Closing the generator or ``control.stop()`` ends it at the next tile; what is computed by then
    is kept, and the output says that it is incomplete.

    Parameters
    ----------
    job : SegmentJob
        What to do.
    control : JobControl or None
        To stop, pause, and say where the user is looking.

    Yields
    ------
    JobEvent or ObjectsEvent
        Ends with `Finished`, `Cancelled` or `AlreadyDone`. With the output kind "instances" the
        events of `napari_unet.app.objects.run_objects` come before that, or it ends with
        `ObjectsCancelled`.

    Raises
    ------
    UNetError
        If something cannot be used, read, computed or written.
    """
    control = control or JobControl()
    if job.output_kind == "classes":
        yield from _segment(job, control)
        return
    last: JobEvent | None = None
    with closing(_segment(job, control)) as events:
        for event in events:
            if not isinstance(event, Finished | AlreadyDone):
                yield event
            last = event
    if isinstance(last, Finished | AlreadyDone):
        yield from _find_objects(job, last, control)


def objects_job_of(job: SegmentJob, name: str) -> ObjectsJob:
    """Return the object job that follows a segmentation with the output kind "instances"."""
    return ObjectsJob(output=job.output, source=name, overwrite=job.overwrite)


def _find_objects(
    job: SegmentJob, segmented: Finished | AlreadyDone, control: JobControl
) -> Generator[JobEvent | ObjectsEvent]:
    """Find the objects of what was just segmented, then say what ends the job."""
    last: ObjectsEvent | None = None
    with closing(run_objects(objects_job_of(job, segmented.name), control)) as events:
        for event in events:
            if not isinstance(event, AlreadyDone):
                yield event
            last = event
    if isinstance(last, ObjectsFound) and isinstance(segmented, AlreadyDone):
        yield Finished(last.output, last.name, last.labels, last.seconds, 0, 0, 0)
    elif not isinstance(last, ObjectsCancelled):
        yield segmented


def _segment(job: SegmentJob, control: JobControl) -> Generator[JobEvent]:
    started = time.monotonic()
    yield StageChanged("opening")
    backend = _backend(job)
    plan = plan_segment(job, backend.default_tile_edge)
    with closing(plan.source):
        state = read_output_state(plan.job.output, plan.name)
        if state is not None and state.attributes.get("kind") == "objects":
            # Also with --overwrite: that is meant for classes.
            raise OutputExistsError(
                f"{plan.job.output} holds objects under the name {plan.name!r}; give another --name"
            )
        if state is not None and not job.overwrite:
            _require_same(plan, state.attributes)
            if state.state == "complete":
                yield AlreadyDone(plan.job.output, plan.name, state.labels_path, _classes(plan))
                return
            yield Warned(
                f"an earlier run of this job did not finish; {plan.name} is computed from the start"
            )
        yield from _run(plan, backend, control, started)


def _run(
    plan: SegmentPlan, backend: Backend, control: JobControl, started: float
) -> Generator[JobEvent]:
    for note in plan.notes:
        yield Warned(note)
    # Before minutes of reading and computing, not after.
    check_writable(Path(plan.job.output).parent)
    yield StageChanged("normalizing")
    normalization = _normalization(plan)
    yield StageChanged("loading")
    predictor = _predictor(plan, backend)
    began = utc_now()
    provenance = describe_run(plan, backend, normalization, predictor.batch_size, began)
    with closing(_create(plan, provenance)) as output:
        record = record_path(Path(plan.job.output), plan.name)
        _write_record(record, plan, output, provenance, "incomplete")
        yield _job_started(plan, backend, output, record)
        yield StageChanged("segmenting")
        tally = Tally()
        run = _tile_run(plan, output, normalization)
        with closing(run_tiles(run, predictor, control, tally)) as events:
            yield from events
        if control.stopped:
            yield Cancelled(plan.job.output, tally.tiles, plan.grid.count_tiles(plan.region))
            return
        yield from _finish(plan, output, provenance, tally, record)
        yield Finished(
            plan.job.output,
            plan.name,
            str(output.labels_path),
            time.monotonic() - started,
            tally.pixels,
            tally.nonfinite,
            provenance["missing_input_chunks"],
        )


def _finish(
    plan: SegmentPlan,
    output: OutputImage,
    provenance: dict[str, Any],
    tally: Tally,
    record: Path,
) -> Iterator[JobEvent]:
    """Write the coarser levels and say, last of all, that the output is complete."""
    yield StageChanged("pyramid")
    for done, total in output.build_pyramid(plan.region):
        yield PyramidProgress(done, total)
    yield StageChanged("finishing")
    missing = plan.source.count_missing_chunks(plan.region)
    yield from _findings(tally, missing)
    provenance |= {
        "finished": utc_now(),
        "nonfinite_voxels": tally.nonfinite,
        "missing_input_chunks": missing,
    }
    output.finish(_attributes(plan, provenance))
    _write_record(record, plan, output, provenance, "complete")


def _backend(job: SegmentJob) -> Backend:
    return choose_backend(job.device, job.precision, tf32=job.tf32, threads=job.threads)


def _normalization(plan: SegmentPlan) -> Normalization:
    return plan.normalization or measure_normalization(plan.source, resampling=plan.grid.resampling)


def _predictor(plan: SegmentPlan, backend: Backend) -> Predictor:
    loaded = load_model(plan.model.path, expected_sha256=plan.model.sha256)
    job = plan.job
    return Predictor(loaded.net, plan.grid.net, backend, job.batch_size or 1, job.average)


def _tile_run(plan: SegmentPlan, sink: LabelSink, normalization: Normalization) -> TileRun:
    probable = plan.job.stored_probabilities is not None
    return TileRun(plan.source, sink, plan.grid, plan.region, normalization, probable)


def _require_same(plan: SegmentPlan, attributes: dict[str, Any]) -> None:
    """Refuse to mix results of different jobs; the message lists what differs."""
    before = attributes.get("fingerprint") or {}
    now = plan.fingerprint
    if before != now:
        raise OutputExistsError(
            f"{plan.job.output} already holds {plan.name!r}, made with other options "
            f"({'; '.join(differences(before, now))}). Give another --name or --output, or "
            "--overwrite to replace it"
        )


def _create(plan: SegmentPlan, provenance: dict[str, Any]) -> OutputImage:
    job = plan.job
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
        attributes=_attributes(plan, provenance),
    )
    return create_output(spec, replace=True)


def _attributes(plan: SegmentPlan, provenance: dict[str, Any]) -> dict[str, Any]:
    objects = plan.model.header.objects
    return {
        # What the model says of objects goes with the classes: the model may not be at hand later.
        **({} if objects is None else {"objects": objects.model_dump(mode="json")}),
        "fingerprint": plan.fingerprint,
        "job": plan.job.model_dump(),
        "provenance": dict(provenance),
    }


def _classes(plan: SegmentPlan) -> tuple[tuple[str, str], ...]:
    return tuple((item.name, item.color) for item in plan.model.header.classes)


def _job_started(
    plan: SegmentPlan, backend: Backend, output: OutputImage, record: Path
) -> JobStarted:
    return JobStarted(
        output=plan.job.output,
        name=plan.name,
        labels=str(output.labels_path),
        record=str(record),
        shape=plan.source.shape[-len(plan.source.spatial_axes) :],
        region=plan.region,
        tiles=plan.grid.count_tiles(plan.region),
        blocks=plan.grid.count_blocks(plan.region),
        pixels=plan.region.size,
        tile_shape=plan.grid.tile_shape,
        device=backend.label,
        classes=_classes(plan),
    )


def _write_record(
    path: Path, plan: SegmentPlan, output: OutputImage, provenance: dict[str, Any], state: str
) -> None:
    record = JobRecord.parse(
        {
            "state": state,
            "job": plan.job,
            "command": command_line(plan.job),
            "output": plan.job.output,
            "name": plan.name,
            "labels": str(output.labels_path),
            "classes": _classes(plan),
            "provenance": provenance,
        },
        source="job record",
    )
    write_record(path, record)


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
