"""Small models, made afresh: no test of this room needs a file of the repository."""

from __future__ import annotations

import json
import math
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
import torch

from napari_unet.core.classes import ClassInfo
from napari_unet.core.header import InputExpectation, ModelHeader
from napari_unet.errors import ModelFileError
from napari_unet.model.file import read_model_header
from napari_unet.model.unet import UNet
from napari_unet.model.weights import load_model, save_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_unet.core.architecture import Architecture

    MakeNet = Callable[..., UNet]
    MakeHeader = Callable[[Architecture], ModelHeader]


BUDGET_S = 1.0
BUDGET_BYTES = 30 * 2**20
"""Python's own allocations; a header of 1 MiB in the worst shape takes some twenty times that."""


class Parts:
    """A model file taken apart, to be put together wrongly."""

    def __init__(self, data: bytes) -> None:
        length = int.from_bytes(data[:8], "little")
        self.table: dict[str, Any] = json.loads(data[8 : 8 + length])
        self.header: dict[str, Any] = json.loads(self.table["__metadata__"]["napari_unet"])
        self.tensors = bytearray(data[8 + length :])

    def assemble(self) -> bytes:
        metadata = self.table.get("__metadata__")
        if isinstance(metadata, dict) and "napari_unet" in metadata:
            metadata["napari_unet"] = json.dumps(self.header)
        text = json.dumps(self.table).encode()
        return len(text).to_bytes(8, "little") + text + bytes(self.tensors)

    def first(self, kind: str) -> dict[str, Any]:
        return next(v for k, v in self.table.items() if k.endswith(kind))

    def values(self, kind: str) -> memoryview:
        start, stop = self.first(kind)["data_offsets"]
        return memoryview(self.tensors)[start:stop]


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
                    module.weight.copy_(noise * math.sqrt(2 / module.weight[0].numel()))
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


@pytest.fixture
def good(model_path: Path) -> bytes:
    return model_path.read_bytes()


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., str]:
    """Check that every reader refuses a file, within the budget; return the message."""

    def check(content: bytes | Path, *, readers: Any = (load_model, read_model_header)) -> str:
        path = tmp_path / "hostile.safetensors"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path = content
        messages = []
        for read in readers:
            tracemalloc.start()
            start = time.process_time()
            try:
                with pytest.raises(ModelFileError) as caught:
                    read(path)
                spent, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            assert spent < BUDGET_S
            assert peak < BUDGET_BYTES
            messages.append(str(caught.value))
        assert messages[0] == messages[-1]
        assert str(path) in messages[0]
        assert len(messages[0]) < 1200
        messages[0].encode("utf-8")
        return messages[0]

    return check


@pytest.fixture
def take_apart(good: bytes) -> Callable[[], Parts]:
    """The good model file, taken apart anew at each call."""
    return lambda: Parts(good)
