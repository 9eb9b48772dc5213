"""Opens the record of a run, ``NAME.unet.json``: its image, labels, objects and probabilities.

What is not there any more is left out, but for the labels that the record is about.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.app.job_files import RECORD_SUFFIX, JobRecord, read_record
from napari_unet.app.objecting.record import TABLES, is_objects_record, read_objects_record
from napari_unet.core.classes import FIRST_CLASS
from napari_unet.core.job import SegmentJob
from napari_unet.errors import StorageError, UNetError
from napari_unet.io.image import open_image
from napari_unet.io.label_output import list_labels
from napari_unet.io.selection import Selection
from napari_unet.widgets._layers import (
    METADATA_KEY,
    class_options,
    labels_metadata,
    object_features,
    objects_metadata,
)
from napari_unet.widgets._lazy_image import LazyImage

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_unet.core.arrays import ImageSource
    from napari_unet.io.label_output import StoredLabels

MAX_FEATURE_ROWS = 1_000_000
"""Objects whose table becomes features of their layer."""

LayerData = tuple[Any, dict[str, Any], str]
"""Data, options and kind of a layer, as napari's readers return them."""


def get_reader(path: str | list[str]) -> Callable[[str], list[LayerData]] | None:
    """Return the function that opens job records, or None for any other path."""
    if isinstance(path, str) and path.endswith(RECORD_SUFFIX):
        return read_job_record
    return None


def read_job_record(path: str) -> list[LayerData]:
    """Return the layers of a run: its image, if it can still be opened, and what was made of it.

    The record of a segmentation gives its classes and all complete objects that were made of them,
    the record of objects gives these alone.

    Raises
    ------
    UNetError
        If the record or its labels cannot be read; the message says why.
    """
    if is_objects_record(Path(path)):
        return _objects_of_record(Path(path))
    record = read_record(Path(path))
    folder = labels_folder(record, Path(path))
    output, image_name = folder.parent.parent, source_name(record.job.input)
    layers = [labels_layer(record, folder)]
    for stored in _stored_in(output):
        if stored.name == record.name and record.job.probabilities and stored.has_probabilities:
            hidden = {"visible": False}
            layers += [(d, o | hidden, k) for d, o, k in probability_layers(stored, image_name)]
    layers += [
        objects_layer(stored, image_name)
        for stored in _stored_in(output)
        if stored.kind == "objects"
        and stored.attributes.get("from") == record.name
        and stored.state == "complete"
    ]
    return _with_image(record.job, layers)


def objects_layer(stored: StoredLabels, image_name: str) -> LayerData:
    """Return objects with all their levels and, as features, their table.

    Where there are more than a million objects, napari gets no table: it would keep a dictionary of
    all rows. The files are there.
    """
    folder = stored.path / "labels" / stored.name
    source = stored.open_labels()
    job = stored.attributes.get("job") or {}
    options = placement(source) | {
        "name": f"{image_name}: {stored.name}",
        "features": _features(stored),
        "metadata": objects_metadata(job, str(stored.path), stored.name, str(folder / "0")),
    }
    data, is_pyramid = lazy_levels(str(folder), source, Selection())
    return data, options | {"multiscale": is_pyramid}, "labels"


def _objects_of_record(path: Path) -> list[LayerData]:
    record = read_objects_record(path)
    output = Path(record.output)
    if not output.exists():
        output = path.parent / output.name
    found = {stored.name: stored for stored in list_labels(output)}
    if record.name not in found:
        raise StorageError(f"{output} has no objects {record.name!r} any more; find them again")
    classes = found.get(record.source)
    values = {} if classes is None else classes.attributes.get("job") or {}
    try:
        job = SegmentJob.parse(values, source=record.source)
    except UNetError:
        job = None
    image_name = output.name if job is None else source_name(job.input)
    return _with_image(job, [objects_layer(found[record.name], image_name)])


def _stored_in(output: Path) -> tuple[StoredLabels, ...]:
    """Return the label images of an output; none if it cannot say."""
    try:
        return list_labels(output)
    except UNetError:
        return ()


def probability_layers(stored: StoredLabels, image_name: str) -> list[LayerData]:
    """Return one image layer for each class, from black to the class's color.

    Of several the first, which is the background or the interior, begins hidden.

    Parameters
    ----------
    stored : StoredLabels
        Classes with probabilities; of an unfinished run what is done.
    image_name : str
        What the layers are called by.

    Raises
    ------
    UNetError
        If they cannot be read.
    """
    from napari.utils.colormaps import Colormap

    labels = str(stored.path / "labels" / stored.name / "0")
    job = SegmentJob.parse(dict(stored.attributes.get("job") or {}), source=str(stored.path))
    folder = str(stored.path / "probabilities" / stored.name)
    layers: list[LayerData] = []
    for number, item in enumerate(stored.classes):
        source = stored.open_probabilities([number + FIRST_CLASS])
        data: Any = LazyImage(source)
        is_pyramid = False
        if stored.state == "complete":
            data, is_pyramid = lazy_levels(folder, source, Selection(channel=str(number)))
        options = placement(source) | {
            "name": f"{image_name}: {stored.name}, {item.name}",
            "colormap": Colormap(["black", item.color], name=item.name),
            "contrast_limits": (0.0, 1.0),
            "blending": "additive",
            "visible": number > 0 or len(stored.classes) == 1,
            "multiscale": is_pyramid,
            "metadata": labels_metadata(job, str(stored.path), stored.name, labels),
        }
        layers.append((data, options, "image"))
    return layers


def _with_image(job: SegmentJob | None, layers: list[LayerData]) -> list[LayerData]:
    """Return the layers on top of their image, if that can still be opened."""
    if job is None:
        return layers
    image = image_layer(job.input, Selection(job.axes, job.channel, job.level, job.time))
    return layers if image is None else [image, *layers]


def _features(stored: StoredLabels) -> dict[str, Any]:
    """Return the table of objects as features; none if it is missing or too long."""
    # Imported on demand: the panel opens without it.
    from napari_unet.labels.object_table import read_table, table_paths

    count = (stored.attributes.get("provenance") or {}).get("count", 0)
    if count > MAX_FEATURE_ROWS:
        return {}
    try:
        return object_features(read_table(table_paths(stored.path / TABLES / stored.name)[1]))
    except UNetError:
        return {}


def labels_folder(record: JobRecord, path: Path) -> Path:
    """Return where a record's label image lies, also after both have been moved together."""
    # `labels` is the full resolution array; its parent has the scale and the coarser levels.
    folder = Path(record.labels).parent
    if folder.exists():
        return folder
    return path.parent / Path(record.output).name / "labels" / record.name


def labels_layer(record: JobRecord, folder: Path) -> LayerData:
    """Return the labels of a run, with all its levels, placed in the world.

    Of an unfinished run, what is done.
    """
    from napari_unet.widgets._levels import is_complete, open_levels
    from napari_unet.widgets._result import MAX_PLANE_EDGE

    source = open_image(str(folder), Selection())
    options = placement(source) | class_options(record.classes)
    options |= {
        "name": f"{source_name(record.job.input)}: {record.name}",
        "metadata": labels_metadata(record.job, record.output, record.name, str(folder / "0")),
    }
    data: Any = LazyImage(source)
    is_pyramid = False
    if is_complete(folder):
        data, is_pyramid = lazy_levels(str(folder), source, Selection())
    else:
        options["name"] += " (unfinished)"
        if max(source.shape) > MAX_PLANE_EDGE and len(source.levels) > 1:
            # The writer makes the coarser levels last of all.
            data, is_pyramid = open_levels(str(folder / "0"), waits=True).views(), True
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
