"""Small models, made afresh: no test of this room needs a file of the repository."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from napari_unet.core.architecture import Architecture
from napari_unet.core.classes import ClassInfo
from napari_unet.core.header import InputExpectation, ModelHeader
from napari_unet.model.unet import UNet
from napari_unet.model.weights import save_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    MakeNet = Callable[..., UNet]
    MakeHeader = Callable[[Architecture], ModelHeader]


@pytest.fixture
def make_net() -> MakeNet:
    """Nets whose batch statistics, biases and weights are all far from their defaults."""

    def make(seed: int = 7, **arguments: Any) -> UNet:
        generator = torch.Generator().manual_seed(seed)
        net = UNet(**{"base_channels": 4, "depth": 2, **arguments})
        with torch.no_grad():
            for module in net.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    channels = module.num_features
                    module.running_mean = torch.randn(channels, generator=generator)
                    module.running_var = 0.5 + torch.rand(channels, generator=generator)
                    module.weight.copy_(0.5 + torch.rand(channels, generator=generator))
                    module.bias.copy_(torch.randn(channels, generator=generator))
                elif isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
                    noise = torch.randn(module.weight.shape, generator=generator)
                    module.weight.copy_(noise * module.weight.std(correction=0))
                    if module.bias is not None:
                        module.bias.copy_(torch.randn(module.bias.shape, generator=generator))
        return net.eval()

    return make


@pytest.fixture
def make_header() -> MakeHeader:
    def make(architecture: Architecture) -> ModelHeader:
        return ModelHeader(
            name="tiny",
            description="a µ-net for tests",
            architecture=architecture,
            classes=tuple(
                ClassInfo(name=f"class {k}", color=f"#0000{k:02x}")
                for k in range(1, architecture.num_classes + 1)
            ),
            input=InputExpectation(
                channels=tuple(f"channel {c}" for c in range(architecture.in_channels)),
                voxel_size=(10.0, 10.0),
                unit="nanometer",
            ),
            license="CC0-1.0",
        )

    return make


@pytest.fixture
def model_path(tmp_path: Path, make_net: MakeNet, make_header: MakeHeader) -> Path:
    """A good model file, with convolutions in fp16 and batch normalization."""
    net = make_net(base_channels=2, depth=1, norm="batch")
    path = tmp_path / "tiny.safetensors"
    save_model(path, net, make_header(net.architecture))
    return path
