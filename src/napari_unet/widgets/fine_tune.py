"""The panel Fine-tune: choices and classes above, curves and scores below."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error, show_warning
from qtpy.QtCore import QTimer, Signal
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

from napari_unet.core import train_events
from napari_unet.errors import UNetError
from napari_unet.widgets._outcome import OutcomeBox
from napari_unet.widgets._run import unexpected_end
from napari_unet.widgets._runner import JobRunner
from napari_unet.widgets._train_form import FineTuneForm
from napari_unet.widgets._train_run import TrainRun

if TYPE_CHECKING:
    from napari_unet.widgets._curves import CurvesView
    from napari_unet.widgets._events import EngineEvent
    from napari_unet.widgets._process import EngineEnd
    from napari_unet.widgets._train_run import TrainOutcome, TrainRequest

BAR_STEPS = 1000
"""Resolution of the progress bar."""

MESSAGE_LINES = 6
"""Height of the message's box; longer ones scroll."""

NAME_OF_NEW = "my-model"
"""What names of models begin with that had none to begin with."""


class FineTunePanel(QWidget):
    """Teaches a model from painted strokes by a click, in the engine's own process.

    Parameters
    ----------
    viewer : napari.Viewer
        Whose layers are painted on.
    """

    kept = Signal(str)
    """Name of a new model in the store."""
    asked = Signal()
    """Scores and the choice Keep or Discard are shown now."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self._run: TrainRun | None = None
        self._last_run: TrainRun | None = None
        self._request: TrainRequest | None = None
        self._warnings: list[str] = []
        self.runner = JobRunner(self, "train")
        self.form = FineTuneForm(viewer)
        self.fine_tune_button = QPushButton("Fine-tune")
        self.stop_button = QPushButton("Stop")
        self.progress_bar = QProgressBar()
        self.progress_label = QLabel()
        self.curves: CurvesView | None = None
        self.outcome = OutcomeBox()
        self.message = QPlainTextEdit()
        self._lay_out()
        self._connect()
        self._show_idle("")
        self.open()

    def _lay_out(self) -> None:
        self.message.setReadOnly(True)
        self.message.setFrameShape(QPlainTextEdit.Shape.NoFrame)
        # Paths have no spaces to break at; a plain label would widen the dock.
        self.message.setWordWrapMode(QTextOption.WrapMode.WrapAtWordBoundaryOrAnywhere)
        self.message.setFixedHeight(self.fontMetrics().lineSpacing() * MESSAGE_LINES + 12)
        self.progress_bar.setRange(0, BAR_STEPS)
        self.progress_label.setWordWrap(True)
        self.fine_tune_button.setToolTip("Learn from the strokes; the model itself stays as it is")
        self.stop_button.setToolTip("Stop now; the best weights so far can be kept")
        buttons = QHBoxLayout()
        buttons.addWidget(self.fine_tune_button)
        buttons.addWidget(self.stop_button)
        self._layout = QVBoxLayout(self)
        self._layout.addWidget(self.form)
        self._layout.addLayout(buttons)
        self._layout.addWidget(self.progress_bar)
        self._layout.addWidget(self.progress_label)
        self._layout.addWidget(self.outcome)
        self._layout.addWidget(self.message)
        self._layout.addStretch()

    def _connect(self) -> None:
        self.form.complained.connect(self._complain)
        self.outcome.complained.connect(self._complain)
        self.outcome.kept.connect(self._on_kept)
        self.outcome.discarded.connect(self._on_discarded)
        self.fine_tune_button.clicked.connect(self._on_fine_tune)
        self.stop_button.clicked.connect(self._on_stop)
        self.runner.reported.connect(self._on_engine_reported)
        self.runner.ended.connect(self._on_engine_ended)

    @property
    def is_running(self) -> bool:
        """Whether a click on Fine-tune is being worked on."""
        return self._run is not None

    def open(self) -> None:
        """Warm up an engine and follow the viewer's layers."""
        self.runner.reopen()
        self.runner.warm_up()
        for emitter in self._layer_emitters():
            emitter.connect(self.reset_choices)
        self.reset_choices()

    def close_engine(self) -> None:
        """Stop a training, leave no process behind, and follow nothing any more.

        What a training had learnt by then stays in its run folder.
        """
        for emitter in self._layer_emitters():
            emitter.disconnect(self.reset_choices)
        self.form.watch_no_layer()
        if self.curves is not None:
            self.curves.close_view()
            self.curves.deleteLater()
            self.curves = None
        run, self._run = self._run, None
        if run is not None:
            run.abandon()
        self.runner.close()
        if run is not None:
            run.delete_if_empty()
            run.deleteLater()
            self._show_idle("Stopped.")

    def reset_choices(self, event: object = None) -> None:
        """Offer the viewer's layers as they are now."""
        self.form.reset_choices(event)

    def _layer_emitters(self) -> tuple[Any, ...]:
        layers = self._viewer.layers.events
        return (layers.inserted, layers.removed, layers.reordered, layers.renamed)

    def _on_fine_tune(self) -> None:
        if self._run is not None or self.outcome.is_open:
            return
        self._warnings.clear()
        self.message.clear()
        self._show_bar(0.0)
        try:
            self._begin(self.form.request())
        except UNetError as error:
            self._run = None
            self._show_idle(str(error))
            show_error(str(error))

    def _begin(self, request: TrainRequest) -> None:
        self._request = request
        self._run = TrainRun(self, self._viewer, self.runner, request)
        self._run.progressed.connect(self._on_progressed)
        self._run.reported.connect(self._on_reported)
        self._run.warned.connect(self._on_warned)
        self._run.over.connect(self._on_over)
        self._run.start()
        self.fine_tune_button.setEnabled(False)
        self.form.setEnabled(False)
        self.stop_button.setEnabled(True)

    def _on_stop(self) -> None:
        if self._run is not None:
            self.stop_button.setEnabled(False)
            self._run.stop()

    def _on_progressed(self, share: float, words: str) -> None:
        self._show_bar(share)
        self.progress_label.setText(words)

    def _show_bar(self, share: float) -> None:
        # A range without length moves to and fro.
        self.progress_bar.setRange(0, BAR_STEPS if share >= 0 else 0)
        if share >= 0:
            self.progress_bar.setValue(round(share * BAR_STEPS))

    def _on_reported(self, event: EngineEvent) -> None:
        match event:
            case train_events.TrainingStarted(validation=words, classes=classes):
                self._open_curves().restart(dict(classes))
                self.message.setPlainText(words)
            case train_events.StepDone(step, loss) if self.curves is not None:
                self.curves.add_step(step, loss)
            case train_events.Validated(step, metrics) if self.curves is not None:
                self.curves.add_scores(step, metrics)

    def _open_curves(self) -> CurvesView:
        if self.curves is None:
            # Matplotlib takes a second to import; the run has done that beside this thread.
            from napari_unet.widgets._curves import CurvesView

            self.curves = CurvesView(self._viewer)
            self._layout.insertWidget(self._layout.indexOf(self.outcome), self.curves)
        return self.curves

    def _on_warned(self, words: str) -> None:
        self._warnings.append(words)
        self.message.setPlainText("\n".join(self._warnings))
        show_warning(words)

    def _on_over(self, outcome: TrainOutcome) -> None:
        self._last_run, self._run = self._run, None
        self._show_bar(1.0 if outcome.folder is not None else 0.0)
        self._show_idle("\n".join([outcome.words, *self._warnings]))
        if outcome.folder is not None and self._request is not None:
            parent = self._request.parent
            colors = {each.name: each.color for each in self._request.classes}
            self.outcome.ask(outcome, NAME_OF_NEW if parent is None else parent.name, colors)
            self.fine_tune_button.setEnabled(False)
            # Its place is known when it is laid out.
            QTimer.singleShot(0, self.asked)
        if not outcome.good:
            show_error(outcome.words)

    def _on_kept(self, name: str) -> None:
        self._forget_run()
        self.form.reload_models()
        self._show_idle(f"Kept as {name}; choose it in Segment.")
        self.kept.emit(name)

    def _on_discarded(self) -> None:
        self._forget_run()
        self._show_idle("Discarded; your strokes are untouched.")

    def _forget_run(self) -> None:
        run, self._last_run = self._last_run, None
        if run is not None:
            run.preview.remove()
            run.deleteLater()

    def _complain(self, words: str) -> None:
        self.message.setPlainText(words)
        show_error(words)

    def _show_idle(self, words: str) -> None:
        self.fine_tune_button.setEnabled(not self.outcome.is_open)
        self.form.setEnabled(True)
        self.stop_button.setEnabled(False)
        self.progress_bar.setRange(0, BAR_STEPS)
        self.progress_label.setText(self._engine_words())
        self.message.setPlainText(words)

    def _engine_words(self) -> str:
        if self.outcome.is_open:
            return "Keep or discard the new model"
        return "The engine is ready" if self.runner.is_warm else "The engine is starting"

    def _on_engine_reported(self, _: EngineEvent) -> None:
        if self._run is None:
            self.progress_label.setText(self._engine_words())

    def _on_engine_ended(self, end: EngineEnd) -> None:
        if not end.had_job:
            self.progress_label.setText("")
            self._complain(unexpected_end(end, "", button="Fine-tune"))
        else:
            # The fresh engine is started after this signal.
            QTimer.singleShot(0, self._show_engine)

    def _show_engine(self) -> None:
        if self._run is None:
            self.progress_label.setText(self._engine_words())
