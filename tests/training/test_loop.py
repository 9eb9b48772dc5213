"""Training learns, resumes to the same curve, and stops with the last good weights."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_unet.augment.geometric import GeometricSettings
from napari_unet.augment.intensity import IntensitySettings
from napari_unet.core.receptive import unet_geometry
from napari_unet.errors import ConfigError, StorageError
from napari_unet.model.unet import UNet
from napari_unet.training.checkpoint import BEST, LAST, load_checkpoint, save_checkpoint
from napari_unet.training.events import Saved, StepDone, Stopped, Validated
from napari_unet.training.loop import LoopSettings, train
from napari_unet.training.sampler import Batch, LabeledPlanes, PatchSampler, SamplerSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GEOMETRY = unet_geometry(2)


def tiny_net(norm: bool = True, dropout: float = 0.2) -> UNet:
    with torch.random.fork_rng([]):
        torch.manual_seed(5)
        return UNet(base_channels=8, depth=2, norm="batch" if norm else None, dropout=dropout)


def disks(rng: np.random.Generator) -> LabeledPlanes:
    """Return one 64 x 64 image with two bright disks."""
    y, x = np.mgrid[:64, :64]
    inside = ((y - 20) ** 2 + (x - 24) ** 2 < 150) | ((y - 45) ** 2 + (x - 40) ** 2 < 120)
    image = (inside + rng.normal(0, 0.3, inside.shape) - 0.2) / 0.5
    return LabeledPlanes(image[None, None].astype(np.float32), (1 + inside[None]).astype(np.uint8))


@pytest.fixture
def sampler(rng: np.random.Generator) -> PatchSampler:
    return PatchSampler([disks(rng)], GEOMETRY, SamplerSettings(output_edge=32))


def weights(net: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def without_labels(batch: Batch) -> Batch:
    return Batch(batch.image, torch.zeros_like(batch.labels), None)


def test_a_tiny_image_is_learnt(rng: np.random.Generator) -> None:
    net = tiny_net(dropout=0)
    unchanged = SamplerSettings(
        output_edge=64,
        geometric=GeometricSettings(symmetries=False, free_share=0),
        intensity=IntensitySettings(gain_sigma=0, offset_sigma=0, gamma_sigma=0, share=0),
    )
    sampler = PatchSampler([disks(rng)], GEOMETRY, unchanged)
    settings = LoopSettings(steps=80, peak_rate=1e-2, warmup_steps=5, average_decay=0.8)
    losses = [e.loss for e in train(net, sampler.draw, settings) if isinstance(e, StepDone)]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) / 2
    batch = sampler.draw(np.random.default_rng(99))
    with torch.inference_mode():
        found = net(batch.image).argmax(1) + 1
    labeled = batch.labels > 0
    both = (found == 2) & (batch.labels == 2)
    either = ((found == 2) | (batch.labels == 2)) & labeled
    assert float(both.sum() / either.sum()) > 0.95


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_resumed_is_uninterrupted_bit_for_bit(
    sampler: PatchSampler, tmp_path: Path, optimizer: str
) -> None:
    settings = LoopSettings.parse(
        {"steps": 9, "warmup_steps": 2, "optimizer": optimizer, "validate_every": 2}
        | {"save_every": 4, "freeze_norm_from": 0.7},
        source="test",
    )
    scores = itertools.chain([3.0, 1.0, 2.0], itertools.repeat(0.0))

    def start(net: UNet, folder: Path, resume: bool = False) -> Iterator[object]:
        folder.mkdir(exist_ok=True)
        return train(
            net,
            sampler.draw,
            settings,
            validate=lambda net: {"score": next(scores), "mean": float(net.head.weight.mean())},
            run_dir=folder,
            resume=resume,
        )

    whole = tiny_net()
    expected = list(start(whole, tmp_path / "whole"))
    scores = itertools.chain([3.0, 1.0, 2.0], itertools.repeat(0.0))
    events = start(tiny_net(), tmp_path / "cut")
    first = list(itertools.takewhile(lambda e: not isinstance(e, Saved), events))
    events.close()
    torch.rand(7)  # the program's own chance must not matter
    second = tiny_net()
    rest = list(start(second, tmp_path / "cut", resume=True))

    def curve(events: list[object]) -> list[object]:
        return [e for e in events if not isinstance(e, Saved)]

    assert curve(first) + curve(rest) == curve(expected)
    assert equal(weights(whole), weights(second))
    last_states = [load_checkpoint(tmp_path / run / LAST) for run in ("whole", "cut")]
    assert equal(last_states[0]["net"], last_states[1]["net"])
    assert equal(load_checkpoint(tmp_path / "whole" / BEST), weights(whole))


def test_the_best_validated_weights_are_kept(sampler: PatchSampler) -> None:
    seen = []

    def validate(net: torch.nn.Module) -> dict[str, float]:
        assert not net.training
        seen.append(weights(net))
        return {"score": [0.1, 0.9, 0.5][len(seen) - 1]}

    net = tiny_net()
    settings = LoopSettings(steps=6, validate_every=2)
    events = list(train(net, sampler.draw, settings, validate=validate))
    validated = [e for e in events if isinstance(e, Validated)]
    assert [(e.step, e.is_best) for e in validated] == [(2, True), (4, True), (6, False)]
    assert equal(weights(net), seen[1])
    assert not equal(seen[1], seen[2])


def test_training_does_not_touch_the_programs_chance(sampler: PatchSampler) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    list(train(tiny_net(), sampler.draw, LoopSettings(steps=2)))
    assert torch.equal(torch.rand(3), expected)


def test_nothing_labeled_leaves_the_weights_unchanged(sampler: PatchSampler) -> None:
    net = tiny_net()
    before = weights(net)
    events = train(net, lambda rng: without_labels(sampler.draw(rng)), LoopSettings(steps=3))
    assert [e.loss for e in events if isinstance(e, StepDone)] == [0, 0, 0]
    assert equal(weights(net), before)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_loss_that_is_not_finite_stops_with_good_weights(
    sampler: PatchSampler, precision: str
) -> None:
    calls = itertools.count()

    def draw(rng: np.random.Generator) -> Batch:
        batch = sampler.draw(rng)
        spoilt = batch.image * (torch.nan if next(calls) == 2 else 1)
        return Batch(spoilt, batch.labels, batch.weights)

    net = tiny_net()
    settings = LoopSettings.parse({"steps": 9, "precision": precision}, source="test")
    *_, last = train(net, draw, settings)
    assert last == Stopped(2, "the loss of step 3 is nan")
    assert all(bool(tensor.isfinite().all()) for tensor in net.state_dict().values())


def test_frozen_statistics_stay(sampler: PatchSampler) -> None:
    net = tiny_net()
    settings = LoopSettings(steps=4, freeze_norm_from=0.0)
    before = weights(net)
    list(train(net, sampler.draw, settings))
    after = weights(net)
    frozen = [name for name in before if "running" in name]
    assert frozen
    assert all(torch.equal(before[name], after[name]) for name in frozen)
    assert not torch.equal(before["head.weight"], after["head.weight"])


def test_a_closed_training_leaves_usable_weights(sampler: PatchSampler) -> None:
    net = tiny_net()
    events = train(net, sampler.draw, LoopSettings(steps=1000))
    next(iter(events))
    events.close()
    assert not net.training


def test_a_foreign_checkpoint_is_refused(sampler: PatchSampler, tmp_path: Path) -> None:
    settings = LoopSettings(steps=2)

    def resume(net: UNet, settings: LoopSettings) -> None:
        list(train(net, sampler.draw, settings, run_dir=tmp_path, resume=True))

    with pytest.raises(StorageError, match="cannot be read"):
        resume(tiny_net(), settings)
    (tmp_path / LAST).write_bytes(b"no checkpoint")
    with pytest.raises(StorageError, match="cannot be read"):
        resume(tiny_net(), settings)
    save_checkpoint(tmp_path / LAST, {"step": 1})
    with pytest.raises(StorageError, match="does not belong"):
        resume(tiny_net(), settings)
    list(train(tiny_net(), sampler.draw, settings, run_dir=tmp_path))
    with pytest.raises(StorageError, match="does not belong"):
        resume(tiny_net(norm=False), settings)
    with pytest.raises(ConfigError, match="same seed"):
        resume(tiny_net(), LoopSettings(steps=2, seed=1))
    with pytest.raises(ConfigError, match="give run_dir"):
        list(train(tiny_net(), sampler.draw, settings, resume=True))


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    torch.save({"step": pytest.raises}, tmp_path / LAST)
    with pytest.raises(StorageError, match="cannot be read"):
        load_checkpoint(tmp_path / LAST)


def test_a_checkpoint_replaces_the_old_one_whole(tmp_path: Path) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path / LAST, {"step": step})
    assert load_checkpoint(tmp_path / LAST) == {"step": 2}
    assert [path.name for path in tmp_path.iterdir()] == [LAST]
    with pytest.raises(StorageError, match="cannot be written"):
        save_checkpoint(tmp_path / "missing" / LAST, {})
