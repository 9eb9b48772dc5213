"""Opens the record of a run, ``NAME.unet.json``: its labels, and its image if it is still there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.app.job_files import RECORD_SUFFIX, JobRecord, read_record
from napari_unet.errors import UNetError
from napari_unet.io.image import open_image
from napari_unet.io.selection import Selection
from napari_unet.widgets._layers import METADATA_KEY, class_options, labels_metadata
from napari_unet.widgets._lazy_image import LazyImage

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.core.arrays import ImageSource

LayerData = tuple[Any, dict[str, Any], str]
"""Data, options and kind of a layer, as napari's readers return them."""


def get_reader(path: str | list[str]) -> Callable[[str], list[LayerData]] | None:
    """Return the function that opens job records, or None for any other path."""
    if isinstance(path, str) and path.endswith(RECORD_SUFFIX):
        return read_job_record
    return None


def read_job_record(path: str) -> list[LayerData]:
    """Return the layers of a run: its image, if it can still be opened, and its labels.

    Raises
    ------
    UNetError
        If the record or its labels cannot be read; the message says why.
    """
    record = read_record(Path(path))
    labels = labels_layer(record, labels_folder(record, Path(path)))
    image = image_layer(
        record.job.input,
        Selection(record.job.axes, record.job.channel, record.job.level, record.job.time),
    )
    return [labels] if image is None else [image, labels]


def labels_folder(record: JobRecord, path: Path) -> Path:
    """Return where a record's label image lies, also after both have been moved together."""
    # `labels` is the full resolution array; its parent has the scale and the coarser levels.
    folder = Path(record.labels).parent
    if folder.exists():
        return folder
    return path.parent / Path(record.output).name / "labels" / record.name


def labels_layer(record: JobRecord, folder: Path) -> LayerData:
    """Return the labels of a run, with all its levels, placed in the world."""
    source = open_image(str(folder), Selection())
    options = placement(source) | class_options(record.classes)
    options |= {
        "name": f"{source_name(record.job.input)}: {record.name}",
        "metadata": labels_metadata(record.job, record.output, record.name, str(folder / "0")),
    }
    data, is_pyramid = lazy_levels(str(folder), source, Selection())
    return data, options | {"multiscale": is_pyramid}, "labels"


def image_layer(
    path: str, selection: Selection, extra: dict[str, Any] | None = None
) -> LayerData | None:
    """Return an image as a lazy layer; None if it cannot be opened any more.

    Parameters
    ----------
    path : str
        The image.
    selection : Selection
        Which part of it.
    extra : dict or None
        More entries of our metadata.
    """
    try:
        source = open_image(path, selection)
    except UNetError:
        return None
    data, is_pyramid = lazy_levels(path, source, selection)
    ours = {
        "input": path,
        "axes": selection.axes,
        "channel": selection.channel,
        "level": selection.level,
        "time": selection.time,
    }
    options = placement(source) | {
        "name": source_name(path),
        "metadata": {METADATA_KEY: ours | (extra or {})},
        "multiscale": is_pyramid,
    }
    return data, options, "image"


def lazy_levels(path: str, source: ImageSource, selection: Selection) -> tuple[Any, bool]:
    """Return an image's levels for napari, and whether there is more than one."""
    levels = [LazyImage(source)]
    for number in range(1, len(source.levels)):
        coarser = Selection(
            selection.axes, selection.channel, selection.level + number, selection.time
        )
        levels.append(LazyImage(open_image(path, coarser)))
    return (levels, True) if len(levels) > 1 else (levels[0], False)


def placement(source: ImageSource) -> dict[str, Any]:
    """Return scale, translate, units and axis names of an image, as layer options."""
    own = len(source.spatial_axes)
    level = source.levels[0]
    unit = level.voxel_size.unit or "pixel"
    return {
        "scale": level.voxel_size.zyx[-own:],
        "translate": level.translation[-own:],
        "units": (unit,) * own,
        "axis_labels": tuple(source.spatial_axes),
    }


def source_name(path: str) -> str:
    """Return a short name for an image's layer."""
    return Path(path).name
