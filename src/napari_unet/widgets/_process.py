"""The engine in its own process, seen from Qt's event loop: jobs in, events out."""

from __future__ import annotations

import json
import sys
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from qtpy.QtCore import QObject, QProcess, QProcessEnvironment, Signal

from napari_unet.core.events import EngineReady
from napari_unet.widgets._events import parse_event

if TYPE_CHECKING:
    from napari_unet.core.boxes import Box
    from napari_unet.core.settings import Settings

Command = Literal["segment", "train", "draft"]
"""What an engine is started for."""

_OPTIONS = ("--config", "-", "--progress", "json")
ENGINE_ARGUMENTS: dict[Command, tuple[str, ...]] = {
    "segment": ("-m", "napari_unet", "segment", *_OPTIONS),
    "train": ("-m", "napari_unet", "train", *_OPTIONS),
    "draft": ("-m", "napari_unet", "draft", *_OPTIONS),
}
"""The command line of each engine, after the interpreter: the CLI's own."""

KEPT_LINES = 30
"""Lines of the engine's log kept for error messages."""

KILL_WAIT_MS = 5000
"""How long a killed process may take to be reaped."""


@dataclass(frozen=True, slots=True)
class EngineEnd:
    """How an engine process ended.

    Parameters
    ----------
    code : int
        Its exit code; of no meaning when `signal` is set.
    signal : int or None
        Number of the signal that killed it (Unix), if one did.
    was_warm : bool
        Whether it had got as far as waiting for a job.
    had_job : bool
        Whether it had been given a job.
    log : str
        Last lines of its log.
    """

    code: int
    signal: int | None
    was_warm: bool
    had_job: bool
    log: str


class EngineProcess(QProcess):
    """One engine process, for one job.

    Created warm: it imports what it needs and waits for its job. All methods return at once but
    for `end_now`.

    Parameters
    ----------
    parent : QObject
        Owner; when it is destroyed, so is the process, unless it was detached.
    arguments : tuple of str
        What follows the interpreter on the command line.
    """

    reported = Signal(object)
    """An `EngineEvent`."""
    ended = Signal(object)
    """An `EngineEnd`; emitted once."""

    def __init__(self, parent: QObject, arguments: tuple[str, ...]) -> None:
        super().__init__(parent)
        self._pending = b""
        self._log: deque[str] = deque(maxlen=KEPT_LINES)
        self._seconds_to_warm: float | None = None
        self._has_job = False
        self._over = False
        environment = QProcessEnvironment.systemEnvironment()
        environment.insert("PYTHONUNBUFFERED", "1")
        environment.insert("PYTHONIOENCODING", "utf-8")
        self.setProcessEnvironment(environment)
        self._leave_terminal()
        self.readyReadStandardOutput.connect(self._read_events)
        self.readyReadStandardError.connect(self._read_log)
        self.errorOccurred.connect(self._on_error)
        self.finished.connect(self._on_finished)
        self.start(sys.executable, list(arguments))

    def _leave_terminal(self) -> None:
        """Put the engine in a session of its own, so that it outlives napari's terminal."""
        # Qt 6.7 and Unix only; elsewhere a job ends with the terminal that napari was started from.
        flags: Any = getattr(QProcess, "UnixProcessFlag", None)
        if hasattr(flags, "CreateNewSession") and hasattr(self, "setUnixProcessParameters"):
            self.setUnixProcessParameters(flags.CreateNewSession)

    @property
    def is_running(self) -> bool:
        """Whether the process lives (or is being started) and belongs to us."""
        return bool(self.state() != QProcess.ProcessState.NotRunning)

    @property
    def has_job(self) -> bool:
        """Whether a job was given; a process takes one."""
        return self._has_job

    @property
    def seconds_to_warm(self) -> float | None:
        """Seconds that the engine needed to import all it needs; None = not yet warm."""
        return self._seconds_to_warm

    def give_job(self, job: Settings) -> None:
        """Hand over the one job; it starts as soon as the engine is warm."""
        self._has_job = True
        self._send(job.model_dump(mode="json"))

    def send_viewport(self, box: Box) -> None:
        """Tell the engine which voxels (z, y, x) the user looks at: these come first."""
        self.tell("viewport", box=[list(box.start), list(box.stop)])

    def ask_to_stop(self) -> None:
        """Ask for an end at the next tile."""
        self.tell("stop")

    def pause(self) -> None:
        """Ask the job to wait."""
        self.tell("pause")

    def resume(self) -> None:
        """Ask a waiting job to go on."""
        self.tell("resume")

    def tell(self, command: str, **fields: Any) -> None:
        """Say a control line to the job; the reference of its command lists what there is."""
        self._send({"command": command, **fields})

    def _send(self, message: dict[str, Any]) -> None:
        if self.is_running:
            self.write(json.dumps(message).encode() + b"\n")

    def end_now(self, grace_ms: int) -> None:
        """Return when the process is dead: asked, then terminated, then killed.

        Parameters
        ----------
        grace_ms : int
            Milliseconds to wait after the question and after the termination; 0 = kill at once.
        """
        if grace_ms and self.is_running:
            self.ask_to_stop()
            if not self.waitForFinished(grace_ms):
                self.terminate()
                self.waitForFinished(grace_ms)
        if self.is_running:
            self.kill()
            self.waitForFinished(KILL_WAIT_MS)

    def detach(self) -> None:
        """Let the process go on without us, also beyond the end of napari.

        Our ends of its pipes are closed; nothing is reported any more.
        """
        self._over = True
        self.waitForBytesWritten(1000)
        for signal in (self.readyReadStandardOutput, self.readyReadStandardError, self.finished):
            signal.disconnect()
        # QProcess's destructor kills a process that it believes to be running.
        self.setProcessState(QProcess.ProcessState.NotRunning)
        self.deleteLater()

    def _read_events(self) -> None:
        lines = (self._pending + self.readAllStandardOutput().data()).split(b"\n")
        self._pending = lines.pop()
        for line in lines:
            event = parse_event(line)
            if event is None:
                continue
            if isinstance(event, EngineReady):
                self._seconds_to_warm = event.seconds
            self.reported.emit(event)

    def _read_log(self) -> None:
        text = self.readAllStandardError().data().decode("utf-8", errors="replace")
        self._log.extend(line for line in text.splitlines() if line.strip())

    def _on_error(self, error: QProcess.ProcessError) -> None:
        # Every other error is followed by `finished`.
        if error == QProcess.ProcessError.FailedToStart:
            self._log.append(self.errorString())
            self._end(code=-1, signal=None)

    def _on_finished(self, code: int, status: QProcess.ExitStatus) -> None:
        self._read_events()
        self._read_log()
        crashed = status == QProcess.ExitStatus.CrashExit
        self._end(code=code, signal=code if crashed else None)

    def _end(self, *, code: int, signal: int | None) -> None:
        if self._over:
            return
        self._over = True
        log = "\n".join(self._log)
        was_warm = self._seconds_to_warm is not None
        self.ended.emit(EngineEnd(code, signal, was_warm, self._has_job, log))
        self.deleteLater()
