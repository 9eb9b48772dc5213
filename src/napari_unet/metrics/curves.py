"""ROC and precision-recall over all thresholds, from counts per bin of probability.

The pixels are not kept, only how many positives and negatives have each of 65 536 probabilities;
so a pair of images of any size needs 1 MB, and counts of blocks add up.

Conventions:

- A pixel is predicted positive if its probability is at least the threshold.
- Probabilities are rounded to the nearest multiple of 1 / 65 535. This is exact for uint8 and
  uint16 images, where the largest value of the type means 1, and for masks. Others move by at most
  7.7e-6: float16 values stay apart down to 1/32, and float32 values that lie closer than 1.5e-5
  become ties. The order of all others is kept, so scores change by what the ties contribute.
- A pixel without a prediction has the probability 0 for every class: the last to be found.
- Without positives there is no precision-recall curve, without positives or negatives no ROC
  curve: their scores are None, never a NaN.

References
----------
.. [1] T. Fawcett, "An introduction to ROC analysis", Pattern Recognition Letters 27, 2006.
.. [2] scikit-learn, `average_precision_score`: the sum over steps, without interpolation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.integrate import trapezoid

from napari_unet.core.classes import FIRST_CLASS, UNLABELED
from napari_unet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    import numpy.typing as npt

    Counts = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]

NUM_BINS = 65536
"""Bins of probability: bin b stands for b / 65 535."""

_TOP = NUM_BINS - 1

_CHUNK = 1 << 22
"""Pixels that are rounded to bins at a time, which bounds the memory of temporary arrays."""


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Points of a curve, one for each threshold that changes something.

    Parameters
    ----------
    x, y : numpy.ndarray of float64, (n,)
        False and true positive rate (ROC), or recall and precision.
    thresholds : numpy.ndarray of float64, (n,)
        Descending: pixels of at least this probability are positive.
    """

    x: Floats
    y: Floats
    thresholds: Floats

    def thinned(self, points: int) -> Curve:
        """Return at most `points` of the points, for drawing; the ends are kept.

        They are chosen evenly along the length of the curve, not along the thresholds.

        Raises
        ------
        ConfigError
            If `points` is below 2.
        """
        if points < 2:
            raise ConfigError(f"a curve of {points} points cannot be drawn; keep 2 or more")
        if len(self.x) <= points:
            return self
        length = np.concatenate(([0.0], np.cumsum(np.hypot(np.diff(self.x), np.diff(self.y)))))
        wanted = np.linspace(0, length[-1], points)
        kept = np.searchsorted(length, wanted).clip(0, len(length) - 1)
        kept[-1] = len(length) - 1
        kept = np.unique(kept)
        return Curve(self.x[kept], self.y[kept], self.thresholds[kept])


@dataclass(frozen=True, slots=True)
class BestF1:
    """Where F1 is largest.

    Parameters
    ----------
    threshold : float
        The greatest threshold with this F1.
    f1 : float
        The largest F1.
    """

    threshold: float
    f1: float


@dataclass(frozen=True, slots=True, eq=False)
class ProbabilityCounts:
    """How many positive and negative pixels have each probability.

    Parameters
    ----------
    positives, negatives : numpy.ndarray
        (65536,) int64, read-only: pixels that are of the class, and that are not, whose
        probability is nearest to index / 65 535.

    Raises
    ------
    ConfigError
        If they are no such counts.

    Examples
    --------
    >>> probability = np.array([0.9, 0.8, 0.3, 0.1], np.float32)
    >>> counts = probability_counts(probability, np.array([True, False, True, False]))
    >>> counts.auc
    0.75
    """

    positives: Counts
    negatives: Counts

    def __post_init__(self) -> None:
        for name in ("positives", "negatives"):
            counts = np.array(getattr(self, name))
            legal = counts.shape == (NUM_BINS,) and counts.dtype.kind in "ui"
            if not legal or (counts < 0).any():
                raise ConfigError(
                    f"{name} of shape {counts.shape} and type {counts.dtype} are no counts of "
                    f"probabilities; give {NUM_BINS} whole numbers >= 0"
                )
            counts = counts.astype(np.int64, copy=False)
            counts.flags.writeable = False
            object.__setattr__(self, name, counts)

    @classmethod
    def empty(cls) -> ProbabilityCounts:
        """Return the counts of no pixels."""
        return cls(np.zeros(NUM_BINS, np.int64), np.zeros(NUM_BINS, np.int64))

    @classmethod
    def total(cls, parts: Iterable[ProbabilityCounts]) -> ProbabilityCounts:
        """Return the sum of any number of counts; that of none is empty."""
        positives, negatives = np.zeros((2, NUM_BINS), np.int64)
        for part in parts:
            positives += part.positives
            negatives += part.negatives
        return cls(positives, negatives)

    def __add__(self, other: ProbabilityCounts) -> ProbabilityCounts:
        """Return the counts of both."""
        return ProbabilityCounts.total((self, other))

    def __eq__(self, other: object) -> bool:
        """Whether all counts agree."""
        if not isinstance(other, ProbabilityCounts):
            return NotImplemented
        same_positives = np.array_equal(self.positives, other.positives)
        return same_positives and np.array_equal(self.negatives, other.negatives)

    def __hash__(self) -> int:
        """Return a number that is the same for equal counts."""
        return hash((self.positives.tobytes(), self.negatives.tobytes()))

    @property
    def num_positives(self) -> int:
        """Pixels of the class."""
        return int(self.positives.sum())

    @property
    def num_negatives(self) -> int:
        """Pixels of other classes."""
        return int(self.negatives.sum())

    @property
    def pixels(self) -> int:
        """Pixels counted."""
        return self.num_positives + self.num_negatives

    @property
    def roc(self) -> Curve | None:
        """False positive rate (x) and true positive rate (y) from (0, 0) to (1, 1) [1]_.

        The first threshold is infinite: nothing is predicted. None if there are no positives or no
        negatives.
        """
        if not self.num_positives or not self.num_negatives:
            return None
        thresholds, hits, alarms = self._steps()
        return Curve(
            np.append(0.0, alarms / self.num_negatives),
            np.append(0.0, hits / self.num_positives),
            np.append(np.inf, thresholds),
        )

    @property
    def auc(self) -> float | None:
        """Area under the ROC curve, ties by trapezoids; None where there is no such curve.

        It is the share of pairs of a positive and a negative pixel in which the positive one has
        the greater probability, a tie counting half [1]_.
        """
        curve = self.roc
        return None if curve is None else float(trapezoid(curve.y, curve.x))

    @property
    def precision_recall(self) -> Curve | None:
        """Recall (x) and precision (y), from high to low thresholds; None without positives."""
        if not self.num_positives:
            return None
        thresholds, hits, alarms = self._steps()
        return Curve(hits / self.num_positives, hits / (hits + alarms), thresholds)

    @property
    def average_precision(self) -> float | None:
        """Precision at each threshold times the recall it adds, summed [2]_; None if no positives.

        The steps are not interpolated: trapezoids would promise what no threshold achieves.
        """
        curve = self.precision_recall
        if curve is None:
            return None
        return float((np.diff(curve.x, prepend=0.0) * curve.y).sum())

    @property
    def best_f1(self) -> BestF1 | None:
        """The largest F1 of all thresholds, and where; None if there are no positives."""
        if not self.num_positives:
            return None
        thresholds, hits, alarms = self._steps()
        f1 = 2 * hits / (hits + alarms + self.num_positives)
        best = int(f1.argmax())
        return BestF1(float(thresholds[best]), float(f1[best]))

    def f1_at(self, thresholds: npt.ArrayLike) -> Floats | None:
        """Return F1 at each threshold; None if there are no positives.

        Raises
        ------
        ConfigError
            If a threshold is not a number.
        """
        wanted = np.asarray(thresholds, np.float64)
        if np.isnan(wanted).any():
            raise ConfigError("a threshold of nan has no F1; give numbers, 0 to 1")
        if not self.num_positives:
            return None
        values, hits, alarms = self._steps()
        # How many steps are at least the threshold; rounding up to a bin must not lose a tie.
        reached = np.searchsorted(-values, -wanted + 1e-12, side="right")
        hits, alarms = np.append(0, hits)[reached], np.append(0, alarms)[reached]
        f1: Floats = 2 * hits / (hits + alarms + self.num_positives)
        return f1

    def _steps(self) -> tuple[Floats, Counts, Counts]:
        """Return the probabilities that occur, descending, and the pixels found down to each."""
        occurs = np.flatnonzero(self.positives + self.negatives)[::-1]
        hits = np.cumsum(self.positives[occurs])
        return occurs / _TOP, hits, np.cumsum(self.negatives[occurs])


def probability_counts(
    probability: npt.NDArray[Any],
    positive: npt.NDArray[np.bool_],
    valid: npt.NDArray[np.bool_] | None = None,
) -> ProbabilityCounts:
    """Return the counts of an image, or of a part of one.

    Parameters
    ----------
    probability : numpy.ndarray
        Floating point 0 to 1, or bool, or unsigned integers whose largest value means 1.
    positive : numpy.ndarray of bool
        Of the same shape: whether a pixel is of the class.
    valid : numpy.ndarray of bool, optional
        Of the same shape: the pixels that count, e.g. the annotated ones.

    Raises
    ------
    ConfigError
        If shapes differ, masks are not bool, or a pixel that counts has no probability from 0 to 1.
    """
    _check_masks(probability.shape, positive, valid)
    counts = np.zeros((2, NUM_BINS), np.int64)
    flat, hit = probability.reshape(-1), positive.reshape(-1)
    counted = None if valid is None else valid.reshape(-1)
    for start in range(0, flat.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        values, is_hit = flat[part], hit[part]
        if counted is not None:
            values, is_hit = values[counted[part]], is_hit[counted[part]]
        bins = _bins(values)
        counts[0] += np.bincount(bins[is_hit], minlength=NUM_BINS)
        counts[1] += np.bincount(bins[~is_hit], minlength=NUM_BINS)
    return ProbabilityCounts(counts[0], counts[1])


def class_probability_counts(
    probabilities: npt.NDArray[Any], true: npt.NDArray[np.integer[Any]]
) -> tuple[ProbabilityCounts, ...]:
    """Return the counts of each class against all others, of the labeled pixels.

    Parameters
    ----------
    probabilities : numpy.ndarray
        (K, ...), as for `probability_counts`; all 0 where nothing was predicted.
    true : numpy.ndarray of integers
        (...): k = the k-th class, 0 = not annotated.

    Raises
    ------
    ConfigError
        As `probability_counts` does.
    """
    if probabilities.ndim < 1 or probabilities.shape[1:] != true.shape:
        raise ConfigError(
            f"probabilities of shape {probabilities.shape} do not fit labels of shape "
            f"{true.shape}; give one image of probabilities per class"
        )
    labeled = true != UNLABELED
    return tuple(
        probability_counts(image, true == k, labeled)
        for k, image in enumerate(probabilities, start=FIRST_CLASS)
    )


def _check_masks(
    shape: tuple[int, ...],
    positive: npt.NDArray[np.bool_],
    valid: npt.NDArray[np.bool_] | None,
) -> None:
    for mask, what in ((positive, "truth"), (valid, "valid pixels")):
        if mask is not None and (mask.shape != shape or mask.dtype != np.bool_):
            raise ConfigError(
                f"{what} of shape {mask.shape} and type {mask.dtype} do not fit probabilities of "
                f"shape {shape}; give a mask of bool of the same shape"
            )


def _bins(values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return the index of the nearest bin of each probability."""
    kind = values.dtype.kind
    if kind not in "fub":
        raise ConfigError(
            f"probabilities of type {values.dtype} have no scale; give floating point numbers from "
            "0 to 1, or unsigned integers whose largest value means 1"
        )
    # In float64 the product is exact enough that every multiple of 1/65535 finds its own bin.
    scale = _TOP / float(np.iinfo(values.dtype).max) if kind == "u" else float(_TOP)
    scaled = np.rint(values.astype(np.float64) * scale)
    if not ((scaled >= 0) & (scaled <= _TOP)).all():
        raise ConfigError(
            f"probabilities from {values.min()} to {values.max()} do not lie from 0 to 1; give the "
            "output of a softmax, or leave pixels without one out"
        )
    return scaled.astype(np.int64)
