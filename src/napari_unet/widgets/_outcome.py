"""What a fine-tune has brought, and the choice to keep it or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QApplication,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_unet.app.model_store import add_model, check_new_name
from napari_unet.errors import ConfigError, ModelFileError, UNetError
from napari_unet.widgets._output import clean_name
from napari_unet.widgets._verdict import score_table, verdict_words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qtpy.QtGui import QKeyEvent

    from napari_unet.widgets._train_files import RunFolder
    from napari_unet.widgets._train_run import TrainOutcome

MAX_NAMES_TRIED = 1000


class OutcomeBox(QWidget):
    """Scores before and after, and the buttons Keep and Revert; hidden until there are any.

    While it has the focus, Enter keeps the model. Other keys go on to napari's window.
    """

    kept = Signal(str)
    """Name of the new model, which is in the store now."""
    reverted = Signal()
    complained = Signal(str)
    """Why a model could not be kept, in words; it can be tried again."""

    def __init__(self) -> None:
        super().__init__()
        self._folder: RunFolder | None = None
        self.verdict = QLabel()
        self.scores = QLabel()
        self.name = QLineEdit()
        self.keep_button = QPushButton("Keep")
        self.revert_button = QPushButton("Revert")
        self._lay_out()
        self.keep_button.clicked.connect(self._on_keep)
        self.name.returnPressed.connect(self._on_keep)
        self.revert_button.clicked.connect(self._on_revert)
        self.hide()

    def _lay_out(self) -> None:
        self.verdict.setWordWrap(True)
        self.verdict.setTextFormat(Qt.TextFormat.PlainText)
        self.scores.setTextFormat(Qt.TextFormat.RichText)
        self.scores.setToolTip(
            "F1 of each class on the strokes held out, and the 95 % interval of its difference, "
            "each class by itself"
        )
        self.name.setAccessibleName("Name of the new model")
        self.name.setToolTip("What the new model is to be called")
        self.keep_button.setToolTip("Add the new model to your own (Enter); Segment offers it then")
        self.revert_button.setToolTip(
            "Delete the new model and go back to the one before; your strokes stay"
        )
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        row = QHBoxLayout()
        row.addWidget(QLabel("as"))
        row.addWidget(self.name, stretch=1)
        row.insertWidget(0, self.keep_button)
        row.addWidget(self.revert_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.verdict)
        layout.addWidget(self.scores)
        layout.addLayout(row)
        self.setTabOrder(self.keep_button, self.name)
        self.setTabOrder(self.name, self.revert_button)

    @property
    def is_open(self) -> bool:
        """Whether a model waits for the choice."""
        return self._folder is not None

    def ask(self, outcome: TrainOutcome, base: str, colors: Mapping[str, str]) -> None:
        """Show what a training has brought, and offer a free name that begins with `base`."""
        self._folder = outcome.folder
        self.verdict.setText(verdict_words(outcome.judged, outcome.started))
        self.scores.setText(score_table(outcome.judged, colors))
        self.scores.setVisible(bool(self.scores.text()))
        self.name.setText(free_name(base))
        self.show()
        if not isinstance(QApplication.focusWidget(), QLineEdit | QAbstractSpinBox):
            # Not a button: napari's keys, such as the space bar, would press it.
            self.setFocus()

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Keep the model by Enter."""
        enters = (Qt.Key.Key_Return, Qt.Key.Key_Enter)
        mine = self.focusWidget() in (None, self)
        if mine and event is not None and event.key() in enters:
            self._on_keep()
        else:
            super().keyPressEvent(event)

    def revert(self) -> None:
        """Delete the new model, as by a click."""
        self._on_revert()

    def _on_keep(self) -> None:
        if self._folder is None:
            return
        name = self.name.text().strip()
        try:
            data = self._folder.model.read_bytes()
            entry = add_model(data, name)
        except OSError as error:
            remedy = "click Fine-tune again" if not isinstance(error, UNetError) else ""
            self.complained.emit(f"{error}; {remedy}" if remedy else str(error))
            return
        except UNetError as error:
            self.complained.emit(str(error))
            return
        # Its log, curves and checkpoints stay; a copy of the image may be as large as the image.
        self._folder.delete_image()
        self._close()
        self.kept.emit(entry.name)

    def _on_revert(self) -> None:
        if self._folder is not None:
            self._folder.delete()
        self._close()
        self.reverted.emit()

    def _close(self) -> None:
        self._folder = None
        self.hide()


def free_name(base: str) -> str:
    """Return a model name that is not taken: BASE-2, BASE-3, ..."""
    stem = clean_name(base)[:56]
    for number in range(2, MAX_NAMES_TRIED):
        try:
            check_new_name(f"{stem}-{number}")
        except (ConfigError, ModelFileError):
            continue
        return f"{stem}-{number}"
    return ""
