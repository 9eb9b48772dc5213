"""From a finished segmentation to numbered objects and their table, as a stream of events."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeVar

from napari_unet.app.fingerprint import differences
from napari_unet.app.job_files import utc_now
from napari_unet.app.objecting.plan import ObjectsPlan, plan_objects
from napari_unet.app.objecting.record import (
    TABLES,
    ObjectsRecord,
    objects_command,
    objects_provenance,
    objects_record_path,
    write_objects_record,
)
from napari_unet.app.objecting.result import number, write
from napari_unet.app.objecting.scratch import Scratch
from napari_unet.app.objecting.search import join, search
from napari_unet.app.objecting.sources import Segmentation
from napari_unet.core.events import AlreadyDone, PyramidProgress, StageChanged, Warned
from napari_unet.core.objects_events import (
    ObjectsCancelled,
    ObjectsFound,
    ObjectsProgress,
    ObjectsStarted,
)
from napari_unet.errors import OutputExistsError
from napari_unet.files import sync_folder
from napari_unet.inference.control import JobControl
from napari_unet.io.ome_documents import OURS, read_group, write_group
from napari_unet.io.ome_zarr_writer import OutputImage, OutputSpec, create_output
from napari_unet.io.output_state import check_writable, read_output_state, storage_errors
from napari_unet.io.stored_objects import sweep_parts
from napari_unet.labels.object_table import (
    ObjectMeasures,
    TableRules,
    object_table,
    table_paths,
    write_table,
)
from napari_unet.labels.stitching import object_type

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from napari_unet.app.objecting.result import Numbering
    from napari_unet.core.events import Stage
    from napari_unet.core.objects_events import ObjectsEvent
    from napari_unet.core.objects_job import ObjectsJob

T = TypeVar("T")


class _StoppedError(Exception):
    """The user has stopped the job in this stage; never leaves this module."""


def run_objects(job: ObjectsJob, control: JobControl | None = None) -> Generator[ObjectsEvent]:
    """Find the objects of a segmentation and store them, yielding what happens.

    Closing the generator or ``control.stop()`` ends it at the next block. Scratch is deleted then,
    and what an earlier run had written under this name is still there unless the objects of this
    one were being written.

    Parameters
    ----------
    job : ObjectsJob
        What to do.
    control : JobControl or None
        To stop and pause.

    Yields
    ------
    ObjectsEvent
        Ends with `ObjectsFound`, `ObjectsCancelled` or `AlreadyDone`.

    Raises
    ------
    UNetError
        If something cannot be used, read or written.
    """
    control = control or JobControl()
    started = time.monotonic()
    yield StageChanged("opening")
    plan = plan_objects(job)
    state = read_output_state(plan.stored.path, plan.name)
    if state is not None:
        _require_objects(plan, state.attributes)
    if state is not None and not job.overwrite:
        require_same(plan, state.attributes)
        if state.state == "complete":
            yield AlreadyDone(plan.job.output, plan.name, state.labels_path, ())
            return
    scratch = Scratch(plan.stored.path / "labels" / f".{plan.name}.scratch")
    if scratch.was_there or (state is not None and state.state == "incomplete"):
        yield Warned(
            f"an earlier run of this job did not finish; {plan.name} is computed from the start"
        )
    for note in plan.notes:
        yield Warned(note)
    # Before minutes of computing, not after.
    check_writable(plan.stored.path)
    with scratch, Segmentation(plan) as segmentation:
        try:
            yield from _run(plan, segmentation, scratch, control, started)
        except _StoppedError as stopped:
            yield ObjectsCancelled(plan.job.output, plan.name, str(stopped))


def require_same(plan: ObjectsPlan, attributes: dict[str, Any]) -> None:
    """Refuse to mix objects of different jobs; the message lists what differs.

    Raises
    ------
    OutputExistsError
        If the objects there were made with other options.
    """
    before, after = attributes.get("fingerprint") or {}, plan.fingerprint
    if before != after:
        raise OutputExistsError(
            f"{plan.job.output} already holds the objects {plan.name!r}, made with other options "
            f"({'; '.join(differences(before, after))}). Give another --name, or --overwrite to "
            "replace them"
        )


def _require_objects(plan: ObjectsPlan, attributes: dict[str, Any]) -> None:
    # Also with --overwrite: that is meant for objects, and never deletes a segmentation.
    if attributes.get("kind") != "objects":
        raise OutputExistsError(
            f"{plan.job.output} holds classes under the name {plan.name!r}; give another --name"
        )


def _run(
    plan: ObjectsPlan,
    segmentation: Segmentation,
    scratch: Scratch,
    control: JobControl,
    started: float,
) -> Generator[ObjectsEvent]:
    began = utc_now()
    yield ObjectsStarted(
        output=plan.job.output,
        name=plan.name,
        source=plan.stored.name,
        method=plan.rules.method,
        dimension=plan.dimension,
        region=plan.region,
        blocks=plan.grid.count,
    )
    found = yield from _followed("searching", search(plan, segmentation, scratch), control)
    joined = yield from _followed("joining", join(plan, segmentation, found), control)
    deciding = number(plan, found, joined, scratch)
    numbering = yield from _followed("joining", deciding, control)
    provenance = objects_provenance(plan.fingerprint, began)
    record = objects_record_path(plan.stored.path, plan.name)
    with closing(_create(plan, numbering, provenance)) as output:
        _write_record(record, plan, output, numbering.count, provenance, "incomplete")
        steps = write(plan, segmentation, numbering, found, output)
        measures = yield from _followed("numbering", steps, control)
        yield StageChanged("pyramid")
        for done, total in output.build_pyramid(plan.region):
            yield PyramidProgress(done, total)
        yield StageChanged("finishing")
        tables = _write_tables(plan, measures)
        scratch.clear()
        provenance |= {"finished": utc_now(), "count": numbering.count}
        _write_record(record, plan, output, numbering.count, provenance, "complete")
        output.finish(_attributes(plan, provenance))
        labels = str(output.labels_path)
    seconds = time.monotonic() - started
    yield ObjectsFound(
        plan.job.output, plan.name, labels, numbering.count, tables, str(record), seconds
    )


def _followed(
    stage: Stage, steps: Generator[tuple[int, int], None, T], control: JobControl
) -> Generator[ObjectsEvent, None, T]:
    """Yield the progress of a stage and return its result; raise when the user has stopped."""
    yield StageChanged(stage)
    with closing(steps):
        while True:
            try:
                done, total = next(steps)
            except StopIteration as end:
                result: T = end.value
                return result
            yield ObjectsProgress(done, total)
            control.wait_while_paused()
            if control.ending:
                raise _StoppedError(stage)


def _create(plan: ObjectsPlan, numbering: Numbering, provenance: dict[str, Any]) -> OutputImage:
    tables = table_paths(_table_stem(plan))
    sweep_parts(*tables, objects_record_path(plan.stored.path, plan.name))
    for path in tables:
        with storage_errors(f"{path}: the table of the objects before cannot be deleted"):
            path.unlink(missing_ok=True)
    spec = OutputSpec(
        path=plan.stored.path,
        name=plan.name,
        spatial_axes=plan.spatial_axes,
        levels=plan.levels,
        ome_version=plan.stored.ome_version,
        source_path=plan.stored.name,
        attributes=_attributes(plan, provenance),
        label_type="uint32" if object_type(numbering.count).itemsize == 4 else "uint64",
    )
    return create_output(spec, replace=True)


def _attributes(plan: ObjectsPlan, provenance: dict[str, Any]) -> dict[str, Any]:
    return {
        "fingerprint": plan.fingerprint,
        "job": plan.job.model_dump(),
        "from": plan.stored.name,
        "tables": [f"{TABLES}/{path.name}" for path in table_paths(_table_stem(plan))],
        "provenance": dict(provenance),
    }


def _table_stem(plan: ObjectsPlan) -> Path:
    return plan.stored.path / TABLES / plan.name


def _write_tables(plan: ObjectsPlan, measures: ObjectMeasures) -> tuple[str, ...]:
    level = plan.levels[0]
    rules = TableRules(
        voxel_size=level.voxel_size,
        translation=level.translation,
        class_names=plan.class_names,
        spatial_axes=plan.spatial_axes,
        flat=plan.dimension == "2d",
    )
    folder = plan.stored.path / TABLES
    with storage_errors(f"{folder}: the folder of tables cannot be made"):
        if read_group(folder) is None:
            # A group, so that what walks through the zarr finds nothing foreign in it.
            zarr_format = 3 if plan.stored.ome_version == "0.5" else 2
            write_group(folder, {OURS: {"kind": TABLES}}, zarr_format)
        # Also where a run that was cut off has made it: its name must survive a power cut, too.
        sync_folder(plan.stored.path)
    paths = write_table(object_table(measures, rules), _table_stem(plan))
    return tuple(str(path) for path in paths)


def _write_record(
    path: Path,
    plan: ObjectsPlan,
    output: OutputImage,
    count: int,
    provenance: dict[str, Any],
    state: str,
) -> None:
    record = ObjectsRecord.parse(
        {
            "state": state,
            "job": plan.job,
            "command": objects_command(plan.job),
            "output": plan.job.output,
            "name": plan.name,
            "labels": str(output.labels_path),
            "source": plan.stored.name,
            "tables": tuple(str(path) for path in table_paths(_table_stem(plan))),
            "objects": count,
            "provenance": provenance,
        },
        source="record of objects",
    )
    write_objects_record(path, record)
