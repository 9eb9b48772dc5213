"""What models say of parts of an image, and which parts a person has painted in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.app.device_memory import first_tile_edge
from napari_unet.app.plan import plan_segment
from napari_unet.app.segmenting.preparation import (
    make_predictor,
    measured_normalization,
    open_backend,
    tile_run,
)
from napari_unet.app.suggesting.doubt import Doubt, doubt_of, shared_numbers
from napari_unet.core.job import SegmentJob
from napari_unet.core.tiling import Block
from napari_unet.errors import AnnotationError, InputError, NonFiniteError
from napari_unet.inference.fitting import fitted_results
from napari_unet.inference.memory import MemorySink
from napari_unet.inference.tile_input import read_tile
from napari_unet.inference.writer import BlockFault, TileResult
from napari_unet.io.annotation_store import open_annotation_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from napari_unet.app.plan import SegmentPlan
    from napari_unet.core.arrays import ImageSource
    from napari_unet.core.boxes import Box
    from napari_unet.core.events import Warned
    from napari_unet.core.normalization import Normalization
    from napari_unet.core.suggest_job import SuggestJob
    from napari_unet.inference.device import Backend
    from napari_unet.inference.predictor import Predictor
    from napari_unet.inference.tile_input import TileRun
    from napari_unet.io.annotation_store import AnnotationStore


def segment_job(job: SuggestJob, model: str) -> SegmentJob:
    """Return the segmentation whose probabilities are looked at; it is never run as a whole."""
    return SegmentJob(
        input=job.input,
        model=model,
        output="",
        region=job.region,
        axes=job.axes,
        channel=job.channel,
        level=job.level,
        time=job.time,
        rescale=job.rescale,
        device=job.device,
        threads=job.threads,
        probabilities=True,
    )


@dataclass(frozen=True, slots=True, eq=False)
class ModelView:
    """An image as a model sees it.

    Parameters
    ----------
    plan : SegmentPlan
        Geometry of a segmentation with the model.
    predictor : Predictor
        Its network on the device.
    run : TileRun
        What tiles are read from.
    device : str
        Where the network runs, in words.
    """

    plan: SegmentPlan
    predictor: Predictor
    run: TileRun
    device: str

    @property
    def normalization(self) -> Normalization:
        """That of the volume."""
        return self.run.normalization

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes in order."""
        return tuple(item.name for item in self.plan.model.header.classes)

    @property
    def tile_edge(self) -> int:
        """Edge of what one forward pass decides, in voxels of the image."""
        return min(self.plan.grid.tile_shape[1:])

    def probabilities(self, box: Box) -> Iterator[Warned | npt.NDArray[np.float32]]:
        """Yield the probabilities (class, z, y, x) of a box, last; warnings come before.

        They are those that a segmentation of the whole image stores, to rounding: tiles begin on
        the network's grid, whatever box is asked for.

        Raises
        ------
        InputError
            If stored data is damaged.
        NonFiniteError
            If the network answers with NaN or infinity.
        BackendError
            If it fails in another way.
        """
        block = Block((0,) * len(box.start), box, box)
        found = np.zeros((len(self.class_names), *box.shape), np.float32)
        for tile in self.plan.grid.tiles_of(block):
            item = read_tile(self.run, block, tile)
            for result in fitted_results(self.run, self.predictor, [item]):
                match result:
                    case TileResult(probabilities=part) if part is not None:
                        inside = result.box.relative_to(box.start)
                        found[(slice(None), *inside.slices)] = part
                    case BlockFault(cause=cause):
                        raise NonFiniteError(cause)
                    case TileResult():
                        continue
                    case _:
                        yield result
        yield found


def open_view(
    job: SuggestJob, model: str, source: ImageSource, first: ModelView | None = None
) -> ModelView:
    """Return an image as a model sees it.

    Parameters
    ----------
    job : SuggestJob
        Where it runs, and which part of the file is the image.
    model : str
        Name of the model, or path of its file.
    source : ImageSource
        The image, opened.
    first : ModelView or None
        A view of another model, whose measured intensities are taken if they are the same.

    Raises
    ------
    UNetError
        If the model cannot be read, or does not fit the image or the device.
    """
    asked = segment_job(job, model)
    backend = open_backend(asked)
    plan = plan_segment(asked, first_tile_edge(asked, backend)[0], source)
    normalization = None
    if first is not None and _sees_alike(plan, first.plan):
        normalization = first.normalization
    return _view(plan, backend, normalization)


def _sees_alike(plan: SegmentPlan, other: SegmentPlan) -> bool:
    channels = plan.source.num_channels, other.source.num_channels
    return plan.factors == other.factors and channels[0] == channels[1]


def _view(plan: SegmentPlan, backend: Backend, normalization: Normalization | None) -> ModelView:
    measured = normalization or measured_normalization(plan)
    run = tile_run(plan, MemorySink((1, 1, 1)), measured)
    return ModelView(plan, make_predictor(plan, backend), run, backend.label)


@dataclass(frozen=True, slots=True, eq=False)
class Lookout:
    """What one or two models say of an image.

    Parameters
    ----------
    model : ModelView
        The model that is to learn.
    other : ModelView or None
        The one that it is compared with.
    """

    model: ModelView
    other: ModelView | None = None

    def look(self, box: Box) -> Iterator[Warned | Doubt]:
        """Yield what is known of a window, last; raises as `ModelView.probabilities` does."""
        mine, theirs = None, None
        for found in self.model.probabilities(box):
            if isinstance(found, np.ndarray):
                mine = found
            else:
                yield found
        for found in () if self.other is None else self.other.probabilities(box):
            if isinstance(found, np.ndarray):
                theirs = found
            else:
                yield found
        if mine is None:
            raise InputError(f"nothing was computed of {box.start}..{box.stop}")
        yield doubt_of(box, mine, self._chosen(mine, theirs))

    def _chosen(
        self, mine: npt.NDArray[np.float32], theirs: npt.NDArray[np.float32] | None
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]] | None:
        if theirs is None or self.other is None:
            return None
        # Classes are the same if their names are.
        numbers = shared_numbers(self.model.class_names, self.other.class_names)
        return mine[:, 0].argmax(axis=0), numbers[theirs[:, 0].argmax(axis=0)]


@dataclass(slots=True, eq=False)
class PaintedParts:
    """Which boxes of an image a person has painted in.

    Parameters
    ----------
    store : AnnotationStore or None
        The strokes; None = there are none.
    blocks : tuple of Box
        The stored blocks; nothing is painted elsewhere.
    """

    store: AnnotationStore | None = None
    blocks: tuple[Box, ...] = ()
    damaged: dict[Box, str] = field(default_factory=dict)
    """Stored blocks that could not be read, and why."""
    _known: dict[Box, bool] = field(default_factory=dict)

    @classmethod
    def of(cls, path: str | None, image: ImageSource) -> PaintedParts:
        """Return the parts of a stored annotation.

        Raises
        ------
        InputError
            If it cannot be read.
        AnnotationError
            If it is of another image.
        """
        if path is None:
            return cls()
        store = open_annotation_store(path)
        if store.shape != image.shape:
            raise AnnotationError(
                f"the annotation {path} of shape {store.shape} does not fit the image {image.name} "
                f"of {image.shape}; give the annotation of that image"
            )
        return cls(store, store.block_boxes())

    def holds(self, box: Box) -> bool:
        """Return whether anything is painted in a box.

        A block that cannot be read counts as painted all over, because only blocks with labels are
        stored; it is then among `damaged`.
        """
        if self.store is None:
            return False
        known = self._known.get(box)
        if known is None:
            touched = (block for block in self.blocks if not block.intersection(box).is_empty)
            known = any(self._is_painted(self.store, block, box) for block in touched)
            self._known[box] = known
        return known

    def _is_painted(self, store: AnnotationStore, block: Box, box: Box) -> bool:
        if block in self.damaged:
            return True
        try:
            return bool(store.read(block.intersection(box)).any())
        except InputError as error:
            self.damaged[block] = str(error)
            return True
