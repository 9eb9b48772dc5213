"""How a drafting engine is spoken to: where the user looks, what she painted, and its classes."""

from __future__ import annotations

import queue
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from napari_unet.inference.control import JobControl

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_unet.core.boxes import Box


@dataclass(frozen=True, slots=True)
class _LookAt:
    box: Box
    at: float


@dataclass(frozen=True, slots=True)
class _Strokes:
    boxes: tuple[Box, ...]
    at: float


@dataclass(frozen=True, slots=True)
class _Classes:
    names: tuple[str, ...]
    rename: dict[str, str]
    at: float


@dataclass(frozen=True, slots=True)
class _Annotation:
    path: str | None
    at: float


_Wish: TypeAlias = _LookAt | _Strokes | _Classes | _Annotation | None


@dataclass(slots=True)
class Wishes:
    """What was wished since it was last asked.

    Parameters
    ----------
    view : Box or None
        Where the user looks now, (z, y, x) in voxels of the image; None = where she did.
    strokes : list of Box
        Where the stored annotation has changed.
    classes : tuple of str or None
        The classes now; None = those before.
    rename : dict
        With `classes`: names of the model's classes -> their names in `classes`.
    annotation : str or None
        With `is_elsewhere`: path of the stored annotation that is painted into now.
    is_elsewhere : bool
        Whether another annotation is painted into than before.
    seen_at, painted_at : float or None
        When the view was wished, and when the oldest change of strokes or classes was said, by
        `time.monotonic`.
    """

    view: Box | None = None
    strokes: list[Box] = field(default_factory=list)
    classes: tuple[str, ...] | None = None
    rename: dict[str, str] = field(default_factory=dict)
    annotation: str | None = None
    is_elsewhere: bool = False
    seen_at: float | None = None
    painted_at: float | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing was wished."""
        return self.seen_at is None and self.painted_at is None

    def add(self, wish: _Wish) -> None:
        """Take one more wish into account; of views and classes the newest counts."""
        match wish:
            case _LookAt(box=box, at=at):
                self.view, self.seen_at = box, at
            case _Strokes(boxes=boxes, at=at):
                self.strokes += boxes
                self.painted_at = at if self.painted_at is None else self.painted_at
            case _Classes(names=names, rename=rename, at=at):
                self.classes, self.rename = names, rename
                self.painted_at = at if self.painted_at is None else self.painted_at
            case _Annotation(path=path, at=at):
                # What has changed in the one before is of no use any more.
                self.annotation, self.is_elsewhere, self.strokes = path, True, []
                self.painted_at = at if self.painted_at is None else self.painted_at


class DraftControl(JobControl):
    """Wishes of the user, set from any thread; the newest ones are taken first.

    Examples
    --------
    >>> from napari_unet.core.boxes import Box
    >>> control = DraftControl()
    >>> control.look_at(Box((0, 0, 0), (1, 9, 9)))
    >>> control.look_at(Box((0, 5, 5), (1, 9, 9)))
    >>> control.take().view
    Box(start=(0, 5, 5), stop=(1, 9, 9))
    """

    def __init__(self) -> None:
        super().__init__()
        # Its `put` may be interrupted by a signal whose handler puts, too; a lock's owner may not.
        self._news: queue.SimpleQueue[_Wish] = queue.SimpleQueue()
        self._hung_up = False

    @property
    def hung_up(self) -> bool:
        """Whether it ends because nobody speaks any more."""
        return self._hung_up

    def look_at(self, box: Box) -> None:
        """Wish for a draft of a box of the image, (z, y, x)."""
        self._news.put(_LookAt(box, time.monotonic()))

    def change_strokes(self, boxes: Sequence[Box]) -> None:
        """Say where the stored annotation has changed, (z, y, x)."""
        self._news.put(_Strokes(tuple(boxes), time.monotonic()))

    def change_annotation(self, path: str | None) -> None:
        """Say that another stored annotation is painted into from now on; None = none."""
        self._news.put(_Annotation(path, time.monotonic()))

    def change_classes(self, names: Sequence[str], rename: Mapping[str, str]) -> None:
        """Say what the labels mean from now on, and which classes of the model are renamed."""
        self._news.put(_Classes(tuple(names), dict(rename), time.monotonic()))

    def stop(self) -> None:
        """End the drafts; also ends a pause."""
        super().stop()
        self._news.put(None)

    def pause(self) -> None:
        """Let drafts wait."""
        super().pause()
        self._news.put(None)

    def resume(self) -> None:
        """Let paused drafts go on."""
        super().resume()
        self._news.put(None)

    def hang_up(self) -> None:
        """End the drafts because nobody speaks any more."""
        self._hung_up = not self.stopped
        self.stop()

    def take(self, *, wait: bool = False) -> Wishes:
        """Return what was wished since the last time.

        Parameters
        ----------
        wait : bool
            Return only when something was said; it may be no more than stop, pause or resume.
        """
        wishes = Wishes()
        if wait and not self.stopped:
            wishes.add(self._news.get())
        while True:
            try:
                wishes.add(self._news.get_nowait())
            except queue.Empty:
                return wishes
