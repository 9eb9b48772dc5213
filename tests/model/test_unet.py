"""The network against the paper, against its own geometry, and against plain torch functions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_unet.core.receptive import unet_geometry
from napari_unet.errors import ConfigError, TilingError
from napari_unet.model.layers import ConvBlock, center_crop
from napari_unet.model.unet import UNet

if TYPE_CHECKING:
    from collections.abc import Callable

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)

# Ronneberger et al. 2015, Fig. 1: the edge after every convolution and up-convolution.
PAPER_EDGES = [
    *(570, 568, 282, 280, 138, 136, 66, 64, 30, 28),
    *(56, 54, 52, 104, 102, 100, 200, 198, 196, 392, 390, 388, 388),
]


def image_of(edge: int, channels: int = 1, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, channels, edge, edge, generator=generator)


def test_the_default_is_the_net_of_the_paper() -> None:
    with torch.device("meta"):
        net = UNet()
    assert sum(isinstance(module, CONVOLUTIONS) for module in net.modules()) == 23
    assert sum(p.numel() for p in net.parameters()) == 31_030_658
    widths = [block.first.out_channels for block in net.down]
    assert widths == [64, 128, 256, 512, 1024]


def test_every_convolution_has_the_size_of_the_papers_figure() -> None:
    # Sizes do not depend on the number of channels.
    net = UNet(base_channels=1)
    edges: list[int] = []
    for module in net.modules():
        if isinstance(module, CONVOLUTIONS):
            module.register_forward_hook(lambda _m, _i, out: edges.append(out.shape[-1]))
    with torch.no_grad():
        net(torch.zeros(1, 1, 572, 572))
    assert edges == PAPER_EDGES


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_features_of_all_levels_are_what_the_paths_end_with(padding: Any, depth: int) -> None:
    net = UNet(base_channels=2, depth=depth, padding=padding).eval()
    ends: dict[nn.Module, Tensor] = {}
    for block in (*net.down, *net.merge):
        block.register_forward_hook(lambda module, _, out: ends.update({module: out}))
    edge = net.architecture.geometry().input_shape((1, 50, 50))[1]
    with torch.no_grad():
        expanding, contracting = net.level_features(image_of(edge))
        assert torch.equal(expanding[0], net.features(image_of(edge)))
    assert (len(expanding), len(contracting)) == (max(depth, 1), depth)
    for level, (up, down) in enumerate(zip(expanding, contracting, strict=False)):
        assert torch.equal(up, ends[net.merge[depth - 1 - level]])
        assert torch.equal(down, center_crop(ends[net.down[level]], up.shape[-2:]))
        assert up.shape == down.shape == (1, 2 * 2**level, *up.shape[2:])


def plain_unet(net: UNet, image: Tensor) -> Tensor:
    """Fig. 1 of the paper, written down in torch functions with the weights of `net`."""
    w = net.state_dict()

    def block(x: Tensor, name: str) -> Tensor:
        for part in ("first", "second"):
            x = F.relu(F.conv2d(x, w[f"{name}.{part}.weight"], w[f"{name}.{part}.bias"]))
        return x

    skips = []
    x = image
    depth = len(net.up)
    for level in range(depth):
        x = block(x, f"down.{level}")
        skips.append(x)
        x = F.max_pool2d(x, 2)
    x = block(x, f"down.{depth}")
    for step in range(depth):
        x = F.conv_transpose2d(x, w[f"up.{step}.weight"], w[f"up.{step}.bias"], stride=2)
        skip = skips.pop()
        cut = (skip.shape[-1] - x.shape[-1]) // 2
        x = block(
            torch.cat([F.pad(skip, (-cut, -cut, -cut, -cut)), x], 1),
            f"merge.{step}",
        )
    return F.conv2d(x, w["head.weight"], w["head.bias"])


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_it_computes_what_the_figure_says(make_net: Callable[..., UNet], depth: int) -> None:
    net = make_net(depth=depth, in_channels=2, num_classes=3)
    edge = unet_geometry(depth).axes[-1].input_size(8)
    image = image_of(edge, channels=2)
    with torch.no_grad():
        logits, wanted = net(image), plain_unet(net, image)
    torch.testing.assert_close(logits, wanted)
    assert logits.std() > 0.1


def test_a_shared_residual_block_uses_one_kernel_twice() -> None:
    block = ConvBlock(3, 5, padding="same", norm=None, residual="shared").eval()
    x = image_of(12, channels=3)
    with torch.no_grad():
        start = F.conv2d(x, block.project.weight, block.project.bias)
        inner = F.relu(F.conv2d(start, block.first.weight, block.first.bias, padding=1))
        outer = F.conv2d(inner, block.first.weight, block.first.bias, padding=1)
        torch.testing.assert_close(block(x), F.relu(start + outer))
    shapes = sorted(tuple(p.shape) for p in block.parameters())
    assert shapes == [(5,), (5,), (5, 3, 1, 1), (5, 5, 3, 3)]


def test_a_valid_shared_residual_block_adds_the_centre() -> None:
    block = ConvBlock(3, 5, padding="valid", norm=None, residual="shared").eval()
    x = image_of(12, channels=3)
    with torch.no_grad():
        start = F.conv2d(x, block.project.weight, block.project.bias)
        inner = F.relu(F.conv2d(start, block.first.weight, block.first.bias))
        outer = F.conv2d(inner, block.first.weight, block.first.bias)
        torch.testing.assert_close(block(x), F.relu(start[..., 2:-2, 2:-2] + outer))


def incoming_nodes(module: nn.Conv2d | nn.ConvTranspose2d) -> int:
    """Count the inputs that one output value of a convolution depends on."""
    probe = type(module)(
        module.in_channels, 1, module.kernel_size, stride=module.stride, bias=False
    )
    nn.init.ones_(probe.weight)
    x = torch.zeros(1, module.in_channels, 7, 7, requires_grad=True)
    out = probe(x)
    out[0, 0, out.shape[-2] // 2, out.shape[-1] // 2].backward()
    assert x.grad is not None
    return int(torch.count_nonzero(x.grad))


@pytest.mark.parametrize("residual", [None, "shared"])
def test_weights_are_drawn_as_in_the_paper(residual: Any) -> None:
    torch.manual_seed(3)
    net = UNet(base_channels=16, depth=2, in_channels=3, num_classes=4, residual=residual)
    checked = 0
    for module in net.modules():
        if not isinstance(module, CONVOLUTIONS):
            continue
        assert module.bias is not None
        assert torch.count_nonzero(module.bias) == 0
        weight = module.weight.detach()
        wanted = math.sqrt(2 / incoming_nodes(module))
        # Five standard errors of a standard deviation, and of a mean.
        assert float(weight.std()) == pytest.approx(wanted, rel=5 / math.sqrt(2 * weight.numel()))
        assert abs(float(weight.mean())) < 5 * wanted / math.sqrt(weight.numel())
        checked += 1
    # A shared kernel is one module less in each of the 5 levels, its projection one more.
    assert checked == 13


@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize("residual", [None, "shared"])
def test_a_same_net_equals_the_valid_net_inside_its_halo(
    make_net: Callable[..., UNet], depth: int, residual: Any
) -> None:
    valid = make_net(depth=depth, padding="valid", norm="batch", residual=residual).double()
    same = make_net(depth=depth, padding="same", norm="batch", residual=residual).double()
    same.load_state_dict(valid.state_dict())
    axis = same.architecture.geometry().axes[-1]
    edge = axis.input_size(2 * axis.stride)
    image = image_of(edge).double()
    with torch.no_grad():
        full, wanted = same(image), valid(image[..., 2:-2, 2:-2])
    assert full.shape[-1] == edge
    assert edge - wanted.shape[-1] == 2 * axis.halo
    torch.testing.assert_close(center_crop(full, wanted.shape[-2:]), wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_zeros_of_a_same_net_stay_within_its_halo(
    make_net: Callable[..., UNet], depth: int
) -> None:
    net = make_net(depth=depth, padding="same").double()
    axis = net.architecture.geometry().axes[-1]
    edge = axis.input_size(2 * axis.stride)
    wide = image_of(edge + 2 * axis.stride).double()
    with torch.no_grad():
        alone, around = net(center_crop(wide, (edge, edge))), net(wide)
    difference = (alone - center_crop(around, (edge, edge))).abs().amax(dim=(0, 1))
    inside = slice(axis.halo, edge - axis.halo)
    assert difference[inside, inside].max() < 1e-9
    # Twin: without the cut, the padding would show.
    assert difference[0].max() > 1e-3


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("norm", [None, "batch"])
def test_an_output_pixel_sees_nothing_beyond_the_halo(
    make_net: Callable[..., UNet], padding: Any, norm: Any
) -> None:
    net = make_net(padding=padding, norm=norm)
    axis = net.architecture.geometry().axes[-1]
    edge = axis.input_size(3 * axis.stride)
    image = image_of(edge)
    cut = axis.halo if padding == "same" else 0
    poked = image.clone()
    poked[..., 0] += 100
    with torch.no_grad():
        before, after = (net(x)[..., cut : cut + edge - 2 * axis.halo] for x in (image, poked))
    changed = (before - after).abs().amax(dim=(0, 1, 2)) > 0
    # The usable output starts `halo` into the input, so column 0 touches its first columns at most.
    assert not changed[axis.stride :].any()


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_it_is_equivariant_to_shifts_by_its_stride_only(
    make_net: Callable[..., UNet], padding: Any
) -> None:
    net = make_net(padding=padding)
    axis = net.architecture.geometry().axes[-1]
    edge = axis.input_size(8 * axis.stride)
    wide = image_of(edge + axis.stride)

    def usable(shift: int) -> Tensor:
        with torch.no_grad():
            out = net(wide[..., shift : shift + edge, shift : shift + edge])
        inner = edge - 2 * axis.halo
        return center_crop(out, (inner, inner))

    first = usable(0)
    for shift in range(1, axis.stride + 1):
        moved = usable(shift)
        difference = (first[..., shift:, shift:] - moved[..., :-shift, :-shift]).abs().max()
        if shift == axis.stride:
            assert difference < 1e-5
        else:
            assert difference > 1e-2


@pytest.mark.parametrize(("depth", "levels"), [(4, [3, 4]), (2, [1, 2]), (1, [0, 1]), (0, [0])])
def test_dropout_ends_the_contracting_path(depth: int, levels: list[int]) -> None:
    net = UNet(base_channels=2, depth=depth)
    channels: list[int] = []
    net.dropout.register_forward_hook(lambda _m, inputs, _o: channels.append(inputs[0].shape[1]))
    edge = unet_geometry(depth).axes[-1].input_size(1)
    with torch.no_grad():
        net(torch.zeros(1, 1, edge, edge))
    assert channels == [2 * 2**level for level in levels]


def test_dropout_acts_in_training_only(make_net: Callable[..., UNet]) -> None:
    net = make_net(dropout=0.5)
    image = image_of(60)
    with torch.no_grad():
        assert torch.equal(net(image), net(image))
        net.train()
        assert not torch.equal(net(image), net(image))


@pytest.mark.parametrize("residual", [None, "shared"])
@pytest.mark.parametrize("norm", [None, "batch"])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_no_layer_takes_statistics_of_the_tile(norm: Any, residual: Any, padding: Any) -> None:
    net = UNet(base_channels=2, depth=1, norm=norm, residual=residual, padding=padding)
    kinds = {type(module) for module in net.modules()}
    allowed = {UNet, ConvBlock, nn.ModuleList, nn.Dropout, nn.MaxPool2d, nn.ReLU, *CONVOLUTIONS}
    assert kinds <= allowed | ({nn.BatchNorm2d} if norm else set())
    if norm:
        assert nn.BatchNorm2d in kinds


@pytest.mark.parametrize("residual", [None, "shared"])
def test_folding_changes_the_layers_not_the_answer(
    make_net: Callable[..., UNet], residual: Any
) -> None:
    net = make_net(norm="batch", residual=residual).double()
    image = image_of(60).double()
    with torch.no_grad():
        before = net(image)
        for block in [*net.down, *net.merge]:
            block.fold_norm()
        after = net(image)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    torch.testing.assert_close(after, before, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"depth": -1}, "depth"),
        ({"depth": 60}, "depth"),
        ({"base_channels": 0}, "base_channels"),
        ({"num_classes": 65}, "num_classes"),
        ({"padding": "mirror"}, "padding"),
        ({"norm": "instance"}, "norm"),
        ({"dropout": 1.0}, "dropout"),
        ({"residual": "full"}, "residual"),
    ],
)
def test_a_bad_argument_is_named(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        UNet(**arguments)


def test_an_illegal_size_is_refused_with_a_legal_one() -> None:
    net = UNet(base_channels=1)
    with pytest.raises(TilingError, match=r"571.*572"):
        net(torch.zeros(1, 1, 572, 571))
