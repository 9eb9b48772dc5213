"""Small images of known content, and the one comparison that every reader must pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_unet.core.boxes import Box

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.core.arrays import ImageSource


@pytest.fixture
def planes(rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """Five planes; no axis is a multiple of the usual tile edges."""
    return rng.integers(0, 60000, (5, 70, 90)).astype(np.uint16)


@pytest.fixture
def check_reads(rng: np.random.Generator) -> Callable[[ImageSource, np.ndarray[Any, Any]], None]:
    """Compare random boxes, corners and the whole of an image with an array (c, z, y, x)."""

    def check(source: ImageSource, expected: np.ndarray[Any, Any]) -> None:
        try:
            assert (source.num_channels, *source.shape) == expected.shape
            boxes = [Box.of_shape(source.shape)]
            boxes.append(Box(tuple(n - 1 for n in source.shape), source.shape))
            for _ in range(6):
                ends = [np.sort(rng.integers(0, n + 1, 2)) for n in source.shape]
                boxes.append(Box(tuple(int(e[0]) for e in ends), tuple(int(e[1]) for e in ends)))
            for box in boxes:
                data = source.read(box)
                np.testing.assert_array_equal(data, expected[(slice(None), *box.slices)])
                assert data.dtype == source.dtype
                assert data.dtype.newbyteorder("=") == expected.dtype.newbyteorder("=")
        finally:
            source.close()

    return check
