"""Whether a head was right on what was painted, before it learnt it and after."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_unet.core.classes import FIRST_CLASS
from napari_unet.core.draft_events import StrokeScored

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from torch import Tensor

    from napari_unet.app.drafting.feature_tile import FeatureTile
    from napari_unet.app.drafting.head import Head
    from napari_unet.app.drafting.stroke_cells import Change
    from napari_unet.core.boxes import Box

MAX_PER_CHANGE = 256
"""Pixels of a cell whose features are looked at; of more, every second, third, ... one is."""


class NewStrokes:
    """What was painted and is not scored yet."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Change, Head]] = []
        self._labels: list[npt.NDArray[np.uint8]] = []
        self._features: list[Tensor] = []
        self._before: list[npt.NDArray[np.object_]] = []
        self._pixels: list[npt.NDArray[np.uint8]] = []

    @property
    def waiting(self) -> list[Box]:
        """Boxes whose features are needed, on the network's grid."""
        return [change.box for change, _ in self._waiting]

    @property
    def is_ready(self) -> bool:
        """Whether there is something to score, and all features are known."""
        return bool(self._labels) and not self._waiting

    def add(self, changes: Sequence[Change], head: Head) -> None:
        """Take what was painted while a head was in use."""
        self._waiting += [(change, head) for change in changes]

    def take_from(self, box: Box, tile: FeatureTile | None) -> None:
        """Learn the features of pixels in a box; None = they cannot be computed."""
        left = []
        for change, head in self._waiting:
            if not box.contains(change.box):
                left.append((change, head))
            elif tile is not None:
                step = -(-len(change.labels) // MAX_PER_CHANGE)
                features = tile.features(change.y[::step], change.x[::step])
                self._features.append(features)
                self._labels.append(change.labels[::step])
                self._before.append(_names(head.predict(features), head))
                self._pixels.append(change.labels)
        self._waiting = left

    def forget(self) -> None:
        """Score nothing of what was painted until now."""
        for known in (self._waiting, self._labels, self._features, self._before, self._pixels):
            known.clear()

    def score(self, head: Head) -> StrokeScored | None:
        """Return how right the head is now and how right it was; forget them.

        None = nothing that was painted is of a class of the head.
        """
        labels, pixels = np.concatenate(self._labels), np.concatenate(self._pixels)
        now = _names(head.predict(torch.cat(self._features)), head)
        before = np.concatenate(self._before)
        painted = _names(labels, head)
        self.forget()
        classes, weights = {}, []
        for k, name in enumerate(head.classes, start=FIRST_CLASS):
            these, count = labels == k, int((pixels == k).sum())
            if count:
                right = [float((said[these] == painted[these]).mean()) for said in (before, now)]
                classes[name] = (count, right[0], right[1])
                weights.append((count, *right))
        if not weights:
            return None
        counts = np.array(weights)
        total = counts[:, 0].sum()
        was, is_now = (float(counts[:, 0] @ counts[:, k] / total) for k in (1, 2))
        return StrokeScored(int(total), was, is_now, classes)


def _names(labels: npt.NDArray[np.uint8], head: Head) -> npt.NDArray[np.object_]:
    """Return the names of classes, which outlive their numbers; None for others."""
    names = np.array([None, *head.classes], dtype=object)
    return names[np.where(labels <= len(head.classes), labels, 0)]
