"""The choices of the panel Segment: layer, model, region, result, output, and rarer ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari.layers import Image
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QSizePolicy,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_unet.app.models import ModelEntry, find_model, list_models
from napari_unet.errors import ConfigError, UNetError
from napari_unet.widgets._fold import Fold
from napari_unet.widgets._layers import local_path
from napari_unet.widgets._output import OutputPlace
from napari_unet.widgets._preferences import Preferences, preferred
from napari_unet.widgets._request import Choices, Region, ResultKind

__all__ = ["NO_IMAGE", "Choices", "Region", "SegmentForm", "make_combo"]

BROWSE = "Browse ..."
NO_IMAGE = "open an image first"
DEVICES = ("auto", "cpu", "cuda", "mps")
TOOLTIP_ROLE = Qt.ItemDataRole.ToolTipRole
SHORT_COMBO = 12
"""Characters that a combo box asks room for; names of layers and models may be long."""

AVERAGES: dict[str, str] = {
    "off": "none",
    "4 mirrored versions": "mirror",
    "4 turned versions": "rotate",
    "all 8 versions": "d4",
}
"""What the user reads -> the job's ``average``."""

RESCALES: dict[str, str] = {"as the model needs": "auto", "off": "off"}
"""What the user reads -> the job's ``rescale``."""

MAX_TILE, TILE_STEP = 4096, 64
"""Pixels; larger tiles than that only cost memory."""


class SegmentForm(QWidget):
    """Combo boxes for everything that a job needs; what is rarely needed is folded away.

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
        self._placed_for: Image | None = None
        self._preferences = Preferences()
        self.more = Fold("More", "Device, rescaling, averaging, tile size, and checks")
        """Folded away; the panel adds to it."""
        self._make_main_choices()
        self._make_rare_choices()
        self._lay_out()
        self.reload_models()
        self.reset_choices()
        self._connect()
        self.begin_with(preferred())

    def _make_main_choices(self) -> None:
        self.layer_combo = make_combo((), "The image to segment")
        self.layer_combo.setPlaceholderText(NO_IMAGE)
        self.model_combo = make_combo((), "The model to segment with")
        self.region_combo = make_combo(
            [region.value for region in Region],
            "Which part of the image to segment. What you look at is computed first",
        )
        self.result_combo = make_combo(
            [kind.value for kind in ResultKind],
            "classes: which class each pixel belongs to.\n"
            "objects: also the single objects, numbered, with a table of their sizes and places.\n"
            "probabilities: also how sure the model is of each class, 0 to 1, as image layers",
        )
        self.output_combo = make_combo(
            [place.value for place in OutputPlace], "Where the result is written, as OME-Zarr"
        )

    def _make_rare_choices(self) -> None:
        self.device_combo = make_combo(
            DEVICES, "Where the network runs; auto = the fastest there is"
        )
        self.rescale_combo = make_combo(
            list(RESCALES),
            "A model knows structures at the size they had in training. As the model needs: where "
            "the voxel sizes of image and model are both known and differ by more than a quarter, "
            "the image is shown to the model rescaled. The result is always on the image's own "
            "voxels",
        )
        self.average_combo = make_combo(
            list(AVERAGES),
            "Average the answers to mirrored or turned versions of the image: a little better, "
            "and 4 or 8 times slower",
        )
        self.tile_spin = QSpinBox()
        self.tile_spin.setRange(0, MAX_TILE)
        self.tile_spin.setSingleStep(TILE_STEP)
        self.tile_spin.setSpecialValueText("automatic")
        self.tile_spin.setSuffix(" pixels")
        self.tile_spin.setToolTip(
            "Edge of the part that is computed at once. Smaller ones take less memory and more "
            "time; the result is the same. 0 = automatic"
        )
        self.tile_spin.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        # A wheel over the panel is meant for scrolling.
        self.tile_spin.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.anew_box = QCheckBox("Start anew")
        self.anew_box.setToolTip(
            "An earlier run of the same choices has left something in the output. Unticked: go on "
            "from there. Ticked: delete it and compute everything again"
        )
        self.anew_box.hide()

    def _lay_out(self) -> None:
        main = _form_layout(
            ("Image", self.layer_combo),
            ("Model", self.model_combo),
            ("Region", self.region_combo),
            ("Result", self.result_combo),
            ("Output", self.output_combo),
        )
        rare = QWidget()
        rare.setLayout(
            _form_layout(
                ("Device", self.device_combo),
                ("Rescale", self.rescale_combo),
                ("Average", self.average_combo),
                ("Tile", self.tile_spin),
            )
        )
        self.more.addWidget(rare)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(main)
        layout.addWidget(self.anew_box)
        layout.addWidget(self.more)

    def _connect(self) -> None:
        self.layer_combo.currentIndexChanged.connect(self._on_layer_changed)
        self.model_combo.activated.connect(self._on_model_activated)
        self.output_combo.activated.connect(self._on_output_activated)
        for combo in (
            self.model_combo,
            self.region_combo,
            self.result_combo,
            self.device_combo,
            self.rescale_combo,
            self.average_combo,
        ):
            combo.currentIndexChanged.connect(self._on_changed)
        self.tile_spin.valueChanged.connect(self._on_changed)
        self.anew_box.toggled.connect(self._on_changed)

    def _on_changed(self, _: object = None) -> None:
        self.changed.emit()

    @property
    def in_order(self) -> tuple[QWidget, ...]:
        """All choices, in the order in which Tab goes through them."""
        return (
            self.layer_combo,
            self.model_combo,
            self.region_combo,
            self.result_combo,
            self.output_combo,
            self.anew_box,
            self.more.toggleButton(),
            self.device_combo,
            self.rescale_combo,
            self.average_combo,
            self.tile_spin,
        )

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
        # What is not shown cannot be meant.
        anew = self.anew_box.isChecked() and not self.anew_box.isHidden()
        return Choices(
            layer, self._models[index], region, self.place, self._folder, self._options(), anew
        )

    def _options(self) -> dict[str, Any]:
        """Return the rarer choices as fields of a job."""
        options = dict(list(ResultKind)[self.result_combo.currentIndex()].options)
        options["device"] = self.device_combo.currentText()
        options["rescale"] = list(RESCALES.values())[self.rescale_combo.currentIndex()]
        options["average"] = AVERAGES[self.average_combo.currentText()]
        tile_size = self.tile_spin.value() or self._preferred_tile()
        if tile_size:
            options["tile_size"] = tile_size
        return options

    def _preferred_tile(self) -> int | None:
        model = self._models[self.model_combo.currentIndex()]
        return self._preferences.tile_size(model.header)

    def begin_with(self, preferences: Preferences) -> None:
        """Choose what napari's preferences say; what they do not speak of stays."""
        self._preferences = preferences
        self.device_combo.setCurrentText(preferences.device)
        memory = preferences.tile_memory
        self.tile_spin.setSpecialValueText(f"within {memory:g} GB" if memory else "automatic")
        if preferences.folder is not None:
            self.choose_folder(preferences.folder)

    def choose_rescale(self, rescale: str) -> None:
        """Choose "auto" or "off"."""
        self.rescale_combo.setCurrentIndex(list(RESCALES.values()).index(rescale))

    def offer_anew(self, offered: bool) -> None:
        """Show whether there is something that could be computed anew."""
        self.anew_box.setVisible(offered)
        if not offered:
            self.anew_box.setChecked(False)

    def name_factor(self, words: str) -> None:
        """Say by how much the model needs the image rescaled; empty = not, or unknown."""
        first = next(iter(RESCALES))
        self.rescale_combo.setItemText(0, f"{first} ({words})" if words else first)

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
        """Offer the place next to the image only where there is one; a choice for it stays."""
        layer, before = self.layer, self._placed_for
        self._placed_for = layer
        has_place = layer is not None and local_path(layer) is not None
        places = list(OutputPlace)
        index = places.index(OutputPlace.NEXT_TO_IMAGE)
        model: Any = self.output_combo.model()
        model.item(index).setEnabled(has_place)
        is_gone = self.place is OutputPlace.NEXT_TO_IMAGE and not has_place
        if self.place is not OutputPlace.FOLDER and (layer is not before or is_gone):
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
                self._placed_for = None
                self._on_layer_changed()
        self.changed.emit()


def _form_layout(*rows: tuple[str, QWidget]) -> QFormLayout:
    """Return rows of a title and a choice, as wide as the panel."""
    layout = QFormLayout()
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
    for title, choice in rows:
        choice.setAccessibleName(title)
        layout.addRow(title, choice)
    return layout


def make_combo(texts: tuple[str, ...] | list[str], tooltip: str) -> QComboBox:
    """Return a combo box that long names do not widen."""
    combo = QComboBox()
    combo.addItems(texts)
    combo.setToolTip(tooltip)
    combo.setMinimumContentsLength(SHORT_COMBO)
    combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return combo
