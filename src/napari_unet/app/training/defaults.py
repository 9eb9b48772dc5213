"""Settings that nobody gave: one table for fine-tuning, one for training from nothing.

=========================  ==========================  =================================
setting                    fine-tuning                 from nothing
=========================  ==========================  =================================
budget                     1 minute                    10 minutes
network                    the parent's                16 channels, depth 4, batch norm
batch statistics           the parent's, never changed learnt, fixed after 60 %
learning rate at its peak  1e-3                        2e-3
balance of rare classes    0.35                        0.5
what nobody painted        as the parent has it        nothing is known of it
=========================  ==========================  =================================

Everything else is in `FINE_TUNE` and `FROM_NOTHING`. What a job gives in its tables ``network``,
``loop`` and ``sampler`` comes on top.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from napari_unet.core.architecture import Architecture
from napari_unet.core.settings import Settings
from napari_unet.errors import ConfigError
from napari_unet.training.loop_settings import LoopSettings
from napari_unet.training.volumes import VolumeSamplerSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_unet.core.train_job import TrainJob

OUTPUT_EDGE = 196
"""Edge of a patch's labels in pixels, with `--steps`: the same on every machine."""

VALIDATIONS = 10
"""Validations of a training that is counted in steps."""

WARMUP_SHARE = 0.05
"""Share of the steps in which the learning rate rises."""

RANDOM_STROKES, CORRECTIONS = 0.1, 0.3
"""Shares of their pixels that `em-membranes` has wrong: of strokes at random places in tissue that
it does not know, and of strokes that begin on its mistakes in tissue that it knows."""

PATIENCE_FROM_WITH_NEW = 0.5
"""Share of the budget before which no training is given up that learns a new class."""

SECONDS_BETWEEN_CHECKPOINTS = 20.0
"""What a crash may cost."""

_ELSEWHERE = {
    "steps": "--steps",
    "seconds": "--minutes",
    "seed": "--seed",
    "precision": "--precision",
}
"""Settings of the loop that the job itself has."""


class TrainingDefaults(Settings):
    """What one kind of training does when nothing else is said.

    Parameters
    ----------
    minutes : float
        Time budget.
    network, loop, sampler : dict
        Fields of `Architecture`, `LoopSettings` and `VolumeSamplerSettings` that differ from the
        defaults there.
    balance_power : float
        How much rare classes weigh in the loss, see `training.weight_map.balance_weights`.
    head_start : bool
        Fit the last layer to what is annotated before the first step, see `training.linear_head`.
    retention : float
        Weight of the parent's answers where nothing is annotated, where strokes lie on its
        mistakes; see `bias_of_strokes`.
    """

    minutes: Annotated[float, Field(gt=0)]
    network: dict[str, Any] = Field(default_factory=dict)
    loop: dict[str, Any] = Field(default_factory=dict)
    sampler: dict[str, Any] = Field(default_factory=dict)
    balance_power: Annotated[float, Field(ge=0, le=1)] = 0.5
    head_start: bool = False
    retention: Annotated[float, Field(ge=0)] = 0.0


FINE_TUNE = TrainingDefaults(
    minutes=1,
    balance_power=0.35,
    head_start=True,
    retention=4.0,
    loop={
        "optimizer": "adamw",
        "peak_rate": 1e-3,
        "weight_decay": 1e-4,
        "average_decay": 0.98,  # a minute on two cores has about 200 steps
        "freeze_norm_from": 0.0,  # a few strokes are too little to measure statistics on
    },
    sampler={"geometric": {"free_share": 0.5, "scale_sigma": 0.1}},
)
"""From a parent, on few strokes.

Nothing is rehearsed: in a minute it costs more of the new tissue than it keeps of the old one, and
the parent stays as it is for that. The gate says what was forgotten.
"""

FROM_NOTHING = TrainingDefaults(
    minutes=10,
    network={"base_channels": 16, "depth": 4, "norm": "batch", "dropout": 0.1},
    loop={
        "optimizer": "adamw",
        "peak_rate": 2e-3,
        "weight_decay": 1e-3,
        "average_decay": 0.99,
        "freeze_norm_from": 0.6,
    },
    sampler={"geometric": {"free_share": 0.6, "scale_sigma": 0.1}},
)
"""From random weights. The paper's 64 channels would take 16 times as long for each step."""


def defaults_of(job: TrainJob) -> TrainingDefaults:
    """Return the table for a job: fine-tuning if it has a parent."""
    return FROM_NOTHING if job.parent is None else FINE_TUNE


def budget_of(job: TrainJob) -> float | None:
    """Return the seconds that a job may take in all; None if it is counted in steps."""
    if job.steps is not None:
        return None
    return 60 * (defaults_of(job).minutes if job.minutes is None else job.minutes)


def network_settings(job: TrainJob, in_channels: int, num_classes: int) -> Architecture:
    """Return the architecture of a network that starts from nothing.

    Raises
    ------
    ConfigError
        If a setting does not exist or cannot be used.
    """
    fixed = {"in_channels": in_channels, "num_classes": num_classes}
    _refuse(job.network, dict.fromkeys(fixed, "the images and --classes"), "network")
    values = {**defaults_of(job).network, **job.network, **fixed}
    return Architecture.parse(values, source="network settings")


def loop_settings(
    job: TrainJob,
    seconds: float | None,
    class_weights: Sequence[float],
    *,
    contradicted: float = 0.0,
    is_new: bool = False,
) -> LoopSettings:
    """Return how weights are changed.

    Parameters
    ----------
    job : TrainJob
        With steps, or the default budget.
    seconds : float or None
        What the loop itself may take, without steps.
    class_weights : sequence of float
        Used unless the job gives some.
    contradicted : float
        Share of what is annotated that the parent has wrong. Used unless the job gives a
        `retention_weight`.
    is_new : bool
        Whether there is a class that the parent does not know. It comes up late, and its scores on
        a few strokes are rough.

    Raises
    ------
    ConfigError
        If a setting does not exist or cannot be used.
    """
    _refuse(job.loop, _ELSEWHERE, "loop")
    values: dict[str, Any] = {
        "class_weights": tuple(class_weights),
        "retention_weight": defaults_of(job).retention * bias_of_strokes(contradicted),
        "patience_from": PATIENCE_FROM_WITH_NEW if is_new else 0.0,
        "save_every_seconds": SECONDS_BETWEEN_CHECKPOINTS,
        "warmup_share": WARMUP_SHARE,
        "precision": job.precision,
        "seed": job.seed,
    }
    if job.steps is None:
        values["seconds"] = seconds
    else:
        interval = math.ceil(job.steps / VALIDATIONS)
        values |= {
            "steps": job.steps,
            "warmup_steps": round(WARMUP_SHARE * job.steps),
            "validate_every": interval,
            "save_every": interval,
        }
    values |= defaults_of(job).loop | job.loop
    return LoopSettings.parse(values, source="loop settings")


def bias_of_strokes(contradicted: float) -> float:
    """Return how far strokes lie on mistakes, from 0 to 1, by the share that the parent has wrong.

    Where people paint what is wrong, strokes say little of what is right, and the parent's answers
    have to. Strokes at random places say both: there the parent would only hold back what is
    learnt of a tissue that it does not know.
    """
    few, many = RANDOM_STROKES, CORRECTIONS
    return min(max((contradicted - few) / (many - few), 0.0), 1.0)


def sampler_settings(job: TrainJob, output_edge: int) -> VolumeSamplerSettings:
    """Return how patches are drawn; an edge that the job gives goes before `output_edge`.

    Raises
    ------
    ConfigError
        If a setting does not exist or cannot be used.
    """
    values = merged(merged({"output_edge": output_edge}, defaults_of(job).sampler), job.sampler)
    return VolumeSamplerSettings.parse(values, source="sampler settings")


def rehearsal_share(job: TrainJob) -> float:
    """Return the probability that a patch is one of the parent's, where the parent brings some.

    Raises
    ------
    ConfigError
        If a setting of the sampler does not exist or cannot be used.
    """
    return sampler_settings(job, OUTPUT_EDGE).rehearsal_share


def merged(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with those of `high` on top, tables inside them too."""
    result = dict(low)
    for name, value in high.items():
        old = result.get(name)
        if isinstance(old, dict) and isinstance(value, dict):
            result[name] = merged(old, value)
        else:
            result[name] = value
    return result


def _refuse(given: Mapping[str, Any], elsewhere: Mapping[str, str], table: str) -> None:
    for name in given:
        if name in elsewhere:
            raise ConfigError(
                f"{name} = {given[name]!r} does not belong into the {table} settings; "
                f"it comes from {elsewhere[name]}"
            )
