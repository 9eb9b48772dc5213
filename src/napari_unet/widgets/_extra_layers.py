"""The layers that a finished run shows beside its classes: objects with their table, probabilities.

They lie on the image's layer as it is now, wherever its file says that it lies.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Labels

from napari_unet.io.label_output import list_labels
from napari_unet.widgets._layers import METADATA_KEY, labels_options
from napari_unet.widgets._request import ResultKind
from napari_unet.widgets.reader import objects_layer, probability_layers

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_unet.core.events import AlreadyDone, Finished
    from napari_unet.core.job import SegmentJob
    from napari_unet.io.label_output import StoredLabels
    from napari_unet.widgets.reader import LayerData


def extra_layers(image: Image, job: SegmentJob, event: Finished | AlreadyDone) -> list[LayerData]:
    """Return the layers of a finished job that are not its classes.

    Parameters
    ----------
    image : Image
        The layer that was segmented.
    job : SegmentJob
        What was done.
    event : Finished or AlreadyDone
        How it ended.

    Raises
    ------
    UNetError
        If they cannot be read.
    """
    kind = ResultKind.of_job(job)
    if kind is ResultKind.CLASSES:
        return []
    stored = list_labels(Path(event.output))
    if kind is ResultKind.OBJECTS:
        own = [s for s in stored if s.kind == "objects" and s.attributes.get("from") == event.name]
        return [_on_image(image, s) for s in own if s.state == "complete"]
    (classes,) = (s for s in stored if s.name == event.name)
    layers = probability_layers(classes, image.name)
    return [(d, o | labels_options(image, _axes(d)), k) for d, o, k in layers]


def remove_shown(viewer: Any, labels: str, name: str | None = None) -> None:
    """Remove layers of a result that is about to be shown again.

    Parameters
    ----------
    viewer : napari.Viewer
        Has them, or not.
    labels : str
        Path of the result's array.
    name : str or None
        What the layer is called; None = only the layers of the array itself, whatever they are
        called.
    """
    for layer in list(viewer.layers):
        ours = layer.metadata.get(METADATA_KEY)
        if not isinstance(ours, dict) or ours.get("labels") != labels:
            continue
        is_labels = isinstance(layer, Labels)
        if is_labels if name is None else layer.name == name:
            viewer.layers.remove(layer)


def _on_image(image: Image, objects: StoredLabels) -> LayerData:
    """Return the layer of objects, placed as the image's layer is."""
    data, options, kind = objects_layer(objects, image.name)
    return data, options | labels_options(image, _axes(data)), kind


def _axes(data: Any) -> int:
    """Return how many axes the data of a layer have, one array or the levels of a pyramid."""
    return len(data[0].shape) if isinstance(data, list) else len(data.shape)
