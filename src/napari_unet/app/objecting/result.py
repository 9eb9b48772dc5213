"""From numbers in scratch to the result: holes filled, small objects left out, all measured."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.app.objecting.search import Found, border_axes
from napari_unet.core.boxes import Box
from napari_unet.core.component_options import ComponentOptions
from napari_unet.core.job import DEFAULT_BLOCK_EDGE
from napari_unet.io.output_state import storage_errors
from napari_unet.labels.block_grid import BlockGrid, Schedule
from napari_unet.labels.cleaning import enclosed_parts, part_neighbors
from napari_unet.labels.components import label_components
from napari_unet.labels.object_table import ObjectMeasures
from napari_unet.labels.stitching import object_type

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    import numpy.typing as npt

    from napari_unet.app.objecting.plan import ObjectsPlan
    from napari_unet.app.objecting.scratch import Scratch
    from napari_unet.app.objecting.sources import Segmentation
    from napari_unet.io.ome_zarr_writer import OutputImage

SLAB_DEPTH = 8
"""Slices that are written and measured at once in a volume; a chunk of scratch has as many."""


@dataclass(frozen=True, slots=True)
class Numbering:
    """What the numbers in scratch are in the result.

    Parameters
    ----------
    numbers : numpy.ndarray
        For each number in scratch, from 0: the object's number in the result; 0 = left out.
    count : int
        Objects of the result, numbered from 1.
    holes : array or None
        (z, y, x) numbered parts of the background; None = holes are not filled.
    fillings : numpy.ndarray
        For each part of the background, from 0: the object whose hole it is, 0 = it is none.
    """

    numbers: npt.NDArray[Any]
    count: int
    holes: Any
    fillings: npt.NDArray[Any]

    def read(self, labels: Any, box: Box) -> npt.NDArray[Any]:
        """Return the objects of a box of the result, in its type."""
        with storage_errors(f"the scratch of {box} cannot be read back"):
            objects: npt.NDArray[Any] = self.numbers[np.asarray(labels[box.slices])]
            if self.holes is not None:
                filling = self.fillings[np.asarray(self.holes[box.slices])]
                np.copyto(objects, filling, where=filling > 0)
        return objects


def number(
    plan: ObjectsPlan, found: Found, joined: npt.NDArray[np.int64], scratch: Scratch
) -> Generator[tuple[int, int], None, Numbering]:
    """Decide which objects stay, and what they are called.

    Holes are filled first; then what is too small or cut by the border goes.

    Yields
    ------
    tuple of int
        Blocks done and in all, while holes are looked for; nothing without holes.
    """
    holes, fillings = None, np.zeros(1, np.int64)
    sizes = np.zeros(int(joined.max()) + 1, np.int64)
    np.add.at(sizes, joined, found.sizes)
    if plan.job.fill_holes:
        holes, fillings, volumes = yield from _find_holes(plan, found, joined, scratch)
        np.add.at(sizes, fillings, volumes)
    stays = sizes >= plan.min_voxels
    stays[0] = False
    if plan.job.clear_border:
        stays[joined[found.at_border]] = False
    count = int(stays.sum())
    final = np.where(stays, np.cumsum(stays), 0).astype(object_type(count))
    return Numbering(final[joined], count, holes, final[fillings])


def write(
    plan: ObjectsPlan,
    segmentation: Segmentation,
    numbering: Numbering,
    found: Found,
    output: OutputImage,
) -> Generator[tuple[int, int], None, ObjectMeasures]:
    """Write and measure all objects; what is written survives a power cut.

    Yields
    ------
    tuple of int
        Blocks done, and in all.

    Returns
    -------
    ObjectMeasures
        Of all objects, in voxels of the image.
    """
    probable = plan.stored.has_probabilities
    measures = ObjectMeasures(numbering.count, probable=probable)
    lock = threading.Lock()

    def work(box: Box) -> None:
        objects = numbering.read(found.labels, box)
        whole = segmentation.whole(box)
        output.write_labels(whole, objects)
        # Before anything says that they are complete.
        output.make_durable(whole)
        if not objects.any():
            return
        classes, chance = _own_class(plan, segmentation, box)
        with lock:
            measures.add(whole, objects, classes, chance)

    boxes = list(_boxes(plan))
    for done, _ in enumerate(_mapped(work, boxes, plan.job.workers), start=1):
        yield done, len(boxes)
    return measures


def _own_class(
    plan: ObjectsPlan, segmentation: Segmentation, box: Box
) -> tuple[npt.NDArray[np.uint8] | int, npt.NDArray[np.float32] | None]:
    """Return the class of the objects of a box, and the probability of it."""
    if plan.rules.method == "components":
        classes = segmentation.classes(box)
        # Holes have another class than the object that they are filled with.
        classes = np.where(np.isin(classes, plan.foreground), classes, 0).astype(np.uint8)
        return classes, segmentation.own_chance(box, classes)
    only = plan.foreground[0]
    chance = segmentation.chance(only, box) if plan.stored.has_probabilities else None
    return only, chance


def _find_holes(
    plan: ObjectsPlan, found: Found, joined: npt.NDArray[np.int64], scratch: Scratch
) -> Generator[tuple[int, int], None, tuple[Any, npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Find the parts of the background, the object around each, and their voxels."""
    grid = BlockGrid(plan.region.shape, plan.job.block_shape(volume=not plan.per_slice))
    holes, counted = scratch.array("holes", grid, np.uint32), list[Found]()
    axes = (1, 2) if plan.per_slice else border_axes(plan)

    def open_output(count: int) -> Callable[[Box, npt.NDArray[Any]], None]:
        kind = object_type(count)
        labels = holes if kind == np.uint32 else scratch.array("holes64", grid, kind)
        counted.append(Found.empty(labels, count))
        return lambda box, objects: counted[0].store(box, objects, axes)

    steps = label_components(
        lambda box: joined[np.asarray(found.labels[box.slices])] == 0,
        grid,
        ComponentOptions(per_slice=plan.per_slice),
        open_output=open_output,
        scratch=holes,
        schedule=Schedule(plan.job.workers),
    )
    total = 3 * grid.count
    for step in steps:
        yield step.done, total
    parts: Found = counted[0]
    across = 0 if plan.per_slice else 1
    reading = BlockGrid(grid.shape, grid.block_shape, ((0, across), (0, 1), (0, 1)))
    touching = [np.empty((0, 2), np.uint64)]
    for block in range(reading.count):
        box = reading.extended(block).slices
        objects = joined[np.asarray(found.labels[box])]
        touching.append(part_neighbors(np.asarray(parts.labels[box]), objects))
        yield 2 * grid.count + block + 1, total
    neighbors = np.unique(np.concatenate(touching), axis=0)
    enclosed, owners = enclosed_parts(neighbors, np.flatnonzero(parts.at_border).astype(np.uint64))
    fillings = np.zeros(len(parts.sizes), np.int64)
    fillings[enclosed.astype(np.int64)] = owners.astype(np.int64)
    return parts.labels, fillings, parts.sizes


def _boxes(plan: ObjectsPlan) -> Iterator[Box]:
    """Yield boxes of the region that no two share a stored object of the result."""
    region = plan.region
    edges = (1 if plan.per_slice else SLAB_DEPTH, DEFAULT_BLOCK_EDGE, DEFAULT_BLOCK_EDGE)
    first = tuple(a // e for a, e in zip(region.start, edges, strict=True))
    last = tuple(-(-b // e) for b, e in zip(region.stop, edges, strict=True))
    for index in np.ndindex(*(b - a for a, b in zip(first, last, strict=True))):
        start = tuple((i + a) * e for i, a, e in zip(index, first, edges, strict=True))
        stop = tuple(a + e for a, e in zip(start, edges, strict=True))
        yield Box(start, stop).intersection(region).relative_to(region.start)


def _mapped(function: Callable[[Box], None], boxes: list[Box], workers: int) -> Iterator[None]:
    """Do the boxes in order, by threads if there are several workers; few wait at a time."""
    if workers == 1:
        yield from map(function, boxes)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="napari-unet-objects") as pool:
        for start in range(0, len(boxes), workers):
            yield from pool.map(function, boxes[start : start + workers])
