"""Models from files and to files, by processes: their conversions need PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QFileDialog

from napari_unet.app.model_store import check_new_name, free_name
from napari_unet.app.models import SUFFIX
from napari_unet.errors import ConfigError, UNetError
from napari_unet.model.file import read_model_header
from napari_unet.widgets._ask_box import Question
from napari_unet.widgets._one_shot import OneShot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.app.models import ModelEntry
    from napari_unet.widgets._ask_box import Answer
    from napari_unet.widgets._one_shot import OneShotEnd

STATE_DICT_SUFFIXES = (".pth", ".pt")
PACKAGE_SUFFIX = ".zip"

EXPORTS = (
    ("safetensors", SUFFIX, "for napari-unet (.safetensors)"),
    ("bioimageio", PACKAGE_SUFFIX, "bioimage.io package (.zip)"),
    ("onnx", ".onnx", "ONNX (.onnx)"),
)
"""Formats, what their files end in, and what the user reads."""


class ModelFiles(QObject):
    """Runs ``napari-unet models import`` and ``export``, one at a time.

    Parameters
    ----------
    parent : QWidget
        Owner, and where file dialogs belong.
    """

    imported = Signal(str)
    """Name of the new model in the store."""
    said = Signal(str)
    complained = Signal(str)
    """Why it did not work, in words."""
    changed = Signal()
    """A process was started or has ended."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._process: OneShot | None = None
        self._name = ""
        self._done = ""

    @property
    def is_busy(self) -> bool:
        """Whether a file is being read or written."""
        return self._process is not None

    def import_question(self, path: Path, models: Sequence[str]) -> Question:
        """Return what has to be asked before a file is imported.

        Parameters
        ----------
        path : Path
            The file.
        models : sequence of str
            Names of models whose network a state dict may have.

        Raises
        ------
        ConfigError
            If it is no kind of file that can be imported.
        ModelFileError
            If it is no model file of ours.
        """
        suffix = path.suffix.lower()
        words = f"Import {path.name}."
        if suffix == SUFFIX:
            base = read_model_header(path, hashed=False).header.name
            return Question(words, "Import", name=free_name(base))
        if suffix == PACKAGE_SUFFIX:
            return Question(words, "Import", name=free_name(path.stem))
        if suffix not in STATE_DICT_SUFFIXES:
            raise ConfigError(
                f"{path.name!r} is no model that can be imported; choose a file that ends in "
                f"{', '.join((SUFFIX, PACKAGE_SUFFIX, *STATE_DICT_SUFFIXES))}"
            )
        return Question(
            f"{words} It does not say which network it is of: choose a model of the same one.",
            "Import",
            name=free_name(path.stem),
            choices=tuple((name, name) for name in models),
            choice_title="Network of",
            text_title="Classes",
            text_hint="as that model's; or a,b",
        )

    def import_file(self, path: Path, answer: Answer) -> None:
        """Copy a model file among the user's own models; `imported` or `complained` follows."""
        try:
            check_new_name(answer.name)
        except UNetError as error:
            self.complained.emit(str(error))
            return
        arguments = ["models", "import", str(path), "--name", answer.name]
        if path.suffix.lower() in STATE_DICT_SUFFIXES:
            arguments += ["--like", answer.choice]
            arguments += ["--classes", answer.text] if answer.text else []
        self._name, self._done = answer.name, f"Imported as {answer.name}."
        self._start(arguments, f"Importing {path.name} ...")

    def export_question(self, entry: ModelEntry) -> Question:
        """Return what has to be asked before a model is exported."""
        return Question(
            f"Export {entry.name}.",
            "Choose the file ...",
            choices=tuple((kind, words) for kind, _, words in EXPORTS),
            choice_title="Format",
            text_title="Authors",
            text_hint="for bioimage.io; may be empty",
        )

    def export(self, entry: ModelEntry, answer: Answer) -> None:
        """Ask for a file and write the model into it; `said` or `complained` follows."""
        suffix = next(suffix for kind, suffix, _ in EXPORTS if kind == answer.choice)
        # That nothing is overwritten is said by the command; Qt would offer to.
        text, _ = QFileDialog.getSaveFileName(
            None,
            "Export the model",
            f"{entry.name}{suffix}",
            f"*{suffix}",
            options=QFileDialog.Option.DontConfirmOverwrite,
        )
        if not text:
            return
        path = Path(text)
        if path.suffix.lower() != suffix:
            path = path.with_name(path.name + suffix)
        arguments = ["models", "export", str(entry.path), str(path), "--format", answer.choice]
        if answer.choice == "bioimageio":
            for author in filter(None, (part.strip() for part in answer.text.split(","))):
                arguments += ["--author", author]
        self._name, self._done = "", f"Exported to {path}."
        self._start(arguments, f"Exporting {entry.name} ...")

    def stop(self) -> None:
        """End what is under way; a file is whole or not there."""
        process, self._process = self._process, None
        if process is not None:
            process.stop()

    def _start(self, arguments: list[str], words: str) -> None:
        self._process = OneShot(self, tuple(arguments))
        self._process.ended.connect(self._on_ended)
        self.said.emit(words)
        self.changed.emit()

    def _on_ended(self, end: OneShotEnd) -> None:
        self._process = None
        self.changed.emit()
        if end.code != 0:
            self.complained.emit(end.reason)
            return
        self.said.emit(self._done)
        if self._name:
            self.imported.emit(self._name)
