"""How sure a model is of a place, and how far two models differ there.

Per voxel, from the probabilities p of C classes: the entropy -sum p log p / log C and the lead of
the likeliest class over the second (both 0..1, the usual measures of uncertainty sampling [1]_).
Over a place the mean counts: a single odd pixel is no reason to paint.

References
----------
.. [1] B. Settles, "Active Learning Literature Survey", University of Wisconsin-Madison, 2009,
   sec. 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.core.suggest_events import SuggestedPlace

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from napari_unet.core.boxes import Box

WORDS = ((0.7, "very unsure"), (0.85, "unsure"), (0.95, "fairly sure"))
"""Mean probability of the chosen class below which a model is called so; else it is "sure"."""

_LEAST = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Doubt:
    """What is known of every voxel of a window.

    Parameters
    ----------
    box : Box
        The window, one slice thick.
    greatest, entropy, margin : numpy.ndarray
        float32 (y, x): probability of the chosen class, entropy, and 1 less the lead, each 0 to 1.
    disagreement : numpy.ndarray or None
        bool (y, x): where two models choose different classes; None = there is one model.
    """

    box: Box
    greatest: npt.NDArray[np.float32]
    entropy: npt.NDArray[np.float32]
    margin: npt.NDArray[np.float32]
    disagreement: npt.NDArray[np.bool_] | None

    def place(self, box: Box) -> SuggestedPlace:
        """Return what is known of a place inside the window, not yet ranked."""
        inside = box.relative_to(self.box.start).slices[1:]
        sureness = float(self.greatest[inside].mean())
        differing = None if self.disagreement is None else float(self.disagreement[inside].mean())
        return SuggestedPlace(
            rank=0,
            box=box,
            sureness=round(sureness, 4),
            entropy=round(float(self.entropy[inside].mean()), 4),
            margin=round(float(self.margin[inside].mean()), 4),
            disagreement=None if differing is None else round(differing, 4),
            words=in_words(sureness, differing),
        )


def doubt_of(
    box: Box,
    probabilities: npt.NDArray[np.float32],
    chosen: tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]] | None = None,
) -> Doubt:
    """Return how sure a model is of every voxel of a window.

    Parameters
    ----------
    box : Box
        The window, (1, y, x) voxels.
    probabilities : numpy.ndarray
        (class, 1, y, x).
    chosen : tuple of ndarray or None
        Numbers (y, x) of the classes that two models choose, the same number for the same class.
    """
    p = probabilities[:, 0]
    classes = len(p)
    # One class alone leaves nothing to be unsure of.
    if classes == 1:
        nothing = np.zeros(p.shape[1:], np.float32)
        greatest, entropy, margin = nothing + 1, nothing, nothing
    else:
        second, greatest = np.partition(p, classes - 2, axis=0)[-2:]
        margin = 1 - (greatest - second)
        entropy = -(p * np.log(np.maximum(p, _LEAST))).sum(axis=0) / np.float32(np.log(classes))
    differing = None if chosen is None else chosen[0] != chosen[1]
    return Doubt(box, greatest, entropy, margin, differing)


def shared_numbers(names: Sequence[str], others: Sequence[str]) -> npt.NDArray[np.intp]:
    """Return, for each of `others`, its position in `names`; one past the end for a foreign name.

    Examples
    --------
    >>> shared_numbers(["cell", "membrane"], ["membrane", "cell", "axon"]).tolist()
    [1, 0, 2]
    """
    known = {name: k for k, name in enumerate(names)}
    numbers = [known.get(name, len(known)) for name in others]
    return np.array(numbers, np.intp)


def in_words(sureness: float, differing: float | None) -> str:
    """Return how sure a model is of a place, and how far two differ, in words.

    Examples
    --------
    >>> in_words(0.62, None), in_words(0.991, 0.25)
    ('very unsure (62 %)', 'sure (99 %), the models differ on 25 %')
    """
    word = next((word for limit, word in WORDS if sureness < limit), "sure")
    text = f"{word} ({100 * sureness:.0f} %)"
    return text if differing is None else f"{text}, the models differ on {100 * differing:.0f} %"
