"""One click on Fine-tune, from the strokes to a new model that waits to be kept."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_unet.core import events, train_events
from napari_unet.core.train_job import TrainJob
from napari_unet.errors import AnnotationError, UNetError
from napari_unet.widgets._annotation_layer import PaintClass, check_fits, renamed
from napari_unet.widgets._background import BackgroundJob
from napari_unet.widgets._follow_view import ViewFollower
from napari_unet.widgets._image_copy import link_copy
from napari_unet.widgets._layers import LayerInput, find_input, spatial_data, spatial_shape
from napari_unet.widgets._pace import window_pace
from napari_unet.widgets._preview import PreviewLayer
from napari_unet.widgets._progress import format_duration
from napari_unet.widgets._run import unexpected_end
from napari_unet.widgets._spool import require_space, spool_request, spool_words
from napari_unet.widgets._train_files import RunFolder, Strokes, make_run_folder, prepare
from napari_unet.widgets._verdict import sentence

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari.layers import Image, Labels

    from napari_unet.app.models import ModelEntry
    from napari_unet.widgets._events import EngineEvent
    from napari_unet.widgets._image_copy import ImageCopies
    from napari_unet.widgets._process import EngineEnd
    from napari_unet.widgets._runner import JobRunner
    from napari_unet.widgets._spool import SpoolRequest
    from napari_unet.widgets._train_options import TrainOptions

STAGE_WORDS = {
    "opening": "Opening the image",
    "normalizing": "Measuring the intensities",
    "splitting": "Choosing strokes to hold out",
    "loading": "Loading the model",
    "training": "Training",
    "judging": "Comparing with the model before",
    "finishing": "Writing the model",
}
"""What the user reads for each stage."""

CANCELLED_EXIT_CODE = 130
"""The command line's exit code for a job that was stopped before it had a result."""

FEWEST_CLASSES = 2


@dataclass(frozen=True, slots=True)
class TrainRequest:
    """What the user chose.

    Parameters
    ----------
    image : Image
        What was painted on.
    annotation : Labels
        The strokes.
    parent : ModelEntry or None
        The model to begin with; None = from nothing.
    classes : tuple of PaintClass
        The k-th class has the label k.
    options : TrainOptions
        How it learns.
    """

    image: Image
    annotation: Labels
    parent: ModelEntry | None
    classes: tuple[PaintClass, ...]
    options: TrainOptions

    @property
    def parent_classes(self) -> tuple[str, ...] | None:
        """Names of the parent's classes."""
        return None if self.parent is None else tuple(c.name for c in self.parent.header.classes)

    @property
    def parent_name(self) -> str | None:
        """What the job calls the parent: its name, or its file."""
        return None if self.parent is None else self.parent.argument


@dataclass(frozen=True, slots=True)
class TrainOutcome:
    """How a training ended.

    Parameters
    ----------
    good : bool
        Whether it went as the user wished.
    words : str
        How it ended, in sentences.
    folder : RunFolder or None
        Its folder, with a model to be kept or not; None = there is no model.
    judged : tuple of Judged
        What the gate found.
    started : TrainingStarted or None
        What was held out, and why nothing was.
    """

    good: bool
    words: str
    folder: RunFolder | None = None
    judged: tuple[train_events.Judged, ...] = ()
    started: train_events.TrainingStarted | None = None


class TrainRun(QObject):
    """Stores the strokes, runs the job, and ends with a new model; once.

    Parameters
    ----------
    parent : QObject
        Owner.
    viewer : napari.Viewer
        Gets the preview.
    runner : JobRunner
        Runs the job; must not be busy.
    request : TrainRequest
        What the user chose.
    copies : ImageCopies
        Copies of images that exist only in memory.
    """

    progressed = Signal(float, str)
    """Share that is done, 0 to 1 (negative = unknown), and the state in words."""
    reported = Signal(object)
    """An `EngineEvent` of this job."""
    warned = Signal(str)
    over = Signal(object)
    """A `TrainOutcome`; emitted once, last."""

    def __init__(
        self,
        parent: QObject,
        viewer: Any,
        runner: JobRunner,
        request: TrainRequest,
        copies: ImageCopies,
    ) -> None:
        super().__init__(parent)
        self._copies = copies
        self._viewer, self._runner, self._request = viewer, runner, request
        colors = [(each.name, each.color) for each in request.classes]
        self.preview = PreviewLayer(viewer, request.image, request.annotation, colors)
        self._folder: RunFolder | None = None
        self._source: LayerInput | None = None
        self._background: BackgroundJob | None = None
        self._view: ViewFollower | None = None
        self._has_job = False
        self._stopped = False
        self._began: float | None = None
        self._words = "Storing the strokes"
        self._started: train_events.TrainingStarted | None = None
        self._judged: list[train_events.Judged] = []
        self._final: train_events.TrainingFinished | events.Failed | None = None
        self._step: train_events.StepDone | None = None
        self._pace = window_pace()
        self._pace.beat.connect(self._show_step)

    @property
    def has_job(self) -> bool:
        """Whether the engine has the job."""
        return self._has_job

    def start(self) -> None:
        """Begin; raises `UNetError` if the choices cannot be used."""
        request = self._request
        if len(request.classes) < FEWEST_CLASSES:
            raise AnnotationError(
                f"there is only one class, {request.classes[0].name!r}, but a model tells classes "
                "apart; add a class for the rest, and paint some strokes of both"
                if request.classes
                else "there is no class; add at least two to the table"
            )
        check_fits(request.annotation, request.image)
        shape = spatial_shape(request.image)
        self._source = find_input(request.image)
        self._folder = make_run_folder()
        copy: SpoolRequest | None = None
        shared = self._copies.find(request.image) if self._source is None else None
        if shared is not None:
            self._source = LayerInput(str(self._folder.image / shared.name))
        elif self._source is None:
            copy = spool_request(request.image, shape, self._folder.image)
            self._words = spool_words(copy)
            self._source = LayerInput(str(copy.path))
            try:
                require_space(copy)
            except UNetError:
                self._folder.delete()
                raise
        full = (*(1,) * (3 - len(shape)), *shape)
        data = spatial_data(request.annotation)
        strokes = Strokes(data, full, request.classes, request.parent_classes)
        self._prepare(prepare(strokes, self._folder.annotation, copy), shared)

    def _prepare(self, work: Iterator[float], shared: Path | None) -> None:
        if self._folder is None:
            return
        self.progressed.emit(0.0, self._words)
        if shared is not None:
            work = chain(link_copy(shared, self._folder.image / shared.name), work)
        self._background = BackgroundJob(self, work)
        self._background.progressed.connect(self._on_prepared_some)
        self._background.succeeded.connect(self._on_prepared)
        self._background.failed.connect(self._on_preparing_failed)

    def _on_prepared_some(self, share: float) -> None:
        self.progressed.emit(share, self._words)

    def _on_preparing_failed(self, error: BaseException) -> None:
        self._background = None
        if isinstance(error, UNetError):
            words = str(error)
        else:
            words = f"The strokes could not be stored. {type(error).__name__}: {error}"
        self._end(TrainOutcome(False, words))

    def _on_prepared(self) -> None:
        self._background = None
        try:
            job = self._job()
        except UNetError as error:
            self._end(TrainOutcome(False, str(error)))
            return
        self._has_job = True
        self._runner.reported.connect(self._on_reported)
        self._runner.ended.connect(self._on_ended)
        waiting = "Starting" if self._runner.is_warm else "Waiting for the engine to start"
        self.progressed.emit(-1.0, waiting)
        self._runner.run(job)
        self._view = ViewFollower(self, self._viewer, self._request.image, self._runner)

    def _job(self) -> TrainJob:
        request, source, folder = self._request, self._source, self._folder
        if source is None or folder is None:
            raise UNetError("the training was not prepared; click Fine-tune again")
        values: dict[str, Any] = {
            "images": [source.path],
            "labels": [str(folder.annotation)],
            "label_kind": "annotation",
            "classes": [each.name for each in request.classes],
            "rename": renamed(request.classes, request.parent_classes or ()),
            "colors": {each.name: each.color for each in request.classes},
            "parent": request.parent_name,
            "output": str(folder.model),
            "run": str(folder.run),
            "axes": source.axes,
            "level": source.level,
            "channel": source.channel,
            "time": source.time,
            **request.options.job_fields,
        }
        return TrainJob.parse(values, source="the panel")

    def stop(self) -> None:
        """Stop with the best weights so far; `over` follows."""
        self._stopped = True
        if self._background is not None:
            self._background.cancel()
            self._background.wait()
            self._background = None
            self._end(TrainOutcome(True, "Stopped before the training had begun."))
        elif self._final is None:
            self.progressed.emit(-1.0, "Stopping; the best weights are kept")
            self._runner.stop()

    def cancel(self) -> None:
        """Stop and keep nothing; `over` follows before this returns."""
        if self._background is not None:
            self._background.cancel()
            self._background.wait()
            self._background = None
        had_job = self._has_job
        self._disconnect()
        if had_job:
            self._runner.start_anew()
        self.preview.remove()
        if self._folder is not None:
            self._folder.delete()
        self.over.emit(
            TrainOutcome(True, "Cancelled; nothing is kept. Your strokes are untouched.")
        )

    def abandon(self) -> None:
        """Let go of everything, because the panel or napari closes; nothing is emitted any more.

        The runner is closed next. What was learnt stays in the run folder.
        """
        self.blockSignals(True)
        if self._background is not None:
            self._background.cancel()
            self._background.wait()
        self._disconnect()

    def delete_if_empty(self) -> None:
        """Delete the run folder unless it holds weights; call when the engine is dead."""
        if self._folder is not None and not self._folder.has_weights:
            self._folder.delete()

    def _on_reported(self, event: EngineEvent) -> None:
        # What it says is newer than the last step.
        self._step = None
        match event:
            case events.StageChanged(stage):
                self._began = time.monotonic() if self._began is None else self._began
                self.progressed.emit(-1.0, STAGE_WORDS.get(stage, stage))
            case train_events.TrainingStarted():
                self._started = event
            case train_events.StepDone():
                self._step = event
                self._pace.want()
            case train_events.PreviewReady():
                self.preview.show(event)
            case train_events.Judged():
                self._judged.append(event)
            case events.Warned(message):
                self.warned.emit(message)
            case train_events.TrainingFinished() | events.Failed():
                self._final = event
        self.reported.emit(event)

    def _show_step(self) -> None:
        event, self._step = self._step, None
        if event is None:
            return
        began = time.monotonic() if self._began is None else self._began
        elapsed = time.monotonic() - began
        words = f"Step {event.step}, loss {event.loss:.3f}, {format_duration(elapsed)}"
        total = 60 * (self._request.options.minutes or 0)
        if event.eta_seconds is not None:
            words += f", {format_duration(event.eta_seconds)} left"
            total = elapsed + event.eta_seconds
        if not self._stopped:
            self.progressed.emit(min(elapsed / max(total, 1e-3), 1.0), words)

    def _on_ended(self, end: EngineEnd) -> None:
        self._end(self._outcome(end))

    def _outcome(self, end: EngineEnd) -> TrainOutcome:
        folder = self._folder
        match self._final:
            case train_events.TrainingFinished() as event if folder is not None:
                words = (
                    f"{event.steps} steps in {format_duration(event.seconds)}; the weights of "
                    f"step {event.best_step} are the best. {sentence(event.detail)}"
                )
                good = event.reason != "non-finite loss"
                return TrainOutcome(good, words, folder, tuple(self._judged), self._started)
            case events.Failed() as event:
                return TrainOutcome(False, event.message + self._rest())
        if end.code == CANCELLED_EXIT_CODE and end.signal is None:
            return TrainOutcome(True, f"Stopped before there was anything to keep.{self._rest()}")
        words = unexpected_end(end, "", button="Fine-tune")
        return TrainOutcome(False, f"{words}\nYour strokes are untouched.{self._rest()}")

    def _rest(self) -> str:
        if self._folder is None or not self._folder.has_weights:
            return ""
        return f" What was learnt is kept in {self._folder.run}."

    def _end(self, outcome: TrainOutcome) -> None:
        self._disconnect()
        if outcome.folder is None:
            self.preview.remove()
            self.delete_if_empty()
        self.over.emit(outcome)

    def _disconnect(self) -> None:
        self._step = None
        if self._view is not None:
            self._view.close()
            self._view = None
        if self._has_job:
            self._has_job = False
            self._runner.reported.disconnect(self._on_reported)
            self._runner.ended.disconnect(self._on_ended)
