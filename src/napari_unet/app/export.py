"""Write a result as a file of another format, for ilastik, Amira, IMOD, Fiji and others."""

from __future__ import annotations

import dataclasses
import importlib.util
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.app.exported_result import find_result
from napari_unet.core.boxes import Box, parse_region
from napari_unet.core.events import StageChanged, Warned
from napari_unet.core.export_events import ExportCancelled, ExportFinished, ExportProgress
from napari_unet.core.export_job import EXPORT_SUFFIXES
from napari_unet.errors import BackendError, ConfigError
from napari_unet.inference.control import JobControl
from napari_unet.io.exporters.content import Content, renumber
from napari_unet.io.exporters.hdf5 import write_hdf5
from napari_unet.io.exporters.mrc import check_mrc, write_mrc
from napari_unet.io.exporters.png import check_png, write_png
from napari_unet.io.exporters.target import check_space, check_target, size_on_disk, unfinished
from napari_unet.io.exporters.tiff import write_imagej_tiff, write_ome_tiff
from napari_unet.io.exporters.value_types import choose_type, depends_on_values

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from napari_unet.app.exported_result import Result
    from napari_unet.core.arrays import ImageSource
    from napari_unet.core.export_events import ExportEvent
    from napari_unet.core.export_job import ExportFormat, ExportJob

WRITERS: dict[ExportFormat, Callable[[Content, Path], Generator[int]]] = {
    "tiff": write_imagej_tiff,
    "ome-tiff": write_ome_tiff,
    "mrc": write_mrc,
    "hdf5": write_hdf5,
    "png": write_png,
}
"""What writes each kind of file."""

_UNCOMPRESSED = ("tiff", "mrc")
_NEEDED = {"mrc": "mrcfile", "hdf5": "h5py"}


@dataclass(frozen=True, slots=True)
class _Measured:
    """Largest value, and voxels that were 0 before a class became 0."""

    maximum: int = 0
    zeros: int = 0


def run_export(job: ExportJob, control: JobControl | None = None) -> Generator[ExportEvent]:
    """Write a result as a file of another format, yielding what happens.

    The file gets its name when it is whole. Closing the generator or ``control.stop()`` ends the
    export at the next piece and leaves nothing behind.

    Parameters
    ----------
    job : ExportJob
        What to do.
    control : JobControl or None
        To stop.

    Yields
    ------
    ExportEvent
        Ends with `ExportFinished` or `ExportCancelled`.

    Raises
    ------
    UNetError
        If the result is not there or not complete, the file is there already, the format cannot
        hold the values, or the disk refuses.
    """
    control, began = control or JobControl(), time.monotonic()
    _check_library(job.format)
    yield StageChanged("opening")
    result = find_result(job)
    with closing(result.source):
        if result.incomplete:
            yield Warned(
                f"{result.name} of {job.input} is incomplete; what was not computed is 0 in the "
                "export"
            )
        content = _plan(job, result)
        target = choose_target(job, content)
        try:
            content = yield from _export(job, content, target, control)
        except _StoppedError:
            yield ExportCancelled(str(target))
            return
        seconds = time.monotonic() - began
        yield _finished(job, content, target, seconds)


def choose_target(job: ExportJob, content: Content) -> Path:
    """Return the file that an export writes, or the folder of its slices.

    Raises
    ------
    ConfigError
        If the output has the ending of another format.
    """
    slices = _is_folder(job, content)
    if job.output is None:
        out = Path(job.input).expanduser().absolute()
        part = "" if job.what == "labels" else f".{job.what}"
        suffix = "" if slices else EXPORT_SUFFIXES[job.format][0]
        return out.with_name(f"{out.stem}.{content.name}{part}{suffix}")
    target = Path(job.output).expanduser().absolute()
    fitting = EXPORT_SUFFIXES[job.format]
    named = target.name.lower()
    foreign = [
        suffix
        for other, suffixes in EXPORT_SUFFIXES.items()
        for suffix in suffixes
        if other != job.format and named.endswith(suffix) and len(suffix) > _longest(named, fitting)
    ]
    if foreign or (slices and _longest(named, fitting)):
        found = foreign[-1] if foreign else fitting[0]
        wanted = "a folder of slices" if slices else f"a file ending in {' or '.join(fitting)}"
        raise ConfigError(
            f"--output {job.output} ends in {found}, but --format {job.format} writes {wanted}; "
            "change one of them"
        )
    return target


def _export(
    job: ExportJob, content: Content, target: Path, control: JobControl
) -> Generator[ExportEvent, None, Content]:
    """Write the file; return what was written, in its final type."""
    folder = _is_folder(job, content)
    check_target(target, overwrite=job.overwrite, folder=folder)
    meter, measured, kept = _Meter(content.region.size), _Measured(), content.source.dtype
    yield StageChanged("exporting")
    if content.background or depends_on_values(job.format, kept):
        meter.total *= 2
        measured = yield from _measure(content, meter, control)
    dtype = choose_type(job.format, kept, measured.maximum)
    content = dataclasses.replace(content, dtype=dtype)
    if job.format in _UNCOMPRESSED:
        check_space(target, content.nbytes)
    yield from _notes(job, content, measured)
    with (
        unfinished(target, overwrite=job.overwrite, folder=folder) as part,
        closing(WRITERS[job.format](content, part)) as steps,
    ):
        for voxels in steps:
            yield meter.add(voxels)
            _obey(control)
    return content


class _StoppedError(Exception):
    """Ends the writing, so that what is half-written goes."""


class _Meter:
    """Counts voxels that are read or written."""

    def __init__(self, total: int) -> None:
        self.done, self.total = 0, total

    def add(self, voxels: int) -> ExportProgress:
        self.done += voxels
        return ExportProgress(self.done, self.total)


def _obey(control: JobControl) -> None:
    if control.stopped:
        raise _StoppedError


def _is_folder(job: ExportJob, content: Content) -> bool:
    return job.format == "png" and "z" in content.spatial_axes


def _longest(name: str, suffixes: tuple[str, ...]) -> int:
    """Return the length of the longest of these endings that a name has; 0 if it has none."""
    return max((len(suffix) for suffix in suffixes if name.endswith(suffix)), default=0)


def _check_library(kind: ExportFormat) -> None:
    needed = _NEEDED.get(kind)
    if needed is not None and importlib.util.find_spec(needed) is None:
        raise BackendError(
            f'--format {kind} needs {needed}; install it with pip install "napari-unet[formats]"'
        )


def _plan(job: ExportJob, result: Result) -> Content:
    source = result.source
    background = _background(job, result)
    content = Content(
        source=source,
        region=_region(job, source),
        dtype=source.dtype,
        name=result.name,
        background=background,
        label_names=tuple(
            (value - (value > background > 0), name)
            for value, name in result.label_names
            if value != background
        ),
        channel_names=result.channel_names,
    )
    if job.format == "mrc":
        check_mrc(content)
    if job.format == "png":
        check_png(content)
    return content


def _background(job: ExportJob, result: Result) -> int:
    """Return the number of the class that becomes 0; 0 = none."""
    if job.background is None:
        return 0
    numbers = {name: value for value, name in result.label_names}
    listed = ", ".join(f"{value} = {name}" for name, value in numbers.items())
    text = job.background.strip()
    value = int(text) if text.isdecimal() else numbers.get(text)
    if value == 0:
        return 0
    if not result.has_classes:
        raise ConfigError(
            f"--background {text}: {result.name} holds objects, whose background is 0 already; "
            "leave the option out"
        )
    if value is None or (numbers and value not in numbers.values()):
        raise ConfigError(
            f"--background {text} is no class of {result.name}; choose one of {listed}"
        )
    return value


def _region(job: ExportJob, source: ImageSource) -> Box:
    if job.region is None:
        return Box.of_shape(source.shape)
    # A plane is written y,x; z,y,x is understood as well, as by segment.
    if source.spatial_axes == "yx" and job.region.count(",") < 2:
        box = parse_region(job.region, source.shape[1:], "yx")
        return Box((0, *box.start), (1, *box.stop))
    return parse_region(job.region, source.shape)


def _measure(
    content: Content, meter: _Meter, control: JobControl
) -> Generator[ExportEvent, None, _Measured]:
    """Read everything once: the largest value decides the type."""
    maximum = zeros = 0
    stored = dataclasses.replace(content, background=0)
    for box in content.bands():
        values = stored.read(box)
        if content.background:
            zeros += values.size - int(np.count_nonzero(values))
            values = renumber(values, content.background)
        maximum = max(maximum, int(values.max()))
        yield meter.add(box.size)
        _obey(control)
    return _Measured(maximum, zeros)


def _notes(job: ExportJob, content: Content, measured: _Measured) -> Iterator[Warned]:
    if measured.zeros:
        yield Warned(
            f"{measured.zeros} voxels of {content.name} were not computed (0); in the export they "
            f"are background as well"
        )
    if content.source.dtype.kind == "u" and content.dtype.kind == "f":
        yield Warned(
            f"labels up to {measured.maximum} are written as float32, which holds them exactly: "
            f"{job.format} has no integers that are large enough"
        )
    if job.format == "png" and "z" in content.spatial_axes:
        yield Warned("PNG keeps no distance between slices; note it down, or use another format")


def _finished(job: ExportJob, content: Content, target: Path, seconds: float) -> ExportFinished:
    return ExportFinished(
        input=job.input,
        name=content.name,
        output=str(target),
        format=job.format,
        dtype=str(content.dtype),
        shape=content.full_shape,
        nbytes=size_on_disk(target),
        seconds=seconds,
    )
