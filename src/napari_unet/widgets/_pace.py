"""One beat for all that changes in the window while an engine works.

Whatever changes anywhere in napari's window has all of it put together anew; without a graphics
card each time costs a good part of a tenth of a second. So changes wait for the beat and are drawn
together, and the beat is as slow as drawing demands.
"""

from __future__ import annotations

import time
from functools import cache

from qtpy.QtCore import QObject, QTimer, Signal

SHORTEST_MS = 100
"""At most ten changes a second keep the window smooth whatever the tiles' size."""

LONGEST_MS = 800
"""What has changed is seen after this time, also where drawing is slow."""

REST = 7
"""Drawing takes one part of the time, and leaves this many to the mouse and to the engine."""


class Pace(QObject):
    """Beats when something waits to be shown, and not more often than drawing allows."""

    beat = Signal()
    """Show now what waits."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._interval_ms = SHORTEST_MS
        self._began = 0.0
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._beat)
        # Comes after what the beat has caused to be drawn.
        self._after = QTimer(self)
        self._after.setSingleShot(True)
        self._after.setInterval(0)
        self._after.timeout.connect(self._measure)

    @property
    def interval_ms(self) -> int:
        """Time from one beat to the next, as long as they are wanted."""
        return self._interval_ms

    def want(self) -> None:
        """Have it beat, once for all who want it until then."""
        if not self._timer.isActive():
            self._timer.start(self._interval_ms)

    def _beat(self) -> None:
        self._began = time.perf_counter()
        self.beat.emit()
        self._after.start()

    def _measure(self) -> None:
        milliseconds = 1e3 * (time.perf_counter() - self._began)
        wanted = round(milliseconds * REST)
        self._interval_ms = min(max(wanted, SHORTEST_MS), LONGEST_MS)


@cache
def window_pace() -> Pace:
    """Return the beat of this session; for the GUI's thread only."""
    return Pace()
