"""Word of each stroke that is painted on a layer, once it is on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from napari_unet.widgets._strokes_keeper import keeper_of

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_unet.core.boxes import Box
    from napari_unet.widgets._strokes_keeper import StrokesKeeper


class StrokeListener(QObject):
    """Listens to one layer at a time.

    Parameters
    ----------
    parent : QObject
        Owner.
    """

    painted = Signal(object)
    """Boxes (z, y, x) that have changed on disk; none for a layer that is in memory only."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._layer: Labels | None = None
        self._keeper: StrokesKeeper | None = None

    def listen(self, layer: Labels | None) -> None:
        """Listen to a layer from now on, and to no other; None = to none."""
        keeper = keeper_of(layer)
        if layer is self._layer and keeper is self._keeper:
            return
        self._leave()
        self._layer, self._keeper = layer, keeper
        if keeper is not None:
            keeper.stored.connect(self._on_stored)
        elif layer is not None:
            layer.events.paint.connect(self._on_paint)

    def flush(self) -> None:
        """Return when all that was painted is on disk.

        Raises
        ------
        StorageError
            If the disk refuses.
        """
        if self._keeper is not None and self._keeper.is_open:
            self._keeper.flush()

    def _leave(self) -> None:
        if self._keeper is not None:
            self._keeper.stored.disconnect(self._on_stored)
        elif self._layer is not None:
            self._layer.events.paint.disconnect(self._on_paint)

    def _on_stored(self, boxes: tuple[Box, ...]) -> None:
        self.painted.emit(boxes)

    def _on_paint(self, _: object) -> None:
        self.painted.emit(())
