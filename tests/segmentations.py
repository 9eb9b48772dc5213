"""Finished segmentations without a network, for what comes after one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.core.arrays import PyramidLevel
from napari_unet.core.axes import VoxelSize
from napari_unet.core.boxes import Box, format_region
from napari_unet.core.classes import ClassInfo
from napari_unet.io.ome_zarr_writer import OutputSpec, create_output

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

COLORS = ("#4c72b0", "#dd8452", "#55a868", "#c44e52")
SIZE = VoxelSize(40.0, 4.0, 4.0, "nanometer")


def write_segmentation(
    path: Path, chances: npt.NDArray[np.float32], names: tuple[str, ...], **options: Any
) -> npt.NDArray[np.uint8]:
    """Write ``OUT/labels/NAME`` from probabilities (class, z, y, x) and return the classes.

    Parameters
    ----------
    path, chances, names
        OUT, the probabilities, and the names of the classes.
    **options
        ``name`` ("net"); ``probable`` (True): whether probabilities are stored; ``region``;
        ``state`` ("complete"); ``axes`` ("zyx"); ``attributes``: more of them; ``version``.
    """
    shape = chances.shape[1:]
    region = options.get("region") or Box.of_shape(shape)
    probable = options.get("probable", True)
    infos = tuple(ClassInfo(name=n, color=c) for n, c in zip(names, COLORS, strict=False))
    fingerprint = {"region": format_region(region), "model_sha256": "0" * 64}
    attributes = {"fingerprint": fingerprint, **options.get("attributes", {})}
    spec = OutputSpec(
        path=path,
        name=options.get("name", "net"),
        spatial_axes=options.get("axes", "zyx"),
        levels=(PyramidLevel(shape, SIZE, (400.0, 8.0, 0.0)),),
        classes=infos,
        block_edge=64,
        probability_type="float32" if probable else None,
        ome_version=options.get("version", "0.5"),
        attributes=attributes,
    )
    classes = np.zeros(shape, np.uint8)
    classes[region.slices] = chances.argmax(axis=0)[region.slices] + 1
    output = create_output(spec, replace=False)
    output.write_labels(region, classes[region.slices])
    if probable:
        output.write_probabilities(region, chances[(slice(None), *region.slices)])
    if options.get("state", "complete") == "complete":
        output.finish(attributes)
    output.close()
    return classes


def smooth_chances(
    seed: int, shape: tuple[int, int, int], classes: int, width: float = 2.0
) -> npt.NDArray[np.float32]:
    """Return random probabilities that make blobs of about `width` voxels."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    logits = [gaussian_filter(rng.normal(size=shape), (0.7, width, width)) for _ in range(classes)]
    high = np.stack([8 * one / one.std() for one in logits])
    powers = np.exp(high - high.max(axis=0))
    chances: npt.NDArray[np.float32] = (powers / powers.sum(axis=0)).astype(np.float32)
    return chances
