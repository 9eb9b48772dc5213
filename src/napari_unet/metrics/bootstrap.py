"""How sure a score is, and whether new weights are better: a bootstrap over held-out blocks.

Pixels of one block are not independent, blocks roughly are; so whole blocks are drawn with
replacement, the same ones for parent and new weights, and the score is taken from their pooled
counts.

The percentile interval is too narrow for few blocks: it takes the standard deviation as if it were
known. It is widened as Student's interval is [1]_: its level becomes that of
``sqrt(n / (n - 1)) * t`` under the normal distribution. Bias correction and acceleration (BCa) were
measured too and did not come nearer to 95 %.

References
----------
.. [1] T. Hesterberg, "What Teachers Should Know About the Bootstrap", The American Statistician
   69(4), 2015, sec. 5.3 ("expanded percentile interval").
.. [2] B. Efron, R. Tibshirani, "An Introduction to the Bootstrap", 1993, sec. 6.4: 200 resamples
   are enough for a standard error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.errors import ConfigError
from napari_unet.metrics.classes import Confusion
from napari_unet.metrics.intervals import expanded_percentile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from napari_unet.core.train_events import Verdict

    Statistic = Callable[[Confusion], float | None]
    Floats = npt.NDArray[np.float64]

MIN_BLOCKS = 5
"""With fewer blocks that hold what is scored, nothing is claimed: their few combinations say little
about other blocks."""

_BATCH = 256
"""Resamples at a time, so that memory does not grow with their number."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What changed from the parent to the new weights.

    Parameters
    ----------
    before, after, difference : float or None
        Score of the parent, score of the new weights, and `after` - `before`, over all blocks.
        None if there is nothing to score.
    low, high : float or None
        The 95 % interval of the difference; None if there are too few blocks, or none can be made.
    verdict : {"better", "worse", "no difference shown"}
        The first two only if the interval excludes 0.
    blocks : int
        How many blocks were compared.
    reason : str
        Why there is no interval, in a sentence; empty if there is one.
    """

    before: float | None
    after: float | None
    difference: float | None
    low: float | None
    high: float | None
    verdict: Verdict
    blocks: int
    reason: str = ""


def mean_f1(counts: Confusion) -> float | None:
    """Return the mean F1 over the classes present: the statistic of the gate."""
    return counts.mean_f1


def f1_of(number: int) -> Statistic:
    """Return the statistic "F1 of the class `number`", counted from 1."""

    def statistic(counts: Confusion) -> float | None:
        return counts.f1[number - 1]

    return statistic


def paired_difference(
    parent: Sequence[Confusion],
    new: Sequence[Confusion],
    statistic: Statistic = mean_f1,
    *,
    resamples: int = 2000,
    seed: int,
) -> Difference:
    """Return the difference of a statistic of pooled counts, with its 95 % interval.

    Parameters
    ----------
    parent, new : sequence of Confusion
        Counts of the same blocks in the same order.
    statistic : callable
        Score of pooled counts, higher is better; None = cannot be said, such as the F1 of a class
        that is absent. Resamples without a score are left out.
    resamples : int
        How often the blocks are drawn.
    seed : int
        Of the drawing. Exchanging `parent` and `new` mirrors the result.

    Raises
    ------
    ConfigError
        If the two differ in length or classes, or the seed is negative or there are no resamples.
    """
    _check_paired(parent, new, resamples, seed)
    before, after = (statistic(Confusion.total(some)) if some else None for some in (parent, new))
    telling = sum(
        statistic(old) is not None or statistic(young) is not None
        for old, young in zip(parent, new, strict=True)
    )
    drawn = np.empty(0)
    if before is None or after is None:
        reason = "no label in the judging blocks says anything about this score"
    elif telling < MIN_BLOCKS:
        reason = (
            f"{telling} judging block(s) with labels that count are too few for a verdict, which "
            f"needs {MIN_BLOCKS}"
        )
    else:
        drawn = np.diff(_resampled((parent, new), statistic, resamples, seed))[:, 0]
        reason = "" if len(drawn) else "no resample of the judging blocks has a score"
    difference = None if before is None or after is None else after - before
    low, high = expanded_percentile(drawn, telling) if len(drawn) else (None, None)
    verdict: Verdict = "no difference shown"
    if low is not None and low > 0:
        verdict = "better"
    elif high is not None and high < 0:
        verdict = "worse"
    return Difference(before, after, difference, low, high, verdict, len(parent), reason)


def class_differences(
    parent: Sequence[Confusion],
    new: Sequence[Confusion],
    *,
    resamples: int = 2000,
    seed: int,
) -> tuple[Difference, ...]:
    """Return the difference of the F1 of each class, in order; see `paired_difference`.

    The intervals are those of each class by itself: with many classes, some exclude 0 by chance.

    Raises
    ------
    ConfigError
        As `paired_difference` does.
    """
    numbers = range(1, len(parent[0].counts) + 1) if parent else range(0)
    return tuple(
        paired_difference(parent, new, f1_of(k), resamples=resamples, seed=seed) for k in numbers
    )


def standard_error(
    blocks: Sequence[Confusion],
    statistic: Statistic = mean_f1,
    *,
    resamples: int = 200,
    seed: int,
) -> float:
    """Return the standard error of a statistic of pooled counts; 0 if nobody can say.

    It is the standard deviation over the resamples, times ``sqrt(n / (n - 1))`` for the n blocks
    that have a score: drawing from few blocks varies less than the blocks themselves [2]_. With
    fewer than two there is nothing to take it from.

    Parameters
    ----------
    blocks : sequence of Confusion
        Counts of each block.
    statistic : callable
        As for `paired_difference`.
    resamples : int
        How often the blocks are drawn.
    seed : int
        Of the drawing.

    Raises
    ------
    ConfigError
        If the blocks differ in classes, or the seed is negative or there are no resamples.
    """
    _check_paired(blocks, blocks, resamples, seed)
    telling = sum(statistic(part) is not None for part in blocks)
    if telling < 2:
        return 0.0
    drawn = _resampled((blocks,), statistic, resamples, seed)
    return math.sqrt(telling / (telling - 1)) * float(drawn.std()) if len(drawn) else 0.0


def _resampled(
    sides: Sequence[Sequence[Confusion]], statistic: Statistic, resamples: int, seed: int
) -> Floats:
    """Return, (r, sides), the scores of the resamples in which every side has one."""
    tables = [np.stack([part.counts for part in parts]) for parts in sides]
    rng = np.random.default_rng(seed)
    blocks = len(sides[0])
    values = []
    for start in range(0, resamples, _BATCH):
        count = min(_BATCH, resamples - start)
        times = rng.multinomial(blocks, np.full(blocks, 1 / blocks), size=count)
        pools = [np.tensordot(times, table, axes=1) for table in tables]
        for pooled in zip(*pools, strict=True):
            found = [statistic(Confusion(counts)) for counts in pooled]
            if None not in found:
                values.append(found)
    return np.array(values, dtype=np.float64).reshape(-1, len(sides))


def _check_paired(
    parent: Sequence[Confusion], new: Sequence[Confusion], resamples: int, seed: int
) -> None:
    shapes = {part.counts.shape for part in (*parent, *new)}
    if len(parent) != len(new) or len(shapes) > 1 or resamples < 1 or seed < 0:
        raise ConfigError(
            f"{len(parent)} and {len(new)} blocks of {sorted(n for n, _ in shapes)} classes with "
            f"{resamples} resamples and seed {seed} cannot be compared; give the same blocks and "
            "classes, at least one resample and a seed >= 0"
        )
