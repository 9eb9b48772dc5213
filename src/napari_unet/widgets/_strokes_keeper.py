"""Bringing painted strokes to disk while they are painted, so that no crash loses them."""

from __future__ import annotations

import logging
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Event
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from napari.utils.notifications import show_error, show_info, show_warning
from qtpy.QtCore import QCoreApplication, QObject, QTimer, Signal

from napari_unet.errors import AnnotationError, UNetError
from napari_unet.widgets._strokes_data import StrokesData

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari.layers import Labels

    from napari_unet.core.boxes import Box

logger = logging.getLogger(__name__)

REST_S = 0.12
"""Without a change for this long, a stroke is over: dabs of one come faster."""

MOST_UNWRITTEN_S = 1.0
"""What was painted is written after this long at the latest: while the brush is still down, while
stroke follows stroke without a rest, and while napari itself hangs."""

LONGEST_SILENCE_S = 5.0
"""Strokes that follow each other without a rest are told after this long, between two of them."""

POLL_MS = 30
"""How often the thread that writes is looked at."""

FIRST_RETRY_S = 1.0
LAST_RETRY_S = 30.0
"""Pauses between attempts to write onto a disk that refuses; they double."""

_keepers: WeakKeyDictionary[Labels, StrokesKeeper] = WeakKeyDictionary()


class StrokesKeeper(QObject):
    """Writes what is painted on a layer, undone or erased to its store, a moment later.

    A thread of its own waits for that moment and writes, so that no work of napari delays it.

    It closes itself when its layer is removed or gets other data, and when napari ends. A disk that
    refuses is told once, in words; the strokes stay in memory, and are tried again.

    Parameters
    ----------
    parent : QObject or None
        Owner.
    viewer : napari.Viewer
        Has, or will have, the layer.
    layer : Labels
        Its data are `StrokesData` that may be painted.

    Raises
    ------
    AnnotationError
        If the layer's data are something else.
    """

    stored = Signal(object)
    """Tuple of Box, (z, y, x): blocks whose labels have changed on disk. Never while the brush is
    down; at most 0.3 s after a stroke, unless the disk is slow or the next stroke has begun."""
    failed = Signal(str)
    """Why something could not be written, or read; once for each cause."""
    _changed = Signal()

    def __init__(self, parent: QObject | None, viewer: Any, layer: Labels) -> None:
        super().__init__(parent)
        if not isinstance(layer.data, StrokesData) or not layer.data.strokes.is_writable:
            raise AnnotationError(f"the layer {layer.name!r} holds no strokes that can be stored")
        self._layer: Labels | None = layer
        self._layers = viewer.layers.events
        self._strokes = layer.data.strokes
        self._buffer = self._strokes.buffer
        self._future: Future[None] | None = None
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="napari-unet-strokes")
        # What the thread has written, and what of it is not told yet.
        self._written: deque[Box] = deque()
        self._boxes: dict[Box, None] = {}
        self._untold_since = 0.0
        # Somebody waits for the thread.
        self._hurry = Event()
        self._is_down = False
        self._changed_since: float | None = None
        self._retry_at = 0.0
        self._retry_s = FIRST_RETRY_S
        self._words = ""
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._connect(layer)
        # The layer has read its first slice when it was made.
        self._tell_damage()
        _keepers[layer] = self

    def _connect(self, layer: Labels) -> None:
        self._timer.timeout.connect(self._look)
        # By a signal, because scripts paint from threads of their own, too.
        self._changed.connect(self._on_changed)
        self._buffer.listen(self._on_buffer_changed)
        self.failed.connect(show_error)
        layer.mouse_drag_callbacks.append(self._on_drag)
        layer.events.data.connect(self._on_data)
        layer.events.set_data.connect(self._tell_damage)
        layer.events.selected_label.connect(self._on_label)
        self._layers.removed.connect(self._on_removed)
        application = QCoreApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self.close)

    @property
    def is_open(self) -> bool:
        """Whether the layer's strokes are still brought to disk."""
        return self._layer is not None

    def flush(self) -> tuple[Box, ...]:
        """Bring everything to disk now; return the blocks that were not there, as `stored` tells.

        Raises
        ------
        StorageError
            If the disk refuses; the strokes stay in memory and are tried again.
        """
        self._finish(wait_for_it=True)
        if self._buffer.is_changed:
            try:
                self._written.extend(self._buffer.flush())
            except UNetError as error:
                self._on_refused(error)
                raise
        self._collect()
        return self._tell()

    def close(self) -> None:
        """Bring everything to disk and let go of layer and store."""
        layer, self._layer = self._layer, None
        if layer is None:
            return
        try:
            self.flush()
        except UNetError as error:
            logger.error("strokes are lost: %s", error)
            show_error(f"The last strokes on {layer.name!r} are lost: {error}")
        # Only now: a disk that refuses has just set it again.
        self._timer.stop()
        self._disconnect(layer)
        self._executor.shutdown(wait=True)
        self._strokes.close()
        if isinstance(layer.data, StrokesData) and layer.data.strokes is self._strokes:
            # What would be painted now reached no disk.
            layer.editable = False

    def _disconnect(self, layer: Labels) -> None:
        _keepers.pop(layer, None)
        if self._on_drag in layer.mouse_drag_callbacks:
            layer.mouse_drag_callbacks.remove(self._on_drag)
        layer.events.data.disconnect(self._on_data)
        layer.events.set_data.disconnect(self._tell_damage)
        layer.events.selected_label.disconnect(self._on_label)
        self._layers.removed.disconnect(self._on_removed)
        self._changed.disconnect(self._on_changed)
        application = QCoreApplication.instance()
        if application is not None:
            application.aboutToQuit.disconnect(self.close)

    def _on_drag(self, _: Labels, event: Any) -> Iterator[None]:
        """Know when the brush is down; called by napari at each press of a button."""
        self._is_down = True
        try:
            yield
            while event.type == "mouse_move":
                yield
        finally:
            self._is_down = False

    def _on_buffer_changed(self) -> None:
        if self._layer is not None:
            if self._changed_since is None:
                self._changed_since = time.monotonic()
            self._changed.emit()

    def _on_changed(self) -> None:
        if self._future is None and self._layer is not None:
            self._begin()

    def _on_data(self, _: object = None) -> None:
        data = self._layer.data if self._layer is not None else None
        if not isinstance(data, StrokesData) or data.strokes is not self._strokes:
            self.close()

    def _tell_damage(self, _: object = None) -> None:
        """Say what of the strokes could not be read; called whenever napari has read some."""
        for words in self._buffer.take_damage():
            self.failed.emit(words)

    def _on_removed(self, event: Any) -> None:
        if event.value is self._layer:
            self.close()

    def _on_label(self, _: object = None) -> None:
        classes = self._buffer.classes
        label = 0 if self._layer is None else int(self._layer.selected_label)
        if label > len(classes):
            names = ", ".join(each.name for each in classes)
            show_warning(
                f"The label {label} is none of the {len(classes)} classes ({names}); choose one of "
                "them, or add a class"
            )

    def _begin(self) -> None:
        """Let the thread write what has changed, when its time has come."""
        pause = self._retry_at - time.monotonic()
        if pause > 0:
            self._timer.start(max(round(pause * 1000), POLL_MS))
            return
        self._future = self._executor.submit(self._write_in_time)
        self._timer.start(POLL_MS)

    def _write_in_time(self) -> None:
        """Wait for the moment to write, and write, until nothing has changed; in a thread."""
        while self._buffer.is_changed:
            while (pause := self._pause()) > 0 and not self._hurry.wait(pause):
                pass
            self._changed_since = None
            self._written.extend(self._buffer.flush())
            if self._hurry.is_set():
                return

    def _pause(self) -> float:
        """Return for how long nothing is to be written yet, in seconds."""
        now = time.monotonic()
        since = now if self._changed_since is None else self._changed_since
        rest = 0.0 if self._is_down else self._buffer.seconds_of_rest
        return min(REST_S - rest, since + MOST_UNWRITTEN_S - now)

    def _look(self) -> None:
        """See what the thread has done; tell it when a stroke is over."""
        self._finish()
        if self._future is None and self._buffer.is_changed:
            self._begin()
        if self._boxes and self._may_tell():
            self._tell()
        if self._future is not None or self._boxes:
            self._timer.start(POLL_MS)

    def _may_tell(self) -> bool:
        if self._is_down:
            return False
        if time.monotonic() - self._untold_since > LONGEST_SILENCE_S:
            return True
        is_written = self._future is None and not self._buffer.is_changed
        return is_written and self._buffer.seconds_of_rest >= REST_S

    def _finish(self, wait_for_it: bool = False) -> None:
        """Take note of what the thread has written, and of whether it is done."""
        future = self._future
        if future is not None and wait_for_it:
            self._hurry.set()
            wait([future])
            self._hurry.clear()
        is_done = future is not None and future.done()
        self._collect()
        if future is None or not is_done:
            return
        self._future = None
        error = future.exception()
        if error is None:
            if self._words:
                show_info("The strokes are on disk again.")
            self._words, self._retry_s, self._retry_at = "", FIRST_RETRY_S, 0.0
        else:
            self._on_refused(error)

    def _collect(self) -> None:
        """Take over what the thread has written."""
        if self._written and not self._boxes:
            self._untold_since = time.monotonic()
        while self._written:
            self._boxes[self._written.popleft()] = None

    def _on_refused(self, error: BaseException) -> None:
        self._retry_at = time.monotonic() + self._retry_s
        self._retry_s = min(2 * self._retry_s, LAST_RETRY_S)
        words = str(error) if isinstance(error, UNetError) else f"{type(error).__name__}: {error}"
        if words != self._words:
            self._words = words
            self.failed.emit(f"The strokes are not on disk yet: {words}. They are tried again.")
        if not self._timer.isActive():
            self._timer.start(round(1000 * FIRST_RETRY_S))

    def _tell(self) -> tuple[Box, ...]:
        boxes, self._boxes = tuple(self._boxes), {}
        if boxes:
            self.stored.emit(boxes)
        return boxes


def keeper_of(layer: Labels | None) -> StrokesKeeper | None:
    """Return who brings a layer's strokes to disk; None = nobody, they are only in memory."""
    return None if layer is None else _keepers.get(layer)


def keep(viewer: Any, layer: Labels) -> StrokesKeeper | None:
    """Have what is painted on a layer brought to disk from now on.

    None where its strokes are only looked at; the layer cannot be painted on then.
    """
    if isinstance(layer.data, StrokesData) and layer.data.strokes.is_writable:
        return StrokesKeeper(None, viewer, layer)
    layer.editable = False
    return None
