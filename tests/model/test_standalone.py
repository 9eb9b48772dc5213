"""The network that travels equals the one that stays; as ONNX, too."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tests.nets import lively_net, save_lively_model

from napari_unet.errors import BackendError
from napari_unet.model import onnx_file
from napari_unet.model.onnx_file import onnx_bytes, standalone_net
from napari_unet.model.weights import load_model

if TYPE_CHECKING:
    from pathlib import Path

ARCHITECTURES: list[dict[str, Any]] = [
    {},
    {"depth": 0, "num_classes": 3},
    {"depth": 4, "base_channels": 2, "norm": "batch"},
    {"padding": "same", "in_channels": 3},
    {"residual": "shared", "norm": "batch", "padding": "same"},
    {"residual": "shared", "depth": 3, "base_channels": 2},
]


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=str)
def test_it_answers_with_the_softmax_of_our_network(architecture: dict[str, Any]) -> None:
    net = lively_net(3, **architecture)
    axis = net.architecture.geometry().axes[-1]
    image = torch.randn(2, net.architecture.in_channels, axis.input_size(30), axis.input_size(50))
    with torch.inference_mode():
        assert torch.equal(standalone_net(net)(image), torch.softmax(net(image), 1))


@pytest.mark.parametrize(
    "architecture",
    [{"norm": "batch"}, {"padding": "same", "depth": 1, "in_channels": 2, "num_classes": 3}],
    ids=str,
)
def test_onnx_runtime_agrees_with_torch_at_any_legal_size(
    tmp_path: Path, architecture: dict[str, Any]
) -> None:
    path = tmp_path / "lively.safetensors"
    save_lively_model(path, **architecture)
    model = load_model(path, fold=False)
    data = onnx_bytes(model)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    axis = model.net.architecture.geometry().axes[-1]
    rng = np.random.default_rng(0)
    for batch, height, width in ((1, 1, 1), (1, 70, 20), (3, 33, 90)):
        shape = (batch, model.net.architecture.in_channels)
        image = rng.standard_normal((*shape, axis.input_size(height), axis.input_size(width)))
        image = image.astype(np.float32)
        (answer,) = session.run(["probabilities"], {"image": image})
        with torch.inference_mode():
            wanted = torch.softmax(model.net(torch.from_numpy(image)), 1).numpy()
        np.testing.assert_allclose(answer, wanted, rtol=0, atol=1e-5)
    stored = {item.key: item.value for item in onnx.load_from_string(data).metadata_props}
    assert json.loads(stored["classes"])["1"] == "class 1"
    edges = json.loads(stored["edges"])
    assert axis.is_legal(edges["smallest"])
    assert axis.is_legal(edges["smallest"] + edges["step"])
    assert stored["napari_unet_sha256"] == model.sha256


def test_without_the_extra_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_lively_model(tmp_path / "lively.safetensors")
    monkeypatch.setattr(onnx_file, "_PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(BackendError, match=r"no_such_package.*napari-unet\[exchange\]"):
        onnx_bytes(load_model(tmp_path / "lively.safetensors", fold=False))
