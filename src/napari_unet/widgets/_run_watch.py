"""Looks for runs that did not finish, and at how far they are, in a thread of its own."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, QTimer, Signal

from napari_unet.errors import UNetError
from napari_unet.widgets._layers import image_root

if TYPE_CHECKING:
    from concurrent.futures import Future

    from napari_unet.app.following import FollowedRun, Standing

LOOK_MS = 500
"""How often a run that is going on is looked at."""

SEARCH_SECONDS = 4.0
"""How often folders are searched for other runs."""

SHARE_OF_TIME = 10
"""A look on a slow folder is followed by so many times its own length without one."""

RunKey = tuple[Path, str]
"""Output and name of a label image."""


@dataclass(frozen=True, slots=True)
class Search:
    """Where to look for runs.

    Parameters
    ----------
    image : Path or None
        Runs of this image are wanted; None = of none.
    folders : tuple of Path
        Where their records may lie.
    named : tuple of (Path, str)
        Further runs, whatever their image.
    """

    image: Path | None = None
    folders: tuple[Path, ...] = ()
    named: tuple[RunKey, ...] = ()


@dataclass(frozen=True, slots=True)
class SeenRun:
    """A run and how far it is."""

    run: FollowedRun
    standing: Standing

    @property
    def key(self) -> RunKey:
        """What tells it from others."""
        return self.run.output, self.run.name


class RunWatch(QObject):
    """Looks at runs from now on until `close`; its signal comes from the GUI's thread.

    Parameters
    ----------
    parent : QObject
        Owner.
    """

    seen = Signal(object)
    """A tuple of `SeenRun`: those that did not finish, and once more those that just did."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._search = Search()
        self._work = _Looking()
        self._executor: ThreadPoolExecutor | None = None
        self._future: Future[tuple[SeenRun, ...]] | None = None
        self._timer = QTimer(self)
        self._timer.setInterval(LOOK_MS)
        self._timer.timeout.connect(self._tick)

    def look_for(self, search: Search) -> None:
        """Look for other runs; those of before are forgotten."""
        self._search = search
        is_needed = search.image is not None or bool(search.named)
        if is_needed and self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="napari-unet-runs")
            self._timer.start()
            self._tick()

    def close(self) -> None:
        """Look no more."""
        self._timer.stop()
        self._future = None
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None

    def _tick(self) -> None:
        if self._executor is None or (self._future is not None and not self._future.done()):
            return
        if self._future is not None:
            found = self._future.result()
            self._future = None
            self.seen.emit(found)
        # Whoever was told may have closed it.
        if self._executor is not None and time.monotonic() >= self._work.next_look:
            self._future = self._executor.submit(self._work.look, self._search)


class _Looking:
    """What the thread remembers from look to look."""

    def __init__(self) -> None:
        self.next_look = 0.0
        self._search = Search()
        self._next_search = 0.0
        self._found: tuple[RunKey, ...] = ()
        self._runs: dict[RunKey, SeenRun] = {}

    def look(self, search: Search) -> tuple[SeenRun, ...]:
        """Return the runs that are searched for, as they are now."""
        began = time.monotonic()
        if search != self._search or began >= self._next_search:
            self._found = _find(search)
            self._search, self._next_search = search, began + SEARCH_SECONDS
        wanted = dict.fromkeys((*self._found, *search.named))
        # What has finished since is said once more.
        wanted |= dict.fromkeys(k for k, s in self._runs.items() if s.standing.state == "running")
        self._runs = {key: seen for key in wanted if (seen := self._look_at(key)) is not None}
        self.next_look = began + (time.monotonic() - began) * SHARE_OF_TIME
        return tuple(self._runs.values())

    def _look_at(self, key: RunKey) -> SeenRun | None:
        # Imported on demand, and in the thread: the panel opens without it.
        from napari_unet.app.following import follow

        before = self._runs.get(key)
        try:
            run = follow(*key) if before is None else before.run
            return SeenRun(run, run.look())
        except UNetError:
            # Deleted, moved, or a network drive that does not answer for a moment.
            return before if before is not None and key[0].exists() else None


def _find(search: Search) -> tuple[RunKey, ...]:
    """Return the unfinished runs of an image whose records lie in some folders."""
    from napari_unet.app.following import find_unfinished

    if search.image is None:
        return ()
    wanted = os.path.realpath(image_root(search.image))
    return tuple(
        (output, name)
        for folder in search.folders
        for output, name, job in find_unfinished(folder)
        if os.path.realpath(image_root(Path(job.input))) == wanted
    )
