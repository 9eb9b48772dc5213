"""The first thing a fine-tuning does: the parent's last layer is fitted to the new labels.

And to what is rehearsed: features of another tissue alone would pull it away from the old one. And
to the parent's own answers between the labels: those may lie only where it was wrong.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from napari_unet.app.training.defaults import defaults_of, loop_settings
from napari_unet.app.training.held_out import HeldOutLabels, Scorer
from napari_unet.core.classes import FIRST_CLASS, UNLABELED
from napari_unet.core.tiling import slices_as_channels
from napari_unet.training.linear_head import Retained, fit_head

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from torch import Tensor

    from napari_unet.app.training.ground import TrainingGround
    from napari_unet.app.training.plan import TrainPlan
    from napari_unet.app.training.session import Network

MAX_LABELS = 2**17
"""Annotated pixels that the last layer is fitted to; more would only take longer."""

MAX_BARE, MAX_BARE_OF_TILE = 2**14, 2**11
"""Pixels without a label at which the last layer is held, in all and in one tile."""

DOUBT = 30
"""Pixels, about a stroke, that count as contradicting the parent before anything is painted."""

BARE, NOT_CHOSEN = -1, -2
"""In place of a class: of a pixel without a label, and of one that is left out."""


def give_head_start(
    plan: TrainPlan,
    network: Network,
    ground: TrainingGround,
    class_weights: tuple[float, ...],
    pixels: int,
) -> float:
    """Fit the last layer, unless a training begins from nothing or has labels of one class only.

    Parameters
    ----------
    plan : TrainPlan
        What is to be done.
    network : Network
        Changed in place.
    ground : TrainingGround
        Held-out labels are not looked at.
    class_weights : tuple of float
        As in the loss.
    pixels : int
        Bound of what is read of the images.

    Returns
    -------
    float
        `HeadStart.contradicted`.
    """
    job = plan.job
    if not defaults_of(job).head_start:
        return 0.0
    start = HeadStart(network, ground, pixels, job.seed)
    if np.count_nonzero(list(ground.annotated.values())) > 1:
        settings = loop_settings(job, plan.budget, class_weights, contradicted=start.contradicted)
        start.give(class_weights, settings.retention_weight)
    return start.contradicted


class HeadStart:
    """What is annotated, as the last layer of the parent sees it.

    Parameters
    ----------
    network : Network
        As the parent left it; in evaluation mode afterwards.
    ground : TrainingGround
        Held-out labels are not looked at.
    pixels : int
        Bound of what is read of the images.
    seed : int
        Decides which labels count where there are too many.
    """

    def __init__(self, network: Network, ground: TrainingGround, pixels: int, seed: int) -> None:
        self._network, self._ground, self._limit = network, ground, (pixels, seed)
        self._chance = np.random.default_rng(seed)
        new = [
            HeldOutLabels(image, part.train, box)
            for image, part in zip(ground.images, ground.split.volumes, strict=False)
            for box in part.train.block_boxes()
        ]
        x, y = self._features(new, MAX_BARE_OF_TILE if network.parent else 0)
        is_bare = y == BARE
        self._x, self._y = _drawn(x[~is_bare], y[~is_bare], MAX_LABELS, self._chance)
        self._bare, _ = _drawn(x[is_bare], y[is_bare], MAX_BARE, self._chance)
        self.contradicted = self._contradicted()
        """Share of the annotated pixels, of classes that the parent knows, that it has wrong.

        One stroke more than there is counts as wrong, so that no annotation, or little, leaves the
        parent the benefit of the doubt. 0 without a parent.
        """

    def give(self, class_weights: Sequence[float], retention_weight: float) -> None:
        """Fit the network's last layer to what may be learnt from; the body stays as it is.

        Parameters
        ----------
        class_weights : sequence of float
            As in the loss: of what is annotated, not of what is rehearsed.
        retention_weight : float
            As in the loss.
        """
        x, y, ground = self._x, self._y, self._ground
        weights = torch.tensor(class_weights or [1.0] * len(ground.class_names))[y]
        unknown, rehearsal = None, ground.rehearsal
        if rehearsal is not None:
            old_x, old_y = self._features(rehearsal.crops)
            wanted = math.ceil(len(y) * rehearsal.share / (1 - rehearsal.share))
            old_x, old_y = _drawn(old_x, old_y, wanted, self._chance)
            unknown = torch.zeros((len(y) + len(old_y), len(ground.class_names)), dtype=torch.bool)
            for label in rehearsal.unknown:
                unknown[len(y) :, label - FIRST_CLASS] = True
            x, y = torch.cat([x, old_x]), torch.cat([y, old_y])
            weights = torch.cat([weights, torch.ones(len(old_y))])
        parent, retained = self._network.parent, None
        if parent is not None and retention_weight and len(self._bare):
            retained = Retained(self._bare, parent.known, retention_weight)
        fit_head(self._network.net.head, x, y, weights, unknown, retained)

    def _contradicted(self) -> float:
        if self._network.parent is None:
            return 0.0
        known = torch.tensor(self._network.parent.known)
        of_known = torch.isin(self._y, known)
        weight, bias = (p.detach().cpu().float() for p in self._network.net.head.parameters())
        logits = functional.linear(self._x[of_known], weight.flatten(1), bias)[:, known]
        wrong = known[logits.argmax(1)] != self._y[of_known]
        return float((wrong.sum() + DOUBT) / (len(wrong) + DOUBT))

    def _features(
        self, blocks: Sequence[HeldOutLabels], bare_of_tile: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Return features (n, channels) and classes (n,), from 0, of labels.

        And of so many of each tile's pixels without a label, of the class `BARE`.
        """
        network, classes = self._network, len(self._ground.class_names)
        network.net.eval()
        scorer = Scorer(blocks, network.geometry, network.backend, classes).limited(*self._limit)
        chance = np.random.default_rng(self._limit[1])
        found = []
        for image, truth in scorer.inputs():
            chosen = truth[0].astype(np.int64) - FIRST_CLASS
            empty = chance.permutation(np.flatnonzero(truth == UNLABELED))[bare_of_tile:]
            chosen.flat[empty] = NOT_CHOSEN
            found.append(_of_tile(network, image, chosen))
        return torch.cat([x for x, _ in found]), torch.cat([y for _, y in found])


def _drawn(x: Tensor, y: Tensor, count: int, chance: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return so many of them at most, drawn at random."""
    if len(y) <= count:
        return x, y
    chosen = torch.from_numpy(chance.permutation(len(y))[:count])
    return x[chosen], y[chosen]


def _of_tile(
    network: Network, image: npt.NDArray[np.float32], chosen: npt.NDArray[np.int64]
) -> tuple[Tensor, Tensor]:
    """Return features (n, channels) and classes (n,) of the chosen pixels of a tile."""
    device, (top, left) = network.backend.device, network.geometry.halo[-2:]
    tensor = torch.from_numpy(slices_as_channels(image)[None]).to(device)
    with torch.inference_mode():
        found = network.net.features(tensor.contiguous(memory_format=torch.channels_last))[0]
    if found.shape[-2:] == tensor.shape[-2:]:
        found = found[:, top:, left:]
    y, x = np.nonzero(chosen != NOT_CHOSEN)
    return found[:, y, x].T.float().cpu(), torch.from_numpy(chosen[y, x])
