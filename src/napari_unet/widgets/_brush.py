"""Whether the mouse button is down in the canvas, such as while a stroke is painted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

if TYPE_CHECKING:
    from collections.abc import Iterator


class BrushWatcher(QObject):
    """Follows the mouse button in a viewer's canvas until `close`.

    Parameters
    ----------
    parent : QObject
        Owner.
    viewer : napari.Viewer
        The viewer.
    """

    lifted = Signal()
    """The button came up."""

    def __init__(self, parent: QObject, viewer: Any) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._is_down = False
        self._callback = self._follow
        viewer.mouse_drag_callbacks.append(self._callback)

    @property
    def is_down(self) -> bool:
        """Whether the button is down."""
        return self._is_down

    def close(self) -> None:
        """Follow no more."""
        if self._callback in self._viewer.mouse_drag_callbacks:
            self._viewer.mouse_drag_callbacks.remove(self._callback)
        self._is_down = False

    def _follow(self, _: Any, event: Any) -> Iterator[None]:
        self._is_down = True
        yield
        while event.type == "mouse_move":
            yield
        self._is_down = False
        self.lifted.emit()
