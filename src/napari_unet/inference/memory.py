"""An output that stays in memory: for notebooks and for images that fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from napari_unet.core.boxes import Box, Shape


class MemorySink:
    """Classes, and probabilities when they come, in memory.

    Parameters
    ----------
    shape : tuple of int
        Spatial shape (z, y, x).
    """

    def __init__(self, shape: Shape) -> None:
        self.labels = np.zeros(shape, np.uint8)
        self.probabilities: npt.NDArray[np.float32] | None = None

    @property
    def chunk_shape(self) -> Shape:
        """Every voxel is stored on its own, so every tile is stored at once."""
        return (1,) * self.labels.ndim

    def write_labels(self, box: Box, labels: npt.NDArray[np.uint8]) -> None:
        """Keep classes (z, y, x) of a box."""
        self.labels[box.slices] = labels

    def write_probabilities(self, box: Box, probabilities: npt.NDArray[np.float32]) -> None:
        """Keep probabilities (class, z, y, x) of a box."""
        if self.probabilities is None:
            shape = (probabilities.shape[0], *self.labels.shape)
            self.probabilities = np.zeros(shape, np.float32)
        self.probabilities[(slice(None), *box.slices)] = probabilities
