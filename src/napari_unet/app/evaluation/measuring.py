"""One pass over a pair, block by block: everything that scores are taken from.

Blocks are one slice thin and go slice by slice, so that the table of shared pixels of a slice is
complete, and can be forgotten, when the next one begins. Memory does not grow with the image, but
with its objects.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.app.evaluation.crops import CropRanks, Windows
from napari_unet.app.evaluation.tally import Tally
from napari_unet.app.evaluation.tolerance import Tolerance
from napari_unet.core.boxes import Box
from napari_unet.metrics.boundary import BOUNDARY_REACH, boundaries_of, boundary_score
from napari_unet.metrics.calibration import confidence_counts
from napari_unet.metrics.classes import confusion
from napari_unet.metrics.contingency import Contingency
from napari_unet.metrics.curves import class_probability_counts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_unet.app.evaluation.opened import Block, OpenedPair
    from napari_unet.app.evaluation.tally import Measured
    from napari_unet.core.evaluate_job import EvaluateJob

MAX_UNITS = 256
"""Blocks of one image that the bootstrap draws from; neighboring ones are taken together."""


@dataclass(frozen=True, slots=True)
class MeasuringRules:
    """How a pair is measured.

    Parameters
    ----------
    tolerance : Tolerance
        Of boundaries.
    boundary : str or None
        The class that is a drawn boundary.
    block_edge : int
        Edge of a block in y and x.
    units : int
        Parts of the image that the bootstrap may draw from; 1 = the image is a unit itself.
    crops : int
        Windows that are remembered as worst and as best.
    """

    tolerance: Tolerance
    boundary: str | None
    block_edge: int
    units: int = 1
    crops: int = 3

    @classmethod
    def of(cls, job: EvaluateJob, *, pairs: int) -> MeasuringRules:
        """Return those of a job with so many pairs.

        Raises
        ------
        ConfigError
            If the tolerance has no known unit.
        """
        units = MAX_UNITS if pairs == 1 else 1
        return cls(Tolerance.parse(job.tolerance), job.boundary, job.block_size, units)


def measure(pair: OpenedPair, rules: MeasuringRules) -> Iterator[float | Measured]:
    """Yield the share of the pair that is done, and at last what was measured.

    Raises
    ------
    AnnotationError, InputError
        If images cannot be read, or hold values that they should not.
    ConfigError
        If the tolerance is a length and the voxel size is not known, or there is no such boundary.
    """
    spacing = rules.tolerance.spacing(pair)
    margin = rules.tolerance.margin(pair)
    margin = (margin[0] + BOUNDARY_REACH, margin[1] + BOUNDARY_REACH)
    tally, ranks = Tally(pair, rules.units), CropRanks(rules.crops)
    boxes = _count_blocks(pair.region, rules.block_edge)
    for done, box in enumerate(_blocks(pair.region, rules.block_edge)):
        block = pair.read(box, margin)
        tally.begin(box.start[0], done * rules.units // boxes)
        tally.count(block)
        _add_classes(block, pair, tally, ranks)
        _add_objects(block, tally, ranks)
        masks = _boundaries(block, pair, rules.boundary)
        score = boundary_score(
            *masks,
            tolerance=rules.tolerance.length,
            valid=block.counted,
            spacing=spacing,
            inner=block.inner,
        )
        tally.add_boundary(score)
        yield (done + 1) / boxes
    yield tally.finish(ranks)


def _add_classes(block: Block, pair: OpenedPair, tally: Tally, ranks: CropRanks) -> None:
    if block.true_classes is None or block.predicted_classes is None:
        return
    true, predicted = block.inside(block.true_classes), block.inside(block.predicted_classes)
    tally.add_classes(confusion(true, predicted, len(pair.class_names)))
    if block.true_objects is None:
        for window in Windows(block.box):
            ranks.offer_classes(window.box, window.part(true), window.part(predicted))
    if block.probabilities is not None:
        tally.add_probabilities(
            (
                *class_probability_counts(block.probabilities, true),
                confidence_counts(block.probabilities, true),
            )
        )


def _add_objects(block: Block, tally: Tally, ranks: CropRanks) -> None:
    if block.true_objects is None or block.predicted_objects is None:
        return
    true, predicted = block.inside(block.true_objects), block.inside(block.predicted_objects)
    ignored = ~block.inside(block.counted)
    parts = []
    for window in Windows(block.box):
        table = Contingency.of(window.part(predicted), window.part(true), window.part(ignored))
        ranks.offer_objects(window.box, table)
        parts.append(table)
    tally.add_objects(Contingency.total(parts))


def _boundaries(block: Block, pair: OpenedPair, name: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the masks (predicted, true) of the boundaries of a block with its margin."""
    if name is None and block.true_objects is not None and block.predicted_objects is not None:
        return boundaries_of(block.predicted_objects), boundaries_of(block.true_objects)
    predicted, true = block.predicted_classes, block.true_classes
    if predicted is None or true is None:
        nothing = np.zeros(block.counted.shape, bool)
        return nothing, nothing
    if name is not None:
        number = pair.class_number(name)
        return predicted == number, true == number
    return boundaries_of(predicted, ignore=0), boundaries_of(true, ignore=0)


def _blocks(region: Box, edge: int) -> Iterator[Box]:
    """Yield the blocks of a region, slice by slice; they lie on the grid of the image."""
    (z0, y0, x0), (z1, y1, x1) = region.start, region.stop
    for z in range(z0, z1):
        for y in _starts(y0, y1, edge):
            for x in _starts(x0, x1, edge):
                box = Box((z, y[0], x[0]), (z + 1, y[1], x[1]))
                yield box


def _starts(start: int, stop: int, edge: int) -> list[tuple[int, int]]:
    cuts = [start, *range((start // edge + 1) * edge, stop, edge), stop]
    return list(itertools.pairwise(cuts))


def _count_blocks(region: Box, edge: int) -> int:
    spans = zip(region.start[1:], region.stop[1:], strict=True)
    return region.shape[0] * math.prod(len(_starts(a, b, edge)) for a, b in spans)
