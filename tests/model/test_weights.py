"""Saving and loading: what comes back is what went in, folded or not."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

import pytest
import safetensors
import torch
from torch import nn

from napari_unet.errors import ModelFileError, StorageError
from napari_unet.model.file import read_model_header
from napari_unet.model.weights import load_model, save_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_unet.core.architecture import Architecture
    from napari_unet.core.header import ModelHeader
    from napari_unet.model.unet import UNet

    MakeNet = Callable[..., UNet]
    MakeHeader = Callable[[Architecture], ModelHeader]

KINDS: list[dict[str, Any]] = [
    {},
    {"norm": "batch"},
    {"residual": "shared"},
    {"norm": "batch", "residual": "shared"},
    {"norm": "batch", "padding": "same", "in_channels": 3, "num_classes": 5},
    {"norm": "batch", "depth": 0},
]


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randn(1, 3, 60, 60, generator=torch.Generator().manual_seed(5))


def probabilities(net: UNet, image: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return net(image[:, : net.architecture.in_channels]).softmax(dim=1)


@pytest.mark.parametrize("arguments", KINDS, ids=str)
def test_a_saved_model_comes_back_unchanged(
    tmp_path: Path, make_net: MakeNet, make_header: MakeHeader, arguments: dict[str, Any]
) -> None:
    net = make_net(**arguments)
    header = make_header(net.architecture)
    path = tmp_path / "model.safetensors"
    save_model(path, net, header, half=False)
    loaded = load_model(path, fold=False)
    assert loaded.header == header
    assert loaded.net.architecture == net.architecture
    wanted = net.state_dict()
    assert loaded.net.state_dict().keys() == wanted.keys()
    for name, tensor in loaded.net.state_dict().items():
        assert torch.equal(tensor, wanted[name]), name
        assert tensor.dtype == wanted[name].dtype
    assert not loaded.net.training
    assert all(p.requires_grad for p in loaded.net.parameters())


@pytest.mark.parametrize("arguments", KINDS, ids=str)
def test_folded_equals_unfolded(
    tmp_path: Path,
    make_net: MakeNet,
    make_header: MakeHeader,
    image: torch.Tensor,
    arguments: dict[str, Any],
) -> None:
    net = make_net(**arguments)
    path = tmp_path / "model.safetensors"
    save_model(path, net.state_dict(), make_header(net.architecture), half=False)
    folded = load_model(path).net
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert all(p.dtype == torch.float32 and not p.is_meta for p in folded.parameters())
    assert not folded.training
    wanted = probabilities(net, image)
    assert wanted.std() > 1e-2
    torch.testing.assert_close(probabilities(folded, image), wanted, rtol=0, atol=1e-5)


def test_folding_rounds_once(tmp_path: Path, make_net: MakeNet, make_header: MakeHeader) -> None:
    net = make_net(norm="batch")
    path = tmp_path / "model.safetensors"
    save_model(path, net, make_header(net.architecture), half=False)
    folded = load_model(path).net.state_dict()
    w = {name: tensor.double() for name, tensor in net.state_dict().items()}
    norm = "down.1.norms.1"
    gain = w[f"{norm}.weight"] / (w[f"{norm}.running_var"] + 1e-5).sqrt()
    kernel = w["down.1.second.weight"] * gain[:, None, None, None]
    bias = w[f"{norm}.bias"] - w[f"{norm}.running_mean"] * gain
    for name, wanted in (("weight", kernel), ("bias", bias)):
        got = folded[f"down.1.second.{name}"].double()
        # Half a unit in the last place of fp32, and a little for the order of fp64 operations.
        assert ((got - wanted).abs() <= wanted.abs() * 2**-24 * 1.0001).all()


def test_half_rounds_the_convolutions_and_nothing_else(
    tmp_path: Path, make_net: MakeNet, make_header: MakeHeader
) -> None:
    net = make_net(norm="batch")
    path = tmp_path / "model.safetensors"
    save_model(path, net, make_header(net.architecture))
    stored = {name: entry.dtype for name, entry in read_model_header(path).tensors.items()}
    assert {stored[name] for name in stored if ".norms." in name} == {"F32"}
    assert {stored[name] for name in stored if ".norms." not in name} == {"F16"}
    assert not any(name.endswith("num_batches_tracked") for name in stored)
    loaded = load_model(path, fold=False).net.state_dict()
    for name, tensor in net.state_dict().items():
        if name in stored:
            rounded = tensor.half().float() if stored[name] == "F16" else tensor
            assert torch.equal(loaded[name], rounded), name


def test_the_same_model_makes_the_same_file(
    tmp_path: Path, make_net: MakeNet, make_header: MakeHeader
) -> None:
    net = make_net(norm="batch")
    header = make_header(net.architecture)
    for name in ("one", "two"):
        save_model(tmp_path / name, net, header)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_loaded_model_is_saved_as_the_same_file(tmp_path: Path, model_path: Path) -> None:
    loaded = load_model(model_path, fold=False)
    again = tmp_path / "again.safetensors"
    save_model(again, loaded.net, loaded.header)
    assert again.read_bytes() == model_path.read_bytes()


def test_other_readers_of_safetensors_read_it(model_path: Path) -> None:
    with safetensors.safe_open(model_path, framework="np") as file:
        names = set(file.keys())
        assert set(file.metadata()) == {"napari_unet"}
        assert file.get_tensor("head.weight").shape == (2, 2, 1, 1)
    assert names == set(read_model_header(model_path).tensors)


def test_a_net_on_the_way_of_training_is_left_as_it_was(
    tmp_path: Path, make_net: MakeNet, make_header: MakeHeader
) -> None:
    net = make_net(norm="batch").train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    save_model(tmp_path / "model.safetensors", net, make_header(net.architecture))
    assert net.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_weights_in_any_layout_and_type_are_stored(
    tmp_path: Path, make_net: MakeNet, make_header: MakeHeader
) -> None:
    net = make_net(norm="batch")
    header = make_header(net.architecture)
    save_model(tmp_path / "plain", net, header)
    other = make_net(norm="batch").to(memory_format=torch.channels_last)
    save_model(tmp_path / "last", other, header)
    save_model(tmp_path / "double", make_net(norm="batch").double(), header)
    plain = (tmp_path / "plain").read_bytes()
    assert (tmp_path / "last").read_bytes() == plain
    assert (tmp_path / "double").read_bytes() == plain


def test_colleagues_can_read_the_file(
    tmp_path: Path, make_net: MakeNet, make_header: MakeHeader
) -> None:
    net = make_net()
    path = tmp_path / "model.safetensors"
    previous = os.umask(0o027)
    try:
        save_model(path, net, make_header(net.architecture))
    finally:
        os.umask(previous)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [child.name for child in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_not_saved(
    tmp_path: Path, make_net: MakeNet, make_header: MakeHeader, value: float
) -> None:
    net = make_net()
    with torch.no_grad():
        net.head.bias[0] = value
    with pytest.raises(ModelFileError, match=r"'head.bias' has 1 values of 2"):
        save_model(tmp_path / "model", net, make_header(net.architecture))
    assert not any(tmp_path.iterdir())


def test_a_weight_beyond_half_precision_is_refused_with_the_remedy(
    tmp_path: Path, make_net: MakeNet, make_header: MakeHeader
) -> None:
    net = make_net()
    with torch.no_grad():
        net.head.bias[0] = 1e6
    header = make_header(net.architecture)
    with pytest.raises(ModelFileError, match=r"float16.*half=False"):
        save_model(tmp_path / "model", net, header)
    save_model(tmp_path / "model", net, header, half=False)
    assert load_model(tmp_path / "model").net.head.bias[0] == 1e6


def test_a_large_variance_keeps_its_value(
    tmp_path: Path, make_net: MakeNet, make_header: MakeHeader
) -> None:
    net = make_net(norm="batch")
    net.down[0].norms[0].running_var[0] = 1e9
    save_model(tmp_path / "model", net, make_header(net.architecture))
    loaded = load_model(tmp_path / "model", fold=False).net
    assert loaded.down[0].norms[0].running_var[0] == 1e9


@pytest.mark.parametrize(
    "other", [{"depth": 3}, {"base_channels": 5}, {"residual": "shared"}, {"norm": "batch"}]
)
def test_a_header_of_another_architecture_is_refused(
    tmp_path: Path, make_net: MakeNet, make_header: MakeHeader, other: dict[str, Any]
) -> None:
    net, header = make_net(), make_header(make_net(**other).architecture)
    with pytest.raises(ModelFileError, match="header"):
        save_model(tmp_path / "model", net, header)
    with pytest.raises(ModelFileError, match="header"):
        save_model(tmp_path / "model", net.state_dict(), header)
    assert not any(tmp_path.iterdir())


def test_a_folded_net_is_not_saved(model_path: Path, tmp_path: Path) -> None:
    loaded = load_model(model_path)
    with pytest.raises(ModelFileError, match="not folded"):
        save_model(tmp_path / "again", loaded.net, loaded.header)


def test_a_header_too_long_to_be_read_is_not_written(
    tmp_path: Path, make_net: MakeNet, make_header: MakeHeader
) -> None:
    net = make_net()
    header = make_header(net.architecture)
    provenance = header.provenance.model_copy(
        update={"recipe": "x" * 20_000, "data": "y" * 20_000, "score_conditions": "z" * 20_000}
    )
    long = header.model_copy(update={"provenance": provenance, "description": "d" * 20_000})
    with pytest.raises(ModelFileError, match="at most 65,536"):
        save_model(tmp_path / "model", net, long)
    assert not any(tmp_path.iterdir())


def test_a_folder_that_is_missing_is_named(
    tmp_path: Path, make_net: MakeNet, make_header: MakeHeader
) -> None:
    net = make_net()
    with pytest.raises(StorageError, match=r"nowhere.*choose another folder"):
        save_model(tmp_path / "nowhere" / "model", net, make_header(net.architecture))
