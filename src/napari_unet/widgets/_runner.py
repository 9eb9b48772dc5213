"""Keeps one warm engine ready, gives it a job, and sees that it ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_unet.widgets._events import FINAL_EVENTS
from napari_unet.widgets._process import ENGINE_ARGUMENTS, Command, EngineEnd, EngineProcess

if TYPE_CHECKING:
    from napari_unet.core.boxes import Box
    from napari_unet.core.settings import Settings
    from napari_unet.widgets._events import EngineEvent


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a stopped engine is waited for before it is terminated, and again killed.

    Parameters
    ----------
    stop_ms : int
        While napari is open, in milliseconds.
    close_ms : int
        When the panel or napari closes; the window does not answer meanwhile.
    """

    stop_ms: int
    close_ms: int


PATIENCE: dict[Command, Patience] = {
    # A tile is finished.
    "segment": Patience(stop_ms=5_000, close_ms=5_000),
    # The best weights are judged and written; checkpoints are safe on disk before.
    "train": Patience(stop_ms=120_000, close_ms=2_000),
    # It holds nothing that is not on disk or computed again.
    "draft": Patience(stop_ms=2_000, close_ms=0),
}
"""For each command."""

LINGER_MS = 5000
"""How long a process may live on after its last word."""


class JobRunner(QObject):
    """Runs one job at a time in an engine process that was warmed up before.

    Parameters
    ----------
    parent : QObject
        Owner.
    command : {"segment", "train", "draft"}
        What its engines do.
    """

    reported = Signal(object)
    """An `EngineEvent` of the current process."""
    ended = Signal(object)
    """An `EngineEnd` of the current process; a fresh one is started when this was a job's."""

    def __init__(self, parent: QObject, command: Command = "segment") -> None:
        super().__init__(parent)
        self._command: Command = command
        self._grace = PATIENCE[command]
        self._process: EngineProcess | None = None
        self._closed = False
        self._patience = QTimer(self)
        self._patience.setSingleShot(True)
        self._patience.timeout.connect(self._lose_patience)
        self._terminated = False

    @property
    def is_warm(self) -> bool:
        """Whether the current process waits for a job with everything imported."""
        return self._process is not None and self._process.seconds_to_warm is not None

    @property
    def process_id(self) -> int | None:
        """Number of the engine's process, if one lives."""
        return None if self._process is None else int(self._process.processId()) or None

    def warm_up(self) -> None:
        """Start an engine process, unless one lives."""
        if self._process is None and not self._closed:
            self._process = EngineProcess(self, ENGINE_ARGUMENTS[self._command])
            self._process.reported.connect(self._on_reported)
            self._process.ended.connect(self._on_ended)

    def run(self, job: Settings) -> None:
        """Give a job to the engine; its events follow. Call only when not busy."""
        self.warm_up()
        if self._process is not None:
            self._process.give_job(job)

    def send_viewport(self, box: Box) -> None:
        """Tell a running job which voxels (z, y, x) the user looks at."""
        if self._process is not None and self._process.has_job:
            self._process.send_viewport(box)

    def tell(self, command: str, **fields: Any) -> None:
        """Say a control line to a running job."""
        if self._process is not None and self._process.has_job:
            self._process.tell(command, **fields)

    def pause(self) -> None:
        """Let the running job wait at its next tile."""
        self.tell("pause")

    def resume(self) -> None:
        """Let a waiting job go on."""
        self.tell("resume")

    def stop(self) -> None:
        """Ask the job to stop; a process that does not is terminated, then killed."""
        if self._process is not None and not self._patience.isActive():
            self._terminated = False
            self._process.ask_to_stop()
            self._patience.start(self._grace.stop_ms)

    def _lose_patience(self) -> None:
        if self._process is None:
            return
        if self._terminated:
            self._process.kill()
        else:
            self._terminated = True
            self._process.terminate()
            self._patience.start(min(self._grace.stop_ms, LINGER_MS))

    def close(self, *, let_job_go_on: bool = False) -> None:
        """Leave no process of ours behind but a job that may go on.

        Returns when an idle engine is dead, or a job's is dead or detached.
        """
        self._closed = True
        self._patience.stop()
        process, self._process = self._process, None
        if process is None:
            return
        for signal in (process.reported, process.ended):
            signal.disconnect()
        if process.has_job and let_job_go_on:
            process.setParent(None)
            process.detach()
        else:
            # Without a job there is nothing to lose: no grace.
            process.end_now(self._grace.close_ms if process.has_job else 0)

    def start_anew(self) -> None:
        """Have a fresh engine: one that has a job is dead on return, and reports nothing more."""
        process = self._process
        if process is not None and process.has_job:
            self._process = None
            self._patience.stop()
            for signal in (process.reported, process.ended):
                signal.disconnect()
            process.end_now(0)
        self.warm_up()

    def reopen(self) -> None:
        """Allow processes again after `close`."""
        self._closed = False

    def _on_reported(self, event: EngineEvent) -> None:
        if isinstance(event, FINAL_EVENTS):
            # All is said; a process that lingers would keep the next job waiting.
            self._patience.start(LINGER_MS)
        self.reported.emit(event)

    def _on_ended(self, end: EngineEnd) -> None:
        self._process = None
        self._patience.stop()
        self.ended.emit(end)
        # An engine that never got warm would not the next time either: wait for a click.
        if end.was_warm and end.had_job:
            self.warm_up()
