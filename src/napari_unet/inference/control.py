"""How a running job is spoken to: stop, pause, and where the user is looking."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_unet.core.boxes import Box


class JobControl:
    """Wishes of the user, set from any thread and obeyed at the next tile.

    Examples
    --------
    >>> control = JobControl()
    >>> control.stop()
    >>> control.stopped
    True
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._winding_down = threading.Event()
        self._running = threading.Event()
        self._running.set()
        self._viewport: Box | None = None

    @property
    def stopped(self) -> bool:
        """Whether the job is to end."""
        return self._stopped.is_set()

    @property
    def winding_down(self) -> bool:
        """Whether the job is to end at the next block."""
        return self._winding_down.is_set()

    @property
    def ending(self) -> bool:
        """Whether the job is to end, at once or at the next block."""
        return self.stopped or self.winding_down

    @property
    def paused(self) -> bool:
        """Whether the job is to wait."""
        return not self._running.is_set()

    @property
    def viewport(self) -> Box | None:
        """What the user is looking at, (z, y, x) in voxels of the image; None = unknown."""
        with self._lock:
            return self._viewport

    @viewport.setter
    def viewport(self, box: Box | None) -> None:
        with self._lock:
            self._viewport = box

    def wind_down(self) -> None:
        """End the job when the blocks that were begun are done; also ends a pause."""
        self._winding_down.set()
        self._running.set()

    def stop(self) -> None:
        """End the job at the next tile; also ends a pause."""
        self._stopped.set()
        self._running.set()

    def pause(self) -> None:
        """Let the job wait at the next tile."""
        if not self.ending:
            self._running.clear()

    def resume(self) -> None:
        """Let a paused job go on."""
        self._running.set()

    def wait_while_paused(self) -> None:
        """Return once the job may go on."""
        self._running.wait()
