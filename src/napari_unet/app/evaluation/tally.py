"""What is counted while a pair is read, whole and in the parts that the bootstrap draws from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.metrics.boundary import BoundaryScore
from napari_unet.metrics.classes import Confusion
from napari_unet.metrics.contingency import BACKGROUND, Contingency
from napari_unet.metrics.curves import NUM_BINS, ProbabilityCounts
from napari_unet.metrics.matches import overlaps_of
from napari_unet.metrics.objects import AP_THRESHOLDS, ObjectScore, object_score_of
from napari_unet.metrics.partition import table_score

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from napari_unet.app.evaluation.crops import Crop, CropRanks
    from napari_unet.app.evaluation.opened import Block, OpenedPair
    from napari_unet.core.boxes import Shape
    from napari_unet.metrics.agreement import PartitionScore

    Units = npt.NDArray[Any]

COARSE_BINS = 1024
"""Bins of probability of a part of an image; curves themselves are taken from 65536."""

OBJECT_COLUMNS = 4 + len(AP_THRESHOLDS)
"""Of the counts of objects of a part: true, predicted, sum of the intersection over union of the
matched ones at the first threshold, of the covered ones, and matched ones at each threshold."""


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """Everything that was counted of a pair.

    Parameters
    ----------
    name : str
        Of the pair.
    shape : tuple of int
        Of what counted, (z, y, x).
    class_names : tuple of str
        Classes of the pixels.
    counted, unpredicted : int
        Voxels that count, and how many of them have no prediction.
    classes : Confusion or None
        None = no classes were compared.
    boundary : BoundaryScore
        Of outlines, or of the class that is a boundary.
    probabilities : tuple of ProbabilityCounts
        Of each class, then of the winning one; empty without probabilities.
    objects : ObjectScore or None
        None = no objects were compared.
    slices : tuple of PartitionScore
        Of the slices that have a true object.
    volume : PartitionScore or None
        Of all slices as one partition.
    units : dict
        Counts of the parts that the bootstrap draws from, each (n, ...): "classes", "boundary",
        "probabilities", "objects".
    worst, best : tuple of Crop
        Windows.
    notes : tuple of str
        What the report says of the pair.
    """

    name: str
    shape: Shape
    class_names: tuple[str, ...]
    counted: int
    unpredicted: int
    classes: Confusion | None
    boundary: BoundaryScore
    probabilities: tuple[ProbabilityCounts, ...]
    objects: ObjectScore | None
    slices: tuple[PartitionScore, ...]
    volume: PartitionScore | None
    units: dict[str, Units]
    worst: tuple[Crop, ...]
    best: tuple[Crop, ...]
    notes: tuple[str, ...]


class Tally:
    """Adds up what blocks of a pair hold.

    Parameters
    ----------
    pair : OpenedPair
        What is read.
    units : int
        Parts that the bootstrap may draw from.
    """

    def __init__(self, pair: OpenedPair, units: int) -> None:
        self._pair = pair
        self._z, self._unit = -1, 0
        self._counted = self._unpredicted = 0
        self._slice: list[Contingency] = []
        self._tables: list[Contingency] = []
        self._slices: list[PartitionScore] = []
        self._homes: dict[str, _Homes] = {"true": _Homes(), "predicted": _Homes()}
        k = len(pair.class_names)
        self._bins = np.zeros((k + 1, 2, NUM_BINS), np.int64) if pair.holds_probabilities else None
        self.units: dict[str, Units] = {"boundary": np.zeros((units, 4), np.int64)}
        if k:
            self.units["classes"] = np.zeros((units, k, k + 1), np.int64)
        if self._bins is not None:
            self.units["probabilities"] = np.zeros((units, k + 1, 2, COARSE_BINS), np.int64)

    def begin(self, z: int, unit: int) -> None:
        """Say which slice and which part of the image the next counts are of."""
        if z != self._z:
            self._finish_slice()
        self._z, self._unit = z, unit

    def count(self, block: Block) -> None:
        """Count the voxels that count."""
        counted = block.inside(block.counted)
        self._counted += int(counted.sum())
        if block.predicted_classes is not None:
            self._unpredicted += int((counted & (block.inside(block.predicted_classes) == 0)).sum())

    def add_classes(self, counts: Confusion) -> None:
        """Add the classes of a block."""
        self.units["classes"][self._unit] += counts.counts

    def add_boundary(self, score: BoundaryScore) -> None:
        """Add the boundary of a block."""
        counts = (score.right, score.predicted, score.found, score.true)
        self.units["boundary"][self._unit] += counts

    def add_probabilities(self, counts: Sequence[ProbabilityCounts]) -> None:
        """Add the probabilities of a block: of each class, and of the winning one."""
        if self._bins is None:
            return
        for k, each in enumerate(counts):
            for side, bins in enumerate((each.positives, each.negatives)):
                self._bins[k, side] += bins
                coarse = bins.reshape(COARSE_BINS, -1).sum(axis=1)
                self.units["probabilities"][self._unit, k, side] += coarse

    def add_objects(self, table: Contingency) -> None:
        """Add the objects of a block."""
        self._slice.append(table)
        self._homes["true"].add(*table.true_sizes(), self._unit)
        self._homes["predicted"].add(*table.predicted_sizes(), self._unit)

    def finish(self, ranks: CropRanks) -> Measured:
        """Return everything that was counted."""
        self._finish_slice()
        pair, table = self._pair, Contingency.total(self._tables)
        classes = self.units.get("classes")
        counts = () if self._bins is None else tuple(ProbabilityCounts(*b) for b in self._bins)
        if pair.holds_objects:
            self.units["objects"] = self._object_units(table)
        return Measured(
            name=pair.name,
            shape=pair.region.shape,
            class_names=pair.class_names,
            counted=self._counted,
            unpredicted=self._unpredicted,
            classes=None if classes is None else Confusion(classes.sum(axis=0)),
            boundary=BoundaryScore(*(int(n) for n in self.units["boundary"].sum(axis=0))),
            probabilities=counts,
            objects=object_score_of(table) if pair.holds_objects else None,
            slices=tuple(self._slices),
            volume=_scored(table),
            units=self.units,
            worst=ranks.worst(),
            best=ranks.best(),
            notes=pair.notes,
        )

    def _finish_slice(self) -> None:
        if not self._slice:
            return
        table = Contingency.total(self._slice)
        score = _scored(table)
        if score is not None:
            self._slices.append(score)
        self._slice = []
        self._tables.append(table)
        # Merged now and then, so that not every slice of a thick stack is kept.
        if sum(len(part.counts) for part in self._tables[1:]) > _PENDING_ROWS:
            self._tables = [Contingency.total(self._tables)]

    def _object_units(self, table: Contingency) -> Units:
        """Return the counts of objects of each part; an object is counted where most of it is."""
        counts = np.zeros((len(self.units["boundary"]), OBJECT_COLUMNS))
        pairs = overlaps_of(table)
        for column, side in enumerate(("true", "predicted")):
            ids, homes = self._homes[side].places()
            np.add.at(counts[:, column], homes[ids != BACKGROUND], 1)
        ids, homes = self._homes["true"].places()
        home = homes[np.searchsorted(ids, pairs.true)]
        iou = pairs.iou
        matched = iou > AP_THRESHOLDS[0]
        np.add.at(counts[:, 2], home[matched], iou[matched])
        covering = 2 * pairs.shared > pairs.true_size
        np.add.at(counts[:, 3], home[covering], iou[covering])
        for column, threshold in enumerate(AP_THRESHOLDS, start=4):
            np.add.at(counts[:, column], home[iou > threshold], 1)
        return counts


class _Homes:
    """In which part of an image each object belongs: that of the block that holds most of it."""

    def __init__(self) -> None:
        self._rows: list[npt.NDArray[np.int64]] = []
        self._pending = 0

    def add(self, ids: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], unit: int) -> None:
        """Say how much of which objects a block of a part holds."""
        self._rows.append(np.stack([ids, sizes, np.full(len(ids), unit)]))
        self._pending += len(ids)
        if self._pending > _PENDING_ROWS:
            self._rows = [self._largest()]
            self._pending = self._rows[0].shape[1] // 2

    def places(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the objects, ascending, and the part of each."""
        ids, _, units = self._largest()
        return ids, units

    def _largest(self) -> npt.NDArray[np.int64]:
        """Return, (3, objects), number, size and part of the largest piece of each object."""
        rows = np.concatenate([np.zeros((3, 0), np.int64), *self._rows], axis=1)
        order = np.lexsort((rows[2], -rows[1], rows[0]))
        rows = rows[:, order]
        return rows[:, np.append(True, np.diff(rows[0]) > 0)[: rows.shape[1]]]


_PENDING_ROWS = 2_000_000
"""Rows that are gathered before repeated objects are dropped."""


def _scored(table: Contingency) -> PartitionScore | None:
    """Return the agreement of a table; None if it has no true object."""
    return table_score(table) if (table.true != BACKGROUND).any() else None
