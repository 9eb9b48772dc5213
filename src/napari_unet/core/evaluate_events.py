"""What an evaluation says while it runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PairProgress:
    """A pair is being measured, or was.

    Parameters
    ----------
    prediction : str
        What the report calls the prediction.
    pair : str
        Name of the pair.
    number, total : int
        Which pair of how many, from 1, all predictions taken together.
    share : float
        How much of the pair is done; 1 = all.
    """

    prediction: str
    pair: str
    number: int
    total: int
    share: float
