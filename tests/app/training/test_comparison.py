"""The three pictures show what the old and the new model say of places away from the strokes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tests.nets import save_lively_model

from napari_unet.app.segment import segment
from napari_unet.app.train import run_training
from napari_unet.app.training import comparison
from napari_unet.app.training.session import comparison_seconds
from napari_unet.core.boxes import Box
from napari_unet.core.events import Warned
from napari_unet.core.train_events import ComparisonReady, TrainingFinished
from napari_unet.core.train_job import TrainJob
from napari_unet.errors import InputError

if TYPE_CHECKING:
    from napari_unet.core.train_events import TrainEvent

SHAPE = (4, 300, 290)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def fields(tmp_path: Path, rng: np.random.Generator) -> dict[str, Any]:
    """An image of four slices with strokes on the first one; fields of a job."""
    image = rng.integers(0, 255, SHAPE, dtype=np.uint8)
    labels = np.zeros(SHAPE, np.uint8)
    for k, row in enumerate(range(20, 280, 20)):
        labels[0, row : row + 3, 20:270] = 1 + k % 2
    np.save(tmp_path / "image.npy", image)
    np.save(tmp_path / "labels.npy", labels)
    return {
        "images": (str(tmp_path / "image.npy"),),
        "labels": (str(tmp_path / "labels.npy"),),
        "axes": "zyx",
        "label_kind": "annotation",
        "classes": ("class 1", "class 2"),
        "output": str(tmp_path / "new.safetensors"),
        "steps": 4,
        "threads": 1,
        "precision": "fp32",
        "sampler": {"output_edge": 36},
        "validation": "none",
        "loop": {"peak_rate": 0.01},
    }


@pytest.fixture
def parent(tmp_path: Path) -> str:
    path = tmp_path / "parent.safetensors"
    save_lively_model(path, seed=7, norm="batch")
    return str(path)


def run(fields: dict[str, Any], **options: Any) -> list[TrainEvent]:
    return list(run_training(TrainJob.parse(fields | options, source="test")))


def one(events: list[TrainEvent], kind: type[Any]) -> Any:
    (found,) = (event for event in events if isinstance(event, kind))
    return found


@pytest.mark.parametrize("rescale", ["auto", 0.75])
def test_pictures_are_what_both_models_say(
    fields: dict[str, Any], parent: str, rescale: float | str
) -> None:
    events = run(fields, parent=parent, rescale=rescale)
    ready, finished = one(events, ComparisonReady), one(events, TrainingFinished)
    assert events.index(ready) < events.index(finished)
    assert Path(ready.path).parent == Path(finished.run)
    image, labels = (np.load(fields[name][0]) for name in ("images", "labels"))
    assert len(ready.boxes) == len(ready.changed) == 3
    models = {"old": parent, "new": finished.model}
    said = {
        name: segment(image, path, axes="zyx", rescale=rescale) for name, path in models.items()
    }
    with np.load(ready.path, allow_pickle=False) as pictures:
        for k, box in enumerate(ready.boxes):
            assert Box.of_shape(SHAPE).contains(box)
            assert not labels[box.slices].any()
            for name, whole in said.items():
                # The file stores rounded weights: a pixel on the edge may change.
                assert (pictures[f"{name}{k}"] == whole[box.slices][0]).mean() > 0.999
            changed = (pictures[f"old{k}"] != pictures[f"new{k}"]).mean()
            assert ready.changed[k] == pytest.approx(changed, abs=1e-4)
            gray = pictures[f"image{k}"]
            assert (gray.shape, gray.dtype) == (box.shape[1:], np.uint8)
            shown = np.corrcoef(gray.ravel(), image[box.slices].ravel())[0, 1]
            assert shown > (0.99 if rescale == "auto" else 0.6)
    assert ready.changed[1] >= ready.changed[2]
    assert max(ready.changed) > 0.02


def test_the_first_place_is_chance_and_the_others_change_most(
    fields: dict[str, Any], parent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampled: list[Any] = []
    inner = comparison._places

    def places(*arguments: Any) -> Any:
        sampled.extend(inner(*arguments))
        return sampled

    monkeypatch.setattr(comparison, "_places", places)
    ready = one(run(fields, parent=parent), ComparisonReady)
    assert len(sampled) == comparison.SAMPLED
    assert ready.boxes[0] == sampled[0]
    assert len({box.start[0] for box in sampled}) == 3
    monkeypatch.setattr(comparison, "PICTURES", comparison.SAMPLED)
    sampled.clear()
    output = fields["output"].replace("new", "again")
    whole = one(run(fields, parent=parent, output=output), ComparisonReady)
    assert ready.changed[1:] == tuple(sorted(whole.changed[1:], reverse=True)[:2])


def test_the_seed_decides_and_chance_is_not_that_of_training(
    fields: dict[str, Any], parent: str
) -> None:
    ends = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        output = fields["output"].replace("new", name)
        ends.append(one(run(fields, parent=parent, output=output, seed=seed), ComparisonReady))
    assert ends[0].boxes == ends[1].boxes
    assert ends[0].boxes != ends[2].boxes


def test_from_nothing_there_is_no_before(fields: dict[str, Any]) -> None:
    ready = one(run(fields, network={"base_channels": 4, "depth": 2}), ComparisonReady)
    with np.load(ready.path, allow_pickle=False) as pictures:
        assert sorted(pictures.files) == [
            f"{name}{k}" for name in ("image", "new") for k in range(3)
        ]
    assert ready.changed == (0.0,) * 3
    assert "by chance" in ready.note


def test_where_all_is_annotated_places_are_shown_all_the_same(
    fields: dict[str, Any], parent: str, rng: np.random.Generator
) -> None:
    np.save(fields["labels"][0], rng.integers(1, 3, SHAPE, dtype=np.uint8))
    assert len(one(run(fields, parent=parent), ComparisonReady).boxes) == 3


def test_in_a_small_image_smaller_pictures_lie_beside_the_strokes(
    fields: dict[str, Any], parent: str, rng: np.random.Generator
) -> None:
    labels = np.zeros((250, 250), np.uint8)
    labels[10:120, 10:120], labels[130:240, 130:240] = 1, 2
    np.save(fields["images"][0], rng.integers(0, 255, labels.shape, dtype=np.uint8))
    np.save(fields["labels"][0], labels)
    boxes = one(run(fields, parent=parent, axes="yx"), ComparisonReady).boxes
    assert len(boxes) == 3
    assert not any(labels[box.slices[1:]].any() for box in boxes)


def test_color_images_are_shown_in_color(
    fields: dict[str, Any], tmp_path: Path, rng: np.random.Generator
) -> None:
    labels = np.load(fields["labels"][0])[0]
    np.save(fields["images"][0], rng.integers(0, 255, (3, *labels.shape), dtype=np.uint8))
    np.save(fields["labels"][0], labels)
    options = {"axes": "cyx", "channel": "0,1,2", "network": {"base_channels": 4, "depth": 2}}
    ready = one(run(fields, **options), ComparisonReady)
    with np.load(ready.path, allow_pickle=False) as pictures:
        assert pictures["image0"].shape == (*ready.boxes[0].shape[1:], 3)


def test_a_training_is_not_lost_because_of_its_pictures(
    fields: dict[str, Any], parent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise InputError("chunk 7 cannot be decoded; restore it from a copy")

    monkeypatch.setattr(comparison, "predict_preview", fail)
    events = run(fields, parent=parent)
    assert Path(one(events, TrainingFinished).model).is_file()
    assert not any(isinstance(event, ComparisonReady) for event in events)
    assert "chunk 7" in [e.message for e in events if isinstance(e, Warned)][-1]


@pytest.mark.parametrize(("seconds", "pictures"), [(0.2, 3), (0.6, 3), (1.6, 1)])
def test_a_budget_bounds_the_pictures(
    fields: dict[str, Any],
    parent: str,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    pictures: int,
) -> None:
    assert [comparison_seconds(b) for b in (6, 60, 6000)] == pytest.approx([1.0, 1.8, 2.0])
    computed: list[Any] = []
    inner = comparison.predict_preview
    now = 0.0

    def slow(*arguments: Any) -> Any:
        nonlocal now
        now += seconds
        computed.append(arguments)
        return inner(*arguments)

    monkeypatch.setattr(comparison, "predict_preview", slow)
    job = TrainJob.parse(
        {**fields, "steps": None, "minutes": 0.01, "parent": parent}, source="test"
    )
    events = list(run_training(job, clock=lambda: now))
    # Each place is computed for both models. One second is planned; three are waited for longer.
    assert len(computed) == 2 * pictures
    assert len(one(events, ComparisonReady).boxes) == pictures
