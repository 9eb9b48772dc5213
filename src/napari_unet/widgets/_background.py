"""Work of some seconds beside the GUI's thread, such as copying a layer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, QTimer, Signal

if TYPE_CHECKING:
    from collections.abc import Iterator

POLL_MS = 50
"""How often the work's progress is looked at."""


class BackgroundJob(QObject):
    """Work under way in a thread of its own; its signals come from the GUI's thread.

    The thread is looked at by a timer and touches no Qt object, so that neither can outlive the
    other's.

    Parameters
    ----------
    parent : QObject
        Owner.
    work : iterator of float
        Does a part of the work, then yields the share that is done, 0 to 1.
    """

    progressed = Signal(float)
    """Share that is done, 0 to 1."""
    succeeded = Signal()
    failed = Signal(object)
    """The exception."""

    def __init__(self, parent: QObject, work: Iterator[float]) -> None:
        super().__init__(parent)
        self._work = work
        self._share = 0.0
        self._cancelled = Event()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="napari-unet-background")
        self._future = self._executor.submit(self._run)
        self._timer = QTimer(self)
        self._timer.setInterval(POLL_MS)
        self._timer.timeout.connect(self._look)
        self._timer.start()

    def cancel(self) -> None:
        """End the work at its next part; nothing is reported any more."""
        self._timer.stop()
        self._cancelled.set()
        self._executor.shutdown(wait=False)

    def wait(self) -> None:
        """Return when the work has ended."""
        self._executor.shutdown(wait=True)

    def _run(self) -> None:
        for share in self._work:
            self._share = share
            if self._cancelled.is_set():
                return

    def _look(self) -> None:
        self.progressed.emit(self._share)
        if not self._future.done():
            return
        self.cancel()
        error = self._future.exception()
        if error is None:
            self.succeeded.emit()
        else:
            self.failed.emit(error)
