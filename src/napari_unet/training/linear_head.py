r"""The last layer alone, fitted at once to what is annotated.

With the body fixed, a 1x1 convolution and softmax is a multinomial logistic regression: convex,
with as many inputs as the body has features, and solved in a fraction of a second. Training all
layers from there keeps more of the body than training them together with a last layer that is still
wrong [1]_. It is also what teaches a new class in time: by gradient steps small enough for the
body, its row would take hundreds of them to come up.

What is not annotated can be made to go on as it was, see `napari_unet.training.retention`.

References
----------
.. [1] A. Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform
   Out-of-Distribution", ICLR 2022.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from napari_unet.errors import TrainingError
from napari_unet.training.loss import pixel_losses
from napari_unet.training.retention import divergence, log_shares

if TYPE_CHECKING:
    from torch import Tensor

MAX_ITERATIONS = 200
"""Of the quasi-Newton method; a hundred are usual."""

PULL = 10.0
"""Weight of the squared distance from the first weights, beside the summed loss of all pixels.

It decides where annotated pixels are silent: a single stroke changes little, thousands of pixels
say what they want.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Retained:
    """Pixels without a label, where the first weights were right or nobody says otherwise.

    Parameters
    ----------
    features : Tensor
        (m, channels) of them.
    known : tuple of int
        Outputs, from 0, whose shares among each other are to stay: two or more.
    weight : float
        Of their mean divergence, relative to the cross-entropy's 1.
    """

    features: Tensor
    known: tuple[int, ...]
    weight: float


def fit_head(
    head: nn.Conv2d,
    features: Tensor,
    labels: Tensor,
    weights: Tensor | None = None,
    unknown: Tensor | None = None,
    retained: Retained | None = None,
) -> None:
    """Change a last layer to what suits the features of annotated pixels best.

    Parameters
    ----------
    head : torch.nn.Conv2d
        1x1 convolution from features to classes, with a bias; changed in place.
    features : Tensor
        (n, channels) of n annotated pixels.
    labels : Tensor
        (n,) their classes, from 0.
    weights : Tensor, optional
        (n,) of the pixels in the loss; None = all 1. They are normalized.
    unknown : Tensor, optional
        (n, classes) bool: classes that the label of a pixel does not know; None = it knows all.
    retained : Retained, optional
        What is to go on as it was; None = nothing.

    Raises
    ------
    TrainingError
        If there is no pixel, shapes differ, or a feature is not finite.
    """
    weight, bias = head.weight, head.bias
    if bias is None or features.shape != (len(labels), weight.shape[1]) or not len(labels):
        raise TrainingError(
            f"features of shape {tuple(features.shape)} and {len(labels)} labels do not fit a last "
            f"layer of shape {tuple(weight.shape)}; give some annotated pixels"
        )
    if not bool(torch.isfinite(features).all()):
        raise TrainingError("the network answers with NaN or infinity; check the gray values")
    x, y = features.detach().double(), labels.long()
    balance = torch.ones_like(x[:, 0]) if weights is None else weights.to(x)
    start = weight.detach().double().flatten(1), bias.detach().double()
    change = [torch.zeros_like(part, requires_grad=True) for part in start]
    kept = None if retained is None else _Kept(retained, start)
    solver = torch.optim.LBFGS(change, max_iter=MAX_ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> float:
        solver.zero_grad()
        logits = functional.linear(x, start[0] + change[0], start[1] + change[1])
        error = pixel_losses(logits, y, unknown) @ balance / balance.sum()
        if kept is not None:
            error = error + kept.loss(start[0] + change[0], start[1] + change[1])
        total = error + PULL / len(y) * sum((part**2).sum() for part in change)
        total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return float(total.detach())

    solver.step(loss)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    with torch.no_grad():
        weight.copy_((start[0] + change[0]).reshape(weight.shape))
        bias.copy_(start[1] + change[1])


class _Kept:
    """What the first weights say of retained pixels."""

    def __init__(self, retained: Retained, start: tuple[Tensor, Tensor]) -> None:
        self._features = retained.features.detach().double()
        self._known, self._weight = retained.known, retained.weight
        self._before = log_shares(functional.linear(self._features, *start), self._known)

    def loss(self, weight: Tensor, bias: Tensor) -> Tensor:
        logits = functional.linear(self._features, weight, bias)
        return self._weight * divergence(self._before, logits, self._known).mean()
