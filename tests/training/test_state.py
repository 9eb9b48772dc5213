"""One step changes the weights as its settings say: compared with arithmetic done by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_unet.core.train_events import StepDone, Stopped
from napari_unet.errors import ConfigError
from napari_unet.training.loop import LoopSettings, train
from napari_unet.training.loss import Rehearsed
from napari_unet.training.sampler import Batch
from napari_unet.training.state import TrainingState

PLAIN = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "clip_norm": 1e9}
PLAIN |= {"warmup_steps": 0, "schedule": "constant", "average_decay": 0.0, "peak_rate": 0.5}


class Offsets(torch.nn.Module):
    """Logits that are two numbers, whatever the image; their sum is body + head."""

    def __init__(self, body: bool = True) -> None:
        super().__init__()
        self.head = torch.nn.Linear(1, 2, bias=False)
        self.head.weight.data = torch.tensor([[1.0], [0.5]])
        self.body = torch.nn.Parameter(torch.tensor([-1.0, 2.0])) if body else 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits = self.head.weight[:, 0] + self.body
        return logits[None, :, None, None].expand(-1, -1, *image.shape[-2:])


def draw(rng: np.random.Generator) -> Batch:
    """Return a quarter of class 1, half of class 2, and a quarter unlabeled."""
    return Batch(torch.zeros(1, 1, 2, 2), torch.tensor([[[1, 2], [2, 0]]]), None)


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits) / np.exp(logits).sum()


def learn(net: torch.nn.Module, steps: int, **options: object) -> list[object]:
    settings = LoopSettings.parse(PLAIN | {"steps": steps} | options, source="test")
    return list(train(net, draw, settings))


@pytest.mark.parametrize("anchor_weight", [0.0, 0.8, 1e6])
@pytest.mark.parametrize("factor", [1.0, 0.1, 4.0])
def test_anchor_and_head_rate_equal_the_recurrence(anchor_weight: float, factor: float) -> None:
    net = Offsets()
    learn(net, 6, anchor_weight=anchor_weight, head_rate_factor=factor)
    head_0, body_0 = np.array([1.0, 0.5]), np.array([-1.0, 2.0])
    head, body = head_0.copy(), body_0.copy()
    pull = min(0.5 * anchor_weight, 1)  # never beyond the start
    for _ in range(6):
        gradient = softmax(head + body) - np.array([1, 2]) / 3
        head += pull * (head_0 - head) - 0.5 * factor * gradient
        body += pull * (body_0 - body) - 0.5 * gradient
    assert net.head.weight.detach().numpy()[:, 0] == pytest.approx(head, abs=1e-5)
    assert net.body.detach().numpy() == pytest.approx(body, abs=1e-5)


def test_a_rehearsed_pixel_that_may_be_anything_teaches_nothing() -> None:
    patches = torch.tensor([True])
    for unknown, is_taught in ([[False, True]], True), ([[True, True]], False):
        old = Rehearsed(patches, torch.tensor(unknown))
        net = Offsets()
        settings = LoopSettings.parse(PLAIN | {"steps": 1}, source="test")
        list(train(net, lambda rng, old=old: replace(draw(rng), rehearsed=old), settings))
        moved = not torch.allclose(net.body, Offsets().body)
        assert moved == is_taught


def test_without_a_body_there_is_no_head_rate() -> None:
    with pytest.raises(ConfigError, match="without a layer 'head'"):
        learn(Offsets(body=False), 1, head_rate_factor=2.0)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_reduced_precision_learns_the_same(precision: str) -> None:
    exact, reduced = Offsets(), Offsets()
    learn(exact, 5)
    learn(reduced, 5, precision=precision)
    torch.testing.assert_close(reduced.body, exact.body, atol=1e-2, rtol=0)


class Steep(Offsets):
    """A net whose gradient is not finite while the scale of the loss is above a bound."""

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.bound = bound
        self.body.register_hook(lambda g: torch.where(g.abs() > self.bound, torch.inf, g))


def test_fp16_finds_a_scale_of_the_loss_and_keeps_it() -> None:
    net = Steep(bound=1000.0)
    settings = LoopSettings.parse(PLAIN | {"steps": 20, "precision": "fp16"}, source="test")
    training = TrainingState(net, settings)
    before = net.body.detach().clone()
    assert np.isfinite(training.learn(draw, 0.1, freeze_norm=False))
    assert training.scaler.get_scale() == 2.0**15
    assert torch.equal(net.body, before)
    for _ in range(10):
        training.learn(draw, 0.1, freeze_norm=False)
    assert not torch.equal(net.body, before)
    resumed = TrainingState(Offsets(), settings)
    resumed.restore(training.state())
    assert resumed.scaler.get_scale() == training.scaler.get_scale() < 2.0**15


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_gradient_that_no_scale_makes_finite_stops(precision: str) -> None:
    net = Steep(bound=-1.0)
    before = net.body.detach().clone()
    *steps, last = learn(net, 99, precision=precision)
    assert isinstance(last, Stopped)
    assert last.reason == f"the gradient of step {len(steps) + 1} is not finite"
    assert all(isinstance(e, StepDone) for e in steps)
    assert len(steps) < 40
    assert torch.equal(net.body, before)


def test_a_single_step_without_a_finite_gradient_is_left_out() -> None:
    net = Steep(bound=math.inf)
    training = TrainingState(net, LoopSettings.parse(PLAIN | {"steps": 9}, source="test"))
    training.learn(draw, 0.1, freeze_norm=False)
    before, net.bound = net.body.detach().clone(), -1.0
    assert math.isfinite(training.learn(draw, 0.1, freeze_norm=False))
    assert torch.equal(net.body, before)
    net.bound = math.inf
    training.learn(draw, 0.1, freeze_norm=False)
    assert (training.step, training.skipped) == (3, 0)
    assert not torch.equal(net.body, before)
