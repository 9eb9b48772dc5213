"""The choices of the panel Fine-tune: model, image, annotation, classes, and how to learn."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from napari.layers import Image, Labels
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFormLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_unet.app.models import list_models
from napari_unet.errors import ConfigError, UNetError
from napari_unet.widgets._annotation_layer import (
    PaintClass,
    can_be_painted,
    find_strokes,
    new_annotation,
    new_to,
    open_strokes,
    remove_label,
    store_classes,
    stored_classes,
    strokes_path,
    take_brush,
)
from napari_unet.widgets._class_table import FRESH_CLASSES, ClassTable
from napari_unet.widgets._form import NO_IMAGE, TOOLTIP_ROLE, make_combo
from napari_unet.widgets._train_options import TrainOptionsBox
from napari_unet.widgets._train_run import TrainRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qtpy.QtWidgets import QComboBox

    from napari_unet.app.annotations import StoredStrokes
    from napari_unet.app.models import ModelEntry

T = TypeVar("T")

FROM_NOTHING = "New model"
"""Instead of a model to begin with."""


class FineTuneForm(QWidget):
    """Everything that a training needs to know.

    Parameters
    ----------
    viewer : napari.Viewer
        Its image and labels layers are offered.
    """

    complained = Signal(str)
    """A choice that cannot be used, in words."""
    changed = Signal()
    """What a draft is made of was chosen anew: model, image, annotation, classes or device."""
    models_changed = Signal()
    """Other models are offered, or another one is chosen."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self._models: list[ModelEntry] = []
        self._images: list[Image] = []
        self._annotations: list[Labels] = []
        self._watched: Labels | None = None
        self._learned: WeakKeyDictionary[Labels, dict[str, str]] = WeakKeyDictionary()
        self.model_combo = make_combo((), "The model to begin with; it is never changed")
        self.image_combo = make_combo((), "The image that you paint on")
        self.image_combo.setPlaceholderText(NO_IMAGE)
        self.annotation_combo = make_combo((), "The layer with your strokes")
        self.new_button = QPushButton("New annotation layer")
        self.open_button = QPushButton()
        self._offered: StoredStrokes | None = None
        self.classes = ClassTable()
        self.hint = QLabel()
        self.options = TrainOptionsBox()
        self._lay_out()
        self.reload_models()
        self.reset_choices()
        self._connect()

    def _lay_out(self) -> None:
        self.new_button.setToolTip("Add an empty layer over the image, to paint strokes on")
        self.hint.setWordWrap(True)
        layout = QFormLayout()
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        for title, combo in (
            ("Model", self.model_combo),
            ("Image", self.image_combo),
            ("Strokes", self.annotation_combo),
        ):
            combo.setAccessibleName(title)
            layout.addRow(title, combo)
        layout.addRow(self.new_button)
        layout.addRow(self.open_button)
        layout.addRow(self.classes)
        layout.addRow(self.hint)
        around = QVBoxLayout(self)
        around.setContentsMargins(0, 0, 0, 0)
        around.addLayout(layout)
        around.addWidget(self.options)

    def _connect(self) -> None:
        self.model_combo.currentIndexChanged.connect(self._on_model_changed)
        self.annotation_combo.currentIndexChanged.connect(self._on_annotation_changed)
        self.new_button.clicked.connect(self._on_new)
        self.open_button.clicked.connect(self._on_open)
        self.classes.changed.connect(self._on_classes_changed)
        self.classes.removed.connect(self._on_class_removed)
        self.classes.chosen.connect(self._on_class_chosen)
        self.classes.complained.connect(self.complained)
        self.image_combo.currentIndexChanged.connect(self._on_image_changed)
        self.options.device_changed.connect(self.changed)

    @property
    def model(self) -> ModelEntry | None:
        """The chosen model; None = start from nothing."""
        return _chosen(self.model_combo, self._models)

    @property
    def image(self) -> Image | None:
        """The chosen image layer."""
        return _chosen(self.image_combo, self._images)

    @property
    def annotation(self) -> Labels | None:
        """The chosen layer with strokes."""
        return _chosen(self.annotation_combo, self._annotations)

    def request(self) -> TrainRequest:
        """Return what is chosen.

        Raises
        ------
        ConfigError
            If there is no image or no annotation.
        """
        image, annotation = self.image, self.annotation
        if image is None:
            raise ConfigError("there is no image layer; open an image, or drop one on napari")
        if annotation is None:
            raise ConfigError(
                "there are no strokes to learn from; press 'New annotation layer' and paint"
            )
        return TrainRequest(
            image,
            annotation,
            self.model,
            self.classes.classes,
            self.options.options(),
        )

    def reset_choices(self, _: object = None) -> None:
        """Offer the viewer's layers as they are now; the chosen ones stay."""
        images = [layer for layer in self._viewer.layers if isinstance(layer, Image)]
        before = self.image
        self._images = _offer(self.image_combo, images, before)
        paintable = [layer for layer in self._viewer.layers if can_be_painted(layer)]
        self._annotations = _offer(self.annotation_combo, paintable, self.annotation)
        if self.annotation is not self._watched:
            self._on_annotation_changed()
            self._offer_strokes()
        if self.image is not before:
            self._on_image_changed()

    def reload_models(self) -> None:
        """Offer the models that there are now; the chosen one stays."""
        name = self.model_combo.currentText()
        self._models = list_models()
        self.model_combo.blockSignals(True)
        self.model_combo.clear()
        for index, entry in enumerate(self._models):
            self.model_combo.addItem(entry.name)
            words = f"{entry.header.description}\n{entry.path}".strip()
            self.model_combo.setItemData(index, words, TOOLTIP_ROLE)
        self.model_combo.addItem(FROM_NOTHING)
        self.model_combo.setCurrentIndex(max(self.model_combo.findText(name), 0))
        self.model_combo.blockSignals(False)
        self._on_model_changed()

    def choose_model(self, name: str) -> None:
        """Offer the models that there are now, and choose one of them by name."""
        self.reload_models()
        self.model_combo.setCurrentText(name)

    @property
    def models(self) -> tuple[ModelEntry, ...]:
        """The models that are offered."""
        return tuple(self._models)

    def note_learned(self, annotation: Labels, model: ModelEntry, parent: str) -> None:
        """Take note that a model has learnt from an annotation, and whose child it is."""
        self._learned.setdefault(annotation, {})[model.sha256] = parent
        self._show_hint()

    def watch_no_layer(self) -> None:
        """Follow no layer any more."""
        if self._watched is not None:
            self._watched.events.selected_label.disconnect(self._on_label_selected)
            self._watched = None

    def _model_classes(self) -> tuple[PaintClass, ...]:
        if self.model is None:
            return FRESH_CLASSES
        return tuple(PaintClass(c.name, c.color, c.name) for c in self.model.header.classes)

    def _on_model_changed(self, _: int = 0) -> None:
        # The classes of a layer are its own: strokes have been painted with them.
        if self.annotation is None:
            self.classes.show_classes(self._model_classes())
        self._show_hint()
        self.models_changed.emit()
        self.changed.emit()

    def _on_image_changed(self, _: int = 0) -> None:
        self._offer_strokes()
        self.changed.emit()

    def _on_annotation_changed(self, _: int = 0) -> None:
        self.watch_no_layer()
        layer = self._watched = self.annotation
        if layer is None:
            self.classes.show_classes(self._model_classes())
        else:
            layer.events.selected_label.connect(self._on_label_selected)
            found = stored_classes(layer)
            self.classes.show_classes(self._model_classes() if found is None else found)
            self.classes.choose(int(layer.selected_label))
        self._show_hint()
        self.changed.emit()

    def _on_new(self) -> None:
        image = self.image
        try:
            if image is None:
                raise ConfigError("there is no image layer; open an image, or drop one on napari")
            layer = new_annotation(self._viewer, image, self._classes_of_new_layer())
        except UNetError as error:
            self.complained.emit(str(error))
            return
        self._paint_on(layer)

    def _offer_strokes(self) -> None:
        """Offer the newest strokes of the image that are stored, but in no layer."""
        found: list[StoredStrokes] = []
        if self.image is not None:
            shown = {strokes_path(layer) for layer in self._viewer.layers}
            # An image that cannot be painted on is complained about when it is to be used.
            with suppress(UNetError):
                found = [each for each in find_strokes(self.image) if each.path not in shown]
        self._offered = found[0] if found else None
        self.open_button.setVisible(bool(found))
        if found:
            when = f"{found[0].changed.astimezone():%d %b %Y, %H:%M}"
            names = ", ".join(each.name for each in found[0].classes)
            self.open_button.setText(f"Open strokes of {when}")
            self.open_button.setToolTip(f"Go on with what was painted on this image: {names}")

    def _on_open(self) -> None:
        if self.image is None or self._offered is None:
            return
        try:
            layer = open_strokes(self._viewer, self.image, self._offered)
        except UNetError as error:
            self.complained.emit(str(error))
            return
        self._paint_on(layer)

    def _paint_on(self, layer: Labels) -> None:
        self.reset_choices()
        self.annotation_combo.setCurrentIndex(self._annotations.index(layer))
        # It is among the layers since before its strokes had a place.
        self.changed.emit()

    def _classes_of_new_layer(self) -> tuple[PaintClass, ...]:
        """Return the classes edited before there was a layer, else those of the model."""
        return self.classes.classes if self.annotation is None else self._model_classes()

    def _on_classes_changed(self) -> None:
        if self.annotation is not None:
            store_classes(self.annotation, self.classes.classes)
        self._show_hint()
        self.changed.emit()

    def _on_class_removed(self, label: int) -> None:
        if self.annotation is not None:
            remove_label(self.annotation, label)
            # The row that is chosen now is what the brush paints.
            self.annotation.selected_label = self.classes.label
        self._on_classes_changed()

    def _on_class_chosen(self, label: int) -> None:
        if self.annotation is not None:
            if stored_classes(self.annotation) is None:
                store_classes(self.annotation, self.classes.classes)
            take_brush(self._viewer, self.annotation, label)

    def _on_label_selected(self, _: object = None) -> None:
        if self.annotation is not None:
            self.classes.choose(int(self.annotation.selected_label))

    def _show_hint(self) -> None:
        words = class_hint(self.model, self.classes.classes)
        if self.annotation is not None and self.model is not None:
            parent = self._learned.get(self.annotation, {}).get(self.model.sha256)
            if parent is not None:
                words += f" {self.model.name} has learnt from these strokes already; for a fair "
                words += f"comparison, fine-tune from {parent}."
        self.hint.setText(words.strip())
        self.hint.setVisible(bool(self.hint.text()))


def class_hint(model: ModelEntry | None, classes: Sequence[PaintClass]) -> str:
    """Return what becomes of the model's classes, in words; empty = they stay as they are."""
    if model is None:
        return "A new model learns every class from your strokes; paint some of each."
    known = [each.name for each in model.header.classes]
    new = new_to(classes, known)
    kept = {each.name for each in classes} | {each.origin for each in classes}
    dropped = [name for name in known if name not in kept]
    words = []
    if new:
        words.append(f"New to {model.name}: {', '.join(new)}; paint some of it.")
    if dropped:
        words.append(f"{model.name} forgets: {', '.join(dropped)}.")
    return " ".join(words)


def _chosen(combo: QComboBox, items: Sequence[T]) -> T | None:
    index = combo.currentIndex()
    return items[index] if 0 <= index < len(items) else None


def _offer(combo: QComboBox, layers: list[T], chosen: T | None) -> list[T]:
    """Fill a combo box with layers, keep the chosen one or take the last, and return them."""
    combo.blockSignals(True)
    combo.clear()
    combo.addItems([str(layer) for layer in layers])
    if layers:
        at = layers.index(chosen) if chosen is not None and chosen in layers else -1
        combo.setCurrentIndex(at if at >= 0 else len(layers) - 1)
    combo.blockSignals(False)
    return layers
