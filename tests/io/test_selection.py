"""Which axes, channels and time points are read, and what is said where that is open."""

from __future__ import annotations

import numpy as np
import pytest

from napari_unet.core.boxes import Box
from napari_unet.errors import AxesError, InputError, TilingError
from napari_unet.io.image import Selection, wrap_array


def test_two_axes_are_a_plane() -> None:
    source = wrap_array(np.zeros((4, 6)))
    assert (source.spatial_axes, source.shape, source.num_channels) == ("yx", (1, 4, 6), 1)


@pytest.mark.parametrize(
    ("shape", "selection", "words"),
    [
        ((3, 4, 5), Selection(), ["--axes zyx", "(3, 4, 5)"]),
        ((2, 3, 4, 5), Selection(), ["--axes czyx"]),
        ((2, 2, 3, 4, 5), Selection(), ["--axes tczyx"]),
        ((5,), Selection(), ["(5,)"]),
        ((), Selection(), ["()"]),
        ((1,) * 6, Selection(), ["2 to 5"]),
        ((3, 4, 5), Selection(axes="yx"), ["--axes", "3"]),
        ((3, 4, 5), Selection(axes="zzx"), ["zzx"]),
        ((3, 4, 5), Selection(axes="zcx"), ["zcx"]),
        ((3, 4, 5), Selection(axes="cyx"), ["3 channels", "--channel 0"]),
        ((3, 4, 5), Selection(axes="cyx", channel="3"), ["--channel '3'", "0 to 2"]),
        ((3, 4, 5), Selection(axes="cyx", channel="1,1"), ["--channel '1,1'"]),
        ((3, 4, 5), Selection(axes="cyx", channel="a"), ["--channel 'a'"]),
        ((3, 4, 5), Selection(axes="zyx", channel="1"), ["--channel '1'"]),
        ((3, 4, 5), Selection(axes="tyx"), ["3 time points", "--time"]),
        ((3, 4, 5), Selection(axes="tyx", time=3), ["--time 3"]),
        ((3, 4, 5), Selection(axes="zyx", time=1), ["--time 1"]),
        ((3, 4, 5), Selection(axes="zyx", level=1), ["--level 1", "only level 0"]),
    ],
)
def test_what_is_open_or_impossible_names_its_option(
    shape: tuple[int, ...], selection: Selection, words: list[str]
) -> None:
    with pytest.raises(AxesError) as error:
        wrap_array(np.zeros(shape, np.uint8), selection, name="cells")
    assert all(word in str(error.value) for word in ["cells", *words])


@pytest.mark.parametrize("axes", ["tczyx", "xyzct", "cxtyz", "zyxtc"])
def test_any_order_of_axes_reads_the_same(axes: str) -> None:
    data = np.arange(2 * 3 * 4 * 5 * 6).reshape(2, 3, 4, 5, 6)  # tczyx
    turned = data.transpose(["tczyx".index(a) for a in axes])
    source = wrap_array(turned, Selection(axes=axes, channel="2,0", time=1))
    box = Box((1, 2, 0), (4, 5, 3))
    np.testing.assert_array_equal(source.read(box), data[1, [2, 0], 1:4, 2:5, 0:3])


def test_a_single_channel_or_time_point_needs_no_choice() -> None:
    source = wrap_array(np.zeros((1, 1, 3, 4, 5)), Selection(axes="tczyx"))
    assert (source.num_channels, source.shape) == (1, (3, 4, 5))


def test_a_channel_of_an_image_without_channels_may_be_named() -> None:
    assert wrap_array(np.zeros((4, 5)), Selection(channel="0", time=0)).num_channels == 1


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
def test_an_image_without_voxels_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="no voxel"):
        wrap_array(np.zeros(shape))


@pytest.mark.parametrize("box", [Box((0, 0, 0), (1, 5, 6)), Box((0, -1, 0), (1, 2, 2))])
def test_a_box_outside_the_image_is_refused(box: Box) -> None:
    with pytest.raises(TilingError, match="leaves the image"):
        wrap_array(np.zeros((4, 6))).read(box)


def test_an_empty_box_reads_as_nothing() -> None:
    assert wrap_array(np.zeros((4, 6))).read(Box((0, 2, 2), (1, 2, 5))).shape == (1, 1, 0, 3)
