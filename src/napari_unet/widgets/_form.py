"""The choices of the panel Segment: layer, model, region, output, device."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from napari.layers import Image
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QFormLayout, QSizePolicy, QWidget

from napari_unet.app.models import ModelEntry, find_model, list_models
from napari_unet.errors import ConfigError, UNetError
from napari_unet.widgets._layers import local_path
from napari_unet.widgets._output import OutputPlace

BROWSE = "Browse ..."
DEVICES = ("auto", "cpu", "cuda", "mps")
TOOLTIP_ROLE = Qt.ItemDataRole.ToolTipRole
SHORT_COMBO = 12
"""Characters that a combo box asks room for; names of layers and models may be long."""


class Region(Enum):
    """Which part of the layer; the value is what the user reads."""

    THIS_SLICE = "this slice"
    ALL_SLICES = "all slices"
    VISIBLE_PART = "the visible part"


@dataclass(frozen=True, slots=True)
class Choices:
    """What the form says when Segment is clicked."""

    layer: Image
    model: ModelEntry
    region: Region
    place: OutputPlace
    folder: Path | None
    device: str


class SegmentForm(QWidget):
    """Combo boxes for everything that a job needs.

    Parameters
    ----------
    viewer : napari.Viewer
        Its image layers are offered.
    """

    complained = Signal(str)
    """A choice that cannot be used, in words."""
    changed = Signal()

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self._layers: list[Image] = []
        self._models: list[ModelEntry] = []
        self._folder: Path | None = None
        self._model_before = 0
        self.layer_combo = make_combo((), "The image to segment")
        self.model_combo = make_combo((), "The model to segment with")
        self.region_combo = make_combo(
            [region.value for region in Region], "Which part of the image to segment"
        )
        self.output_combo = make_combo(
            [place.value for place in OutputPlace], "Where the labels are written, as OME-Zarr"
        )
        self.device_combo = make_combo(
            DEVICES, "Where the network runs; auto = the fastest there is"
        )
        self._lay_out()
        self.reload_models()
        self.reset_choices()
        self.layer_combo.currentIndexChanged.connect(self._on_layer_changed)
        self.model_combo.activated.connect(self._on_model_activated)
        self.output_combo.activated.connect(self._on_output_activated)

    def _lay_out(self) -> None:
        layout = QFormLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        for title, combo in (
            ("Image", self.layer_combo),
            ("Model", self.model_combo),
            ("Region", self.region_combo),
            ("Output", self.output_combo),
            ("Device", self.device_combo),
        ):
            combo.setAccessibleName(title)
            layout.addRow(title, combo)

    @property
    def layer(self) -> Image | None:
        """The chosen image layer."""
        index = self.layer_combo.currentIndex()
        return self._layers[index] if 0 <= index < len(self._layers) else None

    @property
    def place(self) -> OutputPlace:
        """Where to write."""
        return list(OutputPlace)[self.output_combo.currentIndex()]

    @property
    def folder(self) -> Path | None:
        """The chosen output folder."""
        return self._folder

    def choices(self) -> Choices:
        """Return what is chosen.

        Raises
        ------
        ConfigError
            If there is no layer or no model.
        """
        layer = self.layer
        if layer is None:
            raise ConfigError("there is no image layer; open an image, or drop one on napari")
        index = self.model_combo.currentIndex()
        if not 0 <= index < len(self._models):
            raise ConfigError(f"no model is chosen; choose one, or a file by {BROWSE!r}")
        region = list(Region)[self.region_combo.currentIndex()]
        device = self.device_combo.currentText()
        return Choices(layer, self._models[index], region, self.place, self._folder, device)

    def reset_choices(self, _: object = None) -> None:
        """Offer the viewer's image layers as they are now; the chosen one stays."""
        chosen = self.layer
        self._layers = [layer for layer in self._viewer.layers if isinstance(layer, Image)]
        if chosen not in self._layers:
            active = self._viewer.layers.selection.active
            chosen = active if active in self._layers else (self._layers or [None])[-1]
        self.layer_combo.blockSignals(True)
        self.layer_combo.clear()
        self.layer_combo.addItems([layer.name for layer in self._layers])
        if chosen is not None:
            self.layer_combo.setCurrentIndex(self._layers.index(chosen))
        self.layer_combo.blockSignals(False)
        self._on_layer_changed()

    def reload_models(self) -> None:
        """Offer the models that there are now, and a file."""
        self._models = list_models()
        self.model_combo.clear()
        for entry in self._models:
            self._add_model(entry)
        self.model_combo.addItem(BROWSE)
        self._model_before = 0

    def choose_model(self, name: str) -> None:
        """Offer the models that there are now, and choose one of them by name."""
        files = [entry.path for entry in self._models if entry.origin == "file"]
        self.reload_models()
        for path in files:
            self.add_model_file(path)
        self.model_combo.setCurrentText(name)
        self._model_before = self.model_combo.currentIndex()

    def add_model_file(self, path: Path) -> None:
        """Offer a model file, and choose it; a bad one is complained about."""
        try:
            entry = find_model(str(path))
        except UNetError as error:
            self.model_combo.setCurrentIndex(self._model_before)
            self.complained.emit(str(error))
            return
        self._models.append(entry)
        self._add_model(entry, at=len(self._models) - 1)
        self.model_combo.setCurrentIndex(len(self._models) - 1)
        self._model_before = len(self._models) - 1

    def choose_folder(self, folder: Path) -> None:
        """Write into a folder."""
        self._folder = folder
        self.output_combo.setCurrentIndex(list(OutputPlace).index(OutputPlace.FOLDER))
        self.changed.emit()

    def _add_model(self, entry: ModelEntry, at: int | None = None) -> None:
        index = self.model_combo.count() if at is None else at
        self.model_combo.insertItem(index, entry.name)
        words = f"{entry.header.description}\n{entry.path}".strip()
        self.model_combo.setItemData(index, words, TOOLTIP_ROLE)

    def _on_layer_changed(self, _: int = 0) -> None:
        """Offer the place next to the image only where there is one."""
        has_place = self.layer is not None and local_path(self.layer) is not None
        places = list(OutputPlace)
        index = places.index(OutputPlace.NEXT_TO_IMAGE)
        model: Any = self.output_combo.model()
        model.item(index).setEnabled(has_place)
        if self.place is not OutputPlace.FOLDER:
            default = OutputPlace.NEXT_TO_IMAGE if has_place else OutputPlace.TEMPORARY
            self.output_combo.setCurrentIndex(places.index(default))
        self.changed.emit()

    def _on_model_activated(self, index: int) -> None:
        if index < len(self._models):
            self._model_before = index
            return
        path, _ = QFileDialog.getOpenFileName(
            self, "Choose a model", "", "U-Net models (*.safetensors)"
        )
        if path:
            self.add_model_file(Path(path))
        else:
            self.model_combo.setCurrentIndex(self._model_before)

    def _on_output_activated(self, _: int) -> None:
        if self.place is OutputPlace.FOLDER:
            folder = QFileDialog.getExistingDirectory(self, "Choose the output folder")
            if folder:
                self.choose_folder(Path(folder))
            elif self._folder is None:
                self.output_combo.setCurrentIndex(list(OutputPlace).index(OutputPlace.TEMPORARY))
                self._on_layer_changed()
        self.changed.emit()


def make_combo(texts: tuple[str, ...] | list[str], tooltip: str) -> QComboBox:
    """Return a combo box that long names do not widen."""
    combo = QComboBox()
    combo.addItems(texts)
    combo.setToolTip(tooltip)
    combo.setMinimumContentsLength(SHORT_COMBO)
    combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return combo
