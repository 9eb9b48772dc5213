"""One command of the CLI as a process of its own: what it prints as JSON, and how it ended."""

from __future__ import annotations

import json
import sys
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QProcess, QProcessEnvironment, Signal

if TYPE_CHECKING:
    from collections.abc import Mapping

PROGRAM = ("-m", "napari_unet")
"""What follows the interpreter: the command line itself."""

KEPT_LINES = 30
"""Lines of the log kept for error messages."""


@dataclass(frozen=True, slots=True)
class OneShotEnd:
    """How the process ended.

    Parameters
    ----------
    code : int
        Its exit code; -1 = it could not be started, or was killed by a signal.
    log : str
        Last lines of what it printed beside its answers.
    """

    code: int
    log: str

    @property
    def reason(self) -> str:
        """The command's own last words, without ``error:`` before them."""
        lines = self.log.splitlines()
        return lines[-1].removeprefix("error: ") if lines else f"exit code {self.code}"


class OneShot(QObject):
    """Runs ``python -m napari_unet ARGUMENTS`` once; never blocks the event loop.

    The process begins at once and dies with its owner.

    Parameters
    ----------
    parent : QObject
        Owner.
    arguments : tuple of str
        The command and its options, such as ``("plan", "--config", "job.json", "--json")``.
    first_line : dict or None
        What the command reads from standard input, as one line of JSON; None = nothing, and
        standard input is closed.
    """

    said = Signal(object)
    """A dict: one line of JSON, or all of standard output where it is one JSON document."""
    ended = Signal(object)
    """A `OneShotEnd`; emitted once, last, and not after `stop`."""

    def __init__(
        self,
        parent: QObject,
        arguments: tuple[str, ...],
        first_line: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(parent)
        self._pending = b""
        self._other: list[bytes] = []
        self._log: deque[str] = deque(maxlen=KEPT_LINES)
        self._over = False
        self._process = QProcess(self)
        environment = QProcessEnvironment.systemEnvironment()
        environment.insert("PYTHONUNBUFFERED", "1")
        environment.insert("PYTHONIOENCODING", "utf-8")
        self._process.setProcessEnvironment(environment)
        self._process.readyReadStandardOutput.connect(self._read_answers)
        self._process.readyReadStandardError.connect(self._read_log)
        self._process.errorOccurred.connect(self._on_error)
        self._process.finished.connect(self._on_finished)
        self._process.start(sys.executable, [*PROGRAM, *arguments])
        if first_line is None:
            self._process.closeWriteChannel()
        else:
            self._process.write(json.dumps(first_line).encode() + b"\n")

    @property
    def is_running(self) -> bool:
        """Whether more may be said."""
        return not self._over

    def send(self, line: Mapping[str, Any]) -> None:
        """Write one more line of JSON to the process."""
        if self.is_running:
            self._process.write(json.dumps(line).encode() + b"\n")

    def stop(self) -> None:
        """Kill the process, without waiting for its end; nothing is said any more."""
        if self._over:
            return
        self._over = True
        process = self._process
        for signal in (
            process.readyReadStandardOutput,
            process.readyReadStandardError,
            process.errorOccurred,
            process.finished,
        ):
            signal.disconnect()
        if process.state() == QProcess.ProcessState.NotRunning:
            self.deleteLater()
        else:
            process.finished.connect(self.deleteLater)
            process.kill()

    def _read_answers(self) -> None:
        lines = (self._pending + self._process.readAllStandardOutput().data()).split(b"\n")
        self._pending = lines.pop()
        for line in lines:
            self._take(line)

    def _take(self, line: bytes) -> None:
        answer = _parsed(line)
        if answer is not None:
            self.said.emit(answer)
        elif line.strip():
            self._other.append(line)

    def _read_log(self) -> None:
        text = self._process.readAllStandardError().data().decode("utf-8", errors="replace")
        self._log.extend(line for line in text.splitlines() if line.strip())

    def _on_error(self, error: QProcess.ProcessError) -> None:
        # Every other error is followed by `finished`.
        if error == QProcess.ProcessError.FailedToStart:
            self._log.append(self._process.errorString())
            self._end(-1)

    def _on_finished(self, code: int, status: QProcess.ExitStatus) -> None:
        self._read_answers()
        self._take(self._pending)
        self._read_log()
        # Some commands print one document over several lines.
        document = _parsed(b"\n".join(self._other))
        if document is not None and not self._over:
            self.said.emit(document)
        self._end(-1 if status == QProcess.ExitStatus.CrashExit else code)

    def _end(self, code: int) -> None:
        if self._over:
            return
        self._over = True
        self.ended.emit(OneShotEnd(code, "\n".join(self._log)))
        self.deleteLater()


def _parsed(text: bytes) -> dict[str, Any] | None:
    """Return the JSON object that a text is; None if it is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
