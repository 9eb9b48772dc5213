"""Calls that have to wait for the end of what Qt is doing now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtCore import QObject


def soon(owner: QObject, method: Callable[[], object], after_ms: int = 0) -> None:
    """Call a method at the next turn of the event loop, unless its owner is deleted by then.

    ``QTimer.singleShot`` would, under PySide6, call the method of an object that is gone.

    Parameters
    ----------
    owner : QObject
        Whose method it is.
    method : callable
        Takes nothing.
    after_ms : int
        What is laid out anew, words that wrap among it, takes several turns.
    """
    timer = QTimer(owner)
    timer.setSingleShot(True)
    timer.timeout.connect(method)
    timer.timeout.connect(timer.deleteLater)
    timer.start(after_ms)
