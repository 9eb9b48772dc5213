"""Which predicted object is which true one: overlaps of objects, and the pairs that match.

Found from the table of shared pixels (`metrics.contingency`), so it takes no more memory than there
are pairs of objects that touch the same pixels.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.errors import ConfigError
from napari_unet.metrics.contingency import BACKGROUND, Contingency

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Ids = npt.NDArray[np.int64]
    Counts = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]

LEAST_THRESHOLD = 0.5
"""Below it two predicted objects may match one true object."""


@dataclass(frozen=True, slots=True, eq=False)
class Overlaps:
    """All pairs of objects that share pixels, in the order of the table; no background.

    Parameters
    ----------
    predicted, true : numpy.ndarray of int64, (n,)
        Numbers of the objects of each pair.
    shared : numpy.ndarray of int64, (n,)
        Pixels in both.
    predicted_size, true_size : numpy.ndarray of int64, (n,)
        Pixels of each object, wherever they lie.
    num_predicted, num_true : int
        Objects, those in no pair included.
    """

    predicted: Ids
    true: Ids
    shared: Counts
    predicted_size: Counts
    true_size: Counts
    num_predicted: int
    num_true: int

    @property
    def iou(self) -> Floats:
        """Intersection over union of each pair."""
        iou: Floats = self.shared / (self.predicted_size + self.true_size - self.shared)
        return iou


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """The pairs of objects that match, in the order of the table.

    Parameters
    ----------
    predicted, true : numpy.ndarray of int64, (n,)
        Numbers of the objects of each pair; every object is in one pair at most.
    iou : numpy.ndarray of float64, (n,)
        Intersection over union of each pair.
    """

    predicted: Ids
    true: Ids
    iou: Floats


@dataclass(frozen=True, slots=True)
class SizeClass:
    """How many true objects of some sizes are found.

    Parameters
    ----------
    low, high : int or None
        ``low <= pixels < high``; None = no bound.
    true, matched : int
        True objects of these sizes, and how many of them match a predicted object.
    """

    low: int | None
    high: int | None
    true: int
    matched: int

    @property
    def recall(self) -> float | None:
        """Share that matches; None if there is no true object of these sizes."""
        return self.matched / self.true if self.true else None


def overlaps_of(table: Contingency) -> Overlaps:
    """Return all pairs of objects that share pixels.

    Parameters
    ----------
    table : Contingency
        Of a whole image, the background included.
    """
    (p_numbers, p_sizes), (t_numbers, t_sizes) = table.predicted_sizes(), table.true_sizes()
    objects = table.where((table.predicted != BACKGROUND) & (table.true != BACKGROUND))
    return Overlaps(
        objects.predicted,
        objects.true,
        objects.counts,
        p_sizes[np.searchsorted(p_numbers, objects.predicted)],
        t_sizes[np.searchsorted(t_numbers, objects.true)],
        int((p_numbers != BACKGROUND).sum()),
        int((t_numbers != BACKGROUND).sum()),
    )


def matches_of(table: Contingency, threshold: float = LEAST_THRESHOLD) -> Matches:
    """Return the pairs of objects whose intersection over union is greater than the threshold.

    True objects in none of them are missed, predicted ones are false.

    Raises
    ------
    ConfigError
        If the threshold is out of range.
    """
    check_thresholds((threshold,))
    pairs = overlaps_of(table)
    iou = pairs.iou
    matched = iou > threshold
    return Matches(pairs.predicted[matched], pairs.true[matched], iou[matched])


def found_by_size(
    table: Contingency, bounds: Sequence[int], threshold: float = LEAST_THRESHOLD
) -> tuple[SizeClass, ...]:
    """Return how many true objects are found, by their number of pixels.

    Parameters
    ----------
    table : Contingency
        Of a whole image, the background included.
    bounds : sequence of int
        Ascending sizes in pixels that part the n + 1 classes; without any, all sizes are one class.
    threshold : float
        From 0.5 to below 1.

    Raises
    ------
    ConfigError
        If the bounds do not ascend, or the threshold is out of range.
    """
    if any(a >= b for a, b in itertools.pairwise(bounds)):
        raise ConfigError(
            f"objects cannot be sorted into sizes by {list(bounds)}; give ascending numbers"
        )
    numbers, sizes = table.true_sizes()
    numbers, sizes = numbers[numbers != BACKGROUND], sizes[numbers != BACKGROUND]
    matched = np.isin(numbers, matches_of(table, threshold).true)
    home = np.searchsorted(np.asarray(bounds, np.int64), sizes, side="right")
    count = len(bounds) + 1
    true, found = np.bincount(home, minlength=count), np.bincount(home[matched], minlength=count)
    edges = (None, *bounds, None)
    return tuple(
        SizeClass(edges[k], edges[k + 1], int(true[k]), int(found[k])) for k in range(count)
    )


def check_thresholds(thresholds: Sequence[float]) -> None:
    """Refuse thresholds at which matches are not unique, or not possible.

    Raises
    ------
    ConfigError
        If one is below 0.5, or not below 1.
    """
    if not all(LEAST_THRESHOLD <= t < 1 for t in thresholds):
        raise ConfigError(
            f"matches at the thresholds {', '.join(str(t) for t in thresholds)} are not unique or "
            f"not possible; choose from {LEAST_THRESHOLD} to below 1"
        )
