"""The learning rate over time: a short rise, then half a cosine down to zero."""

from __future__ import annotations

import math


def learning_rate(step: int, *, steps: int, peak: float, warmup: int) -> float:
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

    Examples
    --------
    >>> [round(learning_rate(k, steps=6, peak=1.0, warmup=2), 2) for k in range(6)]
    [0.5, 1.0, 1.0, 0.85, 0.5, 0.15]
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(steps - warmup, 1)
    return peak * (1 + math.cos(math.pi * min(progress, 1.0))) / 2
