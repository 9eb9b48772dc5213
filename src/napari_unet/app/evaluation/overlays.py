"""Crops of the report as pictures: what was missed and what was found where nothing is."""

from __future__ import annotations

import base64
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import imageio.v3 as iio
import numpy as np
from skimage.segmentation import find_boundaries

from napari_unet.app.evaluation.opening import open_pair
from napari_unet.core.classes import FIRST_CLASS
from napari_unet.errors import AnnotationError
from napari_unet.io.image import Selection, open_image
from napari_unet.metrics.contingency import Contingency
from napari_unet.metrics.matches import matches_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from napari_unet.app.evaluation.crops import Crop
    from napari_unet.app.evaluation.opened import Block
    from napari_unet.app.evaluation.pairs import EvaluationPair
    from napari_unet.core.boxes import Box, Shape
    from napari_unet.core.evaluate_job import EvaluateJob

    Mask = npt.NDArray[np.bool_]
    Picture = npt.NDArray[np.float64]

MISSED, FALSE, CONFUSED, RIGHT = (86, 180, 233), (230, 159, 0), (204, 121, 167), (0, 158, 115)
"""Sky blue, orange, purple and green of Okabe and Ito: told apart by color-blind readers too."""

STRENGTH = 0.6
"""How much of a color is laid over the image."""

NO_IMAGE = 150.0
"""Gray of objects and foreground where no image is shown."""

SMALLEST = 256
"""Shown edge of a crop, in pixels: smaller ones are enlarged."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """A crop as a picture.

    Parameters
    ----------
    name : str
        Of the pair.
    crop : Crop
        Where, and how good.
    png : str
        The picture, as a data URL.
    """

    name: str
    crop: Crop
    png: str


def draw_overlays(
    job: EvaluateJob, pairs: Sequence[EvaluationPair], chosen: Sequence[tuple[int, Crop]]
) -> list[Overlay]:
    """Return pictures of chosen crops, (pair, crop), read again.

    Raises
    ------
    UNetError
        If an image cannot be read any more, or an image does not fit its truth.
    """
    overlays = []
    for index, crop in chosen:
        pair = pairs[index]
        with closing(open_pair(job, pair)) as opened:
            block = opened.read(crop.box)
            names, shape = opened.class_names, opened.shape
        gray = _background(job, pair.companions.image, crop.box, shape)
        overlays.append(Overlay(pair.name, crop, _data_url(_painted(block, names, gray))))
    return overlays


def focus_class(true: npt.NDArray[Any], names: Sequence[str]) -> int:
    """Return the class whose mistakes are colored: the rarest one that is true in a crop."""
    counts = np.bincount(true.ravel(), minlength=len(names) + 1)[FIRST_CLASS:]
    present = np.flatnonzero(counts)
    if not len(present):
        return FIRST_CLASS
    return int(present[counts[present].argmin()]) + FIRST_CLASS


def _painted(block: Block, names: Sequence[str], image: Picture | None) -> Picture:
    """Return the colored crop (y, x, 3), 0 to 255."""
    if block.true_objects is not None and block.predicted_objects is not None:
        layers, drawn = _object_layers(block)
    else:
        layers, drawn = _class_layers(block, names)
    if image is None:
        image = np.where(drawn[..., np.newaxis], NO_IMAGE, 32.0) * np.ones(3)
    picture = image.copy()
    for mask, color, strength in layers:
        picture[mask] += strength * (np.array(color, float) - picture[mask])
    outside = ~block.counted[0]
    y, x = np.indices(outside.shape)
    picture[outside & ((y + x) // 4 % 2 == 0)] = 96
    return picture


def _object_layers(block: Block) -> tuple[list[tuple[Mask, tuple[int, int, int], float]], Mask]:
    true, predicted = block.true_objects, block.predicted_objects
    if true is None or predicted is None:
        raise AnnotationError("the pair holds no objects to draw")
    t, p = true[0].astype(np.int64), predicted[0].astype(np.int64)
    matches = matches_of(Contingency.of(p, t, ~block.counted[0]))
    missed = (t != 0) & ~np.isin(t, matches.true)
    false = (p != 0) & ~np.isin(p, matches.predicted)
    outline = _outline(p) & np.isin(p, matches.predicted)
    true_line = _outline(t) & missed
    layers = [
        (missed & ~false, MISSED, STRENGTH),
        (false & ~missed, FALSE, STRENGTH),
        (missed & false, CONFUSED, STRENGTH),
        (outline, RIGHT, 0.9),
        (true_line, MISSED, 0.9),
        (_outline(p) & false, FALSE, 0.9),
    ]
    return layers, (t != 0) & np.isin(t, matches.true)


def _class_layers(
    block: Block, names: Sequence[str]
) -> tuple[list[tuple[Mask, tuple[int, int, int], float]], Mask]:
    true, predicted = block.true_classes, block.predicted_classes
    if true is None or predicted is None:
        raise AnnotationError("the pair holds no classes to draw")
    t, p, counted = true[0], predicted[0], block.counted[0]
    focus = focus_class(t, names)
    missed = counted & (t == focus) & (p != focus)
    false = counted & (t != focus) & (p == focus)
    other = counted & (t != p) & ~missed & ~false
    layers = [
        (missed, MISSED, STRENGTH),
        (false, FALSE, STRENGTH),
        (other, CONFUSED, STRENGTH),
        (_outline((p == focus).astype(np.uint8)) & counted & (t == p), RIGHT, 0.6),
    ]
    return layers, t == focus


def _outline(labels: npt.NDArray[Any]) -> Mask:
    """Return the outermost pixels of every object."""
    mode = "inner"
    line: Mask = find_boundaries(labels, mode=mode)  # type: ignore[no-untyped-call]  # scikit-image
    return line


def _background(job: EvaluateJob, path: Path | None, box: Box, shape: Shape) -> Picture | None:
    """Return a crop of the image (y, x, 3), 0 to 255, from its darkest to its brightest."""
    if path is None:
        return None
    selection = Selection(job.axes, job.channel, job.level, job.time, colors=True)
    with ExitStack() as stack:
        image = stack.enter_context(closing(open_image(path, selection)))
        if image.shape != shape:
            raise AnnotationError(
                f"the image {image.name} has the shape {image.shape} (z, y, x), its truth has "
                f"{shape}; give the image that the truth was drawn on"
            )
        values = image.read(box)[:3, 0].astype(np.float64)
    low, high = np.nanpercentile(values, (0.5, 99.5))
    scaled = np.clip((np.nan_to_num(values, nan=low) - low) / max(high - low, 1e-12), 0, 1)
    picture = np.moveaxis(scaled if len(scaled) == 3 else np.repeat(scaled[:1], 3, axis=0), 0, -1)
    result: Picture = picture * 255
    return result


def _data_url(picture: Picture) -> str:
    pixels = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
    zoom = max(1, -(-SMALLEST // max(pixels.shape[:2])))
    pixels = pixels.repeat(zoom, axis=0).repeat(zoom, axis=1)
    png = iio.imwrite("<bytes>", pixels, extension=".png")
    return "data:image/png;base64," + base64.b64encode(png).decode()
