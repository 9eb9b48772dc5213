"""What a click on Segment asks for, and the job that does it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from napari_unet.core.boxes import Box, format_region
from napari_unet.core.job import SegmentJob
from napari_unet.errors import UNetError
from napari_unet.widgets._output import free_label_name, label_names

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from napari.layers import Image

    from napari_unet.app.models import ModelEntry
    from napari_unet.app.plan import SegmentPlan
    from napari_unet.widgets._layers import LayerInput
    from napari_unet.widgets._output import OutputPlace

PLANNED_TILE_EDGE = 512
"""Any legal one: what decides an answer does not depend on it."""


class ResultKind(Enum):
    """What is made of the image; the value is what the user reads."""

    CLASSES = "classes"
    OBJECTS = "objects"
    PROBABILITIES = "probabilities"

    @property
    def options(self) -> dict[str, Any]:
        """Fields of a `SegmentJob`."""
        match self:
            case ResultKind.CLASSES:
                return {}
            case ResultKind.OBJECTS:
                return {"output_kind": "instances"}
            case ResultKind.PROBABILITIES:
                return {"probabilities": True}

    @classmethod
    def of_job(cls, job: SegmentJob) -> ResultKind:
        """Return what a job makes."""
        if job.output_kind == "instances":
            return cls.OBJECTS
        return cls.PROBABILITIES if job.probabilities else cls.CLASSES


class Region(Enum):
    """Which part of the layer; the value is what the user reads."""

    THIS_SLICE = "this slice"
    ALL_SLICES = "all slices"
    VISIBLE_PART = "the visible part"


@dataclass(frozen=True, slots=True)
class Choices:
    """What the form says when Segment is clicked.

    Parameters
    ----------
    layer, model, region, place, folder
        What to segment, with what, and where to.
    options : mapping
        Further fields of a `SegmentJob`, those that are not as they are by default.
    anew : bool
        Whether to compute again what an earlier run has left.
    """

    layer: Image
    model: ModelEntry
    region: Region
    place: OutputPlace
    folder: Path | None
    options: Mapping[str, Any] = field(default_factory=dict)
    anew: bool = False


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What the user chose.

    Parameters
    ----------
    layer : Image
        What to segment.
    model : str
        The model's name, or its file.
    model_name : str
        What its results are called.
    region : Box or None
        Part to segment (z, y, x); None = all.
    place : OutputPlace
        Where to write.
    folder : Path or None
        The chosen folder.
    options : mapping
        Further fields of a `SegmentJob`, such as ``device``.
    anew : bool
        Compute again what an earlier run of the same job has left, instead of going on from there.
    job : SegmentJob or None
        This very job, which an earlier run was begun with; then nothing else counts but the layer
        and the place. None = made from the rest.
    """

    layer: Image
    model: str
    model_name: str
    region: Box | None
    place: OutputPlace
    folder: Path | None
    options: Mapping[str, Any] = field(default_factory=dict)
    anew: bool = False
    job: SegmentJob | None = None

    def make_job(self, source: LayerInput, output: str) -> SegmentJob:
        """Return the job, its label image not named yet.

        Parameters
        ----------
        source : LayerInput
            Where the engine reads what the layer shows.
        output : str
            OME-Zarr group to write.

        Raises
        ------
        ConfigError
            If an option cannot be used.
        """
        return SegmentJob.parse(
            {
                "input": source.path,
                "axes": source.axes,
                "level": source.level,
                "channel": source.channel,
                "time": source.time,
                "model": self.model,
                "output": output,
                "region": None if self.region is None else format_region(self.region),
                **self.options,
            },
            source="the panel",
        )


def with_free_name(job: SegmentJob, model_name: str) -> SegmentJob:
    """Return a job under a name that its output does not hold yet: NAME, NAME-2, ...

    Raises
    ------
    StorageError
        If the output is there and is not one of ours.
    """
    return job.model_copy(update={"name": free_label_name(job.output, model_name)})


def with_fitting_name(job: SegmentJob, model_name: str, *, anew: bool) -> SegmentJob:
    """Return a job under the name of an earlier run of it, from which it goes on; or a free one.

    Parameters
    ----------
    job : SegmentJob
        What to do; its input is the image itself, not a copy.
    model_name : str
        What results of the model are called.
    anew : bool
        Replace what that earlier run has left.

    Raises
    ------
    StorageError
        If the output is there and is not one of ours.
    """
    free = free_label_name(job.output, model_name)
    taken = list(takewhile(lambda name: name != free, label_names(model_name)))
    same = _find_same(job, taken) if taken else None
    if same is None:
        return job.model_copy(update={"name": free})
    return job.model_copy(update={"name": same, "overwrite": anew})


def _find_same(job: SegmentJob, names: list[str]) -> str | None:
    """Return under which of some names the output holds the same job; None = none of them."""
    # Imported on demand: the panel opens without it.
    from napari_unet.app.plan import plan_segment

    try:
        plan = plan_segment(job, PLANNED_TILE_EDGE)
    except UNetError:
        # The engine will say what is wrong with it.
        return None
    with closing(plan.source):
        return next((name for name in names if _is_same(replace(plan, name=name))), None)


def _is_same(plan: SegmentPlan) -> bool:
    from napari_unet.app.foreseeing.begun import find_begun

    try:
        begun = find_begun(plan)
    except UNetError:
        return False
    if begun is None or begun.differs:
        return False
    # Shards are gone on with one by one, on the command line.
    return begun.state == "complete" or begun.shards is None
