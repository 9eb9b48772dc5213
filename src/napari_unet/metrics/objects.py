"""How many objects are found: F1 and average precision by intersection over union.

Conventions, the same for all scores here:

- A predicted object matches a true one if their intersection over union is *greater* than the
  threshold, as in the Data Science Bowl 2018 [1]_. From 0.5 on no object can match two others, so
  nothing has to be assigned.
- 0 is background and no object. An object is its number: parts that do not touch belong together,
  also across slices.
- ``AP = TP / (TP + FP + FN)``, the bowl's "precision", which is not the area under a curve.
- Where there is neither a true nor a predicted object, nothing is wrong: all scores are 1.

References
----------
.. [1] J. C. Caicedo et al., "Nucleus segmentation across imaging experiments: the 2018 Data Science
   Bowl", Nature Methods 16, 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    import numpy.typing as npt

IOU_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(9))
"""0.5, 0.55 ... 0.9."""

LEAST_THRESHOLD = 0.5
"""Below it two predicted objects may match one true object."""


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
    """

    true: int
    predicted: int
    matched: tuple[int, ...]
    thresholds: tuple[float, ...] = IOU_THRESHOLDS

    def f1(self, threshold: float = LEAST_THRESHOLD) -> float:
        """Return 2 TP / (2 TP + FP + FN) at one of the thresholds.

        Raises
        ------
        ConfigError
            If it is none of `thresholds`.
        """
        matched = self._matched_at(threshold)
        total = self.true + self.predicted
        return 2 * matched / total if total else 1.0

    def average_precision(self, threshold: float = LEAST_THRESHOLD) -> float:
        """Return TP / (TP + FP + FN) at one of the thresholds.

        Raises
        ------
        ConfigError
            If it is none of `thresholds`.
        """
        matched = self._matched_at(threshold)
        total = self.true + self.predicted - matched
        return matched / total if total else 1.0

    @property
    def mean_average_precision(self) -> float:
        """Mean of `average_precision` over the thresholds."""
        return float(np.mean([self.average_precision(t) for t in self.thresholds]))

    def _matched_at(self, threshold: float) -> int:
        if threshold not in self.thresholds:
            raise ConfigError(
                f"there is no score at an intersection over union of {threshold}; choose one of "
                f"{', '.join(str(t) for t in self.thresholds)}"
            )
        return self.matched[self.thresholds.index(threshold)]


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
        If shapes differ, or thresholds are out of range.
    """
    if predicted.shape != true.shape:
        raise ConfigError(
            f"objects of shape {predicted.shape} and {true.shape} cannot be compared; "
            "give equal shapes"
        )
    if not all(LEAST_THRESHOLD <= t < 1 for t in thresholds):
        raise ConfigError(
            f"matches at the thresholds {', '.join(str(t) for t in thresholds)} are not unique or "
            f"not possible; choose from {LEAST_THRESHOLD} to below 1"
        )
    ious, num_predicted, num_true = _ious(predicted.ravel(), true.ravel())
    matched = tuple(int((ious > threshold).sum()) for threshold in thresholds)
    return ObjectScore(num_true, num_predicted, matched, tuple(thresholds))


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
    matched = np.sum([item.matched for item in items], axis=0)
    return ObjectScore(
        sum(item.true for item in items),
        sum(item.predicted for item in items),
        tuple(int(n) for n in matched),
        items[0].thresholds,
    )


def _ious(
    predicted: npt.NDArray[np.integer[Any]], true: npt.NDArray[np.integer[Any]]
) -> tuple[npt.NDArray[np.float64], int, int]:
    """Return the intersection over union of all pairs that overlap, and the numbers of objects."""
    numbers_p, p = np.unique(predicted, return_inverse=True)
    numbers_t, t = np.unique(true, return_inverse=True)
    size_p, size_t = np.bincount(p), np.bincount(t)
    pairs, overlap = np.unique(t * np.int64(len(numbers_p)) + p, return_counts=True)
    of_t, of_p = np.divmod(pairs, max(len(numbers_p), 1))
    both = (numbers_t[of_t] != 0) & (numbers_p[of_p] != 0)
    union = size_t[of_t] + size_p[of_p] - overlap
    ious = overlap[both] / union[both]
    return ious, int((numbers_p != 0).sum()), int((numbers_t != 0).sum())
