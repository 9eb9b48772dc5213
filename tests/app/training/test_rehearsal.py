"""Fine-tuning goes on with a share of what its ancestors learned from, in its own classes."""

from __future__ import annotations

import hashlib
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tests.app.training.crop_files import write_crops
from tests.nets import COLORS, lively_net

from napari_unet.app.train import TrainEvent, run_training
from napari_unet.app.training.plan import plan_training
from napari_unet.app.training.rehearsal import Rehearsal, find_rehearsal
from napari_unet.cli.describe_training import describe_training
from napari_unet.core.classes import ClassInfo
from napari_unet.core.header import InputExpectation, ModelHeader
from napari_unet.core.train_events import StepDone, TrainingFinished, TrainingStarted
from napari_unet.core.train_job import TrainJob
from napari_unet.errors import ConfigError
from napari_unet.model.file import read_model_header
from napari_unet.model.weights import load_model, save_model

if TYPE_CHECKING:
    from pathlib import Path

OLD = "old.rehearsal.safetensors"


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    torch.set_num_threads(1)


@pytest.fixture
def fields(tmp_path: Path, rng: np.random.Generator) -> dict[str, Any]:
    """Return a job that fine-tunes a model of the classes a, b and c, which brings crops."""
    net = lively_net(0, num_classes=3)
    header = ModelHeader(
        name="old",
        architecture=net.architecture,
        classes=tuple(ClassInfo(name=n, color=c) for n, c in zip("abc", COLORS, strict=True)),
        input=InputExpectation(channels=("gray",)),
    )
    save_model(tmp_path / "old.safetensors", net, header, half=False)
    write_crops(tmp_path / OLD)
    labels = np.zeros((96, 96), np.uint8)
    labels[10:14, 5:90], labels[40:44, 5:90] = 1, 2
    np.save(tmp_path / "image.npy", rng.integers(0, 255, labels.shape).astype(np.uint8))
    np.save(tmp_path / "labels.npy", labels)
    return {
        "images": (str(tmp_path / "image.npy"),),
        "labels": (str(tmp_path / "labels.npy"),),
        "axes": "yx",
        "label_kind": "annotation",
        "parent": str(tmp_path / "old.safetensors"),
        "output": str(tmp_path / "new.safetensors"),
        "steps": 5,
        "threads": 1,
        "precision": "fp32",
        "validation": "none",
        "sampler": {"output_edge": 20, "rehearsal_share": 0.5},
    }


def job_of(fields: dict[str, Any], **options: Any) -> TrainJob:
    return TrainJob.parse(fields | options, source="test")


def rehearsal_of(fields: dict[str, Any], names: tuple[str, ...], **options: Any) -> Rehearsal:
    found = find_rehearsal(plan_training(job_of(fields, **options)), names, 0.25)
    assert found is not None
    return found


def run(job: TrainJob, **options: Any) -> list[TrainEvent]:
    return list(run_training(job, **options))


def one(events: list[TrainEvent], kind: type[Any]) -> Any:
    (found,) = (event for event in events if isinstance(event, kind))
    return found


def tensors(events: list[TrainEvent]) -> dict[str, torch.Tensor]:
    return load_model(one(events, TrainingFinished).model, fold=False).net.state_dict()


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(t, b[name]) for name, t in a.items())


def test_labels_are_in_the_new_classes(tmp_path: Path, fields: dict[str, Any]) -> None:
    """b is renamed, c dropped and ignored, and new is what the labels do not know."""
    names = ("new", "bee", "a")
    found = rehearsal_of(fields, names, rename={"b": "bee"})
    assert found.unknown == (1,)
    assert [crop.annotation.counts for crop in found.crops] == [(0, 5, 10)] * 2
    assert found.sha256 == hashlib.sha256((tmp_path / OLD).read_bytes()).hexdigest()


def test_there_may_be_nothing_to_rehearse(tmp_path: Path, fields: dict[str, Any]) -> None:
    plan = plan_training(job_of(fields))
    assert find_rehearsal(plan, ("a", "b"), 0.0) is None
    assert find_rehearsal(plan, ("x", "y"), 0.25) is None
    (tmp_path / OLD).unlink()
    assert find_rehearsal(plan, ("a", "b"), 0.25) is None
    nothing = plan_training(job_of(fields, parent=None, classes=("a", "b")))
    assert find_rehearsal(nothing, ("a", "b"), 0.25) is None


def test_a_fine_tune_rehearses_and_says_so(tmp_path: Path, fields: dict[str, Any]) -> None:
    events = run(job_of(fields, classes=("a", "b", "c", "new")))
    started = one(events, TrainingStarted)
    assert (started.rehearsed, started.new_classes) == (2, ("new",))
    assert "rehearses 2 crops" in str(describe_training(started)).lower()
    sha256 = hashlib.sha256((tmp_path / OLD).read_bytes()).hexdigest()
    data = read_model_header(one(events, TrainingFinished).model).header.provenance.data
    assert f"2 rehearsal crops with a share of 0.5 of the patches (SHA-256 {sha256})" in data


def test_a_share_of_0_is_as_if_there_were_no_crops(tmp_path: Path, fields: dict[str, Any]) -> None:
    off = {"sampler": {"output_edge": 20, "rehearsal_share": 0}}
    results = [run(job_of(fields))]
    results.append(run(job_of(fields | off, output=str(tmp_path / "off.safetensors"))))
    (tmp_path / OLD).unlink()
    results.append(run(job_of(fields, output=str(tmp_path / "none.safetensors"))))
    assert [one(events, TrainingStarted).rehearsed for events in results] == [2, 0, 0]
    with_crops, *without = (tensors(events) for events in results)
    assert same(*without)
    assert not same(with_crops, without[0])


def test_resumed_equals_uninterrupted(tmp_path: Path, fields: dict[str, Any]) -> None:
    whole = run(job_of(fields))
    job = job_of(fields, output=str(tmp_path / "cut.safetensors"))
    interrupt(job)
    resumed = run(job, resume=True)
    assert one(resumed, TrainingStarted).rehearsed == 2
    assert same(tensors(resumed), tensors(whole))


def test_a_resumed_training_wants_the_crops_it_began_with(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    job = job_of(fields)
    interrupt(job)
    write_crops(tmp_path / OLD, license="another")
    with pytest.raises(ConfigError, match="the rehearsal crops of the model to start from"):
        run(job, resume=True)


def interrupt(job: TrainJob) -> None:
    with closing(run_training(job)) as events:
        next(e for e in events if isinstance(e, StepDone) and e.step == 2)
