"""Other places of the image: where to paint next, and what a fine-tune has changed there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_unet.errors import UNetError
from napari_unet.widgets._annotation_layer import strokes_path
from napari_unet.widgets._comparison import ComparisonStrip
from napari_unet.widgets._layers import LayerInput, find_input, spatial_shape
from napari_unet.widgets._places import PlacesBox, PlacesInput

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari.layers import Image

    from napari_unet.core.train_events import ComparisonReady
    from napari_unet.widgets._image_copy import ImageCopies
    from napari_unet.widgets._train_form import FineTuneForm
    from napari_unet.widgets._train_run import TrainRequest

PLANE = 2
"""Axes of an image without slices."""


class Elsewhere:
    """Gives the list of places and the pictures what they need; one frame marks a place of both.

    Parameters
    ----------
    viewer : napari.Viewer
        Its camera and sliders are moved.
    form : FineTuneForm
        Knows what is chosen.
    copies : ImageCopies
        Copies of images that exist only in memory.
    flush : callable
        Returns when all strokes are on disk.
    """

    def __init__(
        self, viewer: Any, form: FineTuneForm, copies: ImageCopies, flush: Callable[[], None]
    ) -> None:
        self._form, self._copies, self._flush = form, copies, flush
        self._searched: tuple[Any, ...] = ()
        self.places = PlacesBox(
            viewer,
            PlacesInput(lambda: form.image, self._model, self._strokes, self._parent, self._source),
        )
        self.comparison = ComparisonStrip(viewer, lambda: form.image, self.places.view)
        form.changed.connect(self._on_chosen)

    def compare(self, event: ComparisonReady, request: TrainRequest) -> None:
        """Show the pictures of a training."""
        self.comparison.show_comparison(
            event, [(each.name, each.color) for each in request.classes]
        )

    def make_room(self) -> None:
        """Leave the panel, and the processor, to a fine-tune; what was found is not forgotten."""
        self.places.close_search()
        self.places.hide()

    def take_back(self) -> None:
        """Search again, and show no pictures any more."""
        self.comparison.clear()
        self.places.show()

    def close(self) -> None:
        """Leave no search, no frame and no picture behind."""
        self.places.clear()
        self.take_back()

    def _on_chosen(self) -> None:
        """Forget places of another image or model."""
        model = self._form.model
        searched = (self._form.image, None if model is None else model.sha256)
        if searched != self._searched:
            self._searched = searched
            self.places.clear()
            self.places.scope_combo.setVisible(_has_slices(self._form.image))

    def _model(self) -> str | None:
        return None if self._form.model is None else self._form.model.argument

    def _parent(self) -> str | None:
        model = self._form.model
        parent = None if model is None else model.header.provenance.parent
        if parent is None:
            return None
        known = (each for each in self._form.models if each.sha256 == parent.sha256)
        return next((each.argument for each in known), None)

    def _strokes(self) -> Path | None:
        self._flush()
        return strokes_path(self._form.annotation)

    def _source(self, image: Image) -> LayerInput | None:
        copy = self._copies.find(image)
        return find_input(image) if copy is None else LayerInput(str(copy))


def _has_slices(image: Image | None) -> bool:
    """Return whether one slice is less than the whole image."""
    try:
        return image is None or len(spatial_shape(image)) > PLANE
    except UNetError:
        # An image that cannot be used is complained about when it is to be used.
        return True
