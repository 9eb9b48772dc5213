"""How weights are changed: everything that a person can set about the training loop."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from napari_unet.core.settings import Settings
from napari_unet.training.precision import Precision
from napari_unet.training.schedule import Schedule

PAPER_MOMENTUM = 0.99
"""Momentum of stochastic gradient descent (Ronneberger et al. 2015, sec. 3)."""

NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


class LoopSettings(Settings):
    """How weights are changed.

    Either `steps` or `seconds` is given. With steps, the same seed gives the same weights, bit by
    bit, on the same CPU with as many threads; with seconds, the speed of the machine decides how
    many steps there are and what the schedule makes of each.

    Parameters
    ----------
    steps : int or None
        Changes of the weights in all.
    seconds : float or None
        Time budget instead, from the first step to the end of the last validation and checkpoint;
        time before a resume counts. About ten validations take place, fewer where they are slow.
    seed : int
        Of patches, augmentation and dropout.
    optimizer : {"adamw", "sgd"}
        AdamW, or stochastic gradient descent with momentum as in the paper.
    peak_rate : float
        Greatest learning rate.
    schedule : {"cosine", "constant"}
        What the learning rate does after its rise: falls to 0 as half a cosine, or stays.
    warmup_steps : int
        Steps of linear rise, with `steps`.
    warmup_share : float
        Share of the budget that the linear rise takes, with `seconds`.
    momentum : float
        Of "sgd".
    weight_decay : float
        Decay of the weights; decoupled from the gradient in "adamw".
    anchor_weight : float
        Decoupled pull of the weights towards those that the training started from: keeps what a
        parent knows. 0 = none.
    retention_weight : float
        Weight of the divergence from the parent's answers where nothing is labeled, relative to
        the cross-entropy's 1; see `training.retention`. 0 = none; without a parent there is none.
    head_rate_factor : float
        Learning rate of the last layer relative to the others: new classes are learnt there.
    clip_norm : float
        Greatest norm of the gradient; longer ones are shortened.
    dice_weight : float
        Share of the soft Dice loss, relative to the cross-entropy's 1. 0 = none.
    class_weights : tuple of float
        One weight per class in the loss; empty = all 1.
    average_decay : float
        Of the exponential moving average of the weights, which is what is validated and kept.
    norm_momentum : float
        Share of one batch in the running statistics of batch normalization. Small, because
        batches are: one large patch.
    freeze_norm_from : float
        Share of the steps, or of the time, after which the statistics of batch normalization stay
        as they are and are used in training as they will be at inference. 0 = from the first step,
        for fine-tuning.
    validate_every : int
        Steps between validations, with `steps`.
    patience : int or None
        Validations in a row without a better score after which training stops; None = never.
    patience_from : float
        Share of the steps, or of the time, from which on validations count for `patience`.
    save_every : int
        Steps between checkpoints.
    save_every_seconds : float or None
        Also save when so much time has passed since the last checkpoint.
    precision : {"fp32", "bf16", "fp16", "auto"}
        Arithmetic of convolutions in training; weights and validation stay in fp32. "auto" takes
        what the device computes fast, see `choose_precision`.
    """

    steps: Count | None = None
    seconds: Positive | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    optimizer: Literal["adamw", "sgd"] = "adamw"
    peak_rate: Positive = 1e-3
    schedule: Schedule = "cosine"
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    warmup_share: Share = 0.05
    momentum: Decay = PAPER_MOMENTUM
    weight_decay: NotNegative = 1e-4
    anchor_weight: NotNegative = 0.0
    retention_weight: NotNegative = 0.0
    head_rate_factor: Positive = 1.0
    clip_norm: Positive = 1.0
    dice_weight: NotNegative = 0.0
    class_weights: tuple[NotNegative, ...] = ()
    average_decay: Decay = 0.999
    norm_momentum: Annotated[float, Field(gt=0, le=1)] = 0.02
    freeze_norm_from: Share = 0.6
    validate_every: Count = 250
    patience: Count | None = None
    patience_from: Share = 0.0
    save_every: Count = 250
    save_every_seconds: Positive | None = None
    precision: Precision = "fp32"

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        if (self.steps is None) == (self.seconds is None):
            raise ValueError(
                f"steps {self.steps} and seconds {self.seconds}: give exactly one of them"
            )
        return self
