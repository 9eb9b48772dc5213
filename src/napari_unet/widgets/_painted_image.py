"""Which image a layer shows, as far as its strokes are concerned."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_unet.app.annotations import PaintedImage
from napari_unet.widgets._layers import find_input, spatial_data, spatial_shape

if TYPE_CHECKING:
    from napari.layers import Image

SAMPLED_EDGE = 16
"""Edge of the boxes whose values tell images in memory apart."""

SAMPLED_PARTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Where they lie, from one corner of the image to the other."""


def painted_image(image: Image) -> PaintedImage:
    """Return what tells the image of a layer from others: its file, or its name and values.

    Raises
    ------
    AxesError
        If the layer has colors or more axes than space has.
    """
    shape = spatial_shape(image)
    full = (*(1,) * (3 - len(shape)), *shape)
    dtype = str(np.dtype(image.dtype))
    source = find_input(image)
    if source is None:
        checksum = _sampled_checksum(image, shape)
        return PaintedImage(name=image.name, shape=full, dtype=dtype, checksum=checksum)
    return PaintedImage(
        name=image.name,
        shape=full,
        dtype=dtype,
        path=str(Path(source.path).resolve()),
        level=source.level,
        channel=source.channel,
        time=source.time,
    )


def _sampled_checksum(image: Image, shape: tuple[int, ...]) -> int:
    data, found = spatial_data(image), 0
    leading = (0,) * (data.ndim - len(shape))
    for part in SAMPLED_PARTS:
        edges = [min(n, SAMPLED_EDGE) for n in shape]
        if len(shape) > 2:
            edges[0] = 1
        starts = [int(part * (n - edge)) for n, edge in zip(shape, edges, strict=True)]
        index = tuple(slice(a, a + edge) for a, edge in zip(starts, edges, strict=True))
        found = zlib.crc32(np.ascontiguousarray(data[(*leading, *index)]).tobytes(), found)
    return found
