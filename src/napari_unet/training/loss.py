"""The paper's loss: pixel-wise softmax and cross-entropy, weighted per pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from napari_unet.core.classes import FIRST_CLASS, UNLABELED
from napari_unet.errors import TrainingError

if TYPE_CHECKING:
    from torch import Tensor


def weighted_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
) -> Tensor:
    r"""Return the weighted mean of the cross-entropy over all labeled pixels.

    .. math:: E = -\frac{\sum_x w(x) \log p_{l(x)}(x)}{\sum_x w(x)}

    with the sums over labeled pixels [1]_, eq. 1; we divide by the sum of the weights, so that the
    size of a step depends neither on the patch nor on how much of it is labeled.

    Parameters
    ----------
    logits : Tensor
        (N, K, H, W).
    labels : Tensor
        (N, H, W) whole numbers: 0 = unlabeled, ignored; k = the k-th class.
    class_weights : Tensor, optional
        (K,) weights of the classes, not negative.
    pixel_weights : Tensor, optional
        (N, H, W) weights of the pixels, not negative.

    Returns
    -------
    Tensor
        Scalar; 0, with zero gradients, if nothing is labeled.

    Raises
    ------
    TrainingError
        If a label is greater than the number of classes, or shapes differ.

    References
    ----------
    .. [1] Ronneberger et al. 2015, sec. 3.
    """
    classes = logits.shape[1]
    if labels.shape != (logits.shape[0], *logits.shape[2:]):
        raise TrainingError(
            f"labels of shape {tuple(labels.shape)} do not fit logits of shape "
            f"{tuple(logits.shape)}; give the labels of the network's output"
        )
    labels = labels.long()
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) <= classes:
        raise TrainingError(
            f"labels from {int(labels.min())} to {int(labels.max())} do not fit {classes} classes; "
            f"use {UNLABELED} for unlabeled and {FIRST_CLASS} to {classes} for the classes"
        )
    labeled = labels != UNLABELED
    target = (labels - FIRST_CLASS).clamp_min(0)
    loss = functional.cross_entropy(logits.float(), target, reduction="none")
    weight = labeled.to(loss.dtype)
    if class_weights is not None:
        weight = weight * class_weights.to(loss)[target]
    if pixel_weights is not None:
        weight = weight * pixel_weights.to(loss)
    # An infinite loss on a pixel that does not count must not turn the sum into 0 * inf.
    loss = torch.where(weight > 0, loss, torch.zeros_like(loss))
    return (loss * weight).sum() / weight.sum().clamp_min(torch.finfo(loss.dtype).tiny)
