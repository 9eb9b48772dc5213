"""A drafting engine, step by step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.app.drafting.control import DraftControl
from napari_unet.app.drafting.run import run_draft
from napari_unet.core.boxes import Box
from napari_unet.core.draft_events import DraftReady, DraftStarted

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_unet.core.draft_events import DraftEvent
    from napari_unet.core.draft_job import DraftJob

NAMES = ("class 1", "class 2")
WHOLE = Box((0, 0, 0), (3, 90, 70))
SLICE = Box((1, 0, 0), (2, 90, 70))


class Drafting:
    """A drafting engine whose steps are taken one by one."""

    def __init__(self, job: DraftJob) -> None:
        self.control = DraftControl()
        self.events: list[DraftEvent] = []
        self._running = run_draft(job, self.control)
        self.until(DraftStarted)

    def until(self, kind: type) -> Any:
        """Take steps until something happens; return it."""
        for event in self._running:
            self.events.append(event)
            if isinstance(event, kind):
                return event
        raise AssertionError(f"no {kind.__name__} came, but {self.events}")

    def draft(self, box: Box) -> DraftReady:
        """Look at a box and return the next draft."""
        self.control.look_at(box)
        ready: DraftReady = self.until(DraftReady)
        return ready

    def learn(self, *boxes: Box) -> DraftReady:
        """Say that strokes have changed and return the next draft."""
        self.control.change_strokes(boxes)
        ready: DraftReady = self.until(DraftReady)
        return ready

    def close(self) -> None:
        """Stop."""
        self._running.close()


def labels_of(ready: DraftReady) -> npt.NDArray[np.uint8]:
    """Return what a draft says."""
    labels: npt.NDArray[np.uint8] = np.load(Path(ready.path))
    assert labels.shape == ready.box.shape
    assert labels.dtype == np.uint8
    return labels
