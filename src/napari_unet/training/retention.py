r"""Retention: where nothing is painted, a fine-tune goes on answering as its parent does.

Strokes lie where the parent was wrong, and say little of where it was right. There its own answers
stand in for labels [1]_, on the same patches: moved, warped and changed as for the network that
learns. Only the classes that the parent knows are compared, as shares of what is not a new class:

.. math:: D(x) = \sum_{k \in known} q_k(x) \log \frac{q_k(x)}{p_k(x)}, \quad
    q_k, p_k \text{ over } \sum_{j \in known}

so a new class may come up anywhere.

References
----------
.. [1] Z. Li and D. Hoiem, "Learning without Forgetting", ECCV 2016, eq. 2, with a temperature of 1.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from napari_unet.core.classes import UNLABELED

if TYPE_CHECKING:
    from torch import Tensor, nn


def log_shares(logits: Tensor, known: tuple[int, ...]) -> Tensor:
    """Return log-probabilities (n, known, ...) among some outputs of logits (n, K, ...)."""
    return functional.log_softmax(logits[:, known], 1)


def divergence(before: Tensor, logits: Tensor, known: tuple[int, ...]) -> Tensor:
    """Return the Kullback-Leibler divergence of each pixel (n, ...), in nats.

    Parameters
    ----------
    before : Tensor
        (n, known, ...) what `log_shares` gives for the parent.
    logits : Tensor
        (n, K, ...) of the network that learns.
    known : tuple of int
        Outputs, from 0, of the classes that the parent knows. In all others the gradient is 0.
    """
    return (before.exp() * (before - log_shares(logits, known))).sum(1)


@dataclass(frozen=True, slots=True, eq=False)
class Parent:
    """What a network answered before it began to learn.

    Parameters
    ----------
    net : torch.nn.Module
        As it was, in the classes of the new network; it is never changed.
    known : tuple of int
        Outputs, from 0, of the classes that it knows: two or more.
    """

    net: nn.Module
    known: tuple[int, ...]

    @classmethod
    def of(cls, net: nn.Module, known: tuple[int, ...]) -> Parent:
        """Return a copy of a network as it is now."""
        return cls(copy.deepcopy(net).eval().requires_grad_(False), known)

    def loss(self, logits: Tensor, image: Tensor, labels: Tensor) -> Tensor:
        """Return the mean divergence from the parent's answers over pixels without a label.

        Parameters
        ----------
        logits : Tensor
            (N, K, H, W) of the network that learns.
        image : Tensor
            (N, C, H', W') what it was given.
        labels : Tensor
            (N, H, W); 0 = unlabeled.

        Returns
        -------
        Tensor
            Scalar; 0 where everything is labeled. In labeled pixels and in new classes its gradient
            is 0.
        """
        free = labels == UNLABELED
        if not bool(free.any()):
            return logits.new_zeros(())
        with torch.no_grad():
            before = log_shares(self.net(image).float(), self.known)
        return divergence(before, logits.float(), self.known)[free].mean()
