"""How wide annotated objects are: the measure of how far apart labels must be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_unet.core.classes import FIRST_CLASS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from napari_unet.core.annotation import Annotation

MAX_MEASURED_BLOCKS = 64
"""Stored blocks from which the object width is estimated."""


def object_width(annotations: Sequence[Annotation]) -> float:
    """Return about how wide the annotated objects are, in pixels, at least 1.

    The width at a pixel is the shorter of the two runs of its class through it, along y and along
    x. The width of a class is the median over its pixels; that of the objects is the lower median
    over the classes: of two classes the thinner, such as membranes and not what they enclose. For
    strokes it is the width of the brush.
    """
    blocks = [block for annotation in annotations for _, block in annotation.blocks()]
    if not blocks:
        return 1.0
    some = np.linspace(0, len(blocks) - 1, min(len(blocks), MAX_MEASURED_BLOCKS))
    num_classes = len(annotations[0].class_names)
    histogram = np.zeros((num_classes, max(max(b.shape) for b in blocks) + 1), np.int64)
    for labels in (blocks[round(i)] for i in some):
        mask = labels > 0
        width = np.minimum(_run_lengths(labels), _run_lengths(labels.swapaxes(1, 2)).swapaxes(1, 2))
        np.add.at(histogram, (labels[mask].astype(np.int64) - FIRST_CLASS, width[mask]), 1)
    medians = sorted(
        int(np.searchsorted(np.cumsum(row), row.sum() / 2)) for row in histogram if row.any()
    )
    return float(max(medians[(len(medians) - 1) // 2], 1))


def _run_lengths(labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Return for each voxel the length of the run of its label along the last axis."""
    size = labels.shape[-1]
    place = np.arange(size)
    is_first = np.ones(labels.shape, bool)
    is_first[..., 1:] = labels[..., 1:] != labels[..., :-1]
    start = np.maximum.accumulate(np.where(is_first, place, 0), axis=-1)
    is_last = np.ones(labels.shape, bool)
    is_last[..., :-1] = is_first[..., 1:]
    stop = np.where(is_last, place + 1, size)[..., ::-1]
    return np.minimum.accumulate(stop, axis=-1)[..., ::-1] - start
