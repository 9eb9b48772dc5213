"""From labels to a judged model file: the whole job, and what it refuses to do."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tests.nets import COLORS, lively_net

import napari_unet
from napari_unet.app.segment import segment
from napari_unet.app.train import TrainEvent, run_training
from napari_unet.app.training.run_folder import prepare_run_folder, read_log, record_run, stored_job
from napari_unet.core.boxes import Box
from napari_unet.core.classes import ClassInfo
from napari_unet.core.events import StageChanged, Warned, event_to_json
from napari_unet.core.header import InputExpectation, ModelHeader
from napari_unet.core.train_events import (
    Judged,
    PreviewReady,
    StepDone,
    Stopped,
    TrainingFinished,
    TrainingStarted,
    Validated,
)
from napari_unet.core.train_job import TrainJob
from napari_unet.errors import (
    AnnotationError,
    ConfigError,
    OutputExistsError,
    TrainingError,
    UNetError,
)
from napari_unet.inference.control import JobControl
from napari_unet.model.file import read_model_header
from napari_unet.model.weights import load_model, save_model
from napari_unet.training.checkpoint import LAST

if TYPE_CHECKING:
    import numpy.typing as npt

SIZE = 192


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep models of the developer out, and those of tests in."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    torch.set_num_threads(1)


def disks(rng: np.random.Generator, planes: int = 1) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return noisy planes with bright disks, and which pixels are disks (class 2 of 2)."""
    y, x = np.mgrid[:SIZE, :SIZE]
    inside = np.zeros((planes, SIZE, SIZE), bool)
    for plane in inside:
        for cy, cx in rng.integers(0, SIZE, (48, 2)):
            plane |= (y - cy) ** 2 + (x - cx) ** 2 < 49
    image = 90 + 60 * inside + rng.normal(0, 12, inside.shape)
    return image.clip(0, 255).astype(np.uint8), (inside + 1).astype(np.uint8)


def painted(labels: npt.NDArray[Any], rng: np.random.Generator, strokes: int) -> npt.NDArray[Any]:
    """Return short strokes that take the labels under them."""
    result = np.zeros_like(labels)
    for _ in range(strokes):
        z, y, x = rng.integers(0, (len(labels), SIZE - 3, SIZE - 12))
        part = (z, slice(y, y + 2), slice(x, x + 9))
        result[part] = labels[part]
    return result


@pytest.fixture
def files(tmp_path: Path, rng: np.random.Generator) -> dict[str, Any]:
    """Paths of an image and of dense labels, as fields of a job."""
    image, labels = disks(rng)
    return write(tmp_path, image, labels)


def write(folder: Path, image: npt.NDArray[Any], labels: npt.NDArray[Any]) -> dict[str, Any]:
    np.save(folder / "image.npy", image)
    np.save(folder / "labels.npy", labels)
    return {
        "images": (str(folder / "image.npy"),),
        "labels": (str(folder / "labels.npy"),),
        "axes": "zyx"[-image.ndim :],
        "label_kind": "annotation",
        "classes": ("matrix", "disk"),
    }


def job_of(tmp_path: Path, fields: dict[str, Any], **options: Any) -> TrainJob:
    """Return a job that takes a second: a tiny network, few steps."""
    small = {
        "output": str(tmp_path / "new.safetensors"),
        "steps": 6,
        "threads": 1,
        "precision": "fp32",
        "network": {"base_channels": 4, "depth": 2},
        "sampler": {"output_edge": 36},
    }
    return TrainJob.parse(small | fields | options, source="test")


def run(job: TrainJob, control: JobControl | None = None, **options: Any) -> list[TrainEvent]:
    return list(run_training(job, control, **options))


def one(events: list[TrainEvent], kind: type[Any]) -> Any:
    (found,) = (event for event in events if isinstance(event, kind))
    return found


def tensors(path: str | Path) -> dict[str, torch.Tensor]:
    return load_model(path, fold=False).net.state_dict()


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def save_parent(tmp_path: Path, *names: str, **architecture: Any) -> str:
    net = lively_net(7, norm="batch", num_classes=len(names), **architecture)
    header = ModelHeader(
        name="parent",
        architecture=net.architecture,
        classes=tuple(ClassInfo(name=n, color=COLORS[k]) for k, n in enumerate(names)),
        input=InputExpectation(channels=("gray",), voxel_size=(4.0, 4.0), unit="nanometer"),
        license="CC0",
    )
    save_model(tmp_path / "parent.safetensors", net, header, half=False)
    return str(tmp_path / "parent.safetensors")


def test_from_nothing_to_a_model_that_segments(tmp_path: Path, files: dict[str, Any]) -> None:
    events = run(job_of(tmp_path, files, steps=40, loop={"peak_rate": 0.01}))
    stages = [event.stage for event in events if isinstance(event, StageChanged)]
    assert stages == [
        "opening",
        "normalizing",
        "splitting",
        "loading",
        "training",
        "judging",
        "finishing",
    ]
    started, finished = one(events, TrainingStarted), one(events, TrainingFinished)
    assert started.new_classes == ("matrix", "disk")
    assert (started.parent, started.steps, started.seconds) == (None, 40, None)
    assert all(started.annotated.values())
    assert (finished.reason, finished.steps) == ("complete", 40)
    assert [e.step for e in events if isinstance(e, StepDone)] == list(range(1, 41))
    scores = [e.metrics["score"] for e in events if isinstance(e, Validated)]
    assert max(scores) > scores[0]
    judged = one(events, Judged)
    assert (judged.before, judged.verdict) == (None, None)
    image = np.load(files["images"][0])[0]
    found = segment(image, finished.model)
    truth = np.load(files["labels"][0])[0]
    assert (found == truth).mean() > 0.85
    for event in events:
        json.dumps(event_to_json(event), allow_nan=False)


def test_the_file_says_where_the_model_comes_from(tmp_path: Path, files: dict[str, Any]) -> None:
    parent = save_parent(tmp_path, "matrix", "disk")
    events = run(job_of(tmp_path, files, parent=parent, network={}, seed=5))
    file = read_model_header(one(events, TrainingFinished).model)
    header, source = file.header, file.header.provenance
    assert (header.name, header.license, source.seed) == ("new", "CC0", 5)
    assert [item.color for item in header.classes] == list(COLORS[:2])
    assert source.parent is not None
    assert source.parent.sha256 == read_model_header(parent).sha256
    assert json.loads(source.recipe)["job"]["steps"] == 6
    judged = one(events, Judged)
    assert source.scores["judging_blocks/after"] == pytest.approx(judged.after, abs=1e-4)
    assert judged.note in source.score_conditions
    assert header.input.voxel_size == (4.0, 4.0)
    # And where their gray values lie, as the network sees them.
    (gray,) = header.input.intensities or ()
    assert gray.low[0] <= gray.low[1] < 0 < gray.high[0] <= gray.high[1]


def test_the_same_seed_gives_the_same_weights(tmp_path: Path, files: dict[str, Any]) -> None:
    first = run(job_of(tmp_path, files, run=str(tmp_path / "a")))
    again = job_of(tmp_path, files, run=str(tmp_path / "b"), output=str(tmp_path / "b.safetensors"))
    torch.rand(3)  # chance of others does not matter
    second = run(again)
    other = run(again.model_copy(update={"seed": 1, "output": str(tmp_path / "c.safetensors")}))
    paths = [one(events, TrainingFinished).model for events in (first, second, other)]
    assert same(tensors(paths[0]), tensors(paths[1]))
    assert not same(tensors(paths[0]), tensors(paths[2]))


@pytest.mark.parametrize("cut", [1, 4])
def test_interrupted_and_resumed_equals_uninterrupted(
    tmp_path: Path, files: dict[str, Any], cut: int
) -> None:
    parent = save_parent(tmp_path, "matrix", "disk")
    options: dict[str, Any] = {
        "parent": parent,
        "network": {},
        "classes": ("matrix", "disk", "other"),
        "loop": {"validate_every": 2, "save_every": 100},
    }
    whole = run(job_of(tmp_path, files, **options))
    job = job_of(tmp_path, files, **options, output=str(tmp_path / "cut.safetensors"))
    folder = prepare_run_folder(job, resume=False)
    with closing(record_run(run_training(job), folder, resume=False)) as events:
        for event in events:
            if isinstance(event, StepDone) and event.step == cut:
                break
    assert not Path(job.output).exists()
    resumed = list(record_run(run_training(job, resume=True), folder, resume=True))
    assert one(resumed, TrainingStarted).first_step == cut
    steps = [e for e in resumed if isinstance(e, StepDone)]
    assert steps == [e for e in whole if isinstance(e, StepDone) and e.step > cut]
    assert one(resumed, Judged) == one(whole, Judged)
    finished = one(resumed, TrainingFinished), one(whole, TrainingFinished)
    assert finished[0].best_step == finished[1].best_step
    assert same(tensors(finished[0].model), tensors(finished[1].model))


def test_a_resumed_training_wants_the_data_it_began_with(
    tmp_path: Path, files: dict[str, Any]
) -> None:
    job = job_of(tmp_path, files)
    with closing(run_training(job)) as events:
        next(event for event in events if isinstance(event, StepDone))
    assert (tmp_path / "new.run" / LAST).exists()
    image = np.load(files["images"][0])
    np.save(files["images"][0], 255 - image)
    with pytest.raises(ConfigError, match=r"the images or labels \(image\) changed"):
        run(job, resume=True)


def test_stopping_keeps_the_best_weights_and_judges_them(
    tmp_path: Path, files: dict[str, Any]
) -> None:
    control = JobControl()
    events = []
    job = job_of(tmp_path, files, steps=1000, loop={"validate_every": 2})
    for event in run_training(job, control):
        events.append(event)
        if isinstance(event, StepDone) and event.step == 3:
            control.stop()
    finished = one(events, TrainingFinished)
    assert (finished.reason, finished.steps, finished.best_step) == ("stopped", 3, 2)
    assert one(events, Judged).after >= 0
    assert (tmp_path / "new.run" / LAST).exists()


def test_stopped_before_the_first_step_there_is_no_model(
    tmp_path: Path, files: dict[str, Any]
) -> None:
    control = JobControl()
    control.stop()
    job = job_of(tmp_path, files)
    events = run(job, control)
    assert isinstance(events[-1], Stopped)
    assert not Path(job.output).exists()


def test_new_classes_are_learnt_and_the_parent_is_untouched(
    tmp_path: Path, files: dict[str, Any]
) -> None:
    parent = save_parent(tmp_path, "disk", "matrix")
    before = Path(parent).read_bytes()
    events = run(
        job_of(
            tmp_path,
            files,
            parent=parent,
            network={},
            rename={"disk": "vesicle"},
            classes=("matrix", "vesicle", "rim"),
            colors={"rim": "#123456"},
        )
    )
    started = one(events, TrainingStarted)
    assert started.classes == (("matrix", COLORS[1]), ("vesicle", COLORS[0]), ("rim", "#123456"))
    assert started.new_classes == ("rim",)
    assert any("rim is not annotated" in e.message for e in events if isinstance(e, Warned))
    first = next(e for e in events if isinstance(e, Validated))
    assert (first.step, "f1/rim" in first.metrics) == (0, False)
    judged = one(events, Judged)
    assert judged.verdict is not None
    assert judged.metric == "mean F1 of matrix, vesicle"
    assert Path(parent).read_bytes() == before


def test_a_budget_in_time_is_kept(tmp_path: Path, files: dict[str, Any]) -> None:
    events = run(job_of(tmp_path, files, steps=None, minutes=0.05))
    finished = one(events, TrainingFinished)
    assert finished.reason == "budget"
    assert finished.steps >= 1
    # As promised, were this process alone on the machine.
    assert finished.seconds < 3 * 1.5


def test_a_preview_comes_where_the_user_looks(tmp_path: Path, files: dict[str, Any]) -> None:
    control = JobControl()
    control.viewport = Box((0, -20, 10), (1, 50, 60))
    events = run(job_of(tmp_path, files), control)
    previews = [event for event in events if isinstance(event, PreviewReady)]
    shown = [e.step for e in events if isinstance(e, Validated)][1:]
    # The last one shows what is kept.
    assert [p.step for p in previews] == [*shown, one(events, TrainingFinished).best_step]
    assert previews[0].box == Box((0, 0, 10), (1, 50, 60))
    labels = np.load(previews[-1].path)
    assert labels.shape == (1, 50, 50)
    assert set(np.unique(labels)) <= {1, 2}


def test_previews_come_as_often_if_nothing_is_held_out(
    tmp_path: Path, files: dict[str, Any]
) -> None:
    control = JobControl()
    control.viewport = Box((0, 0, 0), (1, 30, 30))
    events = run(job_of(tmp_path, files, steps=20, validation="none"), control)
    assert not any(isinstance(event, Validated) for event in events)
    found = [event.step for event in events if isinstance(event, PreviewReady)]
    assert found == [*range(2, 21, 2), 20]


def test_loss_that_is_not_finite_ends_with_the_last_good_weights(
    tmp_path: Path, files: dict[str, Any]
) -> None:
    wild = {"peak_rate": 1e30, "clip_norm": 1e30, "optimizer": "sgd", "weight_decay": 0.0}
    events = run(job_of(tmp_path, files, steps=200, loop=wild, validation="none"))
    finished = one(events, TrainingFinished)
    assert (finished.reason, finished.steps < 200) == ("non-finite loss", True)
    assert "the loss of step" in finished.detail
    assert all(torch.isfinite(t).all() for t in tensors(finished.model).values())


def test_without_any_good_step_there_is_a_reason_and_no_model(
    tmp_path: Path, files: dict[str, Any]
) -> None:
    job = job_of(tmp_path, files, loop={"class_weights": (3e38, 3e38)})
    with pytest.raises(TrainingError, match="nothing was learnt: the loss of step 1 is"):
        run(job)
    assert not Path(job.output).exists()


def messages() -> dict[str, tuple[type[UNetError], str, dict[str, Any]]]:
    """What a person may get wrong -> error, its text, options of the job."""
    return {
        "nothing": (AnnotationError, "nothing is annotated in the labels of image", {}),
        "one class": (TrainingError, "only the class matrix is annotated: a network learns", {}),
        "nan": (TrainingError, "the image image has no finite gray value|is NaN or infinite", {}),
        "shape": (
            AnnotationError,
            r"labels have the shape \(1, 191, 192\).*image has \(1, 192",
            {},
        ),
        "value": (AnnotationError, "the label 3 is none of the 2 classes", {}),
        "single class": (TrainingError, "the only class is matrix", {"classes": ("matrix",)}),
        "no names": (ConfigError, "give --classes", {"classes": None}),
        "a setting": (ConfigError, "there is no setting rate; there are", {"loop": {"rate": 1}}),
        "elsewhere": (ConfigError, "comes from --steps", {"loop": {"steps": 1}}),
        "validation": (ConfigError, "neither auto nor none", {"validation": "some"}),
        "color": (ConfigError, "for a class 'x'", {"colors": {"x": "#000000"}}),
        "name": (ConfigError, "cannot be a model's name", {"output": "no spaces"}),
        "parent": (ConfigError, "there is no model 'nobody'", {"parent": "nobody"}),
    }


@pytest.mark.parametrize("case", messages())
def test_each_mistake_has_a_clear_message(
    tmp_path: Path, rng: np.random.Generator, case: str
) -> None:
    error, text, options = messages()[case]
    image, labels = disks(rng)
    changed: dict[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]] = {
        "nothing": (image, labels * 0),
        "one class": (image, (labels == 1).astype(np.uint8)),
        "nan": (np.full(image.shape, np.nan, np.float32), labels),
        "shape": (image, labels[:, 1:]),
        "value": (image, labels + 1),
        "single class": (image, labels * 0 + 1),
    }
    files = write(tmp_path, *changed.get(case, (image, labels)))
    with pytest.raises(error, match=text):
        run(job_of(tmp_path, files | options))


def test_what_exists_is_not_overwritten(tmp_path: Path, files: dict[str, Any]) -> None:
    job = job_of(tmp_path, files)
    Path(job.output).write_bytes(b"somebody's")
    with pytest.raises(OutputExistsError, match="no model is overwritten"):
        run(job)
    assert Path(job.output).read_bytes() == b"somebody's"


@pytest.mark.parametrize("classes", [1, 2])
def test_one_stroke_on_a_parent_runs_without_a_claim_and_says_so(
    tmp_path: Path, rng: np.random.Generator, classes: int
) -> None:
    image, labels = disks(rng)
    stroke = np.zeros_like(labels)
    stroke[0, 40:43, 30:50] = 1
    stroke[0, 40:43, 40:50] = classes
    parent = save_parent(tmp_path, "matrix", "disk")
    events = run(job_of(tmp_path, write(tmp_path, image, stroke), parent=parent, network={}))
    warnings = " ".join(event.message for event in events if isinstance(event, Warned))
    assert "without a claim" in warnings
    assert ("may unlearn" in warnings) == (classes == 1)
    assert not [event for event in events if isinstance(event, Judged | Validated)]
    assert one(events, TrainingFinished).best_step == 6


def test_pixels_without_a_gray_value_are_not_learnt_from(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    image, labels = disks(rng)
    holed = image.astype(np.float32)
    holed[0, :10] = np.nan
    events = run(job_of(tmp_path, write(tmp_path, holed, labels)))
    (warning,) = (event.message for event in events if isinstance(event, Warned))
    assert warning.startswith("1920 annotated voxels of image are NaN or infinite")


def test_objects_with_a_gap_weigh_the_gaps(tmp_path: Path, rng: np.random.Generator) -> None:
    image, labels = disks(rng)
    objects = (labels == 2).astype(np.uint16)
    objects[:, :, SIZE // 2 :] *= 1000
    fields = write(tmp_path, image, objects) | {
        "label_kind": "instances",
        "separation": "gap",
        "classes": None,
    }
    events = run(job_of(tmp_path, fields))
    assert [name for name, _ in one(events, TrainingStarted).classes] == ["background", "interior"]
    recipe = json.loads(
        read_model_header(one(events, TrainingFinished).model).header.provenance.recipe
    )
    assert "class_weights" not in recipe["loop"]


def test_another_pair_selects_and_judges(tmp_path: Path, rng: np.random.Generator) -> None:
    files = write(tmp_path, *disks(rng))
    (tmp_path / "other").mkdir()
    other = write(tmp_path / "other", *disks(rng, 2))
    pair = f"{other['images'][0]}:{other['labels'][0]}"
    events = run(job_of(tmp_path, files, validation=pair))
    started = one(events, TrainingStarted)
    labels = np.load(files["labels"][0])
    assert sum(started.annotated.values()) == labels.size
    assert 0 < sum(started.held_out.values()) <= 2 * SIZE * SIZE
    pair = f"{files['images'][0]}:{files['labels'][0]}"
    job = job_of(tmp_path, files, validation=pair, output=str(tmp_path / "b.safetensors"))
    with pytest.raises(ConfigError, match="to learn from and to validate with"):
        run(job)


@pytest.mark.parametrize(("rescale", "shape"), [("auto", 96), ("off", 192), (0.25, 48)])
def test_the_parent_sees_images_at_its_voxel_size(
    tmp_path: Path, rng: np.random.Generator, rescale: str | float, shape: int
) -> None:
    """The parent knows voxels of 4 nm, the image has 2 nm."""
    import zarr

    image, labels = disks(rng)
    fields = write(tmp_path, image, labels)
    group = zarr.create_group(tmp_path / "image.zarr", zarr_format=3)
    group.create_array("0", data=image, dimension_names=("z", "y", "x"))
    axes: Any = [{"name": n, "type": "space", "unit": "nanometer"} for n in "zyx"]
    scale: Any = {"type": "scale", "scale": [2.0, 2.0, 2.0]}
    datasets = [{"path": "0", "coordinateTransformations": [scale]}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    parent = save_parent(tmp_path, "matrix", "disk")
    changed = {"images": (str(tmp_path / "image.zarr"),), "axes": None, "parent": parent}
    job = job_of(tmp_path, fields | changed, network={}, rescale=rescale, validation="none")
    events = run(job)
    counted = sum(one(events, TrainingStarted).annotated.values())
    assert counted == shape * shape
    header = read_model_header(one(events, TrainingFinished).model).header
    assert header.input.voxel_size == (2.0 * SIZE / shape,) * 2


def test_arrays_in_python_leave_a_run_that_can_be_repeated(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    image, labels = disks(rng)
    options: dict[str, Any] = {
        "label_kind": "annotation",
        "classes": ("matrix", "disk"),
        "steps": 3,
        "threads": 1,
        "precision": "fp32",
        "network": {"base_channels": 4, "depth": 2},
        "sampler": {"output_edge": 36},
    }
    result = napari_unet.train(image[0], labels[0], tmp_path / "a.safetensors", **options)
    assert (result.finished.steps, len(result.judged)) == (3, 1)
    again = stored_job(tmp_path / "a.run")
    again = again.model_copy(update={"output": str(tmp_path / "b.safetensors")})
    assert same(tensors(result.model), tensors(one(run(again), TrainingFinished).model))
    assert (tmp_path / "a.run" / "curves.png").exists()


def test_after_a_crash_at_any_moment_the_training_goes_on(
    tmp_path: Path, files: dict[str, Any]
) -> None:
    """A copy of the run folder, taken between two checkpoints, is what kill -9 leaves."""
    options = {"loop": {"save_every": 2}, "validation": "none"}
    whole = job_of(tmp_path, files, **options)
    folder, left = prepare_run_folder(whole, resume=False), tmp_path / "crashed"
    for event in record_run(run_training(whole), folder, resume=False):
        if isinstance(event, StepDone) and event.step == 5:
            shutil.copytree(folder, left)
    job = job_of(tmp_path, files, **options, output=str(tmp_path / "b.safetensors"), run=str(left))
    events = list(record_run(run_training(job, resume=True), left, resume=True))
    assert [event.step for event in events if isinstance(event, StepDone)] == [5, 6]
    logged = [e["step"] for e in read_log(left) if e["event"] == "step_done"]
    assert logged == [1, 2, 3, 4, 5, 6]
    assert same(tensors(whole.output), tensors(job.output))
