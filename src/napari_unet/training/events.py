"""What a running training says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class StepDone:
    """The weights were changed once.

    Parameters
    ----------
    step : int
        From 1.
    loss, learning_rate : float
        Of this step.
    eta_seconds : float or None
        Time left, from the pace so far; None until it is known. No part of what the training is:
        two events that differ in it alone are equal.
    """

    step: int
    loss: float
    learning_rate: float
    eta_seconds: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Validated:
    """The averaged weights were scored after `step` steps; `is_best`: they are kept for now."""

    step: int
    metrics: Mapping[str, float]
    is_best: bool


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint is safe on disk."""

    step: int
    path: Path


@dataclass(frozen=True, slots=True)
class Stopped:
    """Training ended before its last step; the network holds the best, or last good, weights."""

    step: int
    reason: str


TrainingEvent: TypeAlias = StepDone | Validated | Saved | Stopped
