"""The learning rate over time: a short rise, then half a cosine down to zero, or no change.

Time is counted in steps or, when a training has a budget in seconds, as the share of the budget
that is spent.
"""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["cosine", "constant"]
"""What the learning rate does after its rise: falls to 0, or stays."""

LEAST_RISE = 0.01
"""Smallest share of the peak during a rise that is counted in time: the first step is at time 0."""


def learning_rate(
    step: int, *, steps: int, peak: float, warmup: int, schedule: Schedule = "cosine"
) -> float:
    """Return the learning rate of a step.

    Parameters
    ----------
    step : int
        From 0.
    steps : int
        Number of steps of the whole training.
    peak : float
        Greatest learning rate.
    warmup : int
        Steps of linear rise to the peak.
    schedule : {"cosine", "constant"}
        What follows the rise.

    Examples
    --------
    >>> [round(learning_rate(k, steps=6, peak=1.0, warmup=2), 2) for k in range(6)]
    [0.5, 1.0, 1.0, 0.85, 0.5, 0.15]
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    return _after_rise((step - warmup) / max(steps - warmup, 1), peak, schedule)


def learning_rate_at(
    share: float, *, peak: float, warmup_share: float, schedule: Schedule = "cosine"
) -> float:
    """Return the learning rate when a share of the time is spent.

    Parameters
    ----------
    share : float
        0 at the start, 1 at the end.
    peak : float
        Greatest learning rate.
    warmup_share : float
        Share of the time of the linear rise to the peak.
    schedule : {"cosine", "constant"}
        What follows the rise.

    Examples
    --------
    >>> shares = (0.0, 0.1, 0.2, 0.6, 1.0)
    >>> [round(learning_rate_at(share, peak=1.0, warmup_share=0.2), 2) for share in shares]
    [0.01, 0.5, 1.0, 0.5, 0.0]
    """
    if share < warmup_share:
        return peak * max(share / warmup_share, LEAST_RISE)
    return _after_rise((share - warmup_share) / max(1 - warmup_share, LEAST_RISE), peak, schedule)


def _after_rise(progress: float, peak: float, schedule: Schedule) -> float:
    if schedule == "constant":
        return peak
    return peak * (1 + math.cos(math.pi * min(progress, 1.0))) / 2
