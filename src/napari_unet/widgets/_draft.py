"""The draft: what the model says where the user looks, corrected by each stroke at once.

An engine of its own keeps the features of what is looked at and fits a last layer to the strokes;
here it is told where the user looks and what was painted, and what it answers is shown.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_unet.core.draft_events import DraftReady, DraftStarted, StrokeScored
from napari_unet.core.draft_job import DraftJob
from napari_unet.core.events import Failed, Warned
from napari_unet.errors import UNetError
from napari_unet.widgets._annotation_layer import renamed
from napari_unet.widgets._background import BackgroundJob
from napari_unet.widgets._brush import BrushWatcher
from napari_unet.widgets._follow_view import ViewFollower
from napari_unet.widgets._image_copy import Located, locate
from napari_unet.widgets._preview import PreviewLayer
from napari_unet.widgets._runner import JobRunner

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari.layers import Image, Labels

    from napari_unet.app.models import ModelEntry
    from napari_unet.core.boxes import Box
    from napari_unet.widgets._annotation_layer import PaintClass
    from napari_unet.widgets._events import EngineEvent
    from napari_unet.widgets._image_copy import ImageCopies
    from napari_unet.widgets._process import EngineEnd

CHOICE_MS = 300
"""How long choices rest before the engine is started for them."""

LAYER_NAME = "draft"

KILL = 9
"""Signal of a system without memory."""


@dataclass(frozen=True, slots=True, eq=False)
class DraftRequest:
    """What is drafted.

    Parameters
    ----------
    image : Image
        What is looked at.
    annotation : Labels or None
        What is painted on.
    strokes : Path or None
        Where its strokes are stored; None = nowhere, so that nothing is learnt from them.
    model : ModelEntry
        What predicts.
    classes : tuple of PaintClass
        The k-th class has the label k.
    device : str
        Where the network runs.
    """

    image: Image
    annotation: Labels | None
    strokes: Path | None
    model: ModelEntry
    classes: tuple[PaintClass, ...]
    device: str

    @property
    def key(self) -> tuple[Any, ...]:
        """What an engine is started anew for; of classes and strokes it is told."""
        return (self.image, self.model.sha256, self.device)

    @property
    def painted_as(self) -> list[tuple[str, str]]:
        """Names and colors of the classes."""
        return [(each.name, each.color) for each in self.classes]

    @property
    def known(self) -> tuple[str, ...]:
        """Names of the model's own classes."""
        return tuple(each.name for each in self.model.header.classes)

    @property
    def named(self) -> dict[str, Any]:
        """The classes as the engine takes them."""
        return {
            "classes": [each.name for each in self.classes],
            "rename": renamed(self.classes, self.known),
        }


class Drafter(QObject):
    """Keeps a draft of what is looked at, from `open` to `close`.

    Parameters
    ----------
    parent : QObject
        Owner.
    viewer : napari.Viewer
        Whose view is followed, and that gets the layer.
    copies : ImageCopies
        Copies of images that exist only in memory.
    """

    said = Signal(str)
    """The state in words."""
    scored = Signal(object)
    """A `StrokeScored`: how much of a new stroke was right before it was learnt, and after."""
    shown = Signal()
    """A draft is shown anew."""
    gone = Signal()
    """The draft was taken away."""

    def __init__(self, parent: QObject, viewer: Any, copies: ImageCopies) -> None:
        super().__init__(parent)
        self._viewer, self._copies = viewer, copies
        self.runner = JobRunner(self, "draft")
        self.preview: PreviewLayer | None = None
        self._wanted: DraftRequest | None = None
        self._request: DraftRequest | None = None
        self._located = Located()
        self._background: BackgroundJob | None = None
        self._follower: ViewFollower | None = None
        self._brush: BrushWatcher | None = None
        self._folder: str | None = None
        self._waiting: DraftReady | None = None
        self._is_paused = False
        self._has_learnt = False
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(CHOICE_MS)
        self._timer.timeout.connect(self._begin)
        self.runner.reported.connect(self._on_reported)
        self.runner.ended.connect(self._on_ended)

    @property
    def is_painting(self) -> bool:
        """Whether the mouse button is down in the canvas."""
        return self._brush is not None and self._brush.is_down

    @property
    def is_drafting(self) -> bool:
        """Whether an engine has a job."""
        return self._follower is not None

    @property
    def has_learnt(self) -> bool:
        """Whether strokes have gone into the draft that is shown."""
        return self._has_learnt

    def open(self) -> None:
        """Warm up an engine."""
        self._brush = BrushWatcher(self, self._viewer)
        self._brush.lifted.connect(self._show_waiting)
        self.runner.reopen()
        self.runner.warm_up()

    def close(self) -> None:
        """Leave no process, no layer and no file behind."""
        self._timer.stop()
        self._wanted = None
        self._leave()
        self.runner.close()
        if self._brush is not None:
            self._brush.close()
            self._brush.deleteLater()
            self._brush = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def choose(self, request: DraftRequest | None) -> None:
        """Draft something else from now on; None = nothing."""
        before, self._wanted = self._wanted, request
        if request is None:
            self._timer.stop()
            self._leave()
            if before is not None:
                self.runner.start_anew()
        elif before is None or before.key != request.key:
            self._timer.start()
        elif not self._timer.isActive():
            self._tell(before, request)

    def learn(self, boxes: Sequence[Box]) -> None:
        """Learn what was painted in some boxes (z, y, x) of the stored strokes."""
        if self._wanted is None or not boxes:
            return
        if self.is_drafting:
            self.runner.tell("strokes", boxes=[[list(b.start), list(b.stop)] for b in boxes])
        elif self._background is None and not self._timer.isActive():
            # The engine has died; with the stroke it gets another chance.
            self._begin()

    def pause(self) -> None:
        """Leave the processor to somebody else, and the view too."""
        self._is_paused = True
        self.runner.pause()

    def resume(self) -> None:
        """Go on."""
        self._is_paused = False
        self.runner.resume()
        self.hide(False)
        self._show_waiting()

    def hide(self, hidden: bool) -> None:
        """Take the draft out of sight for a while, or back."""
        if self.preview is not None:
            self.preview.hide(hidden)

    def _begin(self) -> None:
        """Start an engine for what is wanted now."""
        self._leave()
        request = self._request = self._wanted
        if request is None:
            return
        self.runner.start_anew()
        self.said.emit("Draft: opening the image")
        self._located = Located()
        work = locate(request.image, self._copies, self._located)
        self._background = BackgroundJob(self, work)
        self._background.succeeded.connect(self._on_located)
        self._background.failed.connect(self._on_not_located)

    def _leave(self) -> None:
        """Stop following and showing; the engine's process is the caller's to end."""
        if self._background is not None:
            self._background.cancel()
            self._background.wait()
            self._background = None
        if self._follower is not None:
            self._follower.close()
            self._follower.deleteLater()
            self._follower = None
        if self.preview is not None:
            self.preview.remove()
            self.preview = None
            self.gone.emit()
        self._waiting = self._request = None

    def _on_not_located(self, error: BaseException) -> None:
        self._background = None
        reason = str(error) if isinstance(error, UNetError) else f"{type(error).__name__}: {error}"
        self.said.emit(f"No draft: {reason}")

    def _on_located(self) -> None:
        self._background = None
        request, found = self._request, self._located
        if request is None:
            return
        if found.copied is not None:
            self._copies.keep(request.image, found.copied)
        if found.source is None:
            self.said.emit(found.words)
            return
        try:
            job = self._job(request)
        except UNetError as error:
            self.said.emit(f"No draft: {error}")
            return
        self.preview = PreviewLayer(
            self._viewer, request.image, request.annotation, request.painted_as, LAYER_NAME
        )
        self.said.emit("Draft: predicting what you look at")
        self.runner.run(job)
        self._follower = ViewFollower(self, self._viewer, request.image, self.runner)
        if self._is_paused:
            self.runner.pause()

    def _job(self, request: DraftRequest) -> DraftJob:
        if self._folder is None:
            self._folder = tempfile.mkdtemp(prefix="napari-unet-draft-")
        source, model = self._located.source, request.model
        values: dict[str, Any] = {
            "input": "" if source is None else source.path,
            "model": model.argument,
            **request.named,
            "annotation": None if request.strokes is None else str(request.strokes),
            "folder": self._folder,
            "device": request.device,
        }
        if source is not None:
            values |= {
                "axes": source.axes,
                "level": source.level,
                "channel": source.channel,
                "time": source.time,
            }
        return DraftJob.parse(values, source="the panel")

    def _tell(self, before: DraftRequest, request: DraftRequest) -> None:
        """Tell what has changed since `before`: the strokes, or the classes."""
        if self._request is not None:
            self._request = request
        if self.preview is not None:
            self.preview.annotation = request.annotation
        if before.strokes != request.strokes:
            path = None if request.strokes is None else str(request.strokes)
            self.runner.tell("annotation", path=path)
        if before.painted_as != request.painted_as:
            if self.preview is not None:
                self.preview.recolor(request.painted_as)
            self.runner.tell("classes", **request.named)

    def _on_reported(self, event: EngineEvent) -> None:
        match event:
            case DraftStarted():
                self.said.emit("Draft: predicting what you look at")
            case DraftReady():
                self._waiting = event
                if not self.is_painting:
                    self._show_waiting()
            case StrokeScored():
                self.scored.emit(event)
            case Warned(message):
                self.said.emit(f"Draft: {message}")
            case Failed(message=message):
                self._stop_following()
                self.said.emit(f"No draft: {message}")

    def _show_waiting(self) -> None:
        """Show the newest draft, once the brush is up."""
        event = self._waiting
        if event is None or self.preview is None or self._is_paused:
            return
        self._waiting = None
        self._has_learnt = event.learned > 0
        self.preview.show(event)
        self.said.emit(draft_words(event))
        self.shown.emit()

    def _on_ended(self, end: EngineEnd) -> None:
        was_drafting = self.is_drafting
        self._stop_following()
        if end.code == 0 and end.signal is None:
            return
        if was_drafting or not end.had_job:
            self.said.emit(end_words(end))

    def _stop_following(self) -> None:
        """Let the last draft be seen, but expect no other."""
        if self._follower is not None:
            self._follower.close()
            self._follower.deleteLater()
            self._follower = None


def end_words(end: EngineEnd) -> str:
    """Return how an engine ended that had more to say, in words."""
    if not end.was_warm and end.signal is None:
        return f"No draft: the engine could not start: {end.log or f'exit code {end.code}'}"
    last = end.log.splitlines()[-1] if end.log else f"exit code {end.code}"
    if end.signal is not None:
        last = "the computer ran out of memory?" if end.signal == KILL else f"signal {end.signal}"
    return (
        f"The draft engine ended unexpectedly ({last}). It starts again with your next stroke; "
        "your strokes are untouched."
    )


def draft_words(event: DraftReady) -> str:
    """Return what a draft is, in words."""
    if event.learned == 0:
        return f"The view as the model sees it, in {event.seconds:.1f} s"
    return f"Draft from {event.learned} painted pixels, in {event.seconds:.1f} s"


def score_words(event: StrokeScored) -> str:
    """Return how much of a new stroke was right before, and is now.

    Examples
    --------
    >>> score_words(StrokeScored(40, 0.71, 0.88, {}))
    'Your stroke: right on 71 % before, 88 % now'
    """
    before, now = round(100 * event.right_before), round(100 * event.right_now)
    return f"Your stroke: right on {before} % before, {now} % now"
