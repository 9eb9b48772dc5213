"""Where the random numbers of one patch come from."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Chance:
    """One generator for each thing that is drawn for a patch.

    Generators are NumPy's whatever the device, so that the same seed moves a patch in the same way
    on a CPU and on a GPU.

    Parameters
    ----------
    placement : numpy.random.Generator
        Where the patch lies: the random shift.
    symmetry : numpy.random.Generator
        Flips and quarter turns.
    free : numpy.random.Generator
        Whether the patch is moved freely at all.
    rotation, scale, elastic : numpy.random.Generator
        Angle, scale and displacements of a patch that is.
    blur, noise, gamma, gain, offset : numpy.random.Generator
        Changes of the gray values.
    """

    placement: np.random.Generator
    symmetry: np.random.Generator
    free: np.random.Generator
    rotation: np.random.Generator
    scale: np.random.Generator
    elastic: np.random.Generator
    blur: np.random.Generator
    noise: np.random.Generator
    gamma: np.random.Generator
    gain: np.random.Generator
    offset: np.random.Generator

    @classmethod
    def spawned(cls, rng: np.random.Generator) -> Chance:
        """Return independent generators: switching one change off leaves the others as they are.

        Parameters
        ----------
        rng : numpy.random.Generator
            The parent; each call gives other children, and none of its own numbers is used up.
        """
        return cls(*rng.spawn(len(fields(cls))))

    @classmethod
    def shared(cls, rng: np.random.Generator) -> Chance:
        """Return one generator for everything, drawn from in the order of the program."""
        return cls(*[rng] * len(fields(cls)))
