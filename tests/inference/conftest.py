"""An image in memory and a network whose output really varies."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from napari_unet.core.arrays import PyramidLevel
from napari_unet.core.axes import VoxelSize
from napari_unet.core.boxes import Box
from napari_unet.model.unet import UNet


class MemoryImage:
    """An `ImageSource` over an array (c, z, y, x); counts what is read."""

    name = "memory"
    spatial_axes = "zyx"

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self.array = array
        self.boxes_read: list[Box] = []

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape[1:]

    @property
    def num_channels(self) -> int:
        return self.array.shape[0]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    @property
    def levels(self) -> tuple[PyramidLevel, ...]:
        return (PyramidLevel(self.shape, VoxelSize()),)

    def read(self, box: Box) -> npt.NDArray[Any]:
        assert Box.of_shape(self.shape).contains(box), "the engine must not read outside the image"
        self.boxes_read.append(box)
        return self.array[(slice(None), *box.slices)]

    def sample_boxes(self, max_voxels: int) -> tuple[Box, ...]:
        return (Box.of_shape(self.shape),)

    def count_missing_chunks(self, box: Box) -> int:
        return 0

    def identity(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        pass


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


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20150518)
