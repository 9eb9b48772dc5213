"""A training with a budget in seconds ends within it, whatever its steps cost."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from tests.training.test_pace import Clock

from napari_unet.core.train_events import Saved, StepDone, TrainingEvent, Validated
from napari_unet.errors import ConfigError
from napari_unet.model.unet import UNet
from napari_unet.training import loop
from napari_unet.training.checkpoint import LAST, load_checkpoint
from napari_unet.training.loop import LoopSettings, train
from napari_unet.training.pace import Pace
from napari_unet.training.sampler import Batch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class World:
    """A training whose steps, validations and checkpoints cost what the test says."""

    def __init__(self, clock: Clock, step: float, validation: float) -> None:
        self.clock, self.step, self.validation = clock, step, validation
        with torch.random.fork_rng([]):
            torch.manual_seed(5)
            self.net = UNet(base_channels=2, depth=1)

    def draw(self, rng: np.random.Generator) -> Batch:
        self.clock.now += self.step
        image = torch.from_numpy(rng.normal(size=(1, 1, 20, 20)).astype(np.float32))
        return Batch(image, torch.ones(1, 4, 4, dtype=torch.long), None)

    def validate(self, net: torch.nn.Module) -> dict[str, float]:
        self.clock.now += self.validation
        return {"score": self.clock.now}

    def train(self, settings: LoopSettings, **options: object) -> Iterator[TrainingEvent]:
        return train(self.net, self.draw, settings, validate=self.validate, **options)  # type: ignore[arg-type]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(loop, "Pace", functools.partial(Pace, clock=clock))
    return clock


@pytest.mark.parametrize("step", [0.8, 3.0, 7.0])
@pytest.mark.parametrize("validation", [0.0, 2.0, 15.0])
def test_it_ends_in_time_with_a_validation_and_a_checkpoint(
    clock: Clock, tmp_path: Path, step: float, validation: float
) -> None:
    settings = LoopSettings(seconds=60, save_every=10_000)
    events = list(World(clock, step, validation).train(settings, run_dir=tmp_path))
    spent = clock.now - 1000
    assert spent <= 60
    assert spent > 60 - 2.5 * (step + validation)
    done, validated, saved = events[-3:]
    assert isinstance(done, StepDone)
    assert validated == Validated(done.step, {"score": clock.now}, True)
    assert saved == Saved(done.step, str(tmp_path / LAST))
    of_validation = validation * sum(isinstance(e, Validated) for e in events[:-2])
    assert of_validation <= max(0.15 * 60 + validation, validation)


def test_the_rate_follows_the_share_of_the_time(clock: Clock) -> None:
    settings = LoopSettings(seconds=100, peak_rate=2.0, warmup_share=0.2)
    events = World(clock, 1.0, 0.0).train(settings)
    rates = {round(clock.now - 1000): e.learning_rate for e in events if isinstance(e, StepDone)}
    assert rates[11] == pytest.approx(1.0)
    assert rates[21] == max(rates.values()) == pytest.approx(2.0)
    assert rates[61] == pytest.approx(1.0)
    assert rates[98] < 0.01


def test_time_before_a_resume_counts(clock: Clock, tmp_path: Path) -> None:
    settings = LoopSettings(seconds=60)
    first = World(clock, 1.0, 0.5)
    events = first.train(settings, run_dir=tmp_path)
    while next(events).step < 30:
        pass
    events.close()
    spent = clock.now - 1000
    assert load_checkpoint(tmp_path / LAST)["pace"]["elapsed"] == pytest.approx(spent)
    clock.now += 5000
    start = clock.now
    rest = list(World(clock, 1.0, 0.5).train(settings, run_dir=tmp_path, resume=True))
    assert rest[0].step == 31
    assert 57 < spent + clock.now - start <= 60
    assert list(World(clock, 1.0, 0.5).train(settings, run_dir=tmp_path, resume=True)) == []


def test_a_budget_too_small_for_one_step_gives_one_step(clock: Clock) -> None:
    events = list(World(clock, 9.0, 1.0).train(LoopSettings(seconds=5)))
    assert [type(e) for e in events] == [StepDone, Validated]


def test_the_time_left_is_told(clock: Clock) -> None:
    timed = [e for e in World(clock, 1.0, 0).train(LoopSettings(seconds=20)) if type(e) is StepDone]
    assert [e.eta_seconds for e in timed[:3]] == [19, 18, 17]
    settings = LoopSettings(steps=14, validate_every=4)
    counted = [e for e in World(clock, 1.0, 3.0).train(settings) if type(e) is StepDone]
    assert [e.eta_seconds for e in counted] == [None] * 9 + [10.0, 9.0, 8.0, 4.0, 3.0]


def test_checkpoints_come_by_time_too(clock: Clock, tmp_path: Path) -> None:
    settings = LoopSettings(steps=10, save_every_seconds=3)
    events = World(clock, 1.0, 0).train(settings, run_dir=tmp_path)
    assert [e.step for e in events if isinstance(e, Saved)] == [3, 6, 9, 10]


@pytest.mark.parametrize("budget", [{}, {"steps": 3, "seconds": 1.0}], ids=str)
def test_exactly_one_budget_is_given(budget: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="exactly one of them"):
        LoopSettings.parse(budget, source="test")
