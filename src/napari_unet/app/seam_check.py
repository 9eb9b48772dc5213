"""Whether tiles agree: a part of an image computed in small tiles, and in one pass, compared.

The tile law says that both answers are the same (docs/architecture.md). A network that breaks it,
for instance by statistics over its whole input, shows seams where tiles meet.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.app.plan import estimate, plan_segment
from napari_unet.app.segmenting.preparation import make_predictor, open_backend, tile_run
from napari_unet.core.boxes import Box, format_region
from napari_unet.core.normalization import measure_normalization
from napari_unet.core.resampling import Resampling
from napari_unet.core.tiling import TileGrid, nearest_tile_edge
from napari_unet.errors import BackendError, InputError
from napari_unet.inference.control import JobControl
from napari_unet.inference.engine import Tally, run_tiles
from napari_unet.inference.memory import MemorySink

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_unet.app.plan import SegmentPlan
    from napari_unet.core.arrays import ImageSource, PyramidLevel
    from napari_unet.core.boxes import Shape
    from napari_unet.core.job import Precision, SegmentJob
    from napari_unet.core.normalization import Normalization
    from napari_unet.inference.device import Backend
    from napari_unet.inference.predictor import Predictor

PART_EDGES = (768, 640, 512, 384, 256, 128)
"""Edges of the part that is compared, in pixels: the first that fits."""

SMALL_TILE = 128
"""Edge of the small tiles, as the network sees them: 36 of them in the largest part."""

MEMORY_BYTES = 1.5 * 2**30
"""Estimated memory that the pass over the whole part may take."""

SAMPLE_VOXELS = 2**22
"""Voxels that the intensities are measured on; a quarter of what a run takes, to be quick."""

TOLERANCES: dict[Precision, float] = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 5e-2}
"""Difference of probabilities that arithmetic alone makes, at most."""

TF32_TOLERANCE = 1e-2
"""The same with TF32."""


@dataclass(frozen=True, slots=True)
class SeamReport:
    """What a comparison has found.

    Parameters
    ----------
    input, model, device : str
        What was computed, with what, and where.
    region : Box
        The part that was compared, (z, y, x).
    tiles : int
        Small tiles that it was divided into.
    tile_shape : tuple of int
        Edges of their write boxes.
    pixels : int
        Pixels that were compared.
    largest_difference : float
        Of a probability, between both answers.
    place : tuple of int
        Where that is, (z, y, x) in the image.
    differing_pixels : int
        Pixels whose class differs; a few may, where two classes are equally likely.
    tolerance : float
        Difference that arithmetic alone makes, at most.
    seconds : float
        How long it took.
    """

    input: str
    model: str
    device: str
    region: Box
    tiles: int
    tile_shape: Shape
    pixels: int
    largest_difference: float
    place: Shape
    differing_pixels: int
    tolerance: float
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether the tile law holds here."""
        return self.largest_difference <= self.tolerance

    def to_json(self) -> dict[str, Any]:
        """Return all of it, ready for JSON; see docs/reference/seams.md."""
        return {
            "schema": 1,
            "input": self.input,
            "model": self.model,
            "device": self.device,
            "region": format_region(self.region),
            "tiles": self.tiles,
            "tile_shape": list(self.tile_shape),
            "pixels": self.pixels,
            "largest_difference": self.largest_difference,
            "place": list(self.place),
            "differing_pixels": self.differing_pixels,
            "tolerance": self.tolerance,
            "holds": self.holds,
            "seconds": self.seconds,
        }


def check_seams(job: SegmentJob) -> SeamReport:
    """Compute the middle of a job's region in small tiles and in one pass, and compare.

    Nothing is written. The part is one slice, at most 768 pixels wide and high, and smaller where
    the pass over it would take too much memory. It is taken for an image of its own, mirrored at
    its edges, in both cases.

    Parameters
    ----------
    job : SegmentJob
        What would be done; its tile size is that of the small tiles, None = 128 pixels.

    Raises
    ------
    UNetError
        If image, model or an option cannot be used, the image is damaged there, or the device has
        not enough memory for one pass over the smallest part.
    """
    began = time.monotonic()
    backend = open_backend(job)
    plan = plan_segment(job.model_copy(update={"batch_size": 1}), SMALL_TILE)
    with closing(plan.source):
        predictor = make_predictor(plan, backend)
        normalization = plan.normalization or measure_normalization(
            plan.source, SAMPLE_VOXELS, plan.grid.resampling
        )
        part, whole = _whole(plan, predictor, normalization)
        small = _in_small_tiles(plan, part, job.tile_size or SMALL_TILE)
        tiled = _answer(small, predictor, normalization)
        return _compared(small, part, (tiled, whole), (backend, time.monotonic() - began))


@dataclass(frozen=True, slots=True)
class _Answer:
    """Classes (z, y, x) and probabilities (class, z, y, x) of a region."""

    labels: npt.NDArray[np.uint8]
    probabilities: npt.NDArray[np.float32]


class _Part:
    """A box of an image as an image of its own; implements `core.arrays.ImageSource`."""

    spatial_axes = "zyx"

    def __init__(self, source: ImageSource, box: Box) -> None:
        self._source, self.box = source, box
        self.name = source.name
        self.shape = box.shape
        self.num_channels = source.num_channels
        self.dtype = source.dtype
        self.levels: tuple[PyramidLevel, ...] = (replace(source.levels[0], shape=box.shape),)

    def read(self, box: Box) -> npt.NDArray[Any]:
        """Return the voxels (c, z, y, x) of a box of the part."""
        return self._source.read(box.relative_to(tuple(-n for n in self.box.start)))

    def sample_boxes(self, max_voxels: int) -> tuple[Box, ...]:
        """Return the whole part; intensities are measured on the whole image."""
        return (Box.of_shape(self.shape),)

    def count_missing_chunks(self, box: Box) -> int:
        """Return 0: what was never written is read as its fill value, twice."""
        return 0

    def identity(self) -> dict[str, Any]:
        """Return that of the whole image."""
        return self._source.identity()

    def close(self) -> None:
        """Leave the image open to its owner."""


def _whole(
    plan: SegmentPlan, predictor: Predictor, normalization: Normalization
) -> tuple[_Part, _Answer]:
    """Return the largest part that one pass has room for, and its answer."""
    tried = set()
    for edge in PART_EDGES:
        part = _Part(plan.source, _middle(plan, edge))
        whole = _in_one_pass(plan, part)
        last = edge == PART_EDGES[-1]
        if part.shape in tried or (estimate(whole).memory_bytes > MEMORY_BYTES and not last):
            continue
        tried.add(part.shape)
        predictor.largest_tile = None
        answer = _answer(whole, predictor, normalization)
        # Where memory was short, the engine has divided it.
        if predictor.largest_tile is None:
            return part, answer
    raise BackendError(
        f"one pass over {part.shape[-2]} x {part.shape[-1]} pixels does not fit into the memory of "
        "the device, so there is nothing to compare tiles with; try --device cpu"
    )


def _middle(plan: SegmentPlan, edge: int) -> Box:
    """Return the middle of the region, with the slices around it that the network sees."""
    region, depth = plan.region, plan.source.shape[0]
    z = (region.start[0] + region.stop[0]) // 2
    context = plan.grid.net.halo[0]
    start, stop = [max(z - context, 0)], [min(z + context + 1, depth)]
    for a, b in zip(region.start[1:], region.stop[1:], strict=True):
        first = max((a + b - edge) // 2, a)
        start.append(first)
        stop.append(min(first + edge, b))
    return Box(tuple(start), tuple(stop))


def _in_one_pass(plan: SegmentPlan, part: _Part) -> SegmentPlan:
    stride = plan.grid.net.stride
    return _planned(plan, part, (1, *(-(-n // s) * s for n, s in _pairs(part, stride))))


def _in_small_tiles(plan: SegmentPlan, part: _Part, edge: int) -> SegmentPlan:
    small = nearest_tile_edge(edge, plan.grid.net.stride[-1])
    if plan.factors is None:
        return _planned(plan, part, (1, small, small))
    return _planned(plan, part, (1, *(max(round(small / f), 1) for f in plan.factors)))


def _pairs(part: _Part, stride: Shape) -> zip[tuple[int, int]]:
    return zip(part.shape[1:], stride[1:], strict=True)


def _planned(plan: SegmentPlan, part: _Part, tile: Shape) -> SegmentPlan:
    """Return the plan of a part: one block, the slice that the network sees the others around."""
    net, factors = plan.grid.net, plan.factors
    block = (1, *(-(-n // s) * s for n, s in _pairs(part, net.stride)))
    resampling = None if factors is None else Resampling(part.shape, factors)
    edges = tuple(min(a, b) for a, b in zip(tile, block, strict=True))
    grid = TileGrid(part.shape, net, edges, block, resampling)
    middle = plan.region.start[0] + plan.region.stop[0]
    z = middle // 2 - part.box.start[0]
    region = Box((z, 0, 0), (z + 1, *part.shape[1:]))
    return replace(plan, source=part, grid=grid, region=region)


def _answer(plan: SegmentPlan, predictor: Predictor, normalization: Normalization) -> _Answer:
    """Return what the engine makes of a plan, in memory."""
    sink, tally = MemorySink(plan.source.shape), Tally()
    run = replace(tile_run(plan, sink, normalization), probabilities=True)
    for _ in run_tiles(run, predictor, JobControl(), tally):
        pass
    for cause in tally.failed.values():
        raise InputError(cause)
    if sink.probabilities is None:
        raise BackendError("the network gave no probabilities; nothing can be compared")
    inside = plan.region.slices
    return _Answer(sink.labels[inside], sink.probabilities[(slice(None), *inside)])


def _compared(
    plan: SegmentPlan, part: _Part, answers: tuple[_Answer, _Answer], ran: tuple[Backend, float]
) -> SeamReport:
    (tiled, whole), (backend, seconds) = answers, ran
    difference = np.abs(tiled.probabilities - whole.probabilities).max(axis=0)
    where = np.unravel_index(int(difference.argmax()), difference.shape)
    compared = plan.region.relative_to(tuple(-n for n in part.box.start))
    job = plan.job
    return SeamReport(
        input=job.input,
        model=plan.model.name,
        device=backend.label,
        region=compared,
        tiles=plan.grid.count_tiles(plan.region),
        tile_shape=plan.grid.tile_shape,
        pixels=compared.size,
        largest_difference=float(difference.max()),
        place=tuple(int(a) + b for a, b in zip(where, compared.start, strict=True)),
        differing_pixels=int((tiled.labels != whole.labels).sum()),
        tolerance=TF32_TOLERANCE if job.tf32 else TOLERANCES[job.precision],
        seconds=seconds,
    )
