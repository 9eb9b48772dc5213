"""Finding objects: in slices or in blocks first, then what is one object is joined.

::

    method        slices by themselves      linked                       volume
    components    blocks, stitched          ... then slices are linked   blocks, stitched
    watershed     whole slices, flooded     ... then slices are linked   blocks, then pieces of
                  and merged                                             all blocks are merged
    interior      whole slices              ... then slices are linked   -
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import fastremap
import numpy as np

from napari_unet.core.component_options import ComponentOptions
from napari_unet.io.output_state import storage_errors
from napari_unet.labels.agglomeration import RegionEdges, agglomerate, region_edges
from napari_unet.labels.block_grid import BlockGrid, Schedule
from napari_unet.labels.cleaning import touching_border
from napari_unet.labels.components import label_components
from napari_unet.labels.interior_instances import MIN_PIXELS, interior_instances
from napari_unet.labels.linking import link_slices
from napari_unet.labels.numbering import final_numbers
from napari_unet.labels.stitching import object_type, stitch
from napari_unet.labels.watershed import watershed_objects, watershed_pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    import numpy.typing as npt

    from napari_unet.app.objecting.plan import ObjectsPlan
    from napari_unet.app.objecting.scratch import Scratch
    from napari_unet.app.objecting.sources import Segmentation
    from napari_unet.core.boxes import Box
    from napari_unet.labels.numbering import Pairs


@dataclass(slots=True)
class Found:
    """Objects in scratch, numbered from 1, and what is known of each number.

    Parameters
    ----------
    labels : array
        (z, y, x) of the region.
    sizes : numpy.ndarray
        Voxels of each number; entry 0 is not used.
    at_border : numpy.ndarray
        Whether each number touches the border of the region, across which it might go on.
    """

    labels: Any
    sizes: npt.NDArray[np.int64]
    at_border: npt.NDArray[np.bool_]
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def empty(cls, labels: Any, count: int) -> Found:
        """Return a count of nothing yet."""
        return cls(labels, np.zeros(count + 1, np.int64), np.zeros(count + 1, np.bool_))

    def store(self, box: Box, objects: npt.NDArray[Any], axes: tuple[int, ...]) -> None:
        """Keep the numbers of a box, and count them. Safe to call from several threads."""
        with storage_errors(f"the scratch of {box} cannot be written"):
            self.labels[box.slices] = objects
        used, counts = fastremap.unique(objects, return_counts=True)
        edge = touching_border(objects, box, self.labels.shape, axes=axes)
        with self._lock:
            self.sizes[used.astype(np.int64)] += counts.astype(np.int64)
            self.at_border[edge.astype(np.int64)] = True


def search(
    plan: ObjectsPlan, segmentation: Segmentation, scratch: Scratch
) -> Generator[tuple[int, int], None, Found]:
    """Find numbered objects, or pieces of them, in each slice or block.

    Yields
    ------
    tuple of int
        Blocks done and blocks in all, those of both passes.

    Returns
    -------
    Found
        In the order of the first voxels of the objects.
    """
    grid = plan.grid
    first = scratch.array("found", grid, np.uint32)
    axes = border_axes(plan)
    holder: list[Found] = []

    def open_output(count: int) -> Callable[[Box, npt.NDArray[Any]], None]:
        kind = object_type(count)
        # Numbers of blocks wait where those of the whole will be, unless they need more room.
        labels = first if kind == np.uint32 else scratch.array("found64", grid, kind)
        holder.append(Found.empty(labels, count))
        return lambda box, objects: holder[0].store(box, objects, axes)

    schedule = Schedule(plan.job.workers)
    if plan.rules.method == "components":
        options = ComponentOptions(
            foreground=plan.foreground,
            connectivity=plan.job.connectivity or 1,
            per_slice=plan.per_slice,
        )
        steps = label_components(
            segmentation.classes,
            grid,
            options,
            open_output=open_output,
            scratch=first,
            schedule=schedule,
        )
    else:
        labeling = _Labeling(plan, segmentation)
        steps = stitch(grid, labeling, open_output=open_output, scratch=first, schedule=schedule)
    for step in steps:
        yield step.done, step.total
    return holder[0]


def join(
    plan: ObjectsPlan, segmentation: Segmentation, found: Found
) -> Generator[tuple[int, int], None, npt.NDArray[np.int64]]:
    """Find out which numbers are one object, across slices or blocks.

    Yields
    ------
    tuple of int
        Slices or blocks done, and in all; nothing where nothing is to be joined.

    Returns
    -------
    numpy.ndarray
        What each number becomes: 1, 2, ... in the order of the objects' first voxels; 0 stays.
    """
    count = len(found.sizes) - 1
    pairs: list[Pairs] = [np.empty((0, 2), np.int64)]
    if plan.dimension == "linked":
        yield from _linked(plan, found, pairs)
    elif plan.dimension == "3d" and plan.rules.method == "watershed":
        yield from _merged(plan, segmentation, found, pairs)
    # Numbers are in the order of first voxels already, so each is its own first voxel.
    numbers, _ = final_numbers(np.arange(count, dtype=np.int64), np.concatenate(pairs) - 1)
    return np.concatenate([[0], numbers])


def border_axes(plan: ObjectsPlan) -> tuple[int, ...]:
    """Return the axes along which objects may leave the region: of slices, y and x."""
    # A single slice has no inside along z: all of it would be border.
    flat = plan.dimension == "2d" or plan.region.shape[0] == 1
    return (1, 2) if flat else (0, 1, 2)


def _linked(
    plan: ObjectsPlan, found: Found, pairs: list[Pairs]
) -> Generator[tuple[int, int], None, None]:
    depth = found.labels.shape[0]
    previous = np.asarray(found.labels[0])
    for z in range(1, depth):
        current = np.asarray(found.labels[z])
        pairs.append(link_slices(previous, current, plan.link).astype(np.int64))
        previous = current
        yield z, depth - 1


def _merged(
    plan: ObjectsPlan, segmentation: Segmentation, found: Found, pairs: list[Pairs]
) -> Generator[tuple[int, int], None, None]:
    """Merge the pieces of all blocks as those of one image."""
    if not plan.uses_probabilities:
        return
    grid = BlockGrid(plan.grid.shape, plan.grid.block_shape, ((0, 1),) * 3)
    parts: list[RegionEdges] = []
    for block in range(grid.count):
        wide = grid.extended(block)
        pieces = np.asarray(found.labels[wide.slices])
        chance = segmentation.chance(plan.boundary or 0, wide)
        parts.append(region_edges(pieces, chance, inner=grid.box(block).shape))
        yield block + 1, grid.count
    edges = RegionEdges.total(parts)
    joined = np.stack(agglomerate(edges, plan.rules.watershed.merge), axis=1)
    pairs.append(joined.astype(np.int64))


@dataclass(frozen=True, slots=True)
class _Labeling:
    """Objects of whole slices, or pieces of blocks of a volume; nothing is one by overlap."""

    plan: ObjectsPlan
    segmentation: Segmentation

    def label(self, box: Box) -> npt.NDArray[np.uint32]:
        """Return the objects of a box of the region."""
        rules, boundary = self.plan.rules, self.plan.boundary or 0
        edge = self.segmentation.chance(boundary, box)
        if rules.method == "interior":
            inner = self.segmentation.chance(self.plan.foreground[0], box)
            least = MIN_PIXELS if self.plan.job.min_size is None else 1
            return interior_instances(edge, inner, min_pixels=least).astype(np.uint32)
        mask, options = self.segmentation.mask(box), rules.watershed
        if not self.plan.uses_probabilities:
            # Between pieces of one interior the classes know no boundary, so all would be merged.
            options = options.model_copy(update={"merge": 0.0})
        if not self.plan.per_slice:
            spacing = self.plan.levels[0].voxel_size.zyx
            return watershed_pieces(edge, options, spacing=spacing, mask=mask)
        size = self.plan.levels[0].voxel_size
        objects = watershed_objects(
            edge[0], options, spacing=(size.y, size.x), mask=None if mask is None else mask[0]
        )
        return objects[np.newaxis]

    def join(self, box: Box, lower: npt.NDArray[np.uint32], upper: npt.NDArray[np.uint32]) -> Pairs:
        """Return no pairs: what is one object is found out later, from the numbers of the whole."""
        return np.empty((0, 2), np.int64)
