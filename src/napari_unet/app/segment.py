"""Segment an image: from a job to a finished label image, as a stream of events."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.app.device_memory import first_tile_edge
from napari_unet.app.models import DEFAULT_MODEL, find_model
from napari_unet.app.objects import run_objects
from napari_unet.app.plan import plan_segment, selection_of
from napari_unet.app.segmenting.preparation import (
    make_predictor,
    measured_normalization,
    open_backend,
    tile_run,
)
from napari_unet.app.segmenting.run import run_segmentation
from napari_unet.app.segmenting.shards import run_shard
from napari_unet.app.segmenting.workers import WorkersRun
from napari_unet.core.events import AlreadyDone, Finished
from napari_unet.core.job import SegmentJob
from napari_unet.core.objects_events import ObjectsCancelled, ObjectsFound
from napari_unet.core.objects_job import ObjectsJob
from napari_unet.errors import ConfigError, InputError
from napari_unet.inference.control import JobControl
from napari_unet.inference.engine import Tally, run_tiles
from napari_unet.inference.memory import MemorySink
from napari_unet.io.image import open_image, wrap_array

if TYPE_CHECKING:
    from collections.abc import Generator

    import numpy as np
    import numpy.typing as npt

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
    if job != job.undivided():
        raise ConfigError("shards, workers and clusters compute into files; use run_job for them")
    selection = selection_of(job, find_model(job.model).header)
    source = (
        open_image(Path(path).expanduser(), selection) if path else wrap_array(image, selection)
    )
    with closing(source):
        backend = open_backend(job)
        plan = plan_segment(job, first_tile_edge(job, backend)[0], source)
        sink, tally = MemorySink(source.shape), Tally()
        tiles = tile_run(plan, sink, measured_normalization(plan))
        for _ in run_tiles(tiles, make_predictor(plan, backend), JobControl(), tally):
            # Half an array is no answer.
            for cause in tally.failed.values():
                raise InputError(cause)
    return sink.labels[0] if len(source.spatial_axes) == 2 else sink.labels


def run_job(
    job: SegmentJob, control: JobControl | None = None
) -> Generator[JobEvent | ObjectsEvent]:
    """Segment an image into an OME-Zarr, yielding what happens.

    Closing the generator or ``control.stop()`` ends it at the next tile, ``control.wind_down()``
    at the next block. Blocks that are done by then stay done, also after a crash or a power cut:
    the same job goes on from there, and its result is that of an uninterrupted one.

    Parameters
    ----------
    job : SegmentJob
        What to do.
    control : JobControl or None
        To stop, pause, and say where the user is looking.

    Yields
    ------
    JobEvent or ObjectsEvent
        Ends with `Finished`, `Cancelled` or `AlreadyDone`; of a shard with `ShardDone`. With the
        output kind "instances" the events of `napari_unet.app.objects.run_objects` come before
        that, or it ends with `ObjectsCancelled`.

    Raises
    ------
    UNetError
        If something cannot be used, read, computed or written. Where only parts of the image are
        damaged, everything else is computed first.
    """
    control = control or JobControl()
    if job.shard is not None:
        # Objects are found when all shards are there.
        yield from run_shard(job, control)
        return
    kind = None if job == job.undivided() else WorkersRun
    if job.output_kind == "classes":
        yield from run_segmentation(job, control, kind)
        return
    last: JobEvent | None = None
    with closing(run_segmentation(job, control, kind)) as events:
        for event in events:
            if not isinstance(event, Finished | AlreadyDone):
                yield event
            last = event
    if isinstance(last, Finished | AlreadyDone):
        yield from find_objects_of(job, last, control)


def objects_job_of(job: SegmentJob, name: str) -> ObjectsJob:
    """Return the object job that follows a segmentation with the output kind "instances"."""
    return ObjectsJob(output=job.output, source=name, overwrite=job.overwrite)


def find_objects_of(
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
