"""From an image layer to the engine's input, and from its output back to a Labels layer."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.core.boxes import Box
from napari_unet.errors import AxesError, UNetError
from napari_unet.io.image import open_image
from napari_unet.io.selection import Selection
from napari_unet.widgets._view import level_zero_shape

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from napari.layers import Image

    from napari_unet.core.arrays import ImageSource
    from napari_unet.core.job import SegmentJob

METADATA_KEY = "napari-unet"
"""Entry of ``layer.metadata`` that is ours."""

COMPARED_EDGE = 16
"""Edge of the boxes in which a layer is compared with the file it says it comes from."""

PLANE_SUFFIX = re.compile(r"(\.ome|\.unet)?\.(zarr|tiff?|png|jpe?g|npy|json)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class LayerInput:
    """Where the engine reads what a layer shows; the fields of a `SegmentJob`."""

    path: str
    axes: str | None = None
    level: int = 0
    channel: str | None = None
    time: int | None = None


def spatial_shape(layer: Image) -> tuple[int, ...]:
    """Return the shape (z, y, x) or (y, x) of what a layer shows, at full resolution.

    Raises
    ------
    AxesError
        If the layer has colors or more axes than space has; the message names a remedy.
    """
    name = layer.name
    if layer.rgb:
        raise AxesError(
            f"layer {name!r} is an RGB image, but models expect separate channels; right-click "
            "it, choose 'Split RGB', and segment one of the three layers"
        )
    shape = level_zero_shape(layer)
    extra = shape[:-3]
    if len(shape) < 2 or any(n != 1 for n in extra):
        raise AxesError(
            f"layer {name!r} has {len(shape)} axes {shape}, but an image has 2 (y, x) or 3 "
            "(z, y, x); right-click it, choose 'Split Stack', and segment one part"
        )
    if np.dtype(layer.dtype).kind not in "buif":
        raise AxesError(
            f"layer {name!r} holds values of type {layer.dtype}, which have no order; "
            "make a layer of their magnitude"
        )
    return shape[-3:]


def spatial_data(layer: Image) -> Any:
    """Return a layer's full resolution array with its own axes (may have leading ones)."""
    return layer.data[0] if layer.multiscale else layer.data


def local_path(layer: Image) -> Path | None:
    """Return the file or folder that a layer says it comes from, if it is on this machine.

    A cheap answer, without opening it; `find_input` is the checked one. Sample data say None:
    nobody wants results inside the installed package.
    """
    if _ours(layer).get("sample"):
        return None
    for candidate in _candidates(layer):
        if Path(candidate.path).exists():
            return Path(candidate.path)
    return None


def find_input(layer: Image) -> LayerInput | None:
    """Return where the engine can read exactly what a layer shows; None = nowhere, so spool it.

    Shape, type and the values in small boxes are compared, so that a layer whose data were
    replaced is never segmented from its old file.
    """
    shape = spatial_shape(layer)
    for candidate in _candidates(layer):
        if not Path(candidate.path).exists():
            continue
        for axes in dict.fromkeys((candidate.axes, None, "zyx"[-len(shape) :])):
            trial = replace(candidate, axes=axes)
            if shows(layer, trial):
                return trial
    return None


def shows(layer: Image, candidate: LayerInput) -> bool:
    """Return whether a layer shows what a file holds, as far as small boxes of it tell."""
    selection = Selection(
        axes=candidate.axes,
        channel=candidate.channel,
        level=candidate.level,
        time=candidate.time,
    )
    try:
        source = open_image(candidate.path, selection)
    except UNetError:
        return False
    try:
        return _shows(layer, source, spatial_shape(layer))
    except UNetError:
        return False
    finally:
        source.close()


def output_stem(path: Path) -> str:
    """Return the name that outputs of an image are called by.

    Examples
    --------
    >>> output_stem(Path("data/stack.ome.tif")), output_stem(Path("data/em.zarr/raw/0"))
    ('stack', 'em')
    """
    return PLANE_SUFFIX.sub("", image_root(path).name) or "image"


def image_root(path: Path) -> Path:
    """Return the outermost zarr folder that a path lies in, or the path itself."""
    for folder in reversed((path, *path.parents)):
        if folder.suffix == ".zarr":
            return folder
    return path


def labels_options(layer: Image, ndim: int) -> dict[str, Any]:
    """Return what places a Labels layer of `ndim` axes exactly on an image layer."""
    options: dict[str, Any] = {
        "scale": tuple(layer.scale)[-ndim:],
        "translate": tuple(layer.translate)[-ndim:],
        "units": tuple(layer.units)[-ndim:],
        "axis_labels": tuple(layer.axis_labels)[-ndim:],
    }
    if ndim == layer.ndim:
        options |= {"rotate": layer.rotate, "shear": layer.shear, "affine": layer.affine}
    return options


def translation_of(image: Image, start: tuple[int, ...]) -> Any:
    """Return the translation of a part that begins at a voxel of an image layer."""
    ndim = len(start)
    if ndim == image.ndim:
        # Rotation and shear come before the translation, the affine transform after it.
        return image.affine.inverse(image.data_to_world(start))
    scale, translate = np.asarray(image.scale)[-ndim:], np.asarray(image.translate)[-ndim:]
    return translate + scale * np.asarray(start)


def class_options(classes: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return the colors and names of classes, numbered from 1, as Labels layer options."""
    from napari.utils.colormaps import DirectLabelColormap

    from napari_unet.widgets._napari_private import with_known_colors

    colors: dict[int | None, Any] = {None: "transparent", 0: "transparent"}
    colors |= {label: color for label, (_, color) in enumerate(classes, start=1)}
    return {
        "colormap": with_known_colors(DirectLabelColormap(color_dict=colors)),
        "features": {
            "index": list(range(1, len(classes) + 1)),
            "class": [name for name, _ in classes],
        },
    }


def object_features(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table of objects as features of a Labels layer: one row per label.

    Parameters
    ----------
    columns : mapping
        Columns of the table, with the numbers of the objects as "id".
    """
    # napari finds the row of a label by a column of this name.
    return {"index": columns["id"], **{k: v for k, v in columns.items() if k != "id"}}


def objects_metadata(job: Mapping[str, Any], output: str, name: str, labels: str) -> dict[str, Any]:
    """Return what a layer of objects remembers about where it came from."""
    return {
        METADATA_KEY: {"objects_job": dict(job), "output": output, "name": name, "labels": labels}
    }


def labels_metadata(job: SegmentJob, output: str, name: str, labels: str) -> dict[str, Any]:
    """Return what a result's layer remembers about where it came from."""
    return {
        METADATA_KEY: {
            "job": job.model_dump(mode="json"),
            "output": output,
            "name": name,
            "labels": labels,
        }
    }


def zarr_path(array: Any) -> Path | None:
    """Return the folder of a zarr array that lies on a local disk, else None."""
    # No array is one of zarr's before that was imported, which takes a third of a second.
    kind = getattr(sys.modules.get("zarr"), "Array", None)
    if kind is None or not isinstance(array, kind):
        return None
    root = getattr(array.store, "root", None)
    return Path(root) / array.path if isinstance(root, Path) else None


def _ours(layer: Image) -> dict[str, Any]:
    ours = layer.metadata.get(METADATA_KEY)
    return ours if isinstance(ours, dict) else {}


def _candidates(layer: Image) -> Iterator[LayerInput]:
    """Yield where a layer may come from, the best known first."""
    ours = _ours(layer)
    if isinstance(ours.get("input"), str):
        yield LayerInput(
            ours["input"],
            ours.get("axes"),
            int(ours.get("level") or 0),
            ours.get("channel"),
            ours.get("time"),
        )
    array = zarr_path(spatial_data(layer))
    if array is not None:
        # A pyramid's metadata (voxel size, coarser levels) lie one group above its arrays.
        if array.name.isdecimal():
            yield LayerInput(str(array.parent), level=int(array.name))
        yield LayerInput(str(array))
    if isinstance(layer.source.path, str):
        yield LayerInput(layer.source.path)


def _shows(layer: Image, source: ImageSource, shape: tuple[int, ...]) -> bool:
    """Return whether a layer shows a source, as far as a few boxes tell."""
    data = spatial_data(layer)
    if source.num_channels != 1 or (*(1,) * (3 - len(shape)), *shape) != source.shape:
        return False
    if np.dtype(source.dtype) != np.dtype(data.dtype):
        return False
    for box in _compared_boxes(source.shape):
        leading = (0,) * (data.ndim - len(shape))
        shown = np.asarray(data[(*leading, *box.slices[-len(shape) :])])
        stored = source.read(box)[0].reshape(shown.shape)
        if not np.array_equal(shown, stored, equal_nan=shown.dtype.kind == "f"):
            return False
    return True


def _compared_boxes(shape: tuple[int, ...]) -> Iterator[Box]:
    """Yield small boxes at both ends and in the middle of an image (z, y, x)."""
    for part in (0.0, 0.5, 1.0):
        edges = tuple(
            min(n, edge) for n, edge in zip(shape, (1, *[COMPARED_EDGE] * 2), strict=True)
        )
        start = tuple(int(part * (n - edge)) for n, edge in zip(shape, edges, strict=True))
        yield Box(start, tuple(a + edge for a, edge in zip(start, edges, strict=True)))
