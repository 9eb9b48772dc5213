"""Everything that a training job says."""

from __future__ import annotations

from typing import TypeAlias

from napari_unet.core.events import StageChanged, Warned
from napari_unet.core.train_events import (
    Judged,
    PreviewReady,
    TrainingFinished,
    TrainingStarted,
)
from napari_unet.training.events import TrainingEvent

__all__ = ["TrainEvent"]

TrainEvent: TypeAlias = (
    StageChanged
    | Warned
    | TrainingStarted
    | TrainingEvent
    | PreviewReady
    | Judged
    | TrainingFinished
)
"""Those of the loop are passed on as they are."""
