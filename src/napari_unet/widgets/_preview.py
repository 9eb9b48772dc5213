"""The Labels layer that shows what a model, or one that still learns, says where the user looks."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from napari.layers import Labels

from napari_unet.core.draft_events import DraftReady
from napari_unet.core.train_events import PreviewReady
from napari_unet.widgets._annotation_layer import PREVIEW, ROLE
from napari_unet.widgets._layers import (
    METADATA_KEY,
    class_options,
    labels_options,
    spatial_shape,
    translation_of,
)
from napari_unet.widgets._napari_private import PartialRefresh, spare_tools

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Image

    from napari_unet.core.boxes import Box

Repainted: TypeAlias = PreviewReady | DraftReady
"""Events that bring labels of what is looked at."""

OPACITY = 0.4

KEPT_VIEWS = 16
"""Places whose labels before the first stroke are remembered, a megabyte each at most."""


class PreviewLayer:
    """One layer, replaced in place by each repaint; under the annotation, and not to be painted on.

    Parameters
    ----------
    viewer : napari.Viewer
        Gets the layer with the first repaint.
    image : Image
        The image that is looked at.
    annotation : Labels or None
        What is painted on.
    classes : sequence of (name, color)
        The k-th class has the label k.
    name : str
        Of the layer.
    """

    def __init__(
        self,
        viewer: Any,
        image: Image,
        annotation: Labels | None,
        classes: Sequence[tuple[str, str]],
        name: str = "preview",
    ) -> None:
        self._viewer, self._image, self.annotation = viewer, image, annotation
        self._classes = tuple(classes)
        self._name = name
        self._now: Any = None
        self._before: Any = None
        self._unlearned: OrderedDict[Box, Any] = OrderedDict()
        self._holds_before = False
        self._was_visible = True
        self.layer: Labels | None = None
        self._partial: PartialRefresh | None = None

    @property
    def is_there(self) -> bool:
        """Whether the layer is among the viewer's."""
        return self.layer is not None and self.layer in self._viewer.layers

    def show(self, event: Repainted) -> None:
        """Show new labels, unless their file is gone or the layer was removed by the user."""
        labels = self._load(event.path)
        if labels is None:
            # Replaced by the next one meanwhile, which is announced in its turn.
            return
        self._now = self._renumbered(labels, event)
        self._before = self._labels_before(event)
        ndim = len(spatial_shape(self._image))
        translate = translation_of(self._image, event.box.start[-ndim:])
        shown = self._before if self._holds_before and self._before is not None else self._now
        if self.layer is None:
            self._add(shown, translate)
        elif self.is_there:
            self._put(shown, translate)

    def show_before(self, held: bool) -> None:
        """Show the labels before while `held`, or the bare image where none are known."""
        if held == self._holds_before:
            return
        self._holds_before = held
        if self.layer is None or not self.is_there:
            return
        if held:
            self._was_visible = self.layer.visible
        if self._before is None:
            self.layer.visible = self._was_visible and not held
        else:
            self.layer.visible = self._was_visible
            self._put(self._before if held else self._now, self.layer.translate)

    def hide(self, hidden: bool) -> None:
        """Take the layer out of sight for a while, or back."""
        if self.layer is not None and self.is_there:
            self.layer.visible = not hidden

    def recolor(self, classes: Sequence[tuple[str, str]]) -> None:
        """Give the labels other names and colors."""
        if len(classes) < len(self._classes):
            # One is gone, and those below it have other numbers.
            self._unlearned.clear()
            self._before = None
        self._classes = tuple(classes)
        if self.layer is not None:
            options = class_options(self._classes)
            self.layer.colormap = options["colormap"]
            self.layer.features = options["features"]

    def remove(self) -> None:
        """Take the layer away, for good."""
        if self.is_there:
            self._viewer.layers.remove(self.layer)
        self.layer = self._partial = None
        self._unlearned.clear()

    def _load(self, path: str) -> Any:
        try:
            labels = np.load(path, allow_pickle=False)
        except (OSError, ValueError):
            return None
        ndim = len(spatial_shape(self._image))
        return labels.reshape(labels.shape[-ndim:])

    def _labels_before(self, event: Repainted) -> Any:
        """Return what was said before anything was learnt; None = it is not known."""
        if isinstance(event, PreviewReady):
            return self._load(event.before) if event.before else None
        if event.learned == 0:
            self._unlearned[event.box] = self._now
            while len(self._unlearned) > KEPT_VIEWS:
                self._unlearned.popitem(last=False)
        found = self._unlearned.get(event.box)
        return found if found is None or found.shape == self._now.shape else None

    def _renumbered(self, labels: Any, event: Repainted) -> Any:
        """Return labels by the numbers that the classes have now; gone ones are not shown."""
        names = event.classes if isinstance(event, DraftReady) else ()
        own = [name for name, _ in self._classes]
        if not names or list(names) == own:
            return labels
        table = np.zeros(256, np.uint8)
        for label, name in enumerate(names, start=1):
            table[label] = own.index(name) + 1 if name in own else 0
        return table[labels]

    def _put(self, labels: Any, translate: Any) -> None:
        if self.layer is None or self._partial is None:
            return
        is_same_shape = self.layer.data.shape == labels.shape
        if is_same_shape and np.array_equal(self.layer.translate, translate):
            # The usual case, a stroke in a view that rests: a third of a whole refresh.
            self.layer.data[...] = labels
            self._partial.refresh([tuple(slice(0, n) for n in labels.shape)])
            self._partial.refresh_thumbnail()
        elif is_same_shape:
            self.layer.data[...] = labels
            self.layer.translate = translate
            self.layer.refresh()
        else:
            # napari takes all data for data to paint on.
            with self.layer.events.editable.blocker():
                self.layer.data = labels.copy()
                self.layer.editable = False
            self.layer.translate = translate

    def _add(self, labels: Any, translate: Any) -> None:
        options = labels_options(self._image, labels.ndim) | {"translate": translate}
        self.layer = Labels(
            labels.copy(),
            name=self._name,
            opacity=OPACITY,
            metadata={METADATA_KEY: {ROLE: PREVIEW}},
            **options,
            **class_options(self._classes),
        )
        self.layer.editable = False
        self._partial = PartialRefresh(self.layer)
        spare_tools(self.layer)
        layers = self._viewer.layers
        active = layers.selection.active
        under = self.annotation if self.annotation in layers else None
        layers.insert(len(layers) if under is None else layers.index(under), self.layer)
        # napari selects what is new, which would take the brush away.
        layers.selection.active = active
