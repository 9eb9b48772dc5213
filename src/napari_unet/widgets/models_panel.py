"""The panel Models: which there are, what is known of each, and how they come and go."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_error
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QTextOption
from qtpy.QtWidgets import (
    QFileDialog,
    QGridLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QTextEdit,
    QVBoxLayout,
    QWidget,
)

from napari_unet.app.model_store import check_new_name, children_of, remove_model, rename_model
from napari_unet.app.models import DamagedModel, ModelEntry, ModelInventory, take_inventory
from napari_unet.errors import UNetError
from napari_unet.widgets._ask_box import Answer, AskBox, Question
from napari_unet.widgets._background import BackgroundJob
from napari_unet.widgets._model_card import card_html, damaged_html
from napari_unet.widgets._model_files import ModelFiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

VISIBLE_ROWS = 6
"""More scroll."""

CARD_LINES = 14
"""Height of the card; longer ones scroll."""

NOTHING = ModelInventory((), (), (), ())


class ModelsPanel(QWidget):
    """Shows all models, and changes the user's own through the store; bundled ones stay."""

    added = Signal(str)
    """Name of a model that was imported."""
    renamed = Signal(str, str)
    """Old and new name."""
    removed = Signal(str)
    wanted = Signal(str)
    """Name of the model that the user wants to segment with."""

    def __init__(self) -> None:
        super().__init__()
        self._inventory = NOTHING
        self._items: list[ModelEntry | DamagedModel] = []
        self._found: list[ModelInventory] = []
        self._reading: BackgroundJob | None = None
        self._to_choose = ""
        self.list = QListWidget()
        self.card = QTextEdit()
        self.segment_button = QPushButton("Segment with it")
        self.import_button = QPushButton("Import ...")
        self.export_button = QPushButton("Export ...")
        self.rename_button = QPushButton("Rename ...")
        self.delete_button = QPushButton("Delete ...")
        self.question = AskBox()
        self.message = QLabel()
        self.files = ModelFiles(self)
        self._lay_out()
        self._connect()
        self._show_buttons()
        self.reload()

    def _lay_out(self) -> None:
        line = self.fontMetrics().lineSpacing()
        self.list.setAccessibleName("Models")
        self.list.setFixedHeight(line * VISIBLE_ROWS + 12)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.card.setReadOnly(True)
        self.card.setAccessibleName("Card of the model")
        # Hashes and paths have no spaces to break at; unbroken they would widen the dock.
        self.card.setWordWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
        self.card.setMinimumHeight(line * CARD_LINES)
        self.message.setWordWrap(True)
        self.message.setTextFormat(Qt.TextFormat.PlainText)
        self.message.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.segment_button.setToolTip("Choose this model on the page Segment")
        self.import_button.setToolTip(
            "Add a model from a file: .safetensors, a bioimage.io package (.zip) of ours, or a "
            ".pth or .pt state dict. Nothing in the file is run"
        )
        self.export_button.setToolTip(
            "Write this model as a file: .safetensors, a bioimage.io package, or ONNX"
        )
        self.rename_button.setToolTip("Give one of your own models another name")
        self.delete_button.setToolTip("Delete one of your own models")
        buttons = QGridLayout()
        buttons.addWidget(self.segment_button, 0, 0, 1, 2)
        buttons.addWidget(self.import_button, 1, 0)
        buttons.addWidget(self.export_button, 1, 1)
        buttons.addWidget(self.rename_button, 2, 0)
        buttons.addWidget(self.delete_button, 2, 1)
        layout = QVBoxLayout(self)
        layout.addWidget(self.list)
        layout.addWidget(self.card, stretch=1)
        layout.addLayout(buttons)
        layout.addWidget(self.question)
        layout.addWidget(self.message)

    def _connect(self) -> None:
        self.list.currentRowChanged.connect(self._on_row_changed)
        self.segment_button.clicked.connect(self._on_segment)
        self.import_button.clicked.connect(self._on_import)
        self.export_button.clicked.connect(self._on_export)
        self.rename_button.clicked.connect(self._on_rename)
        self.delete_button.clicked.connect(self._on_delete)
        self.files.imported.connect(self._on_imported)
        self.files.said.connect(self._say)
        self.files.complained.connect(self._complain)
        self.files.changed.connect(self._show_buttons)

    @property
    def chosen(self) -> ModelEntry | DamagedModel | None:
        """The model whose card is shown."""
        row = self.list.currentRow()
        return self._items[row] if 0 <= row < len(self._items) else None

    @property
    def is_reading(self) -> bool:
        """Whether the folders of models are being read."""
        return self._reading is not None

    def reload(self, choose: str = "") -> None:
        """Read the folders of models anew, beside the GUI's thread: their files are hashed.

        Parameters
        ----------
        choose : str
            Name of the model to show then; empty = the one that is shown now.
        """
        self._stop_reading()
        chosen = self.chosen
        self._to_choose = choose or ("" if chosen is None else chosen.name)
        self._found = []
        self._reading = BackgroundJob(self, _inventory_into(self._found))
        self._reading.succeeded.connect(self._on_read)
        self._reading.failed.connect(self._on_not_read)

    def close_panel(self) -> None:
        """Leave no process and no thread behind."""
        self._stop_reading()
        self.question.close_question()
        self.files.stop()

    def _stop_reading(self) -> None:
        job, self._reading = self._reading, None
        if job is not None:
            job.cancel()
            job.deleteLater()

    def _on_read(self) -> None:
        self._stop_reading()
        self._inventory = inventory = self._found[0]
        self._items = [*inventory.models, *inventory.hidden, *inventory.damaged]
        self.list.blockSignals(True)
        self.list.clear()
        for item in self._items:
            row = QListWidgetItem(f"{item.name}  ({self._kind(item)})")
            row.setToolTip(str(item.path))
            self.list.addItem(row)
        names = [item.name for item in self._items]
        at = names.index(self._to_choose) if self._to_choose in names else 0
        self.list.setCurrentRow(at if names else -1)
        self.list.blockSignals(False)
        self._on_row_changed()
        if inventory.missing_folders:
            folders = ", ".join(repr(str(folder)) for folder in inventory.missing_folders)
            self._say(f"These shared folders cannot be listed: {folders}")

    def _on_not_read(self, error: BaseException) -> None:
        self._stop_reading()
        self._complain(f"The models could not be read: {error}")

    def _kind(self, item: ModelEntry | DamagedModel) -> str:
        if isinstance(item, DamagedModel):
            return f"{item.origin}, damaged"
        return f"{item.origin}, hidden" if item in self._inventory.hidden else item.origin

    def _on_row_changed(self, _: int = 0) -> None:
        item = self.chosen
        self.question.close_question()
        if item is None:
            self.card.clear()
        elif isinstance(item, DamagedModel):
            self.card.setHtml(damaged_html(item))
        else:
            self.card.setHtml(card_html(item, self._inventory))
        self._show_buttons()

    def _show_buttons(self) -> None:
        item, free = self.chosen, not self.files.is_busy
        sound, own = isinstance(item, ModelEntry), item is not None and item.origin == "own"
        self.segment_button.setEnabled(sound and item not in self._inventory.hidden)
        self.import_button.setEnabled(free)
        self.export_button.setEnabled(free and sound)
        self.rename_button.setEnabled(own and sound)
        self.delete_button.setEnabled(own)

    def _on_segment(self) -> None:
        if self.chosen is not None:
            self.wanted.emit(self.chosen.name)

    def _on_import(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self, "Import a model", "", "Models (*.safetensors *.zip *.pth *.pt)"
        )
        if path:
            self.ask_import(Path(path))

    def ask_import(self, path: Path) -> None:
        """Ask how a model file is to be called, and import it then."""
        names = [item.name for item in self._inventory.models]
        try:
            question = self.files.import_question(path, names)
        except UNetError as error:
            self._complain(str(error))
            return
        self.question.ask(question, lambda answer: self.files.import_file(path, answer))

    def _on_imported(self, name: str) -> None:
        self.reload(choose=name)
        self.added.emit(name)

    def _on_export(self) -> None:
        item = self.chosen
        if isinstance(item, ModelEntry):
            question = self.files.export_question(item)
            self.question.ask(question, lambda answer: self.files.export(item, answer))

    def _on_rename(self) -> None:
        item = self.chosen
        if item is not None:
            words = f"Rename {item.name}. Its content, and so its SHA-256, stays the same."
            question = Question(words, "Rename", name=item.name)
            self.question.ask(question, lambda answer: self._rename(item.name, answer))

    def _rename(self, old: str, answer: Answer) -> None:
        if answer.name == old:
            return

        def change() -> None:
            check_new_name(answer.name, instead_of=old)
            rename_model(old, answer.name)

        if self._change(change):
            self._say(f"{old} is now {answer.name}.")
            self.reload(choose=answer.name)
            self.renamed.emit(old, answer.name)

    def _on_delete(self) -> None:
        item = self.chosen
        if item is None:
            return
        children = children_of(item.path, self._inventory)
        warning = (
            f" It is the parent of {', '.join(children)}, which can then no longer be compared "
            "with it."
            if children
            else ""
        )
        words = f"Delete {item.name}? Its file is gone for good.{warning}"
        self.question.ask(Question(words, "Delete"), lambda _: self._delete(item.name))

    def _delete(self, name: str) -> None:
        if self._change(lambda: remove_model(name, even_if_parent=True)):
            self._say(f"{name} is deleted.")
            self.reload()
            self.removed.emit(name)

    def _change(self, change: Callable[[], object]) -> bool:
        """Return whether a change of the store worked; what did not is said."""
        try:
            change()
        except UNetError as error:
            self._complain(str(error))
            return False
        return True

    def _say(self, words: str) -> None:
        self.message.setText(words)

    def _complain(self, words: str) -> None:
        self.message.setText(words)
        show_error(words)


def _inventory_into(found: list[ModelInventory]) -> Iterator[float]:
    found.append(take_inventory())
    yield 1.0
