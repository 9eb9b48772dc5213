"""A gray image as a color one: the same image, read once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_unet.core.boxes import Box
from napari_unet.errors import AxesError, InputError
from napari_unet.io.image import open_image, wrap_array
from napari_unet.io.repeated_channel import RepeatedChannel
from napari_unet.io.selection import Selection

if TYPE_CHECKING:
    import numpy.typing as npt


def test_it_is_the_image_with_its_channel_three_times(
    stack: npt.NDArray[np.uint8], stack_path: str
) -> None:
    source = open_image(stack_path)
    image = RepeatedChannel(source, 3)
    box = Box((1, 5, 7), (3, 20, 30))
    np.testing.assert_array_equal(image.read(box), np.stack([stack[box.slices]] * 3))
    assert image.num_channels == 3
    for name in ("name", "spatial_axes", "shape", "dtype", "levels"):
        assert getattr(image, name) == getattr(source, name)
    assert image.identity() == source.identity()
    assert image.sample_boxes(1000) == source.sample_boxes(1000)
    assert image.count_missing_chunks(box) == source.count_missing_chunks(box) == 0
    image.close()
    with pytest.raises(InputError, match="closed"):
        source.read(box)


def test_two_channels_are_not_repeated(stack: npt.NDArray[np.uint8]) -> None:
    source = wrap_array(stack, Selection(axes="cyx", channel="0,1"))
    with pytest.raises(AxesError, match="2 channels"):
        RepeatedChannel(source, 3)
