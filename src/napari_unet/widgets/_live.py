"""Live: a fine-tune that starts by itself when the brush has rested after a stroke."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, QTimer, Signal

if TYPE_CHECKING:
    from collections.abc import Callable

REST_MS = 2000
"""How long after the last stroke."""


class LiveSwitch(QObject):
    """Tells when strokes have rested long enough; says nothing while it is off.

    Parameters
    ----------
    parent : QObject
        Owner.
    is_painting : callable
        Whether a stroke is being painted; the rest begins when it is not.
    """

    due = Signal()
    """The brush has rested; a fine-tune should start."""

    def __init__(self, parent: QObject, is_painting: Callable[[], bool]) -> None:
        super().__init__(parent)
        self._is_painting = is_painting
        self._is_on = False
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(REST_MS)
        self._timer.timeout.connect(self._on_rest)

    @property
    def is_on(self) -> bool:
        """Whether a fine-tune starts by itself."""
        return self._is_on

    def set_on(self, on: bool) -> None:
        """Switch it on or off; strokes from before do not count."""
        self._is_on = on
        self._timer.stop()

    def stroke(self) -> None:
        """Take note of a stroke: the rest begins anew."""
        if self._is_on:
            self._timer.start()

    def _on_rest(self) -> None:
        if self._is_painting():
            self._timer.start()
        else:
            self.due.emit()
