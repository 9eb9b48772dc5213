"""The scores of the ISBI 2012 challenge for membranes in electron microscopy, as it printed them.

A slice of the truth says what is cell and what is border; a slice of the prediction says how
likely each pixel is cell (a membrane probability from 1 down). At a threshold, both are cut into
4-connected cells, and the cells are compared [1]_:

- Only pixels in cells of the truth count (foreground restriction).
- A predicted border pixel there is an object of its own.
- V_Rand and V_Info are means over slices; V_Rand counts ordered pairs, each pixel with itself
  included, and its precision and recall are those of the pairs of all slices.
- The Rand error takes pairs of different pixels, and is a mean over slices.
- After border thinning (`thinning`), the width of predicted borders does not count.
- The leaderboard takes the best value over the thresholds 0, 0.1, ..., 1, each score its own.

Slices are taken one after another, so a stack may be larger than memory. Every value was compared
with the challenge's own program; see the page "Partitions of an image" of the reference.

References
----------
.. [1] I. Arganda-Carreras et al., "Crowdsourcing the creation of image segmentation algorithms for
   connectomics", Frontiers in Neuroanatomy 9:142, 2015.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, repeat
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.errors import ConfigError
from napari_unet.metrics.contingency import Contingency
from napari_unet.metrics.partition import information_score, rand_score
from napari_unet.metrics.thinning import check_slice, connected_cells, thin_borders
from napari_unet.metrics.warping import MistakeKind, count_mistakes, mistakes, warp

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    import numpy.typing as npt

    from napari_unet.metrics.agreement import RandScore

    Evidence = npt.NDArray[np.floating[Any] | np.integer[Any]]
    Mask = npt.NDArray[np.bool_]

CHALLENGE_THRESHOLDS = tuple(accumulate(repeat(0.1, 10), initial=0.0))
"""The thresholds of the leaderboard. They are added up as its program does, with the same rounding
errors, which decide about pixels that are as bright as a threshold."""


@dataclass(frozen=True, slots=True)
class CellScore:
    """Agreement of cells at one threshold.

    Parameters
    ----------
    threshold : float
        Above it is cell.
    rand_error : float
        Mean over slices of the share of pairs of different pixels on which the two disagree.
    rand_index : float
        Mean over slices of 1 - the same share, of ordered pairs with each pixel with itself.
    rand : RandScore
        Ordered pairs of all slices pooled: precision (merges), recall (splits) and F.
    v_rand : float
        Mean over slices of F; the score of the leaderboard when borders are thinned.
    voi_nats : float
        Mean over slices of the variation of information, with the natural logarithm.
    v_info : float
        Mean over slices of V_Info.
    """

    threshold: float
    rand_error: float
    rand_index: float
    rand: RandScore
    v_rand: float
    voi_nats: float
    v_info: float


@dataclass(frozen=True, slots=True)
class WarpingScore:
    """What remains wrong after warping the truth onto a prediction, at one threshold.

    Parameters
    ----------
    threshold : float
        Above it is cell.
    total : int
        Pixels of all slices.
    pixels : dict
        Pixels that remain, by kind of mistake.
    mistakes : dict
        Mistakes, by kind: connected pixels are one.
    """

    threshold: float
    total: int
    pixels: dict[MistakeKind, int]
    mistakes: dict[MistakeKind, int]

    @property
    def error(self) -> float:
        """The warping error: pixels that remain per pixel."""
        return sum(self.pixels.values()) / self.total

    @property
    def splits_and_mergers(self) -> float:
        """Pixels that would split a cell or merge two, per pixel."""
        return (self.pixels["split"] + self.pixels["merge"]) / self.total

    @property
    def clustered_error(self) -> float:
        """Mistakes of all kinds per pixel."""
        return sum(self.mistakes.values()) / self.total


@dataclass(frozen=True, slots=True)
class PixelScore:
    """Pixels of all slices at one threshold; a cell is positive, a border is negative.

    Parameters
    ----------
    threshold : float
        Above it is cell.
    both, predicted, true, total : int
        Pixels that are cell in both, in the prediction, in truth; and all pixels.
    """

    threshold: float
    both: int
    predicted: int
    true: int
    total: int

    @property
    def error(self) -> float:
        """Share of the pixels that are wrong."""
        return (self.predicted + self.true - 2 * self.both) / self.total

    @property
    def precision(self) -> float:
        """Share of the predicted cell pixels that are right; 1 if there are none."""
        return self.both / self.predicted if self.predicted else 1.0

    @property
    def recall(self) -> float:
        """Share of the true cell pixels that are found; 1 if there are none."""
        return self.both / self.true if self.true else 1.0

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN); 1 if there is no cell pixel on either side."""
        total = self.predicted + self.true
        return 2 * self.both / total if total else 1.0


def cell_scores(
    slices: Iterable[tuple[Evidence, Mask]],
    thresholds: Sequence[float] = CHALLENGE_THRESHOLDS,
    *,
    thin: bool,
) -> tuple[CellScore, ...]:
    """Return the agreement of cells at each threshold.

    Parameters
    ----------
    slices : iterable of (numpy.ndarray, numpy.ndarray of bool), both (Y, X)
        Of each slice, how likely each pixel is cell, and where the truth has cells; such as
        ``zip(1 - membrane_probability, truth)``. Each is read once. Slices without a cell in truth
        are left out.
    thresholds : sequence of float
        In the unit of the prediction; above it is cell.
    thin : bool
        True thins the borders of the prediction first.

    Raises
    ------
    ConfigError
        If there is no threshold, shapes differ, a truth is not a mask of one slice, or no slice
        has a cell.
    """
    _check_thresholds(thresholds)
    rows: list[list[tuple[float, RandScore, float, float]]] = [[] for _ in thresholds]
    for evidence, true in slices:
        _check_pair(evidence, true)
        if not true.any():
            continue
        objects = connected_cells(true)
        for row, threshold in zip(rows, thresholds, strict=True):
            cells = _above(evidence, threshold)
            found = thin_borders(cells) if thin else connected_cells(cells)
            row.append(_slice_score(Contingency.of(found, objects)))
    if not rows[0]:
        raise ConfigError(
            "no slice of the truth has a cell, so no score can be taken; give the truth as masks "
            "that are True in cells and False on borders"
        )
    return tuple(map(_mean_score, thresholds, rows))


def warping_scores(
    slices: Iterable[tuple[Evidence, Mask]],
    thresholds: Sequence[float] = CHALLENGE_THRESHOLDS,
) -> tuple[WarpingScore, ...]:
    """Return what remains wrong after warping, at each threshold.

    Parameters
    ----------
    slices : iterable of (numpy.ndarray, numpy.ndarray of bool), both (Y, X)
        As for `cell_scores`; slices without a cell count too.
    thresholds : sequence of float
        In the unit of the prediction; above it is cell.

    Raises
    ------
    ConfigError
        If there is no threshold or no slice, shapes differ, or a truth is not a mask of one slice.
    """
    _check_thresholds(thresholds)
    total = 0
    pixels: list[dict[MistakeKind, int]] = [{} for _ in thresholds]
    clusters: list[dict[MistakeKind, int]] = [{} for _ in thresholds]
    for evidence, true in slices:
        total += true.size
        for k, threshold in enumerate(thresholds):
            warped = warp(true, evidence, threshold)
            found = mistakes(warped)
            for kind, where in found.items():
                pixels[k][kind] = pixels[k].get(kind, 0) + int(where.sum())
            for kind, number in count_mistakes(warped, found).items():
                clusters[k][kind] = clusters[k].get(kind, 0) + number
    _check_slices(total)
    return tuple(
        WarpingScore(threshold, total, pixels[k], clusters[k])
        for k, threshold in enumerate(thresholds)
    )


def pixel_scores(
    slices: Iterable[tuple[Evidence, Mask]],
    thresholds: Sequence[float] = CHALLENGE_THRESHOLDS,
) -> tuple[PixelScore, ...]:
    """Return how many pixels are right, at each threshold.

    Parameters
    ----------
    slices : iterable of (numpy.ndarray, numpy.ndarray of bool), both (Y, X)
        As for `cell_scores`; slices without a cell count too.
    thresholds : sequence of float
        In the unit of the prediction; above it is cell.

    Raises
    ------
    ConfigError
        If there is no threshold or no slice, shapes differ, or a truth is not a mask of one slice.
    """
    _check_thresholds(thresholds)
    counts = np.zeros((len(thresholds), 2), np.int64)
    in_truth = total = 0
    for evidence, true in slices:
        _check_pair(evidence, true)
        in_truth += int(true.sum())
        total += true.size
        for k, threshold in enumerate(thresholds):
            cells = _above(evidence, threshold)
            counts[k] += int((cells & true).sum()), int(cells.sum())
    _check_slices(total)
    return tuple(
        PixelScore(threshold, int(both), int(predicted), in_truth, total)
        for threshold, (both, predicted) in zip(thresholds, counts, strict=True)
    )


def _slice_score(table: Contingency) -> tuple[float, RandScore, float, float]:
    ordered = rand_score(table, unmatched="singletons", self_pairs=True)
    different = rand_score(table, unmatched="singletons")
    information = information_score(table, unmatched="singletons")
    return different.error, ordered, information.voi_nats, information.v_info()


def _mean_score(
    threshold: float, rows: Sequence[tuple[float, RandScore, float, float]]
) -> CellScore:
    errors, pairs, nats, infos = zip(*rows, strict=True)
    return CellScore(
        threshold=threshold,
        rand_error=float(np.mean(errors)),
        rand_index=float(np.mean([1 - some.error for some in pairs])),
        rand=sum(pairs[1:], start=pairs[0]),
        v_rand=float(np.mean([some.v_rand() for some in pairs])),
        voi_nats=float(np.mean(nats)),
        v_info=float(np.mean(infos)),
    )


def _above(evidence: Evidence, threshold: float) -> Mask:
    # In double precision, as in the challenge's program, also where the prediction is not.
    limit = np.float64(threshold)
    return evidence > limit


def _check_pair(evidence: Evidence, true: Mask) -> None:
    check_slice(true)
    if evidence.shape != true.shape:
        raise ConfigError(
            f"slices of shape {evidence.shape} and {true.shape} cannot be compared; "
            "give equal shapes (y, x)"
        )


def _check_thresholds(thresholds: Sequence[float]) -> None:
    if not len(thresholds):
        raise ConfigError("there is no threshold; give at least one, such as 0.5")


def _check_slices(total: int) -> None:
    if not total:
        raise ConfigError("there is no pixel to score; give at least one slice")
