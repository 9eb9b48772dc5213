"""The largest edge that memory, time and the images allow."""

from __future__ import annotations

import pytest
import torch

from napari_unet.core.receptive import unet_geometry
from napari_unet.model.unet import UNet
from napari_unet.training.tile_size import (
    BYTES_PER_PIXEL,
    MEMORY_SHARE,
    TileSizeSettings,
    choose_output_edge,
    free_memory,
    multiplications,
    step_seconds,
)

PAPER = unet_geometry(4)
SMALL = unet_geometry(2)
CHANNELS = 16


def test_a_given_edge_is_taken_up_to_the_next_legal_one() -> None:
    def measure(edge: int) -> float:
        raise AssertionError(f"{edge} was measured although nothing has to be chosen")

    settings = TileSizeSettings(output_edge=200)
    chosen = choose_output_edge(
        PAPER, CHANNELS, settings, image_edge=64, memory_bytes=1, measure=measure
    )
    assert chosen == 212


@pytest.mark.parametrize(("image_edge", "chosen"), [(1, 4), (5, 20), (196, 196), (9000, 516)])
def test_it_is_no_larger_than_the_images_and_the_halo_need(image_edge: int, chosen: int) -> None:
    assert choose_output_edge(PAPER, CHANNELS, TileSizeSettings(), image_edge=image_edge) == chosen


@pytest.mark.parametrize("batch_size", [1, 3])
def test_it_is_the_largest_that_fits_into_memory(batch_size: int) -> None:
    settings = TileSizeSettings(batch_size=batch_size)
    needed = batch_size * (196 + 2 * 92) ** 2 * CHANNELS * BYTES_PER_PIXEL
    free = int(needed / MEMORY_SHARE) + 1
    chosen = [
        choose_output_edge(PAPER, CHANNELS, settings, image_edge=999, memory_bytes=memory)
        for memory in (free, free - 2, 1)
    ]
    assert chosen == [196, 180, 4]


@pytest.mark.parametrize("batch_size", [1, 2])
def test_it_is_the_largest_whose_step_is_fast_enough(batch_size: int) -> None:
    axis = PAPER.axes[-1]
    seconds = {
        edge: 1e-9 * multiplications(axis, axis.input_size(edge)) for edge in range(68, 517, 16)
    }
    settings = TileSizeSettings(target_seconds=batch_size * seconds[260], batch_size=batch_size)
    chosen = choose_output_edge(
        PAPER,
        CHANNELS,
        settings,
        image_edge=999,
        measure=lambda edge: seconds[axis.output_size(edge)],
    )
    assert chosen in {244, 260}  # rounding may go either way


@pytest.mark.parametrize(
    ("depth", "image_edge", "least"), [(4, 999, 196), (4, 100, 100), (3, 999, 92), (2, 999, 64)]
)
def test_time_does_not_push_below_twice_the_halo(depth: int, image_edge: int, least: int) -> None:
    def slow(edge: int) -> float:
        return 100.0

    chosen = choose_output_edge(
        unet_geometry(depth), CHANNELS, TileSizeSettings(), image_edge=image_edge, measure=slow
    )
    assert chosen == least


def test_on_a_cpu_time_allows_no_more_than_260_pixels() -> None:
    chosen = [
        choose_output_edge(
            PAPER,
            CHANNELS,
            TileSizeSettings(),
            image_edge=999,
            memory_bytes=memory,
            measure=lambda edge: 1e-6,
        )
        for memory in (None, 2**40)
    ]
    assert chosen == [260, 516]


def test_memory_pushes_below_twice_the_halo() -> None:
    chosen = choose_output_edge(
        PAPER,
        CHANNELS,
        TileSizeSettings(),
        image_edge=999,
        memory_bytes=1,
        measure=lambda edge: 100.0,
    )
    assert chosen == 4


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_multiplications_are_those_of_the_network(padding: str) -> None:
    net = UNet(base_channels=4, depth=3, padding=padding).eval()  # type: ignore[arg-type]
    axis = net.architecture.geometry().axes[-1]
    counted = 0

    def count(module: torch.nn.Conv2d, _: object, output: torch.Tensor) -> None:
        nonlocal counted
        counted += module.in_channels * module.out_channels * output.shape[-1] ** 2

    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d) and module.kernel_size == (3, 3):
            module.register_forward_hook(count)
    ratios = []
    for output in (8, 100):
        edge = axis.input_size(output)
        counted = 0
        with torch.inference_mode():
            net(torch.zeros(1, 1, edge, edge))
        # All but the convolution from the image, which `multiplications` leaves out.
        lost = 2 if padding == "valid" else 0
        counted -= 4 * (edge - lost) ** 2
        ratios.append(counted / multiplications(axis, edge))
    assert ratios == [4**2, 4**2]


def test_measuring_leaves_the_network_and_the_programs_chance_alone() -> None:
    net = UNet(base_channels=4, depth=2, norm="batch")
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    assert step_seconds(net, SMALL.axes[-1].input_size(20), "bf16") > 0
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    assert free_memory(torch.device("cpu")) is None
