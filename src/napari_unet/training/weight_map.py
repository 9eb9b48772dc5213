"""Weights of the loss: w_c, which balances the frequencies of the classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_unet.core.classes import FIRST_CLASS
from napari_unet.errors import TrainingError

if TYPE_CHECKING:
    import numpy.typing as npt


def balance_weights(
    labels: npt.NDArray[np.integer], num_classes: int, *, power: float = 1.0
) -> npt.NDArray[np.float32]:
    """Return one weight per class, higher for rarer classes; their mean over labeled pixels is 1.

    Parameters
    ----------
    labels : numpy.ndarray
        Any shape: 0 = unlabeled, k = the k-th class.
    num_classes : int
        Number of classes; one that is not labeled anywhere gets the weight 0.
    power : float
        1 gives each class the same share of the loss, 0 gives each pixel the same weight. At
        argmax, 1 finds rare classes too often; values between trade recall for precision.

    Returns
    -------
    numpy.ndarray
        (num_classes,) float32: w_c of Ronneberger et al. 2015, eq. 2.

    Raises
    ------
    TrainingError
        If no pixel is labeled.
    """
    counts = np.bincount(labels.ravel(), minlength=num_classes + FIRST_CLASS)
    counts = counts[FIRST_CLASS : num_classes + FIRST_CLASS].astype(np.float64)
    total = counts.sum()
    if total == 0:
        raise TrainingError(
            f"no pixel of the labels (shape {labels.shape}) is annotated; paint some pixels first"
        )
    weights = np.divide(total, counts, out=np.zeros_like(counts), where=counts > 0) ** power
    weights[counts == 0] = 0
    mean = (weights * counts).sum() / total
    return np.asarray(weights / mean, dtype=np.float32)
