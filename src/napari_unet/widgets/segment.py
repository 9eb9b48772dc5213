"""The panel Segment: choices above, buttons, progress and words below."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error, show_warning
from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QTextOption
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_unet.errors import UNetError
from napari_unet.widgets._form import Choices, Region, SegmentForm
from napari_unet.widgets._layers import local_path
from napari_unet.widgets._output import TEMPORARY_WORDS, OutputPlace, output_path, stem_of
from napari_unet.widgets._run import RunRequest, SegmentRun, unexpected_end
from napari_unet.widgets._runner import JobRunner
from napari_unet.widgets._view import as_spatial, current_slice, visible_part

if TYPE_CHECKING:
    from napari_unet.core.boxes import Box
    from napari_unet.core.events import JobEvent
    from napari_unet.widgets._process import EngineEnd

BAR_STEPS = 1000
"""Resolution of the progress bar."""

MESSAGE_LINES = 6
"""Height of the message's box; longer ones scroll."""


class SegmentPanel(QWidget):
    """Segments an image layer by a click, in the engine's own process.

    Parameters
    ----------
    viewer : napari.Viewer
        Whose layers are segmented.
    """

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self._run: SegmentRun | None = None
        self._warnings: list[str] = []
        self._share = 0.0
        self.runner = JobRunner(self)
        self.form = SegmentForm(viewer)
        self.segment_button = QPushButton("Segment")
        self.cancel_button = QPushButton("Cancel")
        self.progress_bar = QProgressBar()
        self.progress_label = QLabel()
        self.output_label = QLabel()
        self.message = QPlainTextEdit()
        self._lay_out()
        self._show_idle("")
        self._show_output()
        self.form.changed.connect(self._show_output)
        self.form.complained.connect(self._complain)
        self.segment_button.clicked.connect(self._on_segment)
        self.cancel_button.clicked.connect(self._on_cancel)
        self.runner.reported.connect(self._on_engine_reported)
        self.runner.ended.connect(self._on_engine_ended)
        self.open()

    def _lay_out(self) -> None:
        self.message.setReadOnly(True)
        self.message.setFrameShape(QPlainTextEdit.Shape.NoFrame)
        # Paths have no spaces to break at; a plain label would widen the dock.
        self.message.setWordWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
        self.message.setFixedHeight(self.fontMetrics().lineSpacing() * MESSAGE_LINES + 12)
        self.progress_bar.setRange(0, BAR_STEPS)
        self.progress_label.setWordWrap(True)
        self.output_label.setTextFormat(Qt.TextFormat.PlainText)
        self.segment_button.setToolTip("Segment the chosen region of the image")
        self.cancel_button.setToolTip("Stop at the next tile; what is done is kept")
        buttons = QHBoxLayout()
        buttons.addWidget(self.segment_button)
        buttons.addWidget(self.cancel_button)
        layout = QVBoxLayout(self)
        layout.addWidget(self.form)
        layout.addWidget(self.output_label)
        layout.addLayout(buttons)
        layout.addWidget(self.progress_bar)
        layout.addWidget(self.progress_label)
        layout.addWidget(self.message)
        layout.addStretch()

    @property
    def is_running(self) -> bool:
        """Whether a click on Segment is being worked on."""
        return self._run is not None

    @property
    def has_job(self) -> bool:
        """Whether the engine works on a job, one that could go on without us."""
        return self._run is not None and self._run.has_job

    def open(self) -> None:
        """Warm up an engine and follow the viewer's layers."""
        self.runner.reopen()
        self.runner.warm_up()
        layers = self._viewer.layers.events
        for emitter in (layers.inserted, layers.removed, layers.reordered, layers.renamed):
            emitter.connect(self.reset_choices)
        self.reset_choices()

    def close_engine(self, *, let_job_go_on: bool) -> None:
        """Leave no process behind but a job that may go on, and follow nothing any more."""
        layers = self._viewer.layers.events
        for emitter in (layers.inserted, layers.removed, layers.reordered, layers.renamed):
            emitter.disconnect(self.reset_choices)
        run, self._run = self._run, None
        if run is not None:
            run.abandon(let_job_go_on=let_job_go_on)
        self.runner.close(let_job_go_on=let_job_go_on)
        if run is not None:
            run.deleteLater()
            words = "The job goes on without the panel." if let_job_go_on else "Stopped."
            self._show_idle(words)

    def reset_choices(self, event: object = None) -> None:
        """Offer the viewer's image layers as they are now."""
        self.form.reset_choices(event)

    def _on_segment(self) -> None:
        if self._run is not None:
            return
        self._warnings.clear()
        self._share = 0.0
        self.message.clear()
        try:
            request = self._request(self.form.choices())
            self._begin(request)
        except UNetError as error:
            self._on_over(False, str(error))

    def _request(self, choices: Choices) -> RunRequest:
        return RunRequest(
            choices.layer,
            choices.model.name if choices.model.origin != "file" else str(choices.model.path),
            choices.model.name,
            self._region(choices),
            choices.place,
            choices.folder,
            choices.device,
        )

    def _region(self, choices: Choices) -> Box | None:
        match choices.region:
            case Region.ALL_SLICES:
                return None
            case Region.THIS_SLICE:
                return as_spatial(current_slice(self._viewer, choices.layer))
            case Region.VISIBLE_PART:
                return as_spatial(visible_part(self._viewer, choices.layer))

    def _begin(self, request: RunRequest) -> None:
        self._run = SegmentRun(self, self._viewer, self.runner, request)
        self._run.progressed.connect(self._on_progressed)
        self._run.warned.connect(self._on_warned)
        self._run.over.connect(self._on_over)
        self.segment_button.setEnabled(False)
        self.form.setEnabled(False)
        self.cancel_button.setEnabled(True)
        self._run.start()

    def _on_cancel(self) -> None:
        if self._run is not None:
            self.cancel_button.setEnabled(False)
            self._run.cancel()

    def _on_progressed(self, share: float, words: str) -> None:
        self._share = share if share >= 0 else self._share
        self._show_bar(share)
        self.progress_label.setText(words)

    def _show_bar(self, share: float) -> None:
        # A range without length moves to and fro.
        self.progress_bar.setRange(0, BAR_STEPS if share >= 0 else 0)
        if share >= 0:
            self.progress_bar.setValue(round(share * BAR_STEPS))

    def _on_warned(self, words: str) -> None:
        self._warnings.append(words)
        self.message.setPlainText("\n".join(self._warnings))
        show_warning(words)

    def _on_over(self, good: bool, words: str) -> None:
        run, self._run = self._run, None
        if run is not None:
            run.deleteLater()
        self._show_idle("\n".join([words, *self._warnings]))
        if not good:
            show_error(words)

    def _complain(self, words: str) -> None:
        self.message.setPlainText(words)
        show_error(words)

    def _show_idle(self, words: str) -> None:
        self.segment_button.setEnabled(True)
        self.form.setEnabled(True)
        self.cancel_button.setEnabled(False)
        # How far it got stays to be seen until the next click.
        self._show_bar(self._share)
        self.progress_label.setText(self._engine_words())
        self.message.setPlainText(words)
        self._show_output()

    def _engine_words(self) -> str:
        return "The engine is ready" if self.runner.is_warm else "The engine is starting"

    def _show_output(self) -> None:
        """Say where the result would go, as far as it is known before the click."""
        layer = self.form.layer
        words = ""
        if self.form.place is OutputPlace.TEMPORARY:
            words = TEMPORARY_WORDS
        elif layer is not None:
            image = local_path(layer)
            try:
                path = output_path(
                    self.form.place, image, stem_of(image, layer.name), self.form.folder
                )
            except UNetError:
                path = None
            words = "" if path is None else str(path)
        width = max(self.width() - 30, 260)
        elided = self.fontMetrics().elidedText(words, Qt.TextElideMode.ElideMiddle, width)
        self.output_label.setText(elided)
        self.output_label.setToolTip(words)
        self.output_label.setVisible(bool(words))

    def _on_engine_reported(self, _: JobEvent) -> None:
        if self._run is None:
            self.progress_label.setText(self._engine_words())

    def _on_engine_ended(self, end: EngineEnd) -> None:
        if not end.had_job:
            self.progress_label.setText("")
            self._complain(unexpected_end(end, ""))
        else:
            # The fresh engine is started after this signal.
            QTimer.singleShot(0, self._show_engine)

    def _show_engine(self) -> None:
        if self._run is None:
            self.progress_label.setText(self._engine_words())
