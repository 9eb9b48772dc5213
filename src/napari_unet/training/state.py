"""The moving parts of a training, and one step of them."""

from __future__ import annotations

import contextlib
import copy
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

# Every optimizer imports torch's compiler when it is made, which takes seconds. Here that is part
# of the imports, where it belongs, and not of a training that has a minute.
import torch._dynamo
from torch import nn

from napari_unet.errors import ConfigError, StorageError
from napari_unet.training.loss import segmentation_loss
from napari_unet.training.precision import AUTOCAST, FixedPrecision, choose_precision

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from torch import Tensor

    from napari_unet.training.loop_settings import LoopSettings
    from napari_unet.training.retention import Parent
    from napari_unet.training.sampler import Batch

    Draw = Callable[[np.random.Generator], Batch]

HEAD = "head"
"""Name of the layer that makes classes of features, in `napari_unet.model.unet.UNet`."""

LEAST_SCALE = 1.0
"""Scale of the loss in fp16 below which an infinite gradient is no longer a matter of scale."""

RETENTION_STEP = 2
"""Every so many steps the parent is asked, once for all of them: it costs a forward pass."""

MAX_SKIPPED = 10
"""Steps in a row that may be left out because their gradient is not finite.

On a flat patch batch normalization divides by next to nothing, layer after layer.
"""


@dataclass(slots=True, eq=False)
class TrainingState:
    """Network, moving average of it, optimizer, and what is known of the scores.

    Parameters
    ----------
    net : torch.nn.Module
        On its device; its weights are the start.
    settings : LoopSettings
        How it is changed.
    parent : Parent, optional
        Whose answers are kept to, as `retention_weight` says.

    Raises
    ------
    ConfigError
        If the settings do not fit the network.
    """

    net: nn.Module
    settings: LoopSettings
    parent: Parent | None = None
    step: int = 0
    best_score: float = -math.inf
    best_error: float = 0.0
    best: dict[str, Tensor] | None = None
    validated_step: int = 0
    is_saved: bool = True
    without_gain: int = 0
    skipped: int = 0
    averaged: nn.Module = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)
    scaler: torch.amp.GradScaler = field(init=False)
    precision: FixedPrecision = field(init=False)
    _rate_factors: tuple[float, ...] = field(init=False)
    _anchor: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.averaged = copy.deepcopy(self.net).eval().requires_grad_(False)
        self.precision = choose_precision(self.settings.precision, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        s, groups = self.settings, self._parameter_groups()
        self._rate_factors = tuple(factor for _, factor in groups)
        parameters = [{"params": members} for members, _ in groups]
        if s.optimizer == "sgd":
            self.optimizer = torch.optim.SGD(
                parameters, lr=s.peak_rate, momentum=s.momentum, weight_decay=s.weight_decay
            )
        else:
            self.optimizer = torch.optim.AdamW(
                parameters, lr=s.peak_rate, weight_decay=s.weight_decay
            )
        self._anchor = {}
        if s.anchor_weight:
            self._anchor = {name: p.detach().clone() for name, p in self._learnt().items()}

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.net.parameters()).device

    @property
    def best_weights(self) -> dict[str, Tensor]:
        """Of the averages that were validated those to keep; without validation the newest."""
        return self.averaged.state_dict() if self.best is None else self.best

    @property
    def is_on_plateau(self) -> bool:
        """Whether as many validations in a row as `patience` allows were not better."""
        patience = self.settings.patience
        return patience is not None and self.without_gain >= patience

    def judge(self, score: float, error: float = 0.0) -> bool:
        """Keep the averaged weights unless `score` is clearly lower than the highest before.

        Clearly is by more than the standard error of the highest (Breiman et al. 1984, sec. 3.4.3).

        Returns
        -------
        bool
            Whether they are kept.
        """
        self.pass_over()
        self.without_gain += 1
        if score > self.best_score:
            self.best_score, self.best_error, self.without_gain = score, error, 0
        is_best = score >= self.best_score - self.best_error
        if is_best:
            self.best = {k: v.clone() for k, v in self.averaged.state_dict().items()}
        return is_best

    def pass_over(self) -> None:
        """Note that the validation of this step is done, whether or not it has a score."""
        self.validated_step, self.is_saved = self.step, False

    def learn(self, draw: Draw, rate: float, *, freeze_norm: bool) -> float:
        """Take one step and return its loss; if that is not finite, the network stays as it was.

        It is that of the labels; retention has a share in the step, not in what is returned.

        A step with a finite loss and a gradient that is not is left out; after `MAX_SKIPPED` of
        them in a row NaN is returned. Chance is drawn anew from (seed, step), nothing outside is
        seeded.
        """
        chance = np.random.SeedSequence((self.settings.seed, self.step))
        self._prepare(rate, freeze_norm)
        batch = draw(np.random.default_rng(chance))
        if not batch.labels.any():
            # Momentum, weight decay and batch statistics would change weights that nobody taught.
            self._advance()
            return 0.0
        statistics = [buffer.clone() for buffer in self.net.buffers()]
        with _seeded(int(chance.generate_state(1)[0]), self.device):
            loss, retained = self._losses(batch)
        value = float(loss.detach())
        self.optimizer.zero_grad(set_to_none=True)
        if math.isfinite(value):
            if self._descend(loss + retained, rate):
                self.skipped = 0
                self._advance()
                return value
            self.skipped += 1
        # The forward pass has already taken a spoilt image into batch normalization.
        for buffer, kept in zip(self.net.buffers(), statistics, strict=True):
            buffer.copy_(kept)
        if not math.isfinite(value) or self.skipped > MAX_SKIPPED:
            return math.nan
        self._advance()
        return value

    def _advance(self) -> None:
        self.step += 1
        self.is_saved = False

    def _prepare(self, rate: float, freeze_norm: bool) -> None:
        for group, factor in zip(self.optimizer.param_groups, self._rate_factors, strict=True):
            group["lr"] = rate * factor
        self.net.train()
        for module in self.net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.train(not freeze_norm)
                # A plain mean at first, or a short training would end with initial statistics.
                module.momentum = max(self.settings.norm_momentum, 1 / (self.step + 1))

    def _losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the loss where labels are, and the weighted one where there are none."""
        settings, device = self.settings, self.device
        image = batch.image.to(device).contiguous(memory_format=torch.channels_last)
        labels = batch.labels.to(device)
        dtype = AUTOCAST.get(self.precision, torch.bfloat16)
        with torch.autocast(device.type, dtype, enabled=self.precision in AUTOCAST):
            logits = self.net(image)
            retained = self._retained(image, logits, labels)
        weights = torch.tensor(settings.class_weights, device=device)
        loss = segmentation_loss(
            logits,
            labels,
            class_weights=weights if len(weights) else None,
            pixel_weights=None if batch.weights is None else batch.weights.to(device),
            dice_weight=settings.dice_weight,
            rehearsed=None if batch.rehearsed is None else batch.rehearsed.to(device),
        )
        return loss, retained

    def _retained(self, image: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        weight = self.settings.retention_weight
        if self.parent is None or not weight or self.step % RETENTION_STEP:
            return logits.new_zeros(())
        return RETENTION_STEP * weight * self.parent.loss(logits, image, labels)

    def _descend(self, loss: Tensor, rate: float) -> bool:
        """Change the weights; return False, with nothing changed, if the gradient is not finite.

        In fp16 a gradient may be too large for the scale of the loss. Then the step is left out
        and the next one has a smaller scale, until there is none smaller that would help.
        """
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), self.settings.clip_norm)
        is_finite = math.isfinite(float(norm))
        may_rescale = self.scaler.is_enabled() and self.scaler.get_scale() > LEAST_SCALE
        if is_finite:
            self._pull_to_anchor(rate)
            self.scaler.step(self.optimizer)
            self._average()
        self.scaler.update()
        return is_finite or may_rescale

    @torch.no_grad()
    def _pull_to_anchor(self, rate: float) -> None:
        """Take a share of the way back to the start, as weight decay takes it to 0.

        w <- w - rate * anchor_weight * (w - w_0): the L2-SP penalty of Li et al. 2018, eq. 2,
        decoupled from the gradient as in AdamW.
        """
        learnt = self._learnt()
        for name, start in self._anchor.items():
            learnt[name].lerp_(start, min(rate * self.settings.anchor_weight, 1.0))

    @torch.no_grad()
    def _average(self) -> None:
        """Take the new weights into the moving average; the first steps count less."""
        decay = min(self.settings.average_decay, (1 + self.step) / (10 + self.step))
        source = self.net.state_dict()
        for name, kept in self.averaged.state_dict().items():
            if kept.is_floating_point():
                kept.lerp_(source[name], 1 - decay)
            else:
                kept.copy_(source[name])

    def _learnt(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.net.named_parameters() if p.requires_grad}

    def _parameter_groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """Return parameters with the factor of their learning rate."""
        learnt, factor = self._learnt(), self.settings.head_rate_factor
        if factor == 1:
            return [(list(learnt.values()), 1.0)]
        head = [p for name, p in learnt.items() if name.split(".")[0] == HEAD]
        body = [p for name, p in learnt.items() if name.split(".")[0] != HEAD]
        if not head or not body:
            raise ConfigError(
                f"head_rate_factor {factor} does not fit a network without a layer {HEAD!r} to "
                "learn beside others; set it to 1"
            )
        return [(body, 1.0), (head, factor)]

    def state(self) -> dict[str, Any]:
        """Return all that another process needs to go on as if this one had never stopped."""
        return {
            "step": self.step,
            "best_score": self.best_score,
            "best_error": self.best_error,
            "best": self.best,
            "validated_step": self.validated_step,
            "without_gain": self.without_gain,
            "skipped": self.skipped,
            "net": self.net.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "anchor": self._anchor,
            "seed": self.settings.seed,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`.

        Raises
        ------
        StorageError
            If it is not of such a network and optimizer.
        ConfigError
            If it was made with another seed.
        """
        try:
            self.net.load_state_dict(state["net"])
            self.averaged.load_state_dict(state["averaged"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.scaler.is_enabled():
                self.scaler.load_state_dict(state["scaler"])
            self._restore_anchor(state.get("anchor", {}))
            self.step, self.best_score = state["step"], state["best_score"]
            self.best, seed = state["best"], state["seed"]
        except (KeyError, RuntimeError, ValueError) as error:
            raise StorageError(
                f"the checkpoint does not belong to this network and optimizer ({error}); "
                "start again without resuming"
            ) from error
        # Early checkpoints lack these numbers; they were written after their step was validated.
        self.validated_step = state.get("validated_step", self.step)
        self.without_gain = state.get("without_gain", 0)
        self.best_error = state.get("best_error", 0.0)
        self.skipped = state.get("skipped", 0)
        self.is_saved = True
        if seed != self.settings.seed:
            raise ConfigError(
                f"the checkpoint was made with seed {seed}, the settings say {self.settings.seed}; "
                "resume with the same seed"
            )

    def _restore_anchor(self, saved: dict[str, Tensor]) -> None:
        if saved.keys() != self._anchor.keys():
            raise ValueError("one of them was made with anchor_weight, the other without")
        for name, start in self._anchor.items():
            start.copy_(saved[name])


@contextlib.contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed dropout inside the block only: the program's own chance goes on as before."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
