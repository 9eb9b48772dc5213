"""One click on Segment, from the layer to the finished result."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_unet.core import events, objects_events
from napari_unet.errors import UNetError
from napari_unet.widgets._background import BackgroundJob
from napari_unet.widgets._follow_view import ViewFollower
from napari_unet.widgets._idle import prepare_session
from napari_unet.widgets._layers import (
    METADATA_KEY,
    LayerInput,
    find_input,
    local_path,
    spatial_shape,
)
from napari_unet.widgets._output import (
    TEMPORARY_FOLDERS,
    TEMPORARY_WORDS,
    OutputPlace,
    output_path,
    stem_of,
)
from napari_unet.widgets._pace import window_pace
from napari_unet.widgets._progress import ProgressMeter, format_count, format_duration
from napari_unet.widgets._request import with_fitting_name, with_free_name
from napari_unet.widgets._result import MAX_PLANE_EDGE, ResultLayer
from napari_unet.widgets._spool import require_space, spool, spool_request, spool_words

if TYPE_CHECKING:
    from napari_unet.core.job import SegmentJob
    from napari_unet.widgets._events import EngineEvent
    from napari_unet.widgets._process import EngineEnd
    from napari_unet.widgets._request import RunRequest
    from napari_unet.widgets._runner import JobRunner

STAGE_WORDS = {
    "opening": "Opening the image",
    "normalizing": "Measuring the intensities",
    "loading": "Loading the model",
    "segmenting": "Segmenting",
    "searching": "Searching objects",
    "joining": "Joining objects",
    "numbering": "Numbering and measuring objects",
    "pyramid": "Writing the coarser levels",
    "finishing": "Finishing",
}
"""What the user reads for each stage."""

USAGE_EXIT_CODE = 2
"""The command line's exit code for options that cannot be used."""


class SegmentRun(QObject):
    """Copies the layer if need be, runs the job, and shows its labels; once.

    Parameters
    ----------
    parent : QObject
        Owner.
    viewer : napari.Viewer
        Gets the result.
    runner : JobRunner
        Runs the job; must not be busy.
    request : RunRequest
        What the user chose.
    """

    progressed = Signal(float, str)
    """Share that is done, 0 to 1 (negative = unknown), and the state in words."""
    warned = Signal(str)
    paused = Signal(bool)
    """The job waits, or goes on again."""
    over = Signal(bool, str)
    """Whether it went as the user wished, and how it ended in words; emitted once, last."""

    def __init__(
        self, parent: QObject, viewer: Any, runner: JobRunner, request: RunRequest
    ) -> None:
        super().__init__(parent)
        self._viewer, self._runner, self._request = viewer, runner, request
        self._result = ResultLayer(self, viewer)
        self._job: SegmentJob | None = None
        self._output_folder: Path | None = None
        self._spool: BackgroundJob | None = None
        self._spool_folder: Path | None = None
        self._view: ViewFollower | None = None
        self._meter = ProgressMeter(0, 0.0)
        self._stage = ""
        self._found: objects_events.ObjectsFound | None = None
        self._final: EngineEvent | None = None
        self._unwritten = False
        self._has_new_tile = False
        self._pace = window_pace()
        self._pace.beat.connect(self._show_progress)

    @property
    def has_job(self) -> bool:
        """Whether the engine has the job; before, a layer in memory is being copied."""
        return self._job is not None

    def start(self) -> None:
        """Begin; raises `UNetError` if the layer or the output cannot be used."""
        layer = self._request.layer
        if self._request.job is not None:
            self._submit(self._request.job)
            return
        shape = spatial_shape(layer)
        source = find_input(layer)
        if source is not None:
            self._submit(self._job_for(source))
        else:
            self._copy_layer(shape)

    def _copy_layer(self, shape: tuple[int, ...]) -> None:
        self._spool_folder = TEMPORARY_FOLDERS.make()
        request = spool_request(self._request.layer, shape, self._spool_folder)
        try:
            require_space(request)
        except UNetError:
            self._delete_copy()
            raise
        self._copy_words = spool_words(request)
        self.progressed.emit(0.0, self._copy_words)
        self._spool = BackgroundJob(self, spool(request))
        self._spool.progressed.connect(self._on_copied)
        self._spool.succeeded.connect(self._on_copy_succeeded)
        self._spool.failed.connect(self._on_copy_failed)
        self._copy_path = request.path

    def _on_copied(self, share: float) -> None:
        self.progressed.emit(share, self._copy_words)

    def _on_copy_succeeded(self) -> None:
        self._spool = None
        try:
            self._submit(self._job_for(LayerInput(str(self._copy_path))))
        except UNetError as error:
            self._end(False, str(error))

    def _on_copy_failed(self, error: BaseException) -> None:
        self._spool = None
        known = isinstance(error, UNetError)
        words = str(error) if known else f"{type(error).__name__}: {error}"
        self._end(False, f"The layer could not be copied for the engine. {words}")

    def _job_for(self, source: LayerInput) -> SegmentJob:
        """Return the job that the user asked for, under a name that does no harm."""
        request = self._request
        folder = request.folder
        if request.place is OutputPlace.TEMPORARY:
            folder = self._output_folder = TEMPORARY_FOLDERS.make()
        image = local_path(request.layer)
        stem = stem_of(image, request.layer.name)
        job = request.make_job(source, str(output_path(request.place, image, stem, folder)))
        if self._spool_folder is not None:
            # Nothing says that what was in memory then is what is there now.
            return with_free_name(job, request.model_name)
        return with_fitting_name(job, request.model_name, anew=request.anew)

    def _submit(self, job: SegmentJob) -> None:
        self._job = job
        # Where the first click came before the engine was warm.
        prepare_session()
        self._runner.reported.connect(self._on_reported)
        self._runner.ended.connect(self._on_ended)
        waiting = "Starting" if self._runner.is_warm else "Waiting for the engine to start"
        self.progressed.emit(-1.0, waiting)
        self._runner.run(job)
        # Before the first tile, so that this one is already where the user looks.
        self._view = ViewFollower(self, self._viewer, self._request.layer, self._runner)

    def cancel(self) -> None:
        """Stop at the next tile, or slab of the copy; `over` follows."""
        if self._spool is not None:
            self._spool.cancel()
            self._spool.wait()
            self._spool = None
            self._end(True, "Stopped before the engine had begun; nothing was written.")
        elif self._final is None:
            self.progressed.emit(-1.0, "Stopping at the next tile")
            self._runner.stop()

    def pause(self) -> None:
        """Let the job wait at its next tile; `paused` follows."""
        if self.has_job and self._final is None:
            self._runner.pause()

    def resume(self) -> None:
        """Let a waiting job go on; `paused` follows."""
        self._runner.resume()

    def abandon(self, *, let_job_go_on: bool) -> None:
        """Let go of everything, because the panel or napari closes; nothing is emitted any more.

        Parameters
        ----------
        let_job_go_on : bool
            The job will outlive us: what it reads and writes is kept.
        """
        self.blockSignals(True)
        if let_job_go_on:
            # Nobody could tell it later.
            self._runner.resume()
            for folder in (self._spool_folder, self._output_folder):
                if folder is not None:
                    TEMPORARY_FOLDERS.keep(folder)
            self._spool_folder = None
        if self._spool is not None:
            self._spool.cancel()
            self._spool.wait()
        self._end(True, "")

    def _on_reported(self, event: EngineEvent) -> None:
        # What else is said is newer than the last tile.
        self._has_new_tile &= isinstance(event, events.TileDone | events.BlockDone)
        match event:
            case events.StageChanged(stage):
                self._stage = STAGE_WORDS.get(stage, stage)
                self.progressed.emit(-1.0, self._stage)
            case events.JobStarted():
                self._on_job_started(event)
            case events.TileDone():
                self._on_tile_done(event)
            case events.BlockDone(box):
                # Tiles that were not readable when they were done are now.
                if self._unwritten:
                    self._result.show(box)
                self._unwritten = False
            case events.PyramidProgress(done, total) | objects_events.ObjectsProgress(done, total):
                words = f"{self._stage}: {done} of {total} blocks"
                self.progressed.emit(done / max(total, 1), words)
            case events.Warned(message):
                self.warned.emit(message)
            case events.BlockFailed(cause=cause):
                self.warned.emit(f"A block failed: {cause}")
            case events.Paused(paused):
                self._on_paused(paused)
            case events.AlreadyDone():
                self._final = event
                self._show_result(event)
            case objects_events.ObjectsFound():
                self._found = event
            case events.Finished() | events.Cancelled() | events.Failed():
                self._final = event
            case objects_events.ObjectsCancelled():
                self._final = event

    def _on_paused(self, paused: bool) -> None:
        if not paused:
            # The rate is that of working, not of waiting.
            self._meter = self._meter.restarted(time.monotonic())
        self.progressed.emit(self._meter.share, "Paused" if paused else "Going on")
        self.paused.emit(paused)

    def _on_job_started(self, event: events.JobStarted) -> None:
        self._meter = ProgressMeter(event.pixels, time.monotonic(), event.pixels_done)
        self._show_result(event)

    def _show_result(self, event: events.JobStarted | events.AlreadyDone) -> None:
        # Imported on demand: the panel opens without what reads results.
        from napari_unet.widgets._extra_layers import remove_shown

        remove_shown(self._viewer, event.labels)
        if self._job is not None and not self._result.open(self._request.layer, self._job, event):
            self.warned.emit(
                f"The planes are longer than {MAX_PLANE_EDGE} pixels, too large to be shown as "
                f"one layer; the labels are written to {event.output}."
            )

    def _on_tile_done(self, event: events.TileDone) -> None:
        self._meter.update(event.pixels_done, time.monotonic())
        self._has_new_tile = True
        self._pace.want()
        if event.written:
            self._result.show(event.box)
        else:
            self._unwritten = True

    def _show_progress(self) -> None:
        if self._has_new_tile:
            self._has_new_tile = False
            self.progressed.emit(self._meter.share, self._meter.text())

    def _on_ended(self, end: EngineEnd) -> None:
        good, words = self._outcome(end)
        self._show_more()
        self._end(good, words)

    def _show_more(self) -> None:
        """Show what a finished job has made beside the classes."""
        from napari_unet.widgets._extra_layers import extra_layers, remove_shown

        done = self._final
        if self._job is None or not isinstance(done, events.Finished | events.AlreadyDone):
            return
        try:
            layers = extra_layers(self._request.layer, self._job, done)
        except UNetError as error:
            self.warned.emit(str(error))
            return
        for data, options, kind in layers:
            remove_shown(self._viewer, options["metadata"][METADATA_KEY]["labels"], options["name"])
            getattr(self._viewer, f"add_{kind}")(data, **options)
        if layers and self._result.layer is not None:
            # They are what was wanted, and lie over the classes.
            self._result.layer.visible = False

    def _outcome(self, end: EngineEnd) -> tuple[bool, str]:
        match self._final:
            case events.Finished() as event:
                return True, (
                    f"Done: {format_count(event.pixels)} pixels in "
                    f"{format_duration(event.seconds)}. Written to {event.output}, labels "
                    f"{event.name!r}.{self._objects_words()}{self._fate()}"
                )
            case events.AlreadyDone() as event:
                return True, f"This was done before: {event.output}, labels {event.name!r}."
            case events.Cancelled() as event:
                return True, (
                    f"Stopped after {event.tiles_done} of {event.tiles} tiles; what is done is "
                    f"kept in {event.output}.{self._way_on()}{self._fate()}"
                )
            case objects_events.ObjectsCancelled() as event:
                return True, (
                    "Stopped before the objects were found; the classes are kept in "
                    f"{event.output}.{self._way_on()}{self._fate()}"
                )
            case events.Failed() as event:
                return False, event.message
        output = "" if self._job is None else self._job.output
        fate = self._fate() if Path(output).exists() else ""
        return False, unexpected_end(end, output) + fate

    def _objects_words(self) -> str:
        found = self._found
        return "" if found is None else f" {found.objects} objects; table {found.tables[0]}."

    def _way_on(self) -> str:
        """Say how to go on, where that is possible: not with an image that was in memory only."""
        temporary = self._request.place is OutputPlace.TEMPORARY
        return "" if temporary or self._spool_folder else " Segment computes the rest."

    def _fate(self) -> str:
        temporary = self._request.place is OutputPlace.TEMPORARY
        return f" {TEMPORARY_WORDS}." if temporary else ""

    def _end(self, good: bool, words: str) -> None:
        self._pace.beat.disconnect(self._show_progress)
        if self._view is not None:
            self._view.close()
            self._view = None
        if self._job is not None:
            self._runner.reported.disconnect(self._on_reported)
            self._runner.ended.disconnect(self._on_ended)
        self._result.close(all_told=isinstance(self._final, events.Finished))
        self._delete_copy()
        self.over.emit(good, words)

    def _delete_copy(self) -> None:
        if self._spool_folder is not None:
            TEMPORARY_FOLDERS.delete(self._spool_folder)
            self._spool_folder = None


def unexpected_end(end: EngineEnd, output: str, button: str = "Segment") -> str:
    """Return in words how an engine ended that did not say it itself.

    Parameters
    ----------
    end : EngineEnd
        How the process ended.
    output : str
        Where the job wrote; empty = it had none.
    button : str
        What to click for another try.
    """
    if not end.was_warm and end.signal is None:
        return f"The engine could not start: {end.log or f'exit code {end.code}'}"
    kept = f" What is done is kept in {output}." if output and Path(output).exists() else ""
    if end.signal is not None:
        cause = "most likely the computer ran out of memory" if end.signal == 9 else end.log
        return (
            f"The engine process ended unexpectedly (signal {end.signal}): {cause}.{kept} "
            f"Click {button} to try again."
        )
    if end.code == USAGE_EXIT_CODE:
        reason = end.log.splitlines()[-1] if end.log else "it gave no reason"
        return f"The engine refused the job: {reason.removeprefix('error: ')}"
    if not end.had_job:
        return f"The engine process ended (exit code {end.code}). Click {button} to try again."
    return f"The engine process ended unexpectedly (exit code {end.code}).{kept}\n{end.log}"
