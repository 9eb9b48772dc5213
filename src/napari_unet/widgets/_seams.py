"""A button that compares tiles with one pass, on a part of the image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QPushButton, QVBoxLayout, QWidget

from napari_unet.app.job_files import command_line
from napari_unet.errors import UNetError
from napari_unet.widgets._one_shot import OneShot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari_unet.core.job import SegmentJob
    from napari_unet.widgets._one_shot import OneShotEnd

BUTTON_WORDS = "Check seams"
STOP_WORDS = "Stop checking"

FIRST_ARGUMENTS = 2
"""Words before the options of a command line: the program and its command."""

NOT_ASKED = frozenset({"tile_size", "output", "output_kind", "probabilities", "overwrite"})
"""Fields of a job that the check takes no notice of: it makes small tiles, and writes nothing."""


class SeamBox(QWidget):
    """Runs ``napari-unet seams`` in a process of its own, and says the result in a sentence.

    Parameters
    ----------
    make_job : callable
        Returns the job whose region is to be checked in its middle. May raise `UNetError`, which is
        shown.
    """

    def __init__(self, make_job: Callable[[], SegmentJob]) -> None:
        super().__init__()
        self._make_job = make_job
        self._shot: OneShot | None = None
        self._answer = ""
        self.button = QPushButton(BUTTON_WORDS)
        self.button.setToolTip(
            "Segments a part in the middle of the view twice, in small tiles and as a whole, and "
            "compares: there should be no difference. Writes nothing"
        )
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.words.setTextFormat(Qt.TextFormat.PlainText)
        self.words.hide()
        self.button.clicked.connect(self._on_clicked)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.button)
        layout.addWidget(self.words)

    @property
    def is_running(self) -> bool:
        """Whether a check is under way."""
        return self._shot is not None

    def stop(self) -> None:
        """End a check that is under way."""
        if self._shot is not None:
            self._shot.stop()
            self._end("")

    def _on_clicked(self) -> None:
        if self._shot is not None:
            self.stop()
            return
        try:
            job = self._make_job()
        except UNetError as error:
            self._say(str(error))
            return
        defaults = {name: type(job).model_fields[name].default for name in NOT_ASKED}
        asked = job.model_copy(update=defaults | {"output": "", "name": None})
        self._answer = ""
        words = command_line(asked)[FIRST_ARGUMENTS:]
        self._shot = OneShot(self, ("seams", *words, "--json"))
        self._shot.said.connect(self._on_said)
        self._shot.ended.connect(self._on_ended)
        self.button.setText(STOP_WORDS)
        self._say("Checking: a part of the image is segmented twice ...")

    def _on_said(self, report: Mapping[str, Any]) -> None:
        self._answer = seam_words(report)

    def _on_ended(self, end: OneShotEnd) -> None:
        self._end(self._answer or f"The check failed: {end.reason}")

    def _end(self, words: str) -> None:
        self._shot = None
        self.button.setText(BUTTON_WORDS)
        self._say(words)

    def _say(self, words: str) -> None:
        self.words.setText(words)
        self.words.setVisible(bool(words))


def seam_words(report: Mapping[str, Any]) -> str:
    """Return in a sentence or two what ``napari-unet seams --json`` prints."""
    largest = f"{report['largest_difference']:.1g}"
    others = f"{report['differing_pixels']:,} pixels get" if report["differing_pixels"] else ""
    where = (
        f"{report['tiles']} tiles against one pass, {report['pixels']:,} pixels: the largest "
        f"difference of a probability is {largest}, {others or 'no pixel gets'} another class."
    )
    if report["holds"]:
        return f"No seams. {where}"
    z, y, x = report["place"]
    return (
        f"There are seams! {where} The difference is largest at z {z}, y {y}, x {x}. Do not trust "
        "results of this model that are larger than a tile."
    )
