"""Scoring weights on held-out labels, with the tile engine's own forward pass.

::

    +-------------+-------------+    Only around labels is anything computed: each cell of a grid
    |    +-----+  |             |    gives one tile that covers its labels of one slice. A tile
    |    | --- |  |             |    begins on the network's pooling grid, so its answers are those
    |    |   / |  |  nothing    |    that `segment` gives for the whole image.
    |    +-----+  |             |
    +-------------+-------------+
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.core.arrays import read_mirrored
from napari_unet.core.boxes import Box
from napari_unet.core.classes import FIRST_CLASS, UNLABELED
from napari_unet.core.normalization import normalize
from napari_unet.inference.predictor import Predictor
from napari_unet.metrics.bootstrap import standard_error
from napari_unet.metrics.classes import Confusion, confusion

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt
    from torch import nn

    from napari_unet.core.annotation import Annotation
    from napari_unet.core.arrays import ImageSource
    from napari_unet.core.boxes import Shape
    from napari_unet.core.normalization import Normalization
    from napari_unet.core.receptive import NetGeometry
    from napari_unet.inference.device import Backend

CELL_EDGE = 256
"""Edge of the grid's cells in pixels; every pooling grid fits into it."""

KEPT_VALUES = 2**24
"""Network inputs that are kept between validations: 64 MB of float32, some 400 strokes."""

ERROR_SEED = 0
"""Of the resamples of every standard error: the same blocks are drawn for all weights."""

LEAST_PROBABILITY = 1e-7
"""Of the right class, in the loss: one pixel that is quite wrong must not hide all others."""


@dataclass(frozen=True, slots=True)
class ImageInput:
    """An image as the network sees it.

    Parameters
    ----------
    source : ImageSource
        The image.
    normalization : Normalization
        Of the whole volume.
    """

    source: ImageSource
    normalization: Normalization

    @property
    def shape(self) -> Shape:
        """Spatial shape (z, y, x)."""
        return self.source.shape

    def read(self, box: Box) -> npt.NDArray[np.float32]:
        """Return network input (c, z, y, x) of a box that may leave the image."""
        return normalize(read_mirrored(self.source, box), self.normalization).image


@dataclass(frozen=True, slots=True, eq=False)
class HeldOutLabels:
    """Labels that are scored together, such as a block of an image.

    Parameters
    ----------
    image : ImageInput
        What they lie on.
    annotation : Annotation
        The labels; only those of `box` count.
    box : Box
        Part of the image, (z, y, x).
    """

    image: ImageInput
    annotation: Annotation
    box: Box


@dataclass(frozen=True, slots=True, eq=False)
class _Tile:
    """One forward pass: what is read, and the labels in the part of the output that counts."""

    block: int
    read: Box
    labels: npt.NDArray[np.uint8]

    @property
    def crop(self) -> Box:
        return Box.of_shape(self.labels.shape)


@dataclass(frozen=True, slots=True)
class Scores:
    """What weights achieve on held-out labels.

    Parameters
    ----------
    blocks : tuple of Confusion
        Counts of each block, in order.
    loss : float
        Mean cross-entropy of the labeled pixels.
    """

    blocks: tuple[Confusion, ...]
    loss: float

    def metrics(self, class_names: Sequence[str]) -> dict[str, float]:
        """Return what the training loop reports; classes without held-out labels are left out.

        "score" is the mean F1 over the classes held out or predicted, "score_error" its standard
        error over the blocks.
        """
        total = Confusion.total(self.blocks)
        result = {
            "score": total.mean_f1 or 0.0,
            "score_error": standard_error(self.blocks, seed=ERROR_SEED),
            "loss": self.loss,
        }
        for kind, values in (("iou", total.iou), ("f1", total.f1)):
            for name, value, labeled in zip(class_names, values, total.true, strict=True):
                # Of a class that only the prediction has, a score of 0 would say nothing.
                if value is not None and labeled:
                    result[f"{kind}/{name}"] = value
        return result


class Scorer:
    """Scores networks of one geometry on some held-out labels.

    Parameters
    ----------
    blocks : sequence of HeldOutLabels
        What to score on; blocks without a label are left out.
    geometry : NetGeometry
        Of the networks.
    backend : Backend
        Where they run.
    num_classes : int
        Their outputs.
    """

    def __init__(
        self,
        blocks: Sequence[HeldOutLabels],
        geometry: NetGeometry,
        backend: Backend,
        num_classes: int,
    ) -> None:
        self._geometry = geometry
        self._backend = backend
        self._num_classes = num_classes
        self._blocks: list[HeldOutLabels] = []
        self._tiles: list[_Tile] = []
        self._inputs: dict[int, npt.NDArray[np.float32]] = {}
        for block in blocks:
            tiles = list(_tiles_of(block, geometry, len(self._blocks)))
            if tiles:
                self._blocks.append(block)
                self._tiles += tiles
        values = sum(
            tile.read.size * self._blocks[tile.block].image.source.num_channels
            for tile in self._tiles
        )
        self._keeps_inputs = values <= KEPT_VALUES

    @property
    def num_blocks(self) -> int:
        """How many blocks are scored."""
        return len(self._blocks)

    @property
    def pixels(self) -> int:
        """Voxels that the network reads for one scoring: what it costs."""
        return sum(tile.read.size for tile in self._tiles)

    def limited(self, pixels: int, seed: int) -> Scorer:
        """Return a scorer of fewer blocks that reads no more than `pixels`, or of one block.

        The choice is a matter of chance that the seed decides; every class comes first once.
        """
        if self.pixels <= pixels:
            return self
        costs = np.bincount([t.block for t in self._tiles], [t.read.size for t in self._tiles])
        kept: list[int] = []
        total = 0.0
        for block in self._order(seed):
            if kept and total + costs[block] > pixels:
                continue
            kept.append(block)
            total += costs[block]
        chosen = [self._blocks[k] for k in sorted(kept)]
        return Scorer(chosen, self._geometry, self._backend, self._num_classes)

    def score(self, net: nn.Module) -> Scores:
        """Return what a network achieves; it is left in evaluation mode, on the device."""
        predictor = Predictor(net, self._geometry, self._backend)
        counts = [Confusion(np.zeros((self._num_classes,) * 2, np.int64)) for _ in self._blocks]
        loss, labeled = 0.0, 0
        for number, tile in enumerate(self._tiles):
            ((predicted, chances),) = predictor(
                [self._input(number)], [tile.crop], probabilities=True
            )
            counts[tile.block] += confusion(tile.labels, predicted, self._num_classes)
            if chances is not None:
                loss += _log_loss(tile.labels, chances)
                labeled += int(np.count_nonzero(tile.labels))
        return Scores(tuple(counts), loss / max(labeled, 1))

    def inputs(self) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]]:
        """Yield what the network is given, (c, 2k + 1, h, w), and the labels that its output has.

        Labels are (1, h', w') and begin where the output begins.
        """
        for number, tile in enumerate(self._tiles):
            yield self._input(number), tile.labels

    def _input(self, number: int) -> npt.NDArray[np.float32]:
        found = self._inputs.get(number)
        if found is None:
            tile = self._tiles[number]
            found = self._blocks[tile.block].image.read(tile.read)
            if self._keeps_inputs:
                self._inputs[number] = found
        return found

    def _order(self, seed: int) -> list[int]:
        """Return all blocks in random order, those first that together hold every class."""
        order = np.random.default_rng(seed).permutation(len(self._blocks)).tolist()
        held: list[set[int]] = [set() for _ in self._blocks]
        for tile in self._tiles:
            held[tile.block] |= set(np.unique(tile.labels).tolist()) - {UNLABELED}
        first, seen = [], set[int]()
        for block in order:
            if not held[block] <= seen:
                first.append(block)
                seen |= held[block]
        return first + [block for block in order if block not in first]


def predict_box(
    net: nn.Module, image: ImageInput, box: Box, geometry: NetGeometry, backend: Backend
) -> npt.NDArray[np.uint8]:
    """Return the classes of a small box of one slice, as `segment` gives them."""
    read, inside = _read_box(box, geometry)
    ((labels, _),) = Predictor(net, geometry, backend)(
        [image.read(read)], [inside], probabilities=False
    )
    return labels


def _tiles_of(block: HeldOutLabels, geometry: NetGeometry, number: int) -> Iterator[_Tile]:
    for cell in _cells(block.box):
        labels = block.annotation.read(cell)
        if not labels.any():
            continue
        rows, columns = (np.flatnonzero(labels.any(axis=(0, k))) for k in (2, 1))
        found = Box(
            (0, int(rows[0]), int(columns[0])), (1, int(rows[-1]) + 1, int(columns[-1]) + 1)
        )
        placed = found.relative_to(tuple(-a for a in cell.start))
        read, inside = _read_box(placed, geometry)
        counted = np.zeros(inside.stop, np.uint8)
        counted[inside.slices] = labels[found.slices]
        yield _Tile(number, read, counted)


def _cells(box: Box) -> Iterator[Box]:
    """Yield the cells of the grid, one slice thick, cut to a box."""
    ranges = [range(box.start[0], box.stop[0])] + [
        range(a // CELL_EDGE, -(-b // CELL_EDGE))
        for a, b in zip(box.start[1:], box.stop[1:], strict=True)
    ]
    for z, *index in itertools.product(*ranges):
        y, x = (k * CELL_EDGE for k in index)
        yield Box((z, y, x), (z + 1, y + CELL_EDGE, x + CELL_EDGE)).intersection(box)


def _read_box(box: Box, geometry: NetGeometry) -> tuple[Box, Box]:
    """Return what the network reads for a box, and where the box lies in its output."""
    start = tuple(a // s * s for a, s in zip(box.start, geometry.stride, strict=True))
    inside = box.relative_to(start)
    read_start = tuple(a - h for a, h in zip(start, geometry.halo, strict=True))
    shape = geometry.input_shape(inside.stop)
    return Box(read_start, tuple(a + n for a, n in zip(read_start, shape, strict=True))), inside


def _log_loss(labels: npt.NDArray[np.uint8], chances: npt.NDArray[np.float32]) -> float:
    """Return the sum of the cross-entropy over labeled pixels."""
    at = np.nonzero(labels)
    right = chances[(labels[at].astype(np.intp) - FIRST_CLASS, *at)].astype(np.float64)
    return float(-np.log(np.maximum(right, LEAST_PROBABILITY)).sum())
