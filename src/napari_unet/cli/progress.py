"""How a run is shown: a bar for people, JSON lines for programs, or nothing."""

from __future__ import annotations

import json
import shlex
import sys
import time
from typing import TYPE_CHECKING, Literal, Protocol

from napari_unet.cli.describe_draft import describe_draft
from napari_unet.cli.describe_export import describe_export
from napari_unet.cli.describe_objects import describe_objects
from napari_unet.cli.describe_suggest import describe_suggest
from napari_unet.cli.describe_training import describe_training
from napari_unet.cli.describe_verify import describe_verify
from napari_unet.core.draft_events import DraftReady, DraftStarted, DraftStopped, StrokeScored
from napari_unet.core.events import (
    AlreadyDone,
    BlockFailed,
    Cancelled,
    Failed,
    Finished,
    JobStarted,
    PyramidProgress,
    ShardDone,
    StageChanged,
    TileDone,
    Warned,
    event_to_json,
)
from napari_unet.core.export_events import ExportCancelled, ExportFinished, ExportProgress
from napari_unet.core.objects_events import (
    ObjectsCancelled,
    ObjectsFound,
    ObjectsProgress,
    ObjectsStarted,
)
from napari_unet.core.suggest_events import (
    PlaceFound,
    PlacesRanked,
    SuggestCancelled,
    SuggestProgress,
    SuggestStarted,
)
from napari_unet.core.train_events import StepDone, TrainingFinished, TrainingStarted
from napari_unet.core.verify_events import (
    BlockDamaged,
    Repaired,
    Verified,
    VerifyCancelled,
    VerifyProgress,
)

if TYPE_CHECKING:
    from typing import TypeAlias

    from rich.progress import Progress, TaskID

    from napari_unet.app.train import TrainEvent
    from napari_unet.core.draft_events import DraftEvent
    from napari_unet.core.events import JobEvent
    from napari_unet.core.export_events import ExportEvent
    from napari_unet.core.objects_events import ObjectsEvent
    from napari_unet.core.suggest_events import SuggestEvent
    from napari_unet.core.verify_events import VerifyEvent

    AnyEvent: TypeAlias = (
        JobEvent | TrainEvent | DraftEvent | ExportEvent | ObjectsEvent | SuggestEvent | VerifyEvent
    )

ProgressKind = Literal["auto", "bar", "json", "none"]


class Reporter(Protocol):
    """Shows the events of one or several jobs."""

    def show(self, event: AnyEvent) -> None:
        """Show an event."""

    def close(self) -> None:
        """Leave the terminal as it was."""


ENDS = (
    Finished
    | ShardDone
    | Cancelled
    | Failed
    | AlreadyDone
    | TrainingFinished
    | ExportFinished
    | ExportCancelled
    | ObjectsFound
    | ObjectsCancelled
    | PlacesRanked
    | SuggestCancelled
    | Verified
    | Repaired
    | VerifyCancelled
    | DraftStopped
)
"""Events after which the bar goes."""

PROBLEMS = (
    Warned
    | BlockFailed
    | Failed
    | Cancelled
    | ExportCancelled
    | ObjectsCancelled
    | SuggestCancelled
    | BlockDamaged
    | Verified
    | Repaired
    | VerifyCancelled
)
"""Events that are shown also where only problems are; of a verification also the verdict."""


def make_reporter(kind: ProgressKind) -> Reporter:
    """Return what shows the events; "auto" is a bar on a terminal and messages elsewhere."""
    if kind == "json":
        return JsonReporter()
    if kind == "none":
        return MessageReporter(only_problems=True)
    if kind == "bar" or sys.stderr.isatty():
        return BarReporter()
    return MessageReporter()


class JsonReporter:
    """One JSON object per line on standard output, see `napari_unet.core.events`."""

    def __init__(self) -> None:
        self._open = True

    def show(self, event: AnyEvent) -> None:
        """Print an event. When nobody listens any more the job goes on in silence."""
        if not self._open:
            return
        try:
            print(json.dumps(event_to_json(event)), flush=True)
        except (BrokenPipeError, ValueError):
            self._open = False
            # Python flushes standard output once more when it ends, and would fail again.
            sys.stdout = None

    def close(self) -> None:
        """Nothing to leave behind."""


class MessageReporter:
    """Plain lines on standard error: what finished, what went wrong."""

    def __init__(self, *, only_problems: bool = False) -> None:
        self._only_problems = only_problems

    def show(self, event: AnyEvent) -> None:
        """Print an event that is worth a line."""
        line = describe(event)
        if line and (not self._only_problems or isinstance(event, PROBLEMS)):
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Nothing to leave behind."""


class BarReporter:
    """A progress bar with time left and pixel rate, on standard error."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            SpinnerColumn,
            TaskProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        self._console = Console(stderr=True)
        self._progress: Progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[rate]}"),
            console=self._console,
        )
        self._task: TaskID | None = None
        self._began = 0.0
        self._before = 0
        self._budget: float | None = None
        self._progress.start()

    def show(self, event: AnyEvent) -> None:
        """Move the bar, or print a line above it."""
        match event:
            case StageChanged(stage=stage):
                self._describe(stage)
            case JobStarted(pixels=pixels, pixels_done=before):
                self._began, self._before = time.monotonic(), before
                self._update(total=pixels, completed=before)
            case TileDone(pixels_done=done):
                seconds = time.monotonic() - self._began
                self._update(completed=done, rate=_rate(done - self._before, seconds))
            case (
                PyramidProgress(done=done, total=total)
                | ExportProgress(done=done, total=total)
                | ObjectsProgress(done=done, total=total)
                | SuggestProgress(done=done, total=total)
                | VerifyProgress(done=done, total=total)
            ):
                self._update(completed=done, total=total, rate="")
            case TrainingStarted(steps=steps, seconds=seconds, first_step=first):
                self._began, self._budget = time.monotonic(), seconds
                self._update(total=steps or seconds or 0, completed=first if steps else 0)
                self._console.print(describe(event), markup=False, highlight=False)
            case StepDone(step=step, loss=loss):
                spent = step if self._budget is None else time.monotonic() - self._began
                self._update(completed=spent, rate=f"step {step}, loss {loss:.3f}")
            case _:
                if line := describe(event):
                    self._console.print(line, markup=False, highlight=False)
                    if isinstance(event, ENDS):
                        self._drop()

    def close(self) -> None:
        """Remove the bar."""
        self._drop()
        self._progress.stop()

    def _describe(self, stage: str) -> None:
        if self._task is None:
            self._task = self._progress.add_task(stage, total=None, rate="")
        else:
            self._progress.update(self._task, description=stage)

    def _update(self, **values: float | str) -> None:
        if self._task is not None:
            self._progress.update(self._task, **values)  # type: ignore[arg-type]  # rich types each field

    def _drop(self) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None


def describe(event: AnyEvent) -> str | None:
    """Return an event in a sentence, or None when it is not worth one."""
    match event:
        case ExportProgress() | ExportFinished() | ExportCancelled():
            return describe_export(event)
        case ObjectsStarted() | ObjectsProgress() | ObjectsFound() | ObjectsCancelled():
            return describe_objects(event)
        case (
            SuggestStarted()
            | PlaceFound()
            | SuggestProgress()
            | PlacesRanked()
            | SuggestCancelled()
        ):
            return describe_suggest(event)
        case VerifyProgress() | BlockDamaged() | Verified() | Repaired() | VerifyCancelled():
            return describe_verify(event)
        case DraftStarted() | DraftReady() | StrokeScored() | DraftStopped():
            return describe_draft(event)
        case _:
            return _describe_common(event)


def _describe_common(event: JobEvent | TrainEvent) -> str | None:
    """Return an event that several commands have, or one of a training."""
    match event:
        case JobStarted():
            height, width = event.tile_shape[-2:]
            return (
                f"{event.name}: {_count(event.tiles, 'tile')} of {height} x {width} in "
                f"{_count(event.blocks, 'block')} on {event.device}"
            )
        case Finished():
            where = f"labels in {event.output} as {event.name!r}"
            if not event.pixels:
                return f"complete after {event.seconds:.1f} s; {where}"
            return (
                f"{_pixels(event.pixels)} in {event.seconds:.1f} s "
                f"({_rate(event.pixels, event.seconds)}); {where}"
            )
        case ShardDone():
            return (
                f"shard {event.shard}: {event.blocks} blocks done, "
                f"{_pixels(event.pixels)} in {event.seconds:.1f} s; when all "
                f"shards are done: napari-unet finish {shlex.quote(event.output)}"
            )
        case AlreadyDone():
            return f"{event.output} already holds {event.name!r}, complete; nothing to do"
        case Cancelled():
            return (
                f"cancelled after {event.tiles_done} of {event.tiles} tiles; "
                f"{event.output} is marked incomplete; the same command goes on from there"
            )
        case BlockFailed(box=box, cause=cause):
            return f"warning: block {box.start}..{box.stop} failed: {cause}"
        case Warned(message=message):
            return f"warning: {message}"
        case Failed():
            return f"error: {event.message}"
        case _:
            return describe_training(event)


def _rate(pixels: int, seconds: float) -> str:
    """Return pixels per second, in thousands or millions where there are as many."""
    rate = pixels / max(seconds, 1e-9)
    if rate < 1e4:
        return f"{rate:,.0f} px/s"
    return f"{rate / 1e6:.2f} Mpx/s" if rate >= 1e6 else f"{rate / 1e3:.0f} kpx/s"


def _pixels(number: int) -> str:
    """Return a number of pixels, in millions where there are some."""
    return f"{number / 1e6:.2f} megapixels" if number >= 1e5 else _count(number, "pixel")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
