"""Whether probabilities mean what they say: reliability, calibration errors, Brier score.

All follow from the counts of `metrics.curves`, so they add up over blocks exactly, in any order:

- of one class: positive = the pixel is of the class (`class_probability_counts`);
- of the winning class: positive = the most probable class is right, and the probability is its
  "confidence" (`confidence_counts`).

Conventions:

- The bins of a reliability diagram have equal widths; bin m holds ``(m - 1) / M < p <= m / M``, the
  first one also 0 [1]_.
- Probabilities carry the rounding of `metrics.curves`, at most 7.7e-6; that much the calibration
  errors may differ from those of unrounded ones, and by the pixels that lie so near an edge.
- Empty bins have no point and no part in any error. Without a pixel all scores are None.

References
----------
.. [1] C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On Calibration of Modern Neural Networks",
   ICML 2017, eqs. 2, 3 and 5.
.. [2] G. W. Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather
   Review 78, 1950.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.core.classes import FIRST_CLASS, UNLABELED
from napari_unet.errors import ConfigError
from napari_unet.metrics.curves import NUM_BINS, ProbabilityCounts, probability_counts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

RELIABILITY_BINS = 15
"""Of Guo et al. 2017; 65 535 is divisible by it, so that no edge falls inside a bin of the
counts."""


@dataclass(frozen=True, slots=True)
class ReliabilityPoint:
    """The pixels of one bin of a reliability diagram.

    Parameters
    ----------
    low, high : float
        Bounds of the bin: ``low < p <= high``, and from 0 on in the first bin.
    pixels : int
        How many pixels lie in it; at least 1.
    probability : float
        Their mean probability: what was promised.
    frequency : float
        Share of them that is positive: what came true.
    """

    low: float
    high: float
    pixels: int
    probability: float
    frequency: float

    @property
    def gap(self) -> float:
        """Absolute difference of what was promised and what came true."""
        return abs(self.probability - self.frequency)


@dataclass(frozen=True, slots=True)
class Reliability:
    """A reliability diagram and the errors that follow.

    Parameters
    ----------
    points : tuple of ReliabilityPoint
        The bins that hold pixels, ascending.
    """

    points: tuple[ReliabilityPoint, ...]

    @property
    def expected_error(self) -> float | None:
        """Expected calibration error, 0 to 1: mean gap of the pixels [1]_; None without pixels."""
        pixels = sum(point.pixels for point in self.points)
        weighted = sum(point.pixels * point.gap for point in self.points)
        return weighted / pixels if pixels else None

    @property
    def maximum_error(self) -> float | None:
        """Maximum calibration error, 0 to 1: largest gap of a bin [1]_; None without pixels.

        A bin of a single pixel weighs as much as any other.
        """
        return max((point.gap for point in self.points), default=None)


def reliability(counts: ProbabilityCounts, bins: int = RELIABILITY_BINS) -> Reliability:
    """Return the reliability diagram of counted probabilities.

    Parameters
    ----------
    counts : ProbabilityCounts
        Of one class, or of the winning class.
    bins : int
        Bins of equal width, 1 to 65 535.

    Raises
    ------
    ConfigError
        If the number of bins is out of range.
    """
    if not 1 <= bins < NUM_BINS:
        raise ConfigError(
            f"a reliability diagram of {bins} bins cannot be made; choose 1 to {NUM_BINS - 1}"
        )
    indices = np.arange(NUM_BINS)
    # Whole numbers: ceil(p * bins) - 1 without rounding at the edges; 0 belongs to the first bin.
    home = np.maximum(-(-indices * bins // (NUM_BINS - 1)) - 1, 0)
    both = counts.positives + counts.negatives
    pixels = np.bincount(home, both, bins)
    promised = np.bincount(home, both * (indices / (NUM_BINS - 1)), bins)
    came_true = np.bincount(home, counts.positives, bins)
    return Reliability(
        tuple(
            ReliabilityPoint(
                low=m / bins,
                high=(m + 1) / bins,
                pixels=int(pixels[m]),
                probability=float(promised[m] / pixels[m]),
                frequency=float(came_true[m] / pixels[m]),
            )
            for m in np.flatnonzero(pixels).tolist()
        )
    )


def brier_score(counts: ProbabilityCounts) -> float | None:
    """Return the mean squared difference of probability and outcome, 0 to 1; None without pixels.

    It is that of one class against all others; see `multiclass_brier_score`.
    """
    if not counts.pixels:
        return None
    probability = np.arange(NUM_BINS) / (NUM_BINS - 1)
    missed = (counts.positives * (1 - probability) ** 2).sum()
    return float((missed + (counts.negatives * probability**2).sum()) / counts.pixels)


def multiclass_brier_score(classes: Sequence[ProbabilityCounts]) -> float | None:
    """Return Brier's score of all classes, 0 to 2: the sum of those of each class [2]_.

    Parameters
    ----------
    classes : sequence of ProbabilityCounts
        Of the same pixels, one per class. For two classes it is twice the score of either.

    Raises
    ------
    ConfigError
        If there is no class, or the classes were not counted on equally many pixels.
    """
    if len({counts.pixels for counts in classes}) != 1:
        raise ConfigError(
            f"{len(classes)} classes of {sorted({c.pixels for c in classes})} pixels have no Brier "
            "score; give the counts of all classes on the same pixels"
        )
    scores = [score for counts in classes if (score := brier_score(counts)) is not None]
    return sum(scores) if scores else None


def confidence_counts(
    probabilities: npt.NDArray[Any], true: npt.NDArray[np.integer[Any]]
) -> ProbabilityCounts:
    """Return the counts of the winning class: its probability, and whether it is right.

    Parameters
    ----------
    probabilities : numpy.ndarray
        (K, ...), as for `probability_counts`. The first of equally probable classes wins. Where all
        are 0 nothing was predicted: a wrong answer of confidence 0.
    true : numpy.ndarray of integers
        (...): k = the k-th class, 0 = not annotated, left out.

    Raises
    ------
    ConfigError
        If shapes differ, or a labeled pixel has a winner without a probability from 0 to 1.
    """
    if probabilities.ndim < 1 or not len(probabilities) or probabilities.shape[1:] != true.shape:
        raise ConfigError(
            f"probabilities of shape {probabilities.shape} do not fit labels of shape "
            f"{true.shape}; give one image of probabilities per class"
        )
    winner = probabilities.argmax(axis=0)
    confidence = np.take_along_axis(probabilities, winner[np.newaxis], axis=0)[0]
    right = (winner + FIRST_CLASS == true) & (confidence > 0)
    return probability_counts(confidence, right, true != UNLABELED)
