"""How sure scores are: bootstrap intervals over images, or over the blocks of one image.

Every score here is a function of counts that add up over units: images, or blocks, whose pixels
are not independent while the units roughly are. Units are drawn with replacement, their counts
added, and the scores taken from the sums. Two predictions of the same units are drawn together, so
that what both find hard does not widen the interval of their difference.

References
----------
.. [1] T. Hesterberg, "What Teachers Should Know About the Bootstrap", The American Statistician
   69(4), 2015, sec. 5.3 ("expanded percentile interval").
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr, stdtrit

from napari_unet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Statistics = Callable[[npt.NDArray[Any]], Sequence[float | None]]

CONFIDENCE = 0.95
"""How often intervals made in this way hold the true value, in the long run."""

MIN_UNITS = 5
"""With fewer images or blocks that have a score nothing is claimed about others."""

_BATCH = 256
"""Resamples at a time, so that memory does not grow with their number."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A score and its 95 % interval.

    Parameters
    ----------
    value : float or None
        Of all units together; None = there is nothing to score.
    low, high : float or None
        The interval; None where none can be made.
    units : int
        Images or blocks that have a score of their own.
    """

    value: float | None
    low: float | None
    high: float | None
    units: int


def intervals(
    units: npt.NDArray[Any], statistics: Statistics, *, resamples: int = 2000, seed: int
) -> tuple[Interval, ...]:
    """Return the scores of all units together, each with its interval.

    Parameters
    ----------
    units : numpy.ndarray
        (n, ...) counts of each unit, which add up.
    statistics : callable
        Returns scores of added counts, always as many; None = cannot be said.
    resamples : int
        How often the units are drawn.
    seed : int
        Of the drawing.

    Raises
    ------
    ConfigError
        If there is no unit, or there are no resamples.
    """
    (found,) = _drawn((units,), statistics, resamples, seed)
    return tuple(found)


def paired_intervals(
    first: npt.NDArray[Any],
    second: npt.NDArray[Any],
    statistics: Statistics,
    *,
    resamples: int = 2000,
    seed: int,
) -> tuple[Interval, ...]:
    """Return the differences of scores, `second` - `first`, with intervals over the same units.

    Parameters
    ----------
    first, second : numpy.ndarray
        (n, ...) counts of the same units in the same order.
    statistics, resamples, seed
        As for `intervals`.

    Raises
    ------
    ConfigError
        If the two differ in shape, there is no unit, or there are no resamples.
    """
    if first.shape != second.shape:
        raise ConfigError(
            f"counts of shape {first.shape} and {second.shape} cannot be paired; give those of the "
            "same images or blocks"
        )
    return tuple(_drawn((first, second), statistics, resamples, seed, difference=True)[0])


def expanded_percentile(values: Floats, units: int) -> tuple[float, float]:
    """Return the 95 % interval of resampled scores, widened as Student's is for few units [1]_.

    The percentile interval takes the standard deviation as if it were known; the level of its
    tails becomes that of ``sqrt(n / (n - 1)) * t`` under the normal distribution.

    Parameters
    ----------
    values : numpy.ndarray
        Scores of the resamples, at least one.
    units : int
        How many units were drawn from, at least 2.
    """
    widened = math.sqrt(units / (units - 1)) * stdtrit(units - 1, (1 + CONFIDENCE) / 2)
    tail = float(ndtr(-widened))
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def _drawn(
    sides: Sequence[npt.NDArray[Any]],
    statistics: Statistics,
    resamples: int,
    seed: int,
    *,
    difference: bool = False,
) -> list[list[Interval]]:
    """Return the intervals of each side, or of the difference of two."""
    if not len(sides[0]) or resamples < 1:
        raise ConfigError(
            f"{len(sides[0])} images or blocks with {resamples} resamples give no interval; give "
            "at least one of both"
        )
    whole = [_floats(statistics(side.sum(axis=0))) for side in sides]
    each = np.array([[_floats(statistics(unit)) for unit in side] for side in sides])
    telling = np.isfinite(each).all(axis=0).sum(axis=0)
    enough = bool((telling >= MIN_UNITS).any())
    drawn = _resampled(sides, statistics, resamples, seed) if enough else None
    if difference:
        values = [whole[1] - whole[0]]
        samples = [None if drawn is None else drawn[:, 1] - drawn[:, 0]]
    else:
        values, samples = whole, [None if drawn is None else drawn[:, k] for k in range(len(sides))]
    return [
        [_interval(v, s, k, int(telling[k])) for k, v in enumerate(value)]
        for value, s in zip(values, samples, strict=True)
    ]


def _interval(value: float, samples: Floats | None, column: int, units: int) -> Interval:
    low = high = None
    if samples is not None and units >= MIN_UNITS and math.isfinite(value):
        finite = samples[:, column][np.isfinite(samples[:, column])]
        if len(finite):
            low, high = expanded_percentile(finite, units)
    return Interval(float(value) if math.isfinite(value) else None, low, high, units)


def _resampled(
    sides: Sequence[npt.NDArray[Any]], statistics: Statistics, resamples: int, seed: int
) -> Floats:
    """Return, (resamples, sides, scores), the scores of the resamples; NaN where there is none."""
    rng = np.random.default_rng(seed)
    count = len(sides[0])
    rows: list[list[Floats]] = []
    for start in range(0, resamples, _BATCH):
        size = min(_BATCH, resamples - start)
        times = rng.multinomial(count, np.full(count, 1 / count), size=size)
        pools = [np.tensordot(times, side, axes=1) for side in sides]
        rows += [
            [_floats(statistics(sums)) for sums in pooled] for pooled in zip(*pools, strict=True)
        ]
    return np.array(rows, dtype=np.float64)


def _floats(scores: Sequence[float | None]) -> Floats:
    return np.array([math.nan if s is None else s for s in scores], dtype=np.float64)
