"""What the training loop says, as the panel reads it.

The loop's own event classes stand on a floor that knows torch; the panel must start without it.
A test compares the fields of both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from napari_unet.core.train_events import Judged, PreviewReady, TrainingFinished, TrainingStarted

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class StepDone:
    """The weights were changed once; `step` counts from 1. `eta_seconds` None = unknown."""

    step: int
    loss: float
    learning_rate: float
    eta_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Validated:
    """The averaged weights were scored; metrics are "score", "loss", "iou/NAME", "f1/NAME"."""

    step: int
    metrics: Mapping[str, float]
    is_best: bool


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint is safe on disk."""

    step: int
    path: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """Training ended before its last step; the best weights follow."""

    step: int
    reason: str


TrainEvent: TypeAlias = (
    TrainingStarted
    | StepDone
    | Validated
    | Saved
    | Stopped
    | PreviewReady
    | Judged
    | TrainingFinished
)
"""What a training says, besides what every job can say."""
