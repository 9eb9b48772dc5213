"""The paper's loss: pixel-wise softmax and cross-entropy, weighted per pixel; and soft Dice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from napari_unet.core.classes import FIRST_CLASS, UNLABELED
from napari_unet.errors import TrainingError

if TYPE_CHECKING:
    from torch import Tensor

DICE_SMOOTHING = 1e-5
"""Added to numerator and denominator of Dice; far below the weight of one labeled pixel."""


@dataclass(frozen=True, slots=True, eq=False)
class Rehearsed:
    """Which patches of a batch come from what a parent learned from, and what these leave open.

    Parameters
    ----------
    patches : Tensor
        (N,) bool.
    unknown : Tensor
        (N, K) bool: classes that the labels of a patch do not know: its truth may be one of them.
        False in all other patches.
    """

    patches: Tensor
    unknown: Tensor

    def to(self, device: torch.device) -> Rehearsed:
        """Return the same on a device."""
        return Rehearsed(self.patches.to(device), self.unknown.to(device))


def segmentation_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    class_weights: Tensor | None = None,
    pixel_weights: Tensor | None = None,
    dice_weight: float = 0.0,
    rehearsed: Rehearsed | None = None,
) -> Tensor:
    r"""Return cross-entropy plus soft Dice: here map, balance, ignoring and rehearsal meet.

    Every pixel x has one weight, for both terms:

    .. math:: w(x) = [l(x) \neq 0] \; w_{class}(l(x)) \; w_{pixel}(x)

    with l(x) its label; where nothing is labeled it is 0, whatever the map says. Then [1]_ [2]_

    .. math::

        E = -\frac{\sum_x w(x) \log p_{l(x)}(x)}{\sum_x w(x)} + \lambda \, \text{mean}_k \left( 1 -
        \frac{2 \sum_x w(x) p_k(x) y_k(x) + \epsilon}{\sum_x w(x) p_k(x) + \sum_x w(x) y_k(x) +
        \epsilon} \right)

    with sums over the whole batch; y_k is 1 where the label is k, and the mean is over the classes
    whose labels have weight. For the paper's sum w_c + w_0 exp(...), give the map of
    `napari_unet.training.weight_map.pixel_weights` and no class weights.

    With rehearsed patches, :math:`p_{l(x)}` in the first term is the probability among the classes
    that the labels of the patch know, without those of its set U_n: such labels say nothing about
    a class that they do not know. The first term is taken of the rehearsed patches (R) and of the
    others (O) apart, each with its share of the patches:

    .. math::

        E = -\sum_{G \in \{R, O\}} \frac{|G|}{N} \frac{\sum_{x \in G} w(x) \log \left(
        p_{l(x)}(x) / \sum_{k \notin U_n} p_k(x) \right)}{\sum_{x \in G} w(x)} + ...

    A crop that is labeled everywhere would else outweigh the strokes beside it. There w_class does
    not count: crops show how frequent classes are, and a balance that suits other labels would
    shift every border in them. The second term is that of the other patches only: a class that
    labels leave open has no overlap to measure.

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
    dice_weight : float
        The factor of the second term.
    rehearsed : Rehearsed, optional
        Which patches are rehearsed; None = none.

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
    .. [1] Ronneberger et al. 2015, sec. 3, eq. 1; we divide by the sum of the weights, so that the
       size of a step depends neither on the patch nor on how much of it is labeled.
    .. [2] Milletari et al. 2016, V-Net, sec. 3; without the squares in the denominator.
    """
    target, weight = _target_and_weight(logits, labels, class_weights, pixel_weights)
    logits = logits.float()
    if rehearsed is None:
        loss = _weighted_mean(pixel_losses(logits, target), weight)
    else:
        _, even = _target_and_weight(logits, labels, None, pixel_weights)
        is_old = rehearsed.patches[:, None, None]
        loss = _mean_of_both(logits, target, torch.where(is_old, even, weight), rehearsed)
        weight = weight * ~is_old
    if dice_weight:
        loss = loss + dice_weight * _soft_dice(logits, target, weight)
    return loss


def pixel_losses(logits: Tensor, target: Tensor, unknown: Tensor | None = None) -> Tensor:
    """Return minus the logarithm of the probability of each pixel's class, among the known ones.

    Parameters
    ----------
    logits : Tensor
        (N, K, ...).
    target : Tensor
        (N, ...) classes from 0; they are known.
    unknown : Tensor, optional
        (N, K) bool: classes that the labels of a patch do not know. None = they know all.
    """
    if unknown is not None:
        left_out = unknown.reshape(*unknown.shape, *[1] * (logits.ndim - 2)).expand_as(logits)
        is_target = torch.zeros_like(left_out).scatter(1, target.unsqueeze(1), True)
        logits = logits.masked_fill(left_out & ~is_target, -torch.inf)
    return functional.cross_entropy(logits, target, reduction="none")


def _target_and_weight(
    logits: Tensor, labels: Tensor, class_weights: Tensor | None, pixel_weights: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return (N, H, W) class indices from 0, and the weight of each pixel: 0 where unlabeled."""
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
    target = (labels - FIRST_CLASS).clamp_min(0)
    weight = (labels != UNLABELED).float()
    if class_weights is not None:
        weight = weight * class_weights.to(weight)[target]
    if pixel_weights is not None:
        weight = weight * pixel_weights.to(weight)
    return target, weight


def _mean_of_both(logits: Tensor, target: Tensor, weight: Tensor, rehearsed: Rehearsed) -> Tensor:
    loss = pixel_losses(logits, target, rehearsed.unknown)
    parts = [
        group.float().mean() * _weighted_mean(loss, weight * group[:, None, None])
        for group in (rehearsed.patches, ~rehearsed.patches)
    ]
    return parts[0] + parts[1]


def _weighted_mean(loss: Tensor, weight: Tensor) -> Tensor:
    # An infinite loss on a pixel that does not count must not turn the sum into 0 * inf.
    loss = torch.where(weight > 0, loss, torch.zeros_like(loss))
    return (loss * weight).sum() / weight.sum().clamp_min(torch.finfo(loss.dtype).tiny)


def _soft_dice(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    # Before the softmax, or an infinite logit of a pixel that does not count spoils the gradient.
    counted = torch.where(weight.unsqueeze(1) > 0, logits, 0.0)
    weighted = counted.softmax(1) * weight.unsqueeze(1)
    of_pixel = weighted.gather(1, target.unsqueeze(1)).squeeze(1)
    classes = logits.shape[1]
    true, both = (
        torch.stack([values[target == k].sum() for k in range(classes)])
        for values in (weight, of_pixel)
    )
    found = weighted.sum((0, 2, 3))
    dice = (2 * both + DICE_SMOOTHING) / (found + true + DICE_SMOOTHING)
    present = true > 0
    return (present * (1 - dice)).sum() / present.sum().clamp_min(1)
