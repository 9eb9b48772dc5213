"""Shape arithmetic against the paper and against walking through a net, size by size."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.core.receptive import AxisGeometry, NetGeometry, Padding, unet_geometry
from napari_unet.errors import TilingError

LEVELS = st.integers(0, 3).flatmap(
    lambda depth: st.tuples(
        st.tuples(*[st.sampled_from((1, 3, 5))] * (depth + 1)),
        st.tuples(*[st.sampled_from((1, 2, 3))] * depth),
    )
)


def walk(size: int, kernels: tuple[int, ...], pools: tuple[int, ...]) -> int | None:
    """Follow one edge through a valid net; None where a layer would not fit."""
    for kernel, pool in zip(kernels, pools, strict=False):
        size -= 2 * (kernel - 1)
        if size <= 0 or size % pool:
            return None
        size //= pool
    size -= 2 * (kernels[-1] - 1)
    for kernel, pool in zip(reversed(kernels[:-1]), reversed(pools), strict=True):
        if size <= 0:
            return None
        size = size * pool - 2 * (kernel - 1)
    return size if size > 0 else None


def test_the_papers_net() -> None:
    net = unet_geometry(4)
    assert (net.halo, net.stride) == ((0, 92, 92), (1, 16, 16))
    assert net.output_shape((1, 572, 572)) == (1, 388, 388)
    assert net.input_shape((1, 384, 384)) == (1, 572, 572)
    legal = [n for n in range(1, 300) if net.axes[-1].is_legal(n)]
    assert legal == list(range(188, 300, 16))


@pytest.mark.parametrize("depth", range(7))
def test_any_depth_agrees_with_the_walk(depth: int) -> None:
    axis = unet_geometry(depth).axes[-1]
    assert axis.stride == 2**depth
    for size in range(1, 2 * axis.halo + 3 * axis.stride):
        output = walk(size, axis.kernels, axis.pools)
        assert axis.is_legal(size) == (output is not None)
        if output is not None:
            assert axis.output_size(size) == output == size - 2 * axis.halo


@given(LEVELS)
def test_any_kernels_and_poolings_agree_with_the_walk(
    levels: tuple[tuple[int, ...], tuple[int, ...]],
) -> None:
    kernels, pools = levels
    axis = AxisGeometry(kernels, pools)
    for size in range(1, 2 * axis.halo + 2 * axis.stride + 2):
        output = walk(size, kernels, pools)
        assert axis.is_legal(size) == (output is not None)
        if output is not None:
            assert axis.output_size(size) == output


@given(LEVELS, st.sampled_from(("valid", "same")), st.integers(1, 200))
def test_the_input_for_an_output_is_the_smallest_legal_one(
    levels: tuple[tuple[int, ...], tuple[int, ...]], padding: Any, output: int
) -> None:
    axis = AxisGeometry(*levels, padding)
    size = axis.input_size(output)
    assert axis.is_legal(size)
    assert axis.output_size(size) >= output
    assert not any(
        axis.is_legal(smaller) and axis.output_size(smaller) >= output
        for smaller in range(max(size - axis.stride - 1, 1), size)
    )


@pytest.mark.parametrize(("depth", "extra"), [(0, 0), (1, 0), (2, 2), (3, 2), (4, 2), (5, 2)])
def test_a_same_net_has_a_halo_of_two_more(depth: int, extra: int) -> None:
    same, valid = (unet_geometry(depth, padding=p).axes[-1] for p in ("same", "valid"))
    assert same.halo == valid.halo + extra
    sizes = range(same.input_size(1), same.input_size(1) + 5 * same.stride)
    assert [n for n in sizes if same.is_legal(n)] == [n for n in sizes if n % 2**depth == 0]


def test_a_volume_net_needs_no_new_geometry() -> None:
    net = unet_geometry(2, flat_axes=0)
    assert net.halo == (20, 20, 20)
    assert net.stride == (4, 4, 4)
    mixed = NetGeometry((AxisGeometry((1, 3, 3), (1, 2)), *net.axes[1:]))
    assert mixed.stride == (2, 4, 4)
    # Two levels of z convolutions, the lower one at half resolution and shared by both ways.
    assert mixed.output_shape(mixed.input_shape((6, 4, 4)))[0] >= 6


@pytest.mark.parametrize("size", [0, 187, 189, 571, 573])
def test_an_illegal_size_names_a_legal_one(size: int) -> None:
    axis = unet_geometry(4).axes[-1]
    with pytest.raises(TilingError, match=str(size)) as caught:
        axis.output_size(size)
    nearest = axis.input_size(max(size - 184, 1))
    assert f"choose {nearest} " in str(caught.value)


def test_an_output_must_have_a_voxel() -> None:
    with pytest.raises(TilingError, match="at least 1 voxel, not 0"):
        unet_geometry(2).axes[-1].input_size(0)


@pytest.mark.parametrize(
    ("kernels", "pools"), [((3,), (2,)), ((3, 2), (2,)), ((3, 3), (0,)), ((-1,), ())]
)
def test_impossible_levels_are_refused(kernels: tuple[int, ...], pools: tuple[int, ...]) -> None:
    with pytest.raises(TilingError):
        AxisGeometry(kernels, pools)


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_context_is_a_halo_without_a_stride(padding: Padding) -> None:
    net = unet_geometry(2, padding=padding, context=3)
    plain = unet_geometry(2, padding=padding)
    assert net.halo == (3, *plain.halo[1:])
    assert net.stride == plain.stride == (1, 4, 4)
    assert net.input_shape((1, 8, 8)) == (7, *plain.input_shape((1, 8, 8))[1:])
    assert [n for n in range(12) if net.axes[0].is_legal(n)] == list(range(7, 12))
    with pytest.raises(TilingError, match="negative"):
        unet_geometry(2, context=-1)
