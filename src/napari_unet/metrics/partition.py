"""How well two partitions of an image into objects agree.

Conventions, the same for all scores here:

- Pixels whose *true* number is 0 do not count: membrane, or not annotated.
- A *predicted* 0 is a number like any other: all its counted pixels form one object.
- Each slice is compared by itself; the score of a stack is the mean over the slices that have a
  counted pixel. Numbers need not be unique across slices.
- Entropies are in bits.

These are not the restricted, thinned scores of the ISBI 2012 challenge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.errors import ConfigError

if TYPE_CHECKING:
    from typing import Any

    import numpy.typing as npt

IGNORED = 0
"""True number of pixels that do not count."""


@dataclass(frozen=True, slots=True)
class PartitionScore:
    """Agreement of a predicted partition with the true one; 0 is perfect for the three errors.

    Parameters
    ----------
    voi_split : float
        H(predicted | true) in bits: how far true objects are cut apart [1]_.
    voi_merge : float
        H(true | predicted) in bits: how far predicted objects join true ones.
    adapted_rand_error : float
        1 - F1 of pairs of pixels [2]_, between 0 and 1.
    rand_precision, rand_recall : float
        Share of the pairs joined in the prediction that are joined in truth, and the reverse.

    References
    ----------
    .. [1] M. Meila, "Comparing clusterings", J. Multivariate Analysis 98, 2007.
    .. [2] I. Arganda-Carreras et al., Frontiers in Neuroanatomy 9:142, 2015.
    """

    voi_split: float
    voi_merge: float
    adapted_rand_error: float
    rand_precision: float
    rand_recall: float

    @property
    def voi(self) -> float:
        """Variation of information in bits: splits and merges together."""
        return self.voi_split + self.voi_merge


def partition_score(
    predicted: npt.NDArray[np.integer[Any]], true: npt.NDArray[np.integer[Any]]
) -> PartitionScore:
    """Return the mean agreement over slices; see the module for what counts.

    Parameters
    ----------
    predicted, true : numpy.ndarray
        Numbered objects, (Y, X) or (Z, Y, X).

    Raises
    ------
    ConfigError
        If shapes differ, arrays are not 2D or 3D, or no pixel counts.
    """
    if predicted.shape != true.shape or true.ndim not in (2, 3):
        raise ConfigError(
            f"partitions of shape {predicted.shape} and {true.shape} cannot be compared; "
            "give equal shapes (y, x) or (z, y, x)"
        )
    slice_shape = (-1, *true.shape[-2:])
    pairs = zip(predicted.reshape(slice_shape), true.reshape(slice_shape), strict=True)
    scores = [_slice_score(p, t) for p, t in pairs if (t != IGNORED).any()]
    if not scores:
        raise ConfigError(
            f"no pixel of the true objects (shape {true.shape}) counts: all are {IGNORED}; "
            "number the objects from 1"
        )
    return PartitionScore(*(float(x) for x in np.mean(scores, axis=0)))


def _slice_score(
    predicted: npt.NDArray[np.integer[Any]], true: npt.NDArray[np.integer[Any]]
) -> tuple[float, float, float, float, float]:
    counted = true != IGNORED
    t = np.unique(true[counted], return_inverse=True)[1].ravel()
    p = np.unique(predicted[counted], return_inverse=True)[1].ravel()
    in_true, in_predicted = np.bincount(t), np.bincount(p)
    pairs, in_both = np.unique(t * len(in_predicted) + p, return_counts=True)
    of_true, of_predicted = np.divmod(pairs, len(in_predicted))
    share = in_both / len(t)
    split = -(share * np.log2(in_both / in_true[of_true])).sum()
    merge = -(share * np.log2(in_both / in_predicted[of_predicted])).sum()
    joined, joined_true, joined_predicted = (
        int((n.astype(np.int64) * (n - 1)).sum()) for n in (in_both, in_true, in_predicted)
    )
    total = joined_true + joined_predicted
    # Without a joined pair on a side, nothing of that side can be wrong.
    error = 1 - 2 * joined / total if total else 0.0
    precision = joined / joined_predicted if joined_predicted else 1.0
    recall = joined / joined_true if joined_true else 1.0
    # Adding 0 turns the -0.0 of a perfect score into 0.0.
    return float(split) + 0.0, float(merge) + 0.0, error, precision, recall
