"""Where nothing is labeled, the known classes stay as the parent has them; new ones are free."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from scipy.stats import entropy
from tests.nets import lively_net

from napari_unet.core.train_events import StepDone
from napari_unet.training.loop import LoopSettings, train
from napari_unet.training.retention import Parent, divergence, log_shares
from napari_unet.training.sampler import Batch
from napari_unet.training.state import TrainingState

if TYPE_CHECKING:
    from pathlib import Path

    from napari_unet.model.unet import UNet

KNOWN = (0, 2)
"""Of three classes; 1 is new."""

INPUT_EDGE, OUTPUT_EDGE = 60, 20


def network() -> UNet:
    return lively_net(3, num_classes=3, dropout=0.0)


def image(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, 1, INPUT_EDGE, INPUT_EDGE, generator=generator)


def new_class_in_the_middle(rng: np.random.Generator) -> Batch:
    """Return a patch in which only a stroke of the new class is painted."""
    labels = torch.zeros(1, OUTPUT_EDGE, OUTPUT_EDGE, dtype=torch.long)
    labels[:, 8:12, 4:16] = 2
    return Batch(image(int(rng.integers(1000))), labels, None)


def settings(**given: object) -> LoopSettings:
    fixed = {"steps": 8, "warmup_steps": 0, "freeze_norm_from": 0.0, "peak_rate": 3e-3}
    return LoopSettings.parse(fixed | given, source="test")


def trained(parent: Parent | None, **given: object) -> UNet:
    net = network()
    state = TrainingState(net, settings(**given), parent)
    list(train(state, new_class_in_the_middle, state.settings))
    return net


def test_the_loss_is_the_divergence_that_scipy_finds_where_nothing_is_labeled() -> None:
    parent = Parent.of(network(), KNOWN)
    labels = torch.randint(4, (1, OUTPUT_EDGE, OUTPUT_EDGE))
    logits = torch.randn(1, 3, OUTPUT_EDGE, OUTPUT_EDGE)
    with torch.inference_mode():
        old = network()(image())[0, KNOWN, :, :].numpy()
    before, now = (np.exp(log_softmax(x, axis=0)) for x in (old, logits[0, KNOWN, :, :].numpy()))
    each = entropy(before, now, axis=0)
    expected = each[labels[0].numpy() == 0].mean()
    assert float(parent.loss(logits, image(), labels)) == pytest.approx(expected, rel=1e-4)
    everywhere = parent.loss(logits, image(), labels.clamp_min(1))
    assert float(everywhere) == 0


def test_no_gradient_reaches_labeled_pixels_nor_new_classes() -> None:
    parent = Parent.of(network(), KNOWN)
    labels = torch.randint(2, (1, OUTPUT_EDGE, OUTPUT_EDGE))
    logits = torch.randn(1, 3, OUTPUT_EDGE, OUTPUT_EDGE, requires_grad=True)
    parent.loss(logits, image(), labels).backward()
    assert logits.grad is not None
    assert not logits.grad[:, :, labels[0] > 0].any()
    assert not logits.grad[:, 1].any()
    assert logits.grad[:, KNOWN][:, :, labels[0] == 0].all()


def test_a_new_class_may_take_any_share() -> None:
    """Where the known classes keep their proportion, nothing is lost."""
    logits = torch.randn(5, 3)
    raised = logits + torch.tensor([4.0, 9.0, 4.0])
    assert divergence(log_shares(logits, KNOWN), raised, KNOWN) == pytest.approx(0, abs=1e-6)


def test_with_a_weight_of_0_a_parent_changes_nothing_bit_for_bit() -> None:
    alone = trained(None).state_dict()
    beside = trained(Parent.of(network(), KNOWN)).state_dict()
    assert all(torch.equal(alone[name], beside[name]) for name in alone)


def test_known_classes_stay_where_only_a_new_one_is_painted() -> None:
    parent = Parent.of(network(), KNOWN)
    start = {name: tensor.clone() for name, tensor in parent.net.state_dict().items()}

    def forgotten(net: UNet) -> float:
        nothing = torch.zeros(1, OUTPUT_EDGE, OUTPUT_EDGE)
        with torch.inference_mode():
            return float(parent.loss(net(image(5000)), image(5000), nothing))

    def found(net: UNet) -> float:
        batch = new_class_in_the_middle(np.random.default_rng(0))
        with torch.inference_mode():
            return float(net(batch.image).softmax(1)[:, 1][batch.labels > 0].mean())

    free, held = trained(parent), trained(parent, retention_weight=3.0)
    assert forgotten(held) < 0.5 * forgotten(free)
    # The new class comes up all the same.
    assert found(network()) < 0.5 < found(free)
    assert found(held) > 0.8 * found(free)
    assert all(torch.equal(start[name], t) for name, t in parent.net.state_dict().items())


@pytest.mark.parametrize("cut", [3, 4])
def test_resumed_is_uninterrupted_bit_for_bit(tmp_path: Path, cut: int) -> None:
    given = settings(retention_weight=2.0)
    whole, parted, resumed = network(), network(), network()
    parent = Parent.of(network(), KNOWN)
    expected = list(train(TrainingState(whole, given, parent), new_class_in_the_middle, given))
    first = TrainingState(parted, given, parent)
    # train() is annotated as an iterator; it is a generator, which can be closed.
    events: Any = train(first, new_class_in_the_middle, given, run_dir=tmp_path)
    with closing(events):
        next(e for e in events if isinstance(e, StepDone) and e.step == cut)
    state = TrainingState(resumed, given, Parent.of(network(), KNOWN))
    rest = list(train(state, new_class_in_the_middle, given, run_dir=tmp_path, resume=True))
    losses = [[e.loss for e in part if isinstance(e, StepDone)] for part in (expected, rest)]
    assert losses[0][cut:] == losses[1]
    found = resumed.state_dict()
    assert all(torch.equal(tensor, found[name]) for name, tensor in whole.state_dict().items())
