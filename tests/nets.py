"""Small random networks whose output really varies, and model files of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from napari_unet.core.classes import ClassInfo
from napari_unet.core.header import InputExpectation, ModelHeader
from napari_unet.model.unet import UNet
from napari_unet.model.weights import save_model

if TYPE_CHECKING:
    from pathlib import Path

COLORS = ("#4c72b0", "#dd8452", "#55a868")


def lively_net(seed: int, **architecture: Any) -> UNet:
    """A random net whose probabilities spread over the whole range, so that a shift would show."""
    torch.manual_seed(seed)
    net = UNet(**({"base_channels": 4, "depth": 2} | architecture)).eval()
    size = net.architecture.geometry().axes[1].input_size(64)
    with torch.inference_mode():
        logits = net(torch.randn(1, net.architecture.in_channels, size, size))
        # Centered and scaled per class: every class wins somewhere, none wins everywhere.
        net.head.weight *= (2 / logits.std(dim=(0, 2, 3)))[:, None, None, None]
        net.head.bias -= 2 * logits.mean(dim=(0, 2, 3)) / logits.std(dim=(0, 2, 3))
    return net


def save_lively_model(
    path: Path, seed: int = 0, *, expects: dict[str, Any] | None = None, **architecture: Any
) -> UNet:
    """Write a model file with a random net and return the net, as the file stores it.

    `expects` are fields of `InputExpectation`.
    """
    net = lively_net(seed, **architecture)
    settings, given = net.architecture, expects or {}
    channels = settings.in_channels // (2 * given.get("context", 0) + 1)
    header = ModelHeader(
        name=path.stem,
        architecture=settings,
        classes=tuple(
            ClassInfo(name=f"class {k + 1}", color=COLORS[k]) for k in range(settings.num_classes)
        ),
        input=InputExpectation(**{"channels": tuple(f"c{k}" for k in range(channels))} | given),
    )
    save_model(path, net, header, half=False)
    return net
