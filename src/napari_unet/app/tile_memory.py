"""How large a tile may be that has to fit into some memory. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_unet.app.plan import LIVE_FEATURE_MAPS
from napari_unet.core.job import DEFAULT_BLOCK_EDGE

if TYPE_CHECKING:
    from napari_unet.core.header import ModelHeader

CHUNK_EDGE_TILE = 512
"""Pixels; larger tiles only pay where there is memory for a whole block, as on a GPU."""

BYTES_PER_FEATURE = 4
"""A feature is a number in fp32."""


def tile_bytes(header: ModelHeader, edge: int) -> int:
    """Return the memory that a network needs for a tile, beside its weights and its libraries.

    Parameters
    ----------
    header : ModelHeader
        Of the model.
    edge : int
        Of the tile's write box, in pixels as the network sees them.
    """
    net = header.architecture
    features = net.base_channels * LIVE_FEATURE_MAPS + net.in_channels
    return BYTES_PER_FEATURE * features * int(header.geometry().axes[-1].input_size(edge)) ** 2


def tile_edge_within(memory_bytes: float, header: ModelHeader) -> int | None:
    """Return the edge of the tiles that a network has memory for; None = any that it would choose.

    Parameters
    ----------
    memory_bytes : float
        What a tile may take; 0 = no limit.
    header : ModelHeader
        Of the model.

    Returns
    -------
    int or None
        In pixels, a multiple of the network's stride and at least that: a network needs the
        memory of its smallest tile, whatever is asked for.
    """
    if memory_bytes <= 0 or tile_bytes(header, DEFAULT_BLOCK_EDGE) <= memory_bytes:
        return None
    stride = header.geometry().stride[-1]
    edge = max(CHUNK_EDGE_TILE // stride, 1) * stride
    while edge > stride and tile_bytes(header, edge) > memory_bytes:
        edge -= stride
    return edge
