"""The training loop: a generator of typed events around one network.

Chance is drawn anew for each step from (seed, step), so a training that is resumed from a
checkpoint takes the same steps as one that never stopped, and nothing outside it is seeded.
"""

from __future__ import annotations

import contextlib
import copy
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn

from napari_unet.core.settings import Settings
from napari_unet.errors import ConfigError, StorageError
from napari_unet.training.checkpoint import BEST, LAST, load_checkpoint, save_checkpoint
from napari_unet.training.events import Saved, StepDone, Stopped, TrainingEvent, Validated
from napari_unet.training.loss import weighted_cross_entropy
from napari_unet.training.schedule import learning_rate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from typing import Any

    from torch import Tensor

    from napari_unet.training.sampler import Batch

    Draw = Callable[[np.random.Generator], Batch]
    Validate = Callable[[nn.Module], Mapping[str, float]]

PAPER_MOMENTUM = 0.99
"""Momentum of stochastic gradient descent (Ronneberger et al. 2015, sec. 3)."""

SCORE = "score"
"""Name of the metric by which the best weights are chosen; higher is better."""


class LoopSettings(Settings):
    """How weights are changed.

    Parameters
    ----------
    steps : int
        Changes of the weights in all.
    seed : int
        Of patches, augmentation and dropout.
    optimizer : {"adamw", "sgd"}
        AdamW, or stochastic gradient descent with momentum as in the paper.
    peak_rate : float
        Greatest learning rate.
    warmup_steps : int
        Steps of linear rise; a cosine falls to 0 afterwards.
    momentum : float
        Of "sgd".
    weight_decay : float
        Decoupled decay of the weights.
    clip_norm : float
        Greatest norm of the gradient; longer ones are shortened.
    average_decay : float
        Of the exponential moving average of the weights, which is what is validated and kept.
    norm_momentum : float
        Share of one batch in the running statistics of batch normalization. Small, because
        batches are: one large patch.
    freeze_norm_from : float
        Share of the steps after which the statistics of batch normalization stay as they are and
        are used in training as they will be at inference.
    validate_every, save_every : int
        Steps between validations and between checkpoints.
    precision : {"fp32", "bf16"}
        Arithmetic of convolutions in training; weights and validation stay in fp32.
    class_weights : tuple of float
        One weight per class in the loss; empty = all 1.
    """

    steps: Annotated[int, Field(ge=1)]
    seed: Annotated[int, Field(ge=0)] = 0
    optimizer: Literal["adamw", "sgd"] = "adamw"
    peak_rate: Annotated[float, Field(gt=0)] = 1e-3
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    momentum: Annotated[float, Field(ge=0, lt=1)] = PAPER_MOMENTUM
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    average_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    norm_momentum: Annotated[float, Field(gt=0, le=1)] = 0.02
    freeze_norm_from: Annotated[float, Field(ge=0, le=1)] = 0.6
    validate_every: Annotated[int, Field(ge=1)] = 250
    save_every: Annotated[int, Field(ge=1)] = 250
    precision: Literal["fp32", "bf16"] = "fp32"
    class_weights: tuple[Annotated[float, Field(ge=0)], ...] = ()


@dataclass(slots=True, eq=False)
class _Training:
    """The moving parts: network, averaged network and optimizer."""

    net: nn.Module
    settings: LoopSettings
    step: int = 0
    best_score: float = -math.inf
    averaged: nn.Module = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)
    best: dict[str, Tensor] | None = None

    def __post_init__(self) -> None:
        self.averaged = copy.deepcopy(self.net).eval().requires_grad_(False)
        s = self.settings
        parameters = [p for p in self.net.parameters() if p.requires_grad]
        if s.optimizer == "sgd":
            self.optimizer = torch.optim.SGD(
                parameters, lr=s.peak_rate, momentum=s.momentum, weight_decay=s.weight_decay
            )
        else:
            self.optimizer = torch.optim.AdamW(
                parameters, lr=s.peak_rate, weight_decay=s.weight_decay
            )

    @property
    def device(self) -> torch.device:
        return next(self.net.parameters()).device

    def norms(self) -> list[nn.BatchNorm2d]:
        return [m for m in self.net.modules() if isinstance(m, nn.BatchNorm2d)]

    def state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "best_score": self.best_score,
            "best": self.best,
            "net": self.net.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "seed": self.settings.seed,
        }

    def restore(self, state: dict[str, Any]) -> None:
        try:
            self.net.load_state_dict(state["net"])
            self.averaged.load_state_dict(state["averaged"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.best_score = state["step"], state["best_score"]
            self.best, seed = state["best"], state["seed"]
        except (KeyError, RuntimeError, ValueError) as error:
            raise StorageError(
                f"the checkpoint does not belong to this network and optimizer ({error}); "
                "start again without resuming"
            ) from error
        if seed != self.settings.seed:
            raise ConfigError(
                f"the checkpoint was made with seed {seed}, the settings say {self.settings.seed}; "
                "resume with the same seed"
            )


def train(
    net: nn.Module,
    draw: Draw,
    settings: LoopSettings,
    *,
    validate: Validate | None = None,
    run_dir: Path | None = None,
    resume: bool = False,
) -> Iterator[TrainingEvent]:
    """Change the weights of `net` step by step and yield what happens.

    When the generator ends or is closed, `net` holds the best weights: of the moving averages that
    were validated the one with the highest "score", without validation the newest. Closing it
    between two events is how to stop.

    Parameters
    ----------
    net : torch.nn.Module
        A `UNet` on its device; its weights are the start.
    draw : callable
        Returns a `Batch` for a `numpy.random.Generator`, e.g. `PatchSampler.draw`.
    settings : LoopSettings
        Steps, optimizer, schedule.
    validate : callable, optional
        Returns metrics of a network in evaluation mode; "score" selects.
    run_dir : Path, optional
        Existing folder for `last.pt` and `best.pt`; None keeps nothing on disk.
    resume : bool
        Go on from ``run_dir/last.pt``.

    Yields
    ------
    StepDone, Validated, Saved, Stopped

    Raises
    ------
    ConfigError
        If it cannot be resumed with these settings.
    StorageError
        If a checkpoint cannot be written, read or used.
    TrainingError
        If the batches do not fit the network.
    """
    training = _Training(net, settings)
    if resume:
        if run_dir is None:
            raise ConfigError("resume without a run folder is not possible; give run_dir")
        training.restore(load_checkpoint(run_dir / LAST))
    try:
        while training.step < settings.steps:
            loss, rate = _step(training, draw)
            if not math.isfinite(loss):
                yield Stopped(training.step, f"the loss of step {training.step + 1} is {loss}")
                return
            training.step += 1
            yield StepDone(training.step, loss, rate)
            is_last = training.step == settings.steps
            if validate and (is_last or training.step % settings.validate_every == 0):
                yield _validated(training, validate)
            if run_dir and (is_last or training.step % settings.save_every == 0):
                yield _saved(training, run_dir)
    finally:
        best = training.averaged.state_dict() if training.best is None else training.best
        net.load_state_dict(best)
        net.eval()


def _step(training: _Training, draw: Draw) -> tuple[float, float]:
    """Take one step; with a loss that is not finite nothing is changed."""
    settings, device, net = training.settings, training.device, training.net
    chance = np.random.SeedSequence((settings.seed, training.step))
    rate = learning_rate(
        training.step,
        steps=settings.steps,
        peak=settings.peak_rate,
        warmup=settings.warmup_steps,
    )
    for group in training.optimizer.param_groups:
        group["lr"] = rate
    net.train()
    frozen = training.step >= settings.freeze_norm_from * settings.steps
    for module in training.norms():
        module.train(not frozen)
        # A plain mean at first, or a short training would end with the initial statistics.
        module.momentum = max(settings.norm_momentum, 1 / (training.step + 1))
    batch = draw(np.random.default_rng(chance))
    if not batch.labels.any():
        # Momentum, weight decay and batch statistics would change weights that nobody taught.
        return 0.0, rate
    with _seeded(int(chance.generate_state(1)[0]), device):
        loss = _loss(training, batch)
    value = float(loss.detach())
    training.optimizer.zero_grad(set_to_none=True)
    if math.isfinite(value):
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        norm = nn.utils.clip_grad_norm_(net.parameters(), settings.clip_norm)
        if math.isfinite(float(norm)):
            training.optimizer.step()
            _average(training)
        else:
            value = math.nan
    return value, rate


def _loss(training: _Training, batch: Batch) -> Tensor:
    settings, device = training.settings, training.device
    image = batch.image.to(device).contiguous(memory_format=torch.channels_last)
    half = settings.precision == "bf16"
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
        logits = training.net(image)
    weights = torch.tensor(settings.class_weights, device=device)
    return weighted_cross_entropy(
        logits,
        batch.labels.to(device),
        class_weights=weights if len(weights) else None,
        pixel_weights=None if batch.weights is None else batch.weights.to(device),
    )


@contextlib.contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed dropout inside the block only: the program's own chance goes on as before."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@torch.no_grad()
def _average(training: _Training) -> None:
    """Take the new weights into the moving average; the first steps count less."""
    decay = min(training.settings.average_decay, (1 + training.step) / (10 + training.step))
    source = training.net.state_dict()
    for name, kept in training.averaged.state_dict().items():
        if kept.is_floating_point():
            kept.lerp_(source[name], 1 - decay)
        else:
            kept.copy_(source[name])


def _validated(training: _Training, validate: Validate) -> Validated:
    metrics = dict(validate(training.averaged))
    score = metrics[SCORE]
    is_best = score > training.best_score
    if is_best:
        training.best_score = score
        training.best = {k: v.clone() for k, v in training.averaged.state_dict().items()}
    return Validated(training.step, metrics, is_best)


def _saved(training: _Training, run_dir: Path) -> Saved:
    save_checkpoint(run_dir / LAST, training.state())
    best = training.averaged.state_dict() if training.best is None else training.best
    save_checkpoint(run_dir / BEST, dict(best))
    return Saved(training.step, run_dir / LAST)
