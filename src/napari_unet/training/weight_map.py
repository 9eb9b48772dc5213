r"""Weights of the loss: balance between classes, and force on the gaps between touching objects.

.. math:: w(x) = w_c(x) + w_0 \exp\left(-\frac{(d_1(x) + d_2(x))^2}{2 \sigma^2}\right)

(Ronneberger et al. 2015, eq. 2), with d1 and d2 the distances to the nearest and the second
nearest object.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_unet.core.classes import FIRST_CLASS, UNLABELED
from napari_unet.errors import TrainingError

if TYPE_CHECKING:
    import numpy.typing as npt

PAPER_BORDER_WEIGHT = 10.0
"""w0 (Ronneberger et al. 2015, sec. 3)."""

PAPER_BORDER_SIGMA = 5.0
"""sigma, in pixels (Ronneberger et al. 2015, sec. 3: "about 5 pixels")."""

NEGLIGIBLE = 1e-6
"""Share of w0 below which a border weight is taken for 0; bounds how far an object reaches."""


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
    counts = counts[FIRST_CLASS : num_classes + FIRST_CLASS]
    if not counts.any():
        raise TrainingError(
            f"no pixel of the labels (shape {labels.shape}) is annotated; paint some pixels first"
        )
    return balance_counts(counts, power=power)


def balance_counts(counts: npt.ArrayLike, *, power: float = 1.0) -> npt.NDArray[np.float32]:
    """Return `balance_weights` of classes that are labeled so many times.

    Parameters
    ----------
    counts : array of int
        (num_classes,): labeled pixels of each class; at least one is not 0.
    power : float
        As for `balance_weights`.

    Raises
    ------
    TrainingError
        If all are 0.
    """
    numbers = np.asarray(counts).astype(np.float64)
    total = numbers.sum()
    if total == 0:
        raise TrainingError("no pixel is annotated; paint some pixels first")
    weights = np.divide(total, numbers, out=np.zeros_like(numbers), where=numbers > 0) ** power
    weights[numbers == 0] = 0
    mean = (weights * numbers).sum() / total
    return np.asarray(weights / mean, dtype=np.float32)


def border_reach(sigma: float) -> int:
    """Return how far from an object its border weight is not 0, in pixels."""
    return math.ceil(sigma * math.sqrt(-2 * math.log(NEGLIGIBLE)))


def border_weights(
    instances: npt.NDArray[np.integer],
    *,
    weight: float = PAPER_BORDER_WEIGHT,
    sigma: float = PAPER_BORDER_SIGMA,
) -> npt.NDArray[np.float32]:
    """Return the weight of the gaps between objects, the second term of the paper's map.

    Distances are exact and Euclidean, from pixel center to the nearest pixel center of an object.
    Each object is looked at only as far as it reaches, so a plane of many small ones costs little.

    Parameters
    ----------
    instances : numpy.ndarray
        (Y, X), 0 = background, one number per object.
    weight, sigma : float
        w0, and the width in pixels.

    Returns
    -------
    numpy.ndarray
        (Y, X) float32, 0 inside objects and where fewer than two are near.

    References
    ----------
    .. [1] Ronneberger et al. 2015, eq. 2.
    """
    reach = border_reach(sigma)
    nearest, second_nearest = (np.full(instances.shape, np.inf) for _ in range(2))
    for number, found in enumerate(ndimage.find_objects(instances), start=1):
        if found is None:
            continue
        around = tuple(
            slice(max(s.start - reach, 0), min(s.stop + reach, n))
            for s, n in zip(found, instances.shape, strict=True)
        )
        distance = ndimage.distance_transform_edt(instances[around] != number)
        first, second = nearest[around], second_nearest[around]
        np.minimum(second, np.maximum(first, distance), out=second)
        np.minimum(first, distance, out=first)
    total = nearest + second_nearest
    weights = weight * np.exp(-np.square(total) / (2 * sigma**2))
    weights[(instances != 0) | (total > reach)] = 0
    return np.asarray(weights, dtype=np.float32)


def pixel_weights(
    labels: npt.NDArray[np.integer],
    class_weights: npt.NDArray[np.floating],
    border: npt.NDArray[np.floating] | None = None,
) -> npt.NDArray[np.float32]:
    """Return w(x) of the paper's eq. 2: the one place where balance, borders and ignoring meet.

    Parameters
    ----------
    labels : numpy.ndarray
        (Y, X): 0 = unlabeled, k = the k-th class.
    class_weights : numpy.ndarray
        (classes,): w_c, e.g. from `balance_weights`.
    border : numpy.ndarray, optional
        (Y, X): from `border_weights`.

    Returns
    -------
    numpy.ndarray
        (Y, X) float32: ``w_c[label] + border``; 0 where nothing is labeled, whatever the border.

    Raises
    ------
    TrainingError
        If shapes differ, or a label has no class weight.
    """
    if border is not None and border.shape != labels.shape:
        raise TrainingError(
            f"border weights of shape {border.shape} do not fit labels of shape {labels.shape}"
        )
    if labels.size and not 0 <= labels.min() <= labels.max() <= len(class_weights):
        raise TrainingError(
            f"labels from {labels.min()} to {labels.max()} do not fit {len(class_weights)} class "
            "weights; give one weight per class"
        )
    by_label = np.concatenate([[0.0], np.asarray(class_weights, np.float64)])
    weights = by_label[labels]
    if border is not None:
        weights = np.where(labels == UNLABELED, 0.0, weights + border)
    return np.asarray(weights, dtype=np.float32)
