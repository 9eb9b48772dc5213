"""The command line and the job file that do what the form says."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtGui import QFontDatabase, QGuiApplication, QTextOption
from qtpy.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_unet.app.job_files import command_line, settings_text, write_settings_file
from napari_unet.core.job import SegmentJob
from napari_unet.errors import StorageError

if TYPE_CHECKING:
    from typing import Any

COMMAND_LINES, FILE_LINES = 4, 10
"""Heights of the two texts; longer ones scroll."""


def shown_command(job: SegmentJob) -> str:
    """Return the command that gives the same result, ready for a shell."""
    return shlex.join(command_line(job))


def chosen_settings(job: SegmentJob) -> dict[str, Any]:
    """Return the fields of a job that are not as they are by default, in the job's order."""
    defaults = SegmentJob(input="", model="", output="")
    return {
        key: value for key, value in job.model_dump().items() if value != getattr(defaults, key)
    }


class CommandDialog(QDialog):
    """Shows both texts, to be copied, and the job file to be saved.

    Parameters
    ----------
    parent : QWidget
        Owner.
    job : SegmentJob
        What a click on Segment would do.
    notes : tuple of str
        What else is to be said, in sentences.
    """

    def __init__(self, parent: QWidget, job: SegmentJob, notes: tuple[str, ...] = ()) -> None:
        super().__init__(parent)
        self._job = job
        self.setWindowTitle("The same on the command line")
        self.command_text = _text_box(shown_command(job), COMMAND_LINES)
        self.file_text = _text_box(settings_text(chosen_settings(job)), FILE_LINES)
        self.complaint = QLabel()
        self.complaint.setWordWrap(True)
        self.complaint.hide()
        layout = QVBoxLayout(self)
        for note in notes:
            label = QLabel(note)
            label.setWordWrap(True)
            layout.addWidget(label)
        layout.addLayout(_titled("Command", self.command_text))
        layout.addWidget(self.command_text)
        title = _titled("Job file, for napari-unet segment --config FILE", self.file_text)
        self.save_button = QPushButton("Save ...")
        self.save_button.setToolTip("Save the job file, as TOML or JSON")
        self.save_button.clicked.connect(self._on_save)
        title.addWidget(self.save_button)
        layout.addLayout(title)
        layout.addWidget(self.file_text)
        layout.addWidget(self.complaint)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.rejected.connect(self.reject)
        layout.addWidget(buttons)
        self.resize(640, self.sizeHint().height())

    def _on_save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(
            self, "Save the job file", "segment.toml", "Job files (*.toml *.json)"
        )
        if path:
            self.save(Path(path))

    def save(self, path: Path) -> None:
        """Write the job file; what is wrong is said in the dialog."""
        try:
            write_settings_file(path, chosen_settings(self._job))
        except StorageError as error:
            self.complaint.setText(str(error))
            self.complaint.show()


def _text_box(text: str, lines: int) -> QPlainTextEdit:
    box = QPlainTextEdit(text)
    box.setReadOnly(True)
    box.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
    box.setWordWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
    box.setMinimumHeight(box.fontMetrics().lineSpacing() * lines + 12)
    return box


def _titled(title: str, box: QPlainTextEdit) -> QHBoxLayout:
    """Return a title with a button that copies a text."""
    row = QHBoxLayout()
    row.addWidget(QLabel(title), 1)
    button = QPushButton("Copy")
    button.setToolTip("Copy to the clipboard")
    button.clicked.connect(lambda: _copy(box.toPlainText()))
    row.addWidget(button)
    return row


def _copy(text: str) -> None:
    clipboard = QGuiApplication.clipboard()
    if clipboard is not None:
        clipboard.setText(text)
