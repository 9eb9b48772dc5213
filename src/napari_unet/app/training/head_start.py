"""The first thing a fine-tuning does: the parent's last layer is fitted to the new labels.

And to what is rehearsed: features of another tissue alone would pull it away from the old one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_unet.app.training.held_out import HeldOutLabels, Scorer
from napari_unet.core.classes import FIRST_CLASS
from napari_unet.core.tiling import slices_as_channels
from napari_unet.training.linear_head import fit_head

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from torch import Tensor

    from napari_unet.app.training.ground import TrainingGround
    from napari_unet.app.training.session import Network

MAX_LABELS = 2**17
"""Annotated pixels that the last layer is fitted to; more would only take longer."""


def give_head_start(
    network: Network,
    ground: TrainingGround,
    class_weights: Sequence[float],
    pixels: int,
    seed: int,
) -> None:
    """Fit the network's last layer to what may be learnt from; the body stays as it is.

    Parameters
    ----------
    network : Network
        Changed in place, and left in evaluation mode.
    ground : TrainingGround
        Held-out labels are not looked at.
    class_weights : sequence of float
        As in the loss: of what is annotated, not of what is rehearsed.
    pixels : int
        Bound of what is read of the images.
    seed : int
        Decides which labels count where there are too many.
    """
    new = [
        HeldOutLabels(image, part.train, box)
        for image, part in zip(ground.images, ground.split.volumes, strict=False)
        for box in part.train.block_boxes()
    ]
    chance = np.random.default_rng(seed)
    x, y = _features(network, ground, new, (pixels, seed))
    x, y = _drawn(x, y, MAX_LABELS, chance)
    weights = torch.tensor(class_weights or [1.0] * len(ground.class_names))[y]
    unknown, rehearsal = None, ground.rehearsal
    if rehearsal is not None:
        old_x, old_y = _features(network, ground, rehearsal.crops, (pixels, seed))
        wanted = math.ceil(len(y) * rehearsal.share / (1 - rehearsal.share))
        old_x, old_y = _drawn(old_x, old_y, wanted, chance)
        unknown = torch.zeros((len(y) + len(old_y), len(ground.class_names)), dtype=torch.bool)
        for label in rehearsal.unknown:
            unknown[len(y) :, label - FIRST_CLASS] = True
        x, y = torch.cat([x, old_x]), torch.cat([y, old_y])
        weights = torch.cat([weights, torch.ones(len(old_y))])
    fit_head(network.net.head, x, y, weights, unknown)


def _features(
    network: Network,
    ground: TrainingGround,
    blocks: Sequence[HeldOutLabels],
    limit: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """Return features (n, channels) and classes (n,) of labels; `limit`: pixels, and a seed."""
    network.net.eval()
    scorer = Scorer(blocks, network.geometry, network.backend, len(ground.class_names))
    found = [_labeled(network, *tile) for tile in scorer.limited(*limit).inputs()]
    return torch.cat([x for x, _ in found]), torch.cat([y for _, y in found])


def _drawn(x: Tensor, y: Tensor, count: int, chance: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return so many of them at most, drawn at random."""
    if len(y) <= count:
        return x, y
    chosen = torch.from_numpy(chance.permutation(len(y))[:count])
    return x[chosen], y[chosen]


def _labeled(
    network: Network, image: npt.NDArray[np.float32], truth: npt.NDArray[np.uint8]
) -> tuple[Tensor, Tensor]:
    """Return features (n, channels) and classes (n,) of the labeled pixels of a tile."""
    device, (top, left) = network.backend.device, network.geometry.halo[-2:]
    tensor = torch.from_numpy(slices_as_channels(image)[None]).to(device)
    with torch.inference_mode():
        found = network.net.features(tensor.contiguous(memory_format=torch.channels_last))[0]
    if found.shape[-2:] == tensor.shape[-2:]:
        found = found[:, top:, left:]
    y, x = np.nonzero(truth[0])
    classes = torch.from_numpy(truth[0, y, x].astype(np.int64) - FIRST_CLASS)
    return found[:, y, x].T.float().cpu(), classes
