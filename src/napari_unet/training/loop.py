"""The training loop: a generator of typed events around one network.

Chance is drawn anew for each step from (seed, step), so a training that is resumed from a
checkpoint takes the same steps as one that never stopped, and nothing outside it is seeded.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from napari_unet.core.train_events import Saved, StepDone, Stopped, TrainingEvent, Validated
from napari_unet.errors import ConfigError
from napari_unet.training.checkpoint import BEST, LAST, load_checkpoint, save_checkpoint
from napari_unet.training.loop_settings import LoopSettings
from napari_unet.training.pace import Pace
from napari_unet.training.schedule import learning_rate, learning_rate_at
from napari_unet.training.state import TrainingState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from torch import nn

    from napari_unet.training.state import Draw

    Validate = Callable[[nn.Module], Mapping[str, float]]

__all__ = ["SCORE", "SCORE_ERROR", "LoopSettings", "train"]

SCORE = "score"
"""Name of the metric by which the best weights are chosen; higher is better."""

SCORE_ERROR = "score_error"
"""Name of the metric that is the standard error of the score; 0 where there is none."""

PACE = "pace"
"""Name of the times in a checkpoint."""


def train(
    net: nn.Module | TrainingState,
    draw: Draw,
    settings: LoopSettings,
    *,
    validate: Validate | None = None,
    run_dir: Path | None = None,
    resume: bool = False,
) -> Iterator[TrainingEvent]:
    """Change the weights of `net` step by step and yield what happens.

    When the generator ends or is closed, the network holds the best weights. Without validation
    these are the newest moving average. With it they are the last one that was validated with a
    "score" no more than one standard error, the "score_error" of the highest score before, below
    that: few labels make the highest score a matter of chance, and later weights have learnt more.
    Without errors it is the one with the highest score. Closing it between two events is how to
    stop; with a run folder a checkpoint is then written, so that a resumed training goes on where
    it stopped.

    Parameters
    ----------
    net : torch.nn.Module or TrainingState
        A `UNet` on its device; its weights are the start. Whoever makes the state of it, with the
        same settings, can look at the moving average between two events.
    draw : callable
        Returns a `Batch` for a `numpy.random.Generator`, e.g. `PatchSampler.draw`.
    settings : LoopSettings
        Steps or seconds, optimizer, schedule.
    validate : callable, optional
        Returns metrics of a network in evaluation mode; "score" and "score_error" select. If it
        returns none, it has only looked on: no `Validated` comes, and the newest weights are kept.
    run_dir : Path, optional
        Existing folder for `last.pt` and `best.pt`; None keeps nothing on disk.
    resume : bool
        Go on from ``run_dir/last.pt``.

    Yields
    ------
    StepDone, Validated, Saved, Stopped
        `Stopped` is the last one, and comes only if the loss is not finite or no validation was
        better for as long as `patience` says.

    Raises
    ------
    ConfigError
        If the settings do not fit the network, or it cannot be resumed with them.
    StorageError
        If a checkpoint cannot be written, read or used.
    TrainingError
        If the batches do not fit the network.
    """
    pace = Pace(settings.seconds)
    training = net if isinstance(net, TrainingState) else TrainingState(net, settings)
    run = _Run(training, pace, validate, run_dir)
    if resume:
        run.restore()
    try:
        yield from run.events(draw)
    except GeneratorExit:
        run.save_if_new()
        raise
    finally:
        training.net.load_state_dict(training.best_weights)
        training.net.eval()


class _Run:
    """One training between its start, or resume, and its end."""

    def __init__(
        self,
        training: TrainingState,
        pace: Pace,
        validate: Validate | None,
        run_dir: Path | None,
    ) -> None:
        self.training = training
        self._settings = training.settings
        self._pace = pace
        self._validate = validate
        self._run_dir = run_dir

    def events(self, draw: Draw) -> Iterator[TrainingEvent]:
        """Yield what happens until an end is reached."""
        training = self.training
        # The duties of a step come before the next step, not after their own: a training that was
        # stopped between a step and its validation makes up for it when it is resumed.
        while True:
            over = self._is_over()
            if self._validate is not None and self._must_validate(over):
                yield from self._validated(self._validate)
                over = over or self._is_over()
            if self._run_dir is not None and self._must_save(over):
                yield self._saved(self._run_dir)
            if over:
                return
            if self.training.is_on_plateau:
                yield Stopped(training.step, _plateau(training))
                return
            if not self._pace.has_time:
                continue
            rate, freeze_norm = self._plan()
            with self._pace.measured("step"):
                loss = training.learn(draw, rate, freeze_norm=freeze_norm)
            if not math.isfinite(loss):
                if self._run_dir is not None and not training.is_saved:
                    yield self._saved(self._run_dir)
                what = "gradient" if training.skipped else "loss"
                yield Stopped(
                    training.step, f"the {what} of step {training.step + 1} is not finite"
                )
                return
            yield StepDone(training.step, loss, rate, self._eta())

    def restore(self) -> None:
        """Go on from the newest checkpoint of the run folder."""
        if self._run_dir is None:
            raise ConfigError("resume without a run folder is not possible; give run_dir")
        state = load_checkpoint(self._run_dir / LAST)
        self.training.restore(state)
        if PACE in state:
            self._pace.restore(state[PACE])

    def save_if_new(self) -> None:
        """Write a checkpoint if there is a run folder and it does not hold all yet."""
        if self._run_dir is not None and not self.training.is_saved:
            self._saved(self._run_dir)

    def _is_over(self) -> bool:
        return self.training.step == self._settings.steps or not self._pace.has_time

    def _must_validate(self, over: bool) -> bool:
        step = self.training.step
        if step == self.training.validated_step:
            return False
        by_steps = self._settings.steps is not None and step % self._settings.validate_every == 0
        return over or by_steps or self._pace.is_validation_due

    def _must_save(self, over: bool) -> bool:
        if self.training.is_saved:
            return False
        seconds = self._settings.save_every_seconds
        by_time = seconds is not None and self._pace.since("saving") >= seconds
        by_steps = self.training.step % self._settings.save_every == 0
        return over or by_steps or by_time or self.training.is_on_plateau

    @property
    def _share(self) -> float:
        """Share of the steps, or of their time, that is over."""
        steps = self._settings.steps
        return self._pace.share if steps is None else self.training.step / steps

    def _plan(self) -> tuple[float, bool]:
        """Return the learning rate of the next step and whether it leaves the norms as they are."""
        s, step = self._settings, self.training.step
        if s.steps is None:
            share = self._pace.share
            rate = learning_rate_at(
                share, peak=s.peak_rate, warmup_share=s.warmup_share, schedule=s.schedule
            )
            return rate, share >= s.freeze_norm_from
        rate = learning_rate(
            step, steps=s.steps, peak=s.peak_rate, warmup=s.warmup_steps, schedule=s.schedule
        )
        return rate, step >= s.freeze_norm_from * s.steps

    def _eta(self) -> float | None:
        s, step = self._settings, self.training.step
        if s.steps is None:
            return self._pace.eta(None, 0)
        # Whether or not this step is one of them, its own validation is still to come.
        validations = math.ceil(s.steps / s.validate_every) - (step - 1) // s.validate_every
        return self._pace.eta(s.steps - step, validations if self._validate else 0)

    def _validated(self, validate: Validate) -> Iterator[Validated]:
        training = self.training
        with self._pace.measured("validation"):
            metrics = dict(validate(training.averaged))
            if not metrics:
                training.pass_over()
                return
            is_best = training.judge(metrics[SCORE], metrics.get(SCORE_ERROR, 0.0))
            if self._share < self._settings.patience_from:
                training.without_gain = 0
        yield Validated(training.step, metrics, is_best)

    def _saved(self, run_dir: Path) -> Saved:
        training = self.training
        with self._pace.measured("saving"):
            state = training.state() | {PACE: self._pace.state()}
            save_checkpoint(run_dir / LAST, state)
            save_checkpoint(run_dir / BEST, dict(training.best_weights))
        training.is_saved = True
        return Saved(training.step, str(run_dir / LAST))


def _plateau(training: TrainingState) -> str:
    return (
        f"{training.without_gain} validations in a row were not better than the highest score, "
        f"{training.best_score:.4g}"
    )
