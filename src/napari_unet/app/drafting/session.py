"""A drafting session: takes wishes, does what is most urgent, one short step at a time.

What is looked at comes first, then what was painted, then more of what is looked at, last the
features of strokes elsewhere. No step takes longer than one tile of the network.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from napari_unet.app.drafting.draft_files import DraftFiles
from napari_unet.app.drafting.kept_tiles import CELL_EDGE, KeptTiles
from napari_unet.app.drafting.new_strokes import NewStrokes
from napari_unet.app.drafting.painted import Painted
from napari_unet.app.drafting.view import View
from napari_unet.core.boxes import Box
from napari_unet.core.draft_events import DraftReady
from napari_unet.core.events import Paused, Warned
from napari_unet.errors import (
    AnnotationError,
    ConfigError,
    InputError,
    NonFiniteError,
    OutOfMemoryError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_unet.app.drafting.control import DraftControl, Wishes
    from napari_unet.app.drafting.opened import OpenedDraft
    from napari_unet.core.draft_events import DraftEvent

TILE_EDGE = 640
"""Largest edge of a tile, in pixels of the network's grid: the middle of a view is one tile."""

FAR_TILE_EDGE = 256
"""The same for strokes that are not looked at: a third of a second on two CPU cores."""

REFIT_SECONDS = 2.0
"""How often strokes elsewhere, whose features were just computed, are learnt."""


class DraftSession:
    """Drafts of one image, until it is told to stop.

    Parameters
    ----------
    opened : OpenedDraft
        What is drafted on.

    Raises
    ------
    StorageError
        If there is no folder for drafts.
    ConfigError
        If classes of the model are renamed that it does not have.
    InputError, AnnotationError
        If the stored annotation is damaged or of another image.
    """

    def __init__(self, opened: OpenedDraft) -> None:
        job, self._opened = opened.job, opened
        self._files = DraftFiles(job.folder)
        self._kept = KeptTiles(opened.image.shape, job.kept_megabytes * 2**20)
        self._painted = Painted(job.annotation, opened.image)
        self._start = self._head = opened.heads.start(job.classes, job.rename)
        self._view = View(opened.image, self._kept, opened.net.bytes_per_pixel)
        self._new = NewStrokes()
        self._unread = self._painted.boxes()
        self._tile_edge = TILE_EDGE
        # Since when something waits to be learnt: new strokes or classes, and strokes elsewhere.
        self._painted_at: float | None = None
        self._far_at: float | None = None
        self._fitted_at = 0.0

    @property
    def drafts(self) -> int:
        """How many drafts were made."""
        return self._files.written

    def run(self, control: DraftControl) -> Iterator[DraftEvent]:
        """Obey wishes until told to stop, yielding what happens."""
        paused = False
        while True:
            step = self._next_step()
            wishes = control.take(wait=step is None or control.paused)
            if control.stopped:
                return
            yield from self._obey(wishes)
            if control.paused != paused:
                paused = control.paused
                yield Paused(paused)
            # What was wished may make another step more urgent.
            if step is not None and wishes.is_empty and not paused:
                yield from step()

    def _obey(self, wishes: Wishes) -> Iterator[DraftEvent]:
        """Take wishes into account; nothing is computed yet."""
        if wishes.view is not None:
            self._view.look_at(wishes.view, wishes.seen_at or time.monotonic())
        if wishes.painted_at is None:
            return
        self._painted_at = self._painted_at or wishes.painted_at
        renumbered = False
        if wishes.classes is not None:
            known = self._start.classes
            try:
                self._start = self._opened.heads.start(wishes.classes, wishes.rename)
            except ConfigError as error:
                yield Warned(str(error))
            else:
                renumbered = self._start.classes[: len(known)] != known
        try:
            if wishes.is_elsewhere:
                self._painted, self._new = (
                    Painted(wishes.annotation, self._opened.image),
                    NewStrokes(),
                )
                self._unread = self._painted.boxes()
            boxes = self._painted.boxes() if renumbered else wishes.strokes
            changes = self._painted.read(boxes)
        except (InputError, AnnotationError) as error:
            yield Warned(str(error))
            return
        if not renumbered:
            self._new.add(changes, self._head)
        self._learn_from_kept()

    def _next_step(self) -> Callable[[], Iterator[DraftEvent]] | None:
        """Return the most urgent thing to do; None = nothing."""
        view, target = self._view, self._view.next
        if target is not None and view.drafted is None:
            return self._show
        if self._painted_at is not None and (view.drafted is not None or self._new.is_ready):
            return self._learn
        if target is not None:
            return self._show
        if self._far_at is not None and time.monotonic() - self._fitted_at > REFIT_SECONDS:
            return self._learn
        if self._unread:
            return self._read_old
        if self._far_boxes():
            return self._reach_far
        return None if self._far_at is None else self._learn

    def _show(self) -> Iterator[DraftEvent]:
        """Compute a tile of what is looked at; when all are there, draft it."""
        target = self._view.next
        if target is None:
            return
        missing = self._kept.missing(self._opened.image.seen(target), self._tile_edge)
        if missing:
            began = time.monotonic()
            yield from self._compute(missing[0], keep=True)
            self._view.note_pace(missing[0], time.monotonic() - began)
        else:
            self._view.shown += 1
            yield self._draft(self._view.since)

    def _learn(self) -> Iterator[DraftEvent]:
        """Fit the head to all strokes whose features are known, and draft again."""
        since = self._painted_at or self._far_at or time.monotonic()
        self._painted_at = self._far_at = None
        strokes = self._painted.cells.features(len(self._start.classes))
        heads = self._opened.heads
        self._head = self._start if strokes is None else heads.fit(self._start, strokes)
        self._fitted_at = time.monotonic()
        if self._view.drafted is not None:
            yield self._draft(since)
        if self._new.is_ready and (score := self._new.score(self._head)) is not None:
            yield score

    def _read_old(self) -> Iterator[DraftEvent]:
        """Read some of the strokes that were there in the beginning, the last first."""
        try:
            self._painted.read([self._unread.pop()])
        except (InputError, AnnotationError) as error:
            yield Warned(str(error))
        if self._learn_from_kept():
            self._far_at = self._far_at or time.monotonic()

    def _far_boxes(self) -> list[Box]:
        """Return the cells that strokes lie in whose features are needed, the newest first."""
        return [*self._new.waiting, *self._painted.cells.unknown()]

    def _reach_far(self) -> Iterator[DraftEvent]:
        """Compute the features of strokes that are not looked at."""
        boxes, edge = self._far_boxes(), min(FAR_TILE_EDGE, self._tile_edge)
        window = _window(boxes[0], edge)
        yield from self._compute(_hull([box for box in boxes if window.contains(box)]), keep=False)

    def _compute(self, box: Box, *, keep: bool) -> Iterator[DraftEvent]:
        """Compute the features of a box of whole cells."""
        tile = None
        try:
            tile = self._opened.net.tile(self._opened.image, box)
        except OutOfMemoryError as error:
            if self._tile_edge <= CELL_EDGE:
                raise
            # Windows of whole cells: one that cut a cell would hold no stroke of it.
            self._tile_edge = max(max(box.shape) // 2 // CELL_EDGE, 1) * CELL_EDGE
            yield Warned(
                f"{str(error).partition(';')[0]}; drafts go on with {self._tile_edge} pixels"
            )
            return
        except (InputError, NonFiniteError) as error:
            yield Warned(str(error))
        if keep:
            self._kept.add(box, tile)
        self._new.take_from(box, tile)
        if self._painted.cells.take_from(box, tile):
            self._far_at = self._far_at or time.monotonic()

    def _learn_from_kept(self) -> bool:
        """Take the features of strokes that were looked at; return whether there were any."""
        learnt = False
        for box, tile in self._kept.items():
            self._new.take_from(box, tile)
            learnt |= self._painted.cells.take_from(box, tile)
        return learnt

    def _draft(self, since: float) -> DraftReady:
        """Write what the head says of what is looked at."""
        box = self._view.drafted
        if box is None:
            raise RuntimeError("nothing is looked at")
        path = self._files.write(self._view.paint(self._head))
        head, seconds = self._head, time.monotonic() - since
        return DraftReady(path, box, head.learned, seconds, head.classes)


def _window(box: Box, edge: int) -> Box:
    """Return the square of a fixed grid that a cell lies in."""
    start = (box.start[0], *(a // edge * edge for a in box.start[1:]))
    return Box(start, (box.stop[0], *(a + edge for a in start[1:])))


def _hull(boxes: list[Box]) -> Box:
    """Return the smallest box that holds all boxes."""
    start = tuple(min(n) for n in zip(*(box.start for box in boxes), strict=True))
    return Box(start, tuple(max(n) for n in zip(*(box.stop for box in boxes), strict=True)))
