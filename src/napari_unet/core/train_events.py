"""What a running training says.

As JSON lines each is one object, as in `napari_unet.core.events`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from napari_unet.core.events import StageChanged, Warned

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_unet.core.boxes import Box

Verdict = Literal["better", "worse", "no difference shown"]
"""Of the gate: better or worse only if the 95 % interval of the difference excludes 0."""

EndReason = Literal["complete", "budget", "plateau", "stopped", "non-finite loss"]
"""Why a training ended; a budget is used up, a plateau brings no progress."""


@dataclass(frozen=True, slots=True)
class TrainingStarted:
    """Data and network are ready; steps come next.

    Parameters
    ----------
    run : str
        Run folder.
    output : str
        Path of the model file that will be written.
    parent : str or None
        Name of the model that is fine-tuned.
    classes : tuple of (name, color)
        The k-th class has the label k.
    new_classes : tuple of str
        Those that the parent does not know.
    annotated : mapping
        Voxels of each class that are learnt from.
    held_out : mapping
        Voxels of each class that select and judge.
    validation : str
        In a sentence: what was held out, or why nothing was.
    device : str
        Where the network runs.
    threads : int
        CPU threads.
    output_edge : int
        Edge of a training patch's labels, in pixels.
    steps : int or None
        Steps in all; None = as many as fit into `seconds`.
    seconds : float or None
        Time budget.
    first_step : int
        Steps taken before; not 0 when it goes on from a checkpoint.
    rehearsed : int
        Crops of what the parent learned from that are learnt again beside the labels.
    """

    run: str
    output: str
    parent: str | None
    classes: tuple[tuple[str, str], ...]
    new_classes: tuple[str, ...]
    annotated: Mapping[str, int]
    held_out: Mapping[str, int]
    validation: str
    device: str
    threads: int
    output_edge: int
    steps: int | None
    seconds: float | None
    first_step: int = 0
    rehearsed: int = 0


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
    path: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """Training ended before its last step; the network holds the best, or last good, weights."""

    step: int
    reason: str


@dataclass(frozen=True, slots=True)
class PreviewReady:
    """The averaged weights of a step were tried where the user is looking.

    Parameters
    ----------
    step : int
        The step; in the end that of the weights that are kept.
    path : str
        A ``.npy`` file, uint8, of the shape of `box` (z, y, x): the k-th class is k. It is replaced
        at once by the next preview.
    box : Box
        Part of the first image.
    before : str
        Such a file with what the parent says in the same box; empty without a parent.
    """

    step: int
    path: str
    box: Box
    before: str = ""


@dataclass(frozen=True, slots=True)
class Judged:
    """Old and new weights were compared on data that neither training nor selection has seen.

    Parameters
    ----------
    on : {"judging blocks", "regression crops"}
        Held-out parts of what was annotated now, or what the parent brought along.
    blocks : int
        How many independent parts there are.
    metric : str
        What is compared; higher is better.
    before, after : float
        Of the parent and of the new weights; `before` is NaN-free: None without a parent.
    low, high : float or None
        95 % interval of the difference, paired block bootstrap; None without a parent or with too
        few blocks.
    verdict : str or None
        None without a parent.
    classes : mapping
        Class name -> (F1 before, F1 after); before is None for a new class.
    note : str
        In a sentence.
    differences : mapping
        Class name -> (low, high, verdict) of the difference between the two in `classes`, each
        class by itself: with many, some intervals exclude 0 by chance. Only those that the parent
        knows, and for which there are blocks enough.
    """

    on: Literal["judging blocks", "regression crops"]
    blocks: int
    metric: str
    before: float | None
    after: float
    low: float | None
    high: float | None
    verdict: Verdict | None
    classes: Mapping[str, tuple[float | None, float | None]]
    note: str
    differences: Mapping[str, tuple[float, float, Verdict]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ComparisonReady:
    """Small pictures of places away from the strokes show old and new weights side by side.

    Parameters
    ----------
    path : str
        A ``.npz`` file without pickle: for the k-th place, from 0, ``image<k>`` (uint8, (y, x) or
        (y, x, 3)), ``new<k>`` and, with a parent, ``old<k>`` (uint8, (y, x): the k-th class is k).
    boxes : tuple of Box
        The places, (z, y, x), in voxels of the first image.
    changed : tuple of float
        Share of the voxels of each whose class has changed.
    note : str
        How they were chosen, in a sentence.
    """

    path: str
    boxes: tuple[Box, ...]
    changed: tuple[float, ...]
    note: str


@dataclass(frozen=True, slots=True)
class TrainingFinished:
    """The model file is written and complete.

    Parameters
    ----------
    model : str
        Path of the file.
    name : str
        Name in its header.
    run : str
        Run folder.
    reason : str
        Why the training ended.
    detail : str
        The reason in a sentence.
    steps : int
        Steps taken.
    best_step : int
        The step whose weights were kept.
    seconds : float
        From the start of the job to here; imports do not count.
    """

    model: str
    name: str
    run: str
    reason: EndReason
    detail: str
    steps: int
    best_step: int
    seconds: float


TrainingEvent: TypeAlias = StepDone | Validated | Saved | Stopped
"""What the loop alone says."""

TrainEvent: TypeAlias = (
    StageChanged
    | Warned
    | TrainingStarted
    | TrainingEvent
    | PreviewReady
    | Judged
    | ComparisonReady
    | TrainingFinished
)
"""Everything that a training job says; those of the loop are passed on as they are."""
