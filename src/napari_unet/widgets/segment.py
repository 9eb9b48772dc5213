"""The panel Segment: choices above, buttons, progress and words below."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error, show_warning
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QApplication,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_unet.errors import UNetError
from napari_unet.widgets._estimate import EstimateBox, factor_words
from napari_unet.widgets._form import SegmentForm
from napari_unet.widgets._idle import prepare_session, tidy
from napari_unet.widgets._layers import local_path
from napari_unet.widgets._message_box import MessageBox
from napari_unet.widgets._output import TEMPORARY_WORDS, OutputPlace, output_path, stem_of
from napari_unet.widgets._planning import Planner
from napari_unet.widgets._request import Region, RunRequest
from napari_unet.widgets._run import SegmentRun, unexpected_end
from napari_unet.widgets._runner import JobRunner
from napari_unet.widgets._seams import SeamBox
from napari_unet.widgets._share_bar import ShareBar
from napari_unet.widgets._shown_command import CommandDialog
from napari_unet.widgets._soon import soon
from napari_unet.widgets._unfinished import UnfinishedBox

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari.layers import Image
    from qtpy.QtGui import QResizeEvent

    from napari_unet.core.job import SegmentJob
    from napari_unet.widgets._events import EngineEvent
    from napari_unet.widgets._process import EngineEnd

REST_MS = 500
"""After this time what a ready engine has brought about in the window is over."""

PAUSE_WORDS, GO_ON_WORDS = "Pause", "Go on"


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
        self._planner = Planner(viewer)
        self.runner = JobRunner(self)
        self.unfinished = UnfinishedBox(viewer)
        self.form = SegmentForm(viewer)
        self.estimate = EstimateBox(self._planned_job, self._may_estimate)
        self.seams = SeamBox(self._seam_job)
        self.command_button = QPushButton("Show command")
        self.segment_button = QPushButton("Segment")
        self.pause_button = QPushButton(PAUSE_WORDS)
        self.stop_button = QPushButton("Stop")
        self.progress_bar = ShareBar()
        self.progress_label = QLabel()
        self.output_label = QLabel()
        self.message = MessageBox()
        self._set_up()
        self._lay_out()
        self._show_idle("")
        self._show_output()
        self._connect()
        self.open()

    def _set_up(self) -> None:
        self.progress_label.setWordWrap(True)
        self.output_label.setTextFormat(Qt.TextFormat.PlainText)
        # It is cut to the width that there is, and asks for none.
        self.output_label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.segment_button.setToolTip(
            "Segment the chosen region of the image, or go on where it was stopped"
        )
        self.pause_button.setToolTip(
            "Wait at the next tile, so that the processor is free; go on from there"
        )
        self.stop_button.setToolTip("Stop at the next tile; what is done is kept")
        self.command_button.setToolTip(
            "Show the command line and the job file that give the same result without napari"
        )

    def _lay_out(self) -> None:
        buttons = QHBoxLayout()
        for button in (self.segment_button, self.pause_button, self.stop_button):
            buttons.addWidget(button)
        self.form.more.addWidget(self.seams)
        self.form.more.addWidget(self.command_button)
        layout = QVBoxLayout(self)
        layout.addWidget(self.unfinished)
        layout.addWidget(self.form)
        layout.addWidget(self.output_label)
        layout.addWidget(self.estimate)
        layout.addLayout(buttons)
        layout.addWidget(self.progress_bar)
        layout.addWidget(self.progress_label)
        layout.addWidget(self.message)
        layout.addStretch()
        order = [
            *self.form.in_order,
            self.seams.button,
            self.command_button,
            self.estimate.offer_button,
            self.segment_button,
            self.pause_button,
            self.stop_button,
            self.message,
        ]
        for first, second in pairwise(order):
            self.setTabOrder(first, second)

    def _connect(self) -> None:
        self.unfinished.accept_drops(self)
        self.unfinished.go_on_wanted.connect(self.go_on)
        self.unfinished.complained.connect(self._complain)
        self.form.changed.connect(self._on_changed)
        self.form.complained.connect(self._complain)
        self.estimate.planned.connect(self._on_planned)
        self.estimate.rescale_wanted.connect(self.form.choose_rescale)
        self.command_button.clicked.connect(self._on_show_command)
        self.segment_button.clicked.connect(self._on_segment)
        self.pause_button.clicked.connect(self._on_pause)
        self.stop_button.clicked.connect(self._on_stop)
        self.runner.reported.connect(self._on_engine_reported)
        self.runner.ended.connect(self._on_engine_ended)

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
        self.unfinished.look_for(self.form.layer, self.form.folder)

    def close_engine(self, *, let_job_go_on: bool) -> None:
        """Leave no process behind but a job that may go on, and follow nothing any more."""
        layers = self._viewer.layers.events
        for emitter in (layers.inserted, layers.removed, layers.reordered, layers.renamed):
            emitter.disconnect(self.reset_choices)
        self.unfinished.close_watch()
        self._stop_side_work()
        run, self._run = self._run, None
        if run is not None:
            run.abandon(let_job_go_on=let_job_go_on)
        self.runner.close(let_job_go_on=let_job_go_on)
        if run is not None:
            run.deleteLater()
            words = "The job goes on without the panel." if let_job_go_on else "Stopped."
            self._show_idle(words)

    def _stop_side_work(self) -> None:
        """Leave the processor to the job."""
        self.estimate.stop()
        self.seams.stop()
        self._planner.forget()

    def reset_choices(self, event: object = None) -> None:
        """Offer the viewer's image layers as they are now."""
        self.form.reset_choices(event)

    def go_on(self, layer: Image, job: SegmentJob) -> None:
        """Give the engine the job of an earlier run, which goes on where that ended.

        Nothing happens while another one is running.

        Parameters
        ----------
        layer : Image
            The layer that shows the job's image; the result is laid on it.
        job : SegmentJob
            The job as it stands in the record.
        """
        job = job.model_copy(update={"overwrite": False})
        request = RunRequest(layer, job.model, "", None, OutputPlace.FOLDER, None, job=job)
        self._begin_with(lambda: request)

    def _on_segment(self) -> None:
        self._begin_with(lambda: self._planner.request(self.form.choices()))

    def _begin_with(self, make_request: Any) -> None:
        if self._run is not None:
            return
        self._warnings.clear()
        self._share = 0.0
        self.message.clear()
        self._stop_side_work()
        try:
            self._begin(make_request())
        except UNetError as error:
            self._on_over(False, str(error))

    def _begin(self, request: RunRequest) -> None:
        self._run = SegmentRun(self, self._viewer, self.runner, request)
        self._run.progressed.connect(self._on_progressed)
        self._run.warned.connect(self._on_warned)
        self._run.paused.connect(self._on_paused)
        self._run.over.connect(self._on_over)
        self._show_buttons(running=True)
        self._run.start()

    def _show_buttons(self, *, running: bool) -> None:
        self.segment_button.setEnabled(not running)
        self.form.setEnabled(not running)
        self.estimate.offer_button.setEnabled(not running)
        self.unfinished.set_busy(running)
        self.pause_button.setEnabled(running)
        self.stop_button.setEnabled(running)
        self.pause_button.setText(PAUSE_WORDS)

    def _on_stop(self) -> None:
        if self._run is not None:
            self.pause_button.setEnabled(False)
            self.stop_button.setEnabled(False)
            self._run.cancel()

    def _on_pause(self) -> None:
        if self._run is None:
            return
        if self.pause_button.text() == GO_ON_WORDS:
            self._run.resume()
        else:
            self._run.pause()

    def _on_paused(self, paused: bool) -> None:
        self.pause_button.setText(GO_ON_WORDS if paused else PAUSE_WORDS)

    def _on_progressed(self, share: float, words: str) -> None:
        self._share = share if share >= 0 else self._share
        self.progress_bar.show_share(share)
        self.progress_label.setText(words)

    def _on_warned(self, words: str) -> None:
        self._warnings.append(words)
        self.message.setPlainText("\n".join(self._warnings))
        show_warning(words)

    def _on_over(self, good: bool, words: str) -> None:
        run, self._run = self._run, None
        if run is not None:
            run.deleteLater()
        self._show_idle("\n".join([words, *self._warnings]))
        # What is done is not to be computed again.
        self.estimate.ask()
        if not good:
            show_error(words)

    def _complain(self, words: str) -> None:
        self.message.setPlainText(words)
        show_error(words)

    def _show_idle(self, words: str) -> None:
        self._show_buttons(running=False)
        # How far it got stays to be seen until the next click.
        self.progress_bar.show_share(self._share)
        self.progress_label.setText(self._engine_words())
        self.message.setPlainText(words)
        self._show_output()

    def _engine_words(self) -> str:
        return "The engine is ready" if self.runner.is_warm else "The engine is starting"

    def _on_changed(self) -> None:
        self._show_output()
        self.unfinished.look_for(self.form.layer, self.form.folder)
        if self._run is None:
            self.estimate.ask()

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
        self.output_label.setToolTip(words)
        self.output_label.setVisible(bool(words))
        self._cut_output()

    def _cut_output(self) -> None:
        words, width = self.output_label.toolTip(), self.form.width()
        elided = self.fontMetrics().elidedText(words, Qt.TextElideMode.ElideMiddle, width)
        self.output_label.setText(elided)

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Show as much of the output's path as there is room for."""
        super().resizeEvent(event)
        self._cut_output()

    def _planned_job(self) -> tuple[SegmentJob, str] | None:
        """Return what the estimate is to be of, with the hash of the model; None = no layer."""
        if self.form.layer is None:
            return None
        choices = self.form.choices()
        return self._planner.planned(choices), choices.model.sha256

    def _may_estimate(self) -> bool:
        return self._run is None and self.runner.is_warm and not self.seams.is_running

    def _on_planned(self, plan: Mapping[str, Any] | None) -> None:
        begun = None if plan is None else plan["begun"]
        self.form.offer_anew(begun is not None and not begun["differs"])
        factors = None if plan is None else plan["suggested_rescale"]
        self.form.name_factor("" if factors is None else factor_words(factors))

    def _seam_job(self) -> SegmentJob:
        """Return the job whose middle is to be looked at: that of the view, if it is known."""
        choices = self.form.choices()
        self.estimate.stop()
        try:
            return self._planner.checked(replace(choices, region=Region.VISIBLE_PART))
        except UNetError:
            return self._planner.checked(choices)

    def _on_show_command(self) -> None:
        try:
            job, notes = self._planner.shown(self.form.choices())
        except UNetError as error:
            self._complain(str(error))
            return
        dialog = CommandDialog(self, job, notes)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.show()

    def _on_engine_reported(self, _: EngineEvent) -> None:
        if self._run is None:
            self.progress_label.setText(self._engine_words())
            self.estimate.ask_if_old()
            # An engine without a job says that it is ready, and no more.
            soon(self, self._use_rest, REST_MS)

    def _use_rest(self) -> None:
        """Do what is better done now than in the course of a run."""
        prepare_session()
        if self._run is None and not QApplication.mouseButtons():
            tidy()

    def _on_engine_ended(self, end: EngineEnd) -> None:
        if not end.had_job:
            self.progress_label.setText("")
            self._complain(unexpected_end(end, ""))
        else:
            # The fresh engine is started after this signal.
            soon(self, self._show_engine)

    def _show_engine(self) -> None:
        if self._run is None:
            self.progress_label.setText(self._engine_words())
