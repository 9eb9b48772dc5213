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
from napari_unet.core.train_events import Saved, StepDone, Stopped, TrainingEvent, Validated
from napari_unet.errors import ConfigError, StorageError
from napari_unet.model.unet import UNet
from napari_unet.training.checkpoint import BEST, LAST, load_checkpoint, save_checkpoint
from napari_unet.training.loop import LoopSettings, train
from napari_unet.training.sampler import Batch, LabeledPlanes, PatchSampler, SamplerSettings
from napari_unet.training.state import TrainingState

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


def iou_of_disks(net: torch.nn.Module, batch: Batch) -> float:
    with torch.inference_mode():
        found = net(batch.image).argmax(1) + 1
    both = (found == 2) & (batch.labels == 2)
    either = ((found == 2) | (batch.labels == 2)) & (batch.labels > 0)
    return float(both.sum() / either.sum())


@pytest.mark.parametrize("dice_weight", [0.0, 1.0])
def test_a_tiny_image_is_learnt(rng: np.random.Generator, dice_weight: float) -> None:
    net = tiny_net(dropout=0)
    unchanged = SamplerSettings(
        output_edge=64,
        geometric=GeometricSettings(symmetries=False, free_share=0),
        intensity=IntensitySettings(gain_sigma=0, offset_sigma=0, gamma_sigma=0, share=0),
    )
    sampler = PatchSampler([disks(rng)], GEOMETRY, unchanged)
    settings = LoopSettings(
        steps=50,
        peak_rate=1e-2,
        warmup_steps=5,
        average_decay=0.8,
        norm_momentum=0.1,
        dice_weight=dice_weight,
    )
    batch = sampler.draw(np.random.default_rng(99))
    assert iou_of_disks(tiny_net().eval(), batch) < 0.5
    losses = [e.loss for e in train(net, sampler.draw, settings) if isinstance(e, StepDone)]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) / 2
    assert iou_of_disks(net, batch) > 0.95


FINE_TUNING = {
    "optimizer": "sgd",
    "schedule": "constant",
    "precision": "fp16",
    "dice_weight": 0.5,
    "anchor_weight": 5.0,
    "head_rate_factor": 3.0,
    "freeze_norm_from": 0.0,
    "patience": 99,
    "patience_from": 0.5,
    "save_every_seconds": 1e9,
}


@pytest.mark.parametrize("stop_at", [4, 7])
@pytest.mark.parametrize(
    "options", [{}, {"optimizer": "sgd"}, FINE_TUNING], ids=["adamw", "sgd", "fine-tuning"]
)
def test_resumed_is_uninterrupted_bit_for_bit(
    sampler: PatchSampler, tmp_path: Path, options: dict[str, object], stop_at: int
) -> None:
    settings = LoopSettings.parse(
        {"steps": 9, "warmup_steps": 2, "validate_every": 2, "save_every": 5}
        | {"freeze_norm_from": 0.7, **options},
        source="test",
    )
    # Without its error, which a checkpoint has to remember, the best score would stay alone.
    scores = {2: 1.0, 4: 3.0, 6: 2.0, 8: 2.5}
    errors = {4: 0.7}

    def start(net: UNet, folder: str, resume: bool = False) -> Iterator[TrainingEvent]:
        def validate(averaged: torch.nn.Module) -> dict[str, float]:
            step = last_step[0]
            return {
                "score": scores.get(step, 0),
                "score_error": errors.get(step, 0),
                "mean": float(averaged.head.weight.mean()),
            }

        (tmp_path / folder).mkdir(exist_ok=True)
        last_step = [stop_at if resume else 0]
        run_dir = tmp_path / folder
        events = train(
            net, sampler.draw, settings, validate=validate, run_dir=run_dir, resume=resume
        )
        for event in events:
            last_step[0] = event.step
            yield event

    def curve(events: list[TrainingEvent]) -> list[TrainingEvent]:
        return [e for e in events if not isinstance(e, Saved)]

    whole = tiny_net()
    expected = list(start(whole, "whole"))
    events = start(tiny_net(), "cut")
    # Closed right after the step: a validation that is due then has still to come.
    first = []
    while not first or (type(first[-1]), first[-1].step) != (StepDone, stop_at):
        first.append(next(events))
    events.close()
    torch.rand(7)  # the program's own chance must not matter
    second = tiny_net()
    rest = list(start(second, "cut", resume=True))
    assert curve(first) + curve(rest) == curve(expected)
    assert equal(weights(whole), weights(second))
    last = [load_checkpoint(tmp_path / run / LAST) for run in ("whole", "cut")]
    assert equal(last[0]["net"], last[1]["net"])
    assert equal(load_checkpoint(tmp_path / "cut" / BEST), weights(whole))


def test_a_crash_resumes_from_the_last_interval(sampler: PatchSampler, tmp_path: Path) -> None:
    settings = LoopSettings(steps=8, save_every=3)
    whole, crashed, resumed = tiny_net(), tiny_net(), tiny_net()
    list(train(whole, sampler.draw, settings))
    calls = itertools.count()

    def draw(rng: np.random.Generator) -> Batch:
        if next(calls) == 5:
            raise MemoryError
        return sampler.draw(rng)

    with pytest.raises(MemoryError):
        list(train(crashed, draw, settings, run_dir=tmp_path))
    assert load_checkpoint(tmp_path / LAST)["step"] == 3
    rest = list(train(resumed, sampler.draw, settings, run_dir=tmp_path, resume=True))
    assert [e.step for e in rest if isinstance(e, StepDone)] == [4, 5, 6, 7, 8]
    assert equal(weights(whole), weights(resumed))


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


def test_later_weights_are_kept_within_one_standard_error_of_the_best(
    sampler: PatchSampler,
) -> None:
    """The error is that of the highest score: neither small steps down nor own errors add up."""
    seen = []
    scores = [(0.1, 0.5), (0.9, 0.1), (0.8, 0.3), (0.79, 9.0), (0.81, 0.0), (0.7, 0.0)]

    def validate(net: torch.nn.Module) -> dict[str, float]:
        seen.append(weights(net))
        score, error = scores[len(seen) - 1]
        return {"score": score, "score_error": error}

    net = tiny_net()
    settings = LoopSettings(steps=6, validate_every=1, patience=4)
    events = list(train(net, sampler.draw, settings, validate=validate))
    kept = [e.is_best for e in events if isinstance(e, Validated)]
    assert kept == [True, True, True, False, True, False]
    assert equal(weights(net), seen[4])
    assert not equal(seen[4], seen[5])
    assert events[-1].step == 6


def test_patience_counts_validations_without_a_higher_score(sampler: PatchSampler) -> None:
    """Weights that are kept for being late do not make a plateau longer."""
    settings = LoopSettings(steps=99, validate_every=1, patience=3)
    events = train(
        tiny_net(), sampler.draw, settings, validate=lambda net: {"score": 0.5, "score_error": 0.1}
    )
    *_, last = events
    assert isinstance(last, Stopped)
    assert last.step == 4


def test_patience_begins_when_its_share_of_the_steps_is_over(sampler: PatchSampler) -> None:
    settings = LoopSettings(steps=20, validate_every=1, patience=3, patience_from=0.5)
    events = train(tiny_net(), sampler.draw, settings, validate=lambda net: {"score": 0.5})
    *_, last = events
    assert isinstance(last, Stopped)
    # The validation after step 10 is the first of three that count.
    assert last.step == 12


def test_who_only_looks_on_sees_what_a_validation_would(
    sampler: PatchSampler, tmp_path: Path
) -> None:
    settings = LoopSettings(steps=7, validate_every=2, patience=1)
    seen: list[dict[str, torch.Tensor]] = []

    def look(net: torch.nn.Module) -> dict[str, float]:
        assert not net.training
        seen.append(weights(net))
        return {}

    net, alone = tiny_net(), tiny_net()
    events = list(train(net, sampler.draw, settings, validate=look, run_dir=tmp_path))
    assert [type(e) for e in events] == [StepDone] * 7 + [Saved]
    assert len(seen) == 4
    list(train(alone, sampler.draw, settings))
    assert equal(weights(net), weights(alone))
    assert equal(weights(net), seen[-1])
    again = train(tiny_net(), sampler.draw, settings, validate=look, run_dir=tmp_path, resume=True)
    assert list(again) == []


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
    sampler: PatchSampler, tmp_path: Path, precision: str
) -> None:
    calls = itertools.count()

    def draw(rng: np.random.Generator) -> Batch:
        batch = sampler.draw(rng)
        spoilt = batch.image * (torch.nan if next(calls) == 2 else 1)
        return Batch(spoilt, batch.labels, batch.weights)

    net, good = tiny_net(), tiny_net()
    settings = LoopSettings.parse({"steps": 9, "precision": precision}, source="test")
    *_, saved, last = train(net, draw, settings, run_dir=tmp_path)
    assert saved == Saved(2, str(tmp_path / LAST))
    assert last == Stopped(2, "the loss of step 3 is not finite")
    events = train(good, sampler.draw, settings)
    while next(events).step < 2:
        pass
    events.close()
    assert equal(weights(net), weights(good))
    # All is well in the checkpoint too: without the spoilt image the training goes on from it.
    rest = list(train(tiny_net(), sampler.draw, settings, run_dir=tmp_path, resume=True))
    assert np.isfinite([e.loss for e in rest if isinstance(e, StepDone)]).all()
    net_in_file = load_checkpoint(tmp_path / LAST)["net"]
    assert all(bool(tensor.isfinite().all()) for tensor in net_in_file.values())


def test_an_early_checkpoint_can_still_be_used(sampler: PatchSampler, tmp_path: Path) -> None:
    settings = LoopSettings(steps=6, save_every=3, validate_every=3)

    def start(net: UNet, resume: bool = False) -> Iterator[TrainingEvent]:
        return train(
            net,
            sampler.draw,
            settings,
            validate=lambda net: {"score": float(net.head.weight.mean())},
            run_dir=tmp_path,
            resume=resume,
        )

    whole, resumed = tiny_net(), tiny_net()
    events = start(whole)
    while not isinstance(next(events), Saved):
        pass
    state = load_checkpoint(tmp_path / LAST)
    expected = list(events)
    for name in ("validated_step", "without_gain", "best_error", "scaler", "anchor", "pace"):
        del state[name]
    save_checkpoint(tmp_path / LAST, state)
    assert list(start(resumed, resume=True)) == expected
    assert equal(weights(whole), weights(resumed))


@pytest.mark.parametrize("budget", [{"steps": 4}, {"seconds": 0.2}], ids=str)
def test_frozen_statistics_stay(sampler: PatchSampler, budget: dict[str, float]) -> None:
    net = tiny_net()
    list(train(net, sampler.draw, LoopSettings(steps=2)))  # statistics that are not the first ones
    settings = LoopSettings.parse(budget | {"freeze_norm_from": 0.0}, source="test")
    before = weights(net)
    list(train(net, sampler.draw, settings))
    after = weights(net)
    frozen = [name for name in before if "running" in name or "batches_tracked" in name]
    assert len(frozen) == 3 * len([m for m in net.modules() if hasattr(m, "running_mean")]) > 0
    assert all(torch.equal(before[name], after[name]) for name in frozen)
    assert not torch.equal(before["head.weight"], after["head.weight"])


def test_a_closed_training_keeps_the_best_weights_and_loses_nothing(
    sampler: PatchSampler, tmp_path: Path
) -> None:
    net, seen = tiny_net(), []

    def validate(averaged: torch.nn.Module) -> dict[str, float]:
        seen.append(weights(averaged))
        return {"score": -len(seen)}

    settings = LoopSettings(steps=1000, validate_every=2)
    events = train(net, sampler.draw, settings, validate=validate, run_dir=tmp_path)
    for event in events:
        if event.step == 5:
            break
    events.close()
    assert not net.training
    assert len(seen) == 2
    assert equal(weights(net), seen[0])
    assert load_checkpoint(tmp_path / LAST)["step"] == 5
    assert equal(load_checkpoint(tmp_path / BEST), seen[0])


def test_a_training_without_a_run_folder_can_be_closed(sampler: PatchSampler) -> None:
    net = tiny_net()
    events = train(net, sampler.draw, LoopSettings(steps=1000))
    next(events)
    events.close()
    assert not net.training


def test_it_stops_on_a_plateau_with_the_best_weights(sampler: PatchSampler, tmp_path: Path) -> None:
    scores, seen = iter([0.1, 0.5, 0.5, 0.4, 0.6, 0.2, 0.6, 0.3]), []

    def validate(averaged: torch.nn.Module) -> dict[str, float]:
        seen.append(weights(averaged))
        return {"score": next(scores)}

    def start(resume: bool = False) -> list[TrainingEvent]:
        settings = LoopSettings(steps=99, validate_every=1, patience=3)
        return list(
            train(net, sampler.draw, settings, validate=validate, run_dir=tmp_path, resume=resume)
        )

    net = tiny_net()
    *_, saved, last = start()
    reason = "3 validations in a row were not better than the highest score, 0.6"
    assert saved == Saved(8, str(tmp_path / LAST))
    assert last == Stopped(8, reason)
    assert equal(weights(net), seen[6])  # as good as the highest, and later
    assert start(resume=True) == [last]
    assert equal(weights(net), seen[6])


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
    with pytest.raises(StorageError, match="anchor_weight"):
        resume(tiny_net(), LoopSettings(steps=2, anchor_weight=1.0))
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


def test_the_average_can_be_looked_at_between_two_steps(sampler: PatchSampler) -> None:
    plain, watched = tiny_net(), tiny_net()
    settings = LoopSettings(steps=4, seed=3)
    list(train(plain, sampler.draw, settings))
    state = TrainingState(watched, settings)
    seen = [
        weights(state.averaged)
        for event in train(state, sampler.draw, settings)
        if isinstance(event, StepDone)
    ]
    assert not any(equal(a, b) for a, b in itertools.pairwise(seen))
    # Whoever looks changes nothing; in the end the network holds the newest.
    assert equal(seen[-1], weights(plain))
    assert equal(weights(watched), weights(plain))
