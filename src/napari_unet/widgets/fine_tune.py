"""The panel Fine-tune: choices and classes above; draft, curves, scores and models below."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error, show_warning
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_unet.core import train_events
from napari_unet.errors import UNetError
from napari_unet.widgets._drafting import DraftingBox
from napari_unet.widgets._elsewhere import Elsewhere
from napari_unet.widgets._image_copy import ImageCopies
from napari_unet.widgets._message_box import MessageBox
from napari_unet.widgets._outcome import OutcomeBox
from napari_unet.widgets._run import unexpected_end
from napari_unet.widgets._runner import JobRunner
from napari_unet.widgets._session import SessionBox
from napari_unet.widgets._share_bar import ShareBar
from napari_unet.widgets._soon import soon
from napari_unet.widgets._train_form import FineTuneForm
from napari_unet.widgets._train_run import TrainRun
from napari_unet.widgets._window_offer import WindowOffer

if TYPE_CHECKING:
    from napari_unet.widgets._curves import CurvesView
    from napari_unet.widgets._events import EngineEvent
    from napari_unet.widgets._process import EngineEnd
    from napari_unet.widgets._train_run import TrainOutcome, TrainRequest

LAYOUT_MS = 100
"""How long it takes at most to lay out the panel anew."""

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
    returned = Signal(str)
    """Name of an earlier model that the user has gone back to."""
    segment_wanted = Signal(str)
    """Name of a model that the image is to be segmented with, what is looked at first."""
    asked = Signal()
    """Scores and the choice Keep or Revert are shown now."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self._run: TrainRun | None = None
        self._last_run: TrainRun | None = None
        self._request: TrainRequest | None = None
        self._is_live = False
        self._warnings: list[str] = []
        self.copies = ImageCopies()
        self.runner = JobRunner(self, "train")
        self.form = FineTuneForm(viewer)
        self.fine_tune_button = QPushButton("Fine-tune")
        self.stop_button = QPushButton("Stop")
        self.cancel_button = QPushButton("Cancel")
        self.progress_bar = ShareBar()
        self.progress_label = QLabel()
        self.window_offer = WindowOffer(viewer)
        self.drafting = DraftingBox(viewer, self.form, self.copies)
        self.elsewhere = Elsewhere(viewer, self.form, self.copies, self.drafting.flush)
        self.curves: CurvesView | None = None
        self.outcome = OutcomeBox()
        self.session = SessionBox()
        self.history, self.segment_button = self.session.history, self.session.segment_button
        self.message = MessageBox()
        self._explain()
        self._lay_out()
        self._connect()
        self._show_idle("")
        self.open()

    def _explain(self) -> None:
        self.progress_label.setWordWrap(True)
        self.fine_tune_button.setToolTip("Learn from the strokes; the model itself stays as it is")
        self.stop_button.setToolTip("Stop now; the best weights so far can be kept")
        self.cancel_button.setToolTip("Stop now and keep nothing; your strokes stay")

    def _lay_out(self) -> None:
        buttons = QHBoxLayout()
        for button in (self.fine_tune_button, self.stop_button, self.cancel_button):
            buttons.addWidget(button)
        self._layout = QVBoxLayout(self)
        self._layout.addWidget(self.form)
        self._layout.addWidget(self.window_offer)
        self._layout.addLayout(buttons)
        for widget in (
            self.progress_bar,
            self.progress_label,
            self.drafting,
            self.elsewhere.places,
            self.outcome,
            self.elsewhere.comparison,
            self.session,
            self.message,
        ):
            self._layout.addWidget(widget)
        self._layout.addStretch()

    def _connect(self) -> None:
        self.form.complained.connect(self._complain)
        self.form.models_changed.connect(self._show_history)
        self.outcome.complained.connect(self._complain)
        self.outcome.kept.connect(self._on_kept)
        self.outcome.reverted.connect(self._on_reverted)
        self.session.returned.connect(self._on_returned)
        self.session.segment_wanted.connect(self.segment_wanted)
        self.elsewhere.places.complained.connect(show_error)
        self.form.changed.connect(self._on_chosen)
        self.drafting.painted.connect(self._on_painted)
        self.drafting.live.due.connect(self._on_live_due)
        self.form.options.live_switched.connect(self.drafting.live.set_on)
        self.fine_tune_button.clicked.connect(self._on_clicked)
        self.stop_button.clicked.connect(self._on_stop)
        self.cancel_button.clicked.connect(self._on_cancel)
        self.runner.reported.connect(self._on_engine_reported)
        self.runner.ended.connect(self._on_engine_ended)

    @property
    def is_running(self) -> bool:
        """Whether a click on Fine-tune is being worked on."""
        return self._run is not None

    def open(self) -> None:
        """Warm up the engines and follow the viewer's layers."""
        self.runner.reopen()
        self.runner.warm_up()
        for emitter in self._layer_emitters():
            emitter.connect(self.reset_choices)
        self.reset_choices()
        self.drafting.open()
        self.window_offer.open()
        self._on_chosen()

    def close_engine(self) -> None:
        """Stop a training, leave no process behind, and follow nothing any more.

        What a training had learnt by then stays in its run folder.
        """
        for emitter in self._layer_emitters():
            emitter.disconnect(self.reset_choices)
        self.form.watch_no_layer()
        self.drafting.close_engine()
        self.window_offer.close_offer()
        self.elsewhere.close()
        if self.curves is not None:
            self.curves.close_view()
            self.curves.deleteLater()
            self.curves = None
        run, self._run = self._run, None
        if run is not None:
            run.abandon()
        self.runner.close()
        self.copies.delete()
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

    def _on_clicked(self) -> None:
        self._is_live = False
        self._on_fine_tune()

    def _on_fine_tune(self) -> None:
        if self._run is not None or self.outcome.is_open:
            return
        try:
            self._begin(self.form.request())
        except UNetError as error:
            self._run = None
            self._show_idle(str(error))
            if not self._is_live:
                show_error(str(error))

    def _on_live_due(self) -> None:
        if self._run is None:
            self._is_live = True
            self._on_fine_tune()

    def _on_painted(self) -> None:
        """Give up what a Live fine-tune has learnt without the new stroke."""
        if not self._is_live or not self.drafting.live.is_on:
            return
        if self._run is not None:
            self._run.cancel()
        elif self.outcome.is_open:
            self.outcome.revert()

    def _begin(self, request: TrainRequest) -> None:
        self._warnings.clear()
        self.message.clear()
        self.progress_bar.show_share(0.0)
        self.session.withdraw()
        # The strokes of this moment are what is learnt from.
        self.drafting.flush()
        self._request = request
        self._run = TrainRun(self, self._viewer, self.runner, request, self.copies)
        self._run.progressed.connect(self._on_progressed)
        self._run.reported.connect(self._on_reported)
        self._run.warned.connect(self._on_warned)
        self._run.over.connect(self._on_over)
        self._run.start()
        self.drafting.make_room(self._run.preview)
        if not self._is_live:
            # Live comes and goes with the strokes that are painted from place to place.
            self.elsewhere.make_room()
        self.fine_tune_button.setEnabled(False)
        # Strokes go on meanwhile, so classes can be chosen; what is learnt is decided.
        self.form.setEnabled(self._is_live)
        self.stop_button.setEnabled(True)
        self.cancel_button.setEnabled(True)

    def _on_stop(self) -> None:
        if self._run is not None:
            self.stop_button.setEnabled(False)
            self._run.stop()

    def _on_cancel(self) -> None:
        if self._run is not None:
            self._run.cancel()

    def _on_progressed(self, share: float, words: str) -> None:
        self.progress_bar.show_share(share)
        self.progress_label.setText(words)

    def _on_reported(self, event: EngineEvent) -> None:
        match event:
            case train_events.TrainingStarted():
                self._begin_curves(event)
                self.message.setPlainText(event.validation)
            case train_events.StepDone(step, loss) if self.curves is not None:
                self.curves.add_step(step, loss)
            case train_events.Validated(step, metrics) if self.curves is not None:
                self.curves.add_scores(step, metrics)
            case train_events.PreviewReady():
                self.drafting.show_key()
            case train_events.ComparisonReady() if self._request is not None:
                self.elsewhere.compare(event, self._request)

    def _begin_curves(self, event: train_events.TrainingStarted) -> None:
        names = [name for name, _ in event.classes]
        known = [] if event.parent is None else [n for n in names if n not in event.new_classes]
        self._open_curves().restart(dict(event.classes), known)

    def _open_curves(self) -> CurvesView:
        if self.curves is None:
            # Imported on demand: the panel opens sooner without it.
            from napari_unet.widgets._curves import CurvesView

            self.curves = CurvesView(self._viewer)
            self._layout.insertWidget(self._layout.indexOf(self.outcome), self.curves)
            self.setTabOrder(self.elsewhere.places, self.curves)
        return self.curves

    def _on_warned(self, words: str) -> None:
        self._warnings.append(words)
        self.message.setPlainText("\n".join(self._warnings))
        show_warning(words)

    def _on_over(self, outcome: TrainOutcome) -> None:
        self._last_run, self._run = self._run, None
        self.progress_bar.show_share(1.0 if outcome.folder is not None else 0.0)
        self._show_idle("\n".join([outcome.words, *self._warnings]))
        if outcome.folder is not None and self._request is not None:
            parent = self._request.parent
            colors = {each.name: each.color for each in self._request.classes}
            self.outcome.ask(outcome, NAME_OF_NEW if parent is None else parent.name, colors)
            self.fine_tune_button.setEnabled(False)
            self.progress_label.setText(self._engine_words())
            # Its place is known when it is laid out.
            soon(self, self.asked.emit, LAYOUT_MS)
        else:
            self._forget_run()
        if not outcome.good and not self._is_live:
            show_error(outcome.words)

    def _on_kept(self, name: str) -> None:
        request = self._request
        self._forget_run()
        self.form.choose_model(name)
        if request is not None:
            parent = "nothing" if request.parent is None else request.parent.name
            if request.parent is not None:
                self.session.remember(parent)
            if self.form.model is not None and self.form.model.name == name:
                self.form.note_learned(request.annotation, self.form.model, parent)
        self.session.remember(name)
        self._show_history()
        self._show_idle(f"Kept as {name}; Segment has chosen it.")
        self.kept.emit(name)

    def _on_reverted(self) -> None:
        self._forget_run()
        self._show_idle("Reverted; your strokes are untouched.")

    def _on_returned(self, name: str) -> None:
        self.form.choose_model(name)
        self.message.setPlainText(f"Back to {name}; Segment has chosen it.")
        self.returned.emit(name)

    def _on_chosen(self) -> None:
        self.window_offer.watch(self.form.annotation)

    def _show_history(self) -> None:
        self.session.show_models(self.form.models, self.form.model_combo.currentText())

    def _forget_run(self) -> None:
        run, self._last_run = self._last_run, None
        if run is not None:
            run.preview.remove()
            run.deleteLater()
        self.elsewhere.take_back()
        self.drafting.take_back()

    def _complain(self, words: str) -> None:
        self.message.setPlainText(words)
        show_error(words)

    def _show_idle(self, words: str) -> None:
        self.fine_tune_button.setEnabled(not self.outcome.is_open)
        self.form.setEnabled(True)
        self.stop_button.setEnabled(False)
        self.cancel_button.setEnabled(False)
        self.progress_bar.rest()
        self.progress_label.setText(self._engine_words())
        self.message.setPlainText(words)

    def _engine_words(self) -> str:
        if self.outcome.is_open:
            return "Keep the new model, or revert to the one before"
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
            soon(self, self._show_engine)

    def _show_engine(self) -> None:
        if self._run is None:
            self.progress_label.setText(self._engine_words())
