"""How many objects are found, and how well: F1, average precision, SEG, splits and merges.

Everything follows from a table of the pixels that predicted and true objects share
(`metrics.contingency`). Tables of blocks of one image add up; scores do not, as objects cross
blocks: add the tables first. Scores of different images are added with `pool`.

Conventions, the same for all scores here:

- A predicted object matches a true one if their intersection over union is *greater* than the
  threshold, as in the Data Science Bowl 2018 [1]_. From 0.5 on no object can match two others, so
  nothing has to be assigned.
- 0 is background and no object. An object is its number: parts that do not touch belong together,
  also across slices.
- ``AP = TP / (TP + FP + FN)``, the bowl's "precision", which is not the area under a curve.
- Where there is neither a true nor a predicted object, nothing is wrong: precision, recall, F1 and
  AP are 1. If one side only is empty, they are 0. Means over objects that do not exist are None.
- SEG is that of the Cell Tracking Challenge [2]_: a predicted object that holds *more than half*
  of a true one is compared with it by intersection over union; true objects without one score 0.
- A true object is split if at least two predicted objects lie in it, each with more than half of
  its own pixels, and together fill more than half of it; a predicted object is merged if the same
  holds with the sides exchanged. These are over- and under-segmentation of Hoover et al. [3]_ with
  "more than half" as their tolerance; but an object may be found and split at once: one large piece
  matches, and a crumb of it is a piece, too.

References
----------
.. [1] J. C. Caicedo et al., "Nucleus segmentation across imaging experiments: the 2018 Data Science
   Bowl", Nature Methods 16, 2019.
.. [2] M. Maska et al., "A benchmark for comparison of cell tracking algorithms", Bioinformatics
   30(11), 2014.
.. [3] A. Hoover et al., "An experimental comparison of range image segmentation algorithms", IEEE
   PAMI 18(7), 1996, sec. 4.
.. [4] A. Kirillov et al., "Panoptic segmentation", CVPR 2019, eqs. 1 and 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.errors import ConfigError
from napari_unet.metrics.contingency import Contingency
from napari_unet.metrics.matches import LEAST_THRESHOLD, check_thresholds, overlaps_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    import numpy.typing as npt

    Ids = npt.NDArray[np.int64]
    Counts = npt.NDArray[np.int64]

IOU_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(9))
"""0.5, 0.55 ... 0.9."""

AP_THRESHOLDS = (*IOU_THRESHOLDS, 0.95)
"""0.5, 0.55 ... 0.95, as in COCO's average precision."""


@dataclass(frozen=True, slots=True)
class ObjectScore:
    """Counts of objects in any number of images, and the ratios that follow.

    Parameters
    ----------
    true, predicted : int
        Objects.
    matched : tuple of int
        Pairs of a true and a predicted object at each threshold.
    thresholds : tuple of float
        Intersection over union above which two objects match.
    matched_iou : tuple of float
        Sum of the intersection over union of the matched pairs, at each threshold.
    covered_iou : float
        Sum of the intersection over union of true objects with the predicted object that holds
        more than half of them: what SEG is the mean of.
    split, merged : int
        True objects that are split, and predicted objects that are merged.
    """

    true: int
    predicted: int
    matched: tuple[int, ...]
    thresholds: tuple[float, ...]
    matched_iou: tuple[float, ...]
    covered_iou: float
    split: int
    merged: int

    def precision(self, threshold: float = LEAST_THRESHOLD) -> float:
        """Return the share of the predicted objects that match, TP / (TP + FP).

        Raises
        ------
        ConfigError
            If the threshold is none of `thresholds`.
        """
        return self._ratio(self.matched[self._index(threshold)], self.predicted)

    def recall(self, threshold: float = LEAST_THRESHOLD) -> float:
        """Return the share of the true objects that match, TP / (TP + FN).

        Raises
        ------
        ConfigError
            If the threshold is none of `thresholds`.
        """
        return self._ratio(self.matched[self._index(threshold)], self.true)

    def f1(self, threshold: float = LEAST_THRESHOLD) -> float:
        """Return 2 TP / (2 TP + FP + FN) at one of the thresholds.

        Raises
        ------
        ConfigError
            If it is none of `thresholds`.
        """
        return self._ratio(2 * self.matched[self._index(threshold)], self.true + self.predicted)

    def average_precision(self, threshold: float = LEAST_THRESHOLD) -> float:
        """Return TP / (TP + FP + FN) at one of the thresholds.

        Raises
        ------
        ConfigError
            If it is none of `thresholds`.
        """
        matched = self.matched[self._index(threshold)]
        return self._ratio(matched, self.true + self.predicted - matched)

    @property
    def mean_average_precision(self) -> float:
        """Mean of `average_precision` over the thresholds."""
        return float(np.mean([self.average_precision(t) for t in self.thresholds]))

    def mean_matched_iou(self, threshold: float = LEAST_THRESHOLD) -> float | None:
        """Return the mean intersection over union of the matched pairs; None if there is none.

        Raises
        ------
        ConfigError
            If the threshold is none of `thresholds`.
        """
        matched = self.matched[self._index(threshold)]
        return self.matched_iou[self._index(threshold)] / matched if matched else None

    def panoptic_quality(self, threshold: float = LEAST_THRESHOLD) -> float:
        """Return F1 times mean matched intersection over union [4]_.

        That of one class of things; the authors' threshold is 0.5.

        Raises
        ------
        ConfigError
            If the threshold is none of `thresholds`.
        """
        objects = self.true + self.predicted
        return self._ratio(2 * self.matched_iou[self._index(threshold)], objects)

    @property
    def seg(self) -> float | None:
        """SEG of the Cell Tracking Challenge, 0 to 1; None if there is no true object."""
        return self.covered_iou / self.true if self.true else None

    def __add__(self, other: ObjectScore) -> ObjectScore:
        """Return the score of both images taken as one."""
        return pool((self, other))

    def _ratio(self, part: float, whole: int) -> float:
        if whole:
            return part / whole
        return 0.0 if self.true or self.predicted else 1.0

    def _index(self, threshold: float) -> int:
        if threshold not in self.thresholds:
            raise ConfigError(
                f"there is no score at an intersection over union of {threshold}; choose one of "
                f"{', '.join(str(t) for t in self.thresholds)}"
            )
        return self.thresholds.index(threshold)


def object_score_of(
    table: Contingency, *, thresholds: Sequence[float] = AP_THRESHOLDS
) -> ObjectScore:
    """Return how many objects are found, from the pixels that they share.

    Parameters
    ----------
    table : Contingency
        Of a whole image, the background included.
    thresholds : sequence of float
        From 0.5 to below 1.

    Raises
    ------
    ConfigError
        If thresholds are out of range.
    """
    check_thresholds(thresholds)
    pairs = overlaps_of(table)
    iou = pairs.iou
    above = [iou[iou > threshold] for threshold in thresholds]
    covering = 2 * pairs.shared > pairs.true_size
    inside = 2 * pairs.shared > pairs.predicted_size
    return ObjectScore(
        true=pairs.num_true,
        predicted=pairs.num_predicted,
        matched=tuple(len(some) for some in above),
        thresholds=tuple(thresholds),
        # Exactly rounded sums: equal for any numbering of the objects.
        matched_iou=tuple(math.fsum(some.tolist()) for some in above),
        covered_iou=math.fsum(iou[covering].tolist()),
        split=_in_pieces(pairs.true[inside], pairs.shared[inside], pairs.true_size[inside]),
        merged=_in_pieces(
            pairs.predicted[covering], pairs.shared[covering], pairs.predicted_size[covering]
        ),
    )


def object_score(
    predicted: npt.NDArray[np.integer[Any]],
    true: npt.NDArray[np.integer[Any]],
    *,
    thresholds: Sequence[float] = IOU_THRESHOLDS,
) -> ObjectScore:
    """Return how many objects of an image are found.

    Parameters
    ----------
    predicted, true : numpy.ndarray
        Numbered objects of the same shape, 0 = background.
    thresholds : sequence of float
        From 0.5 to below 1.

    Raises
    ------
    ConfigError
        If shapes differ, numbers are not integers >= 0, or thresholds are out of range.
    """
    return object_score_of(Contingency.of(predicted, true), thresholds=thresholds)


def pool(scores: Iterable[ObjectScore]) -> ObjectScore:
    """Return the score of several images taken as one: their counts added up.

    Raises
    ------
    ConfigError
        If there is no score, or the thresholds differ.
    """
    items = list(scores)
    if len({item.thresholds for item in items}) != 1:
        raise ConfigError(
            f"{len(items)} scores cannot be pooled; give at least one, all with the same thresholds"
        )
    return ObjectScore(
        true=sum(item.true for item in items),
        predicted=sum(item.predicted for item in items),
        matched=tuple(map(sum, zip(*(item.matched for item in items), strict=True))),
        thresholds=items[0].thresholds,
        matched_iou=tuple(map(math.fsum, zip(*(item.matched_iou for item in items), strict=True))),
        covered_iou=math.fsum(item.covered_iou for item in items),
        split=sum(item.split for item in items),
        merged=sum(item.merged for item in items),
    )


def _in_pieces(wholes: Ids, shared: Counts, sizes: Counts) -> int:
    """Return how many wholes have two or more pieces that fill more than half of them."""
    numbers, first, home = np.unique(wholes, return_index=True, return_inverse=True)
    filled = np.zeros(len(numbers), np.int64)
    np.add.at(filled, home, shared)
    pieces = np.bincount(home, minlength=len(numbers))
    return int(((pieces >= 2) & (2 * filled > sizes[first])).sum())
