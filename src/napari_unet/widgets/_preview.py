"""The Labels layer that shows what a training has learnt so far, where the user looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels

from napari_unet.widgets._annotation_layer import PREVIEW, ROLE
from napari_unet.widgets._layers import METADATA_KEY, class_options, labels_options, spatial_shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Image

    from napari_unet.core.train_events import PreviewReady

OPACITY = 0.4


class PreviewLayer:
    """One layer, replaced in place by each preview; under the annotation.

    Parameters
    ----------
    viewer : napari.Viewer
        Gets the layer with the first preview.
    image : Image
        The image that is looked at.
    annotation : Labels
        What is painted on.
    classes : sequence of (name, color)
        The k-th class has the label k.
    """

    def __init__(
        self, viewer: Any, image: Image, annotation: Labels, classes: Sequence[tuple[str, str]]
    ) -> None:
        self._viewer, self._image, self._annotation = viewer, image, annotation
        self._classes = tuple(classes)
        self.layer: Labels | None = None

    def show(self, event: PreviewReady) -> None:
        """Show a preview, unless its file is gone or the layer was removed by the user."""
        try:
            labels = np.load(event.path, allow_pickle=False)
        except (OSError, ValueError):
            # Replaced by the next one meanwhile, which is announced in its turn.
            return
        ndim = len(spatial_shape(self._image))
        labels = labels.reshape(labels.shape[-ndim:])
        translate = self._place(event.box.start[-ndim:])
        if self.layer is None:
            self._add(labels, translate)
        elif self.layer in self._viewer.layers:
            if self.layer.data.shape == labels.shape:
                self.layer.data[...] = labels
                self.layer.translate = translate
                self.layer.refresh()
            else:
                self.layer.data = labels
                self.layer.translate = translate

    def remove(self) -> None:
        """Take the layer away."""
        if self.layer is not None and self.layer in self._viewer.layers:
            self._viewer.layers.remove(self.layer)
        self.layer = None

    def _add(self, labels: Any, translate: Any) -> None:
        options = labels_options(self._image, labels.ndim) | {"translate": translate}
        self.layer = Labels(
            labels,
            name="preview",
            opacity=OPACITY,
            metadata={METADATA_KEY: {ROLE: PREVIEW}},
            **options,
            **class_options(self._classes),
        )
        self.layer.editable = False
        layers = self._viewer.layers
        active = layers.selection.active
        under = self._annotation if self._annotation in layers else None
        layers.insert(len(layers) if under is None else layers.index(under), self.layer)
        # napari selects what is new, which would take the brush away.
        layers.selection.active = active

    def _place(self, start: tuple[int, ...]) -> Any:
        """Return the translation of a part that begins at a voxel of the image."""
        image, ndim = self._image, len(start)
        if ndim == image.ndim:
            # Rotation and shear come before the translation, the affine transform after it.
            return image.affine.inverse(image.data_to_world(start))
        scale, translate = np.asarray(image.scale)[-ndim:], np.asarray(image.translate)[-ndim:]
        return translate + scale * np.asarray(start)
