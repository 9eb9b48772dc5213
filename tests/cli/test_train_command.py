"""``napari-unet train`` as a person calls it: data in their own folders, messages, exit codes."""

from __future__ import annotations

import io
import json
import shlex
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
import torch
from tests.tiny_datasets import write_bowl_2018, write_cells, write_drive, write_isbi_2012

from napari_unet.cli.describe_training import describe_training
from napari_unet.cli.main import app
from napari_unet.core.train_events import Judged, TrainingStarted, Validated
from napari_unet.model.file import read_model_header
from napari_unet.model.weights import load_model

if TYPE_CHECKING:
    from pathlib import Path

TINY = """
threads = 1
precision = "fp32"
[network]
base_channels = 4
depth = 2
[sampler]
output_edge = 24
"""


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep models of the developer out, and those of tests in."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(TINY, encoding="utf-8")
    torch.set_num_threads(1)


@pytest.fixture
def pair(tmp_path: Path, rng: np.random.Generator) -> list[str]:
    """Options that name an image and its labels, 0 and 255."""
    inside = rng.integers(0, 2, (2, 6, 6), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    image = (90 * inside + rng.normal(60, 9, inside.shape)).clip(0, 255).astype(np.uint8)
    tifffile.imwrite(tmp_path / "my image.tif", image)
    tifffile.imwrite(tmp_path / "labels.tif", inside * 255)
    return ["--image", "my image.tif", "--axes", "zyx", "--labels", "labels.tif"]


CLASSES = ["--label-kind", "classes", "--class-values", "0=out,255=in"]


def train(*words: str, progress: str = "none") -> int:
    """Run the command in this process and return its exit code."""
    given = ["train", "--config", "tiny.toml", *words, "--progress", progress]
    if "--output" not in words:
        given += ["--output", "new.safetensors"]
    if "--steps" not in words:
        given += ["--steps", "2"]
    with pytest.raises(SystemExit) as ended:
        app(given)
    return int(ended.value.code or 0)


def classes_of(path: Path) -> list[str]:
    return [item.name for item in read_model_header(path).header.classes]


def make_dataset(name: str, root: Path, rng: np.random.Generator) -> None:
    root.mkdir()
    if name == "isbi2012":
        write_isbi_2012(root, rng, imagej=False)
    elif name == "drive":
        write_drive(root, rng, palette=True)
    elif name == "dsb2018":
        write_bowl_2018(root, rng)
    else:
        write_cells(root, rng)


OBJECTS = ["background", "border", "interior"]


@pytest.mark.parametrize(
    ("name", "options", "classes"),
    [
        ("isbi2012", [], ["interior", "membrane"]),
        ("drive", [], ["background", "vessel"]),
        ("dsb2018", [], OBJECTS),
        ("dsb2018", ["--separation", "gap"], ["background", "interior"]),
        ("PhC-C2DH-U373", [], OBJECTS),
        ("dic-c2dh-hela", ["--separation", "gap"], ["background", "interior"]),
    ],
)
def test_every_data_set_is_learnt_from_in_its_own_folder(
    tmp_path: Path,
    rng: np.random.Generator,
    capfd: pytest.CaptureFixture[str],
    name: str,
    options: list[str],
    classes: list[str],
) -> None:
    make_dataset(name, tmp_path / "my data", rng)
    code = train("--dataset", name, "--root", "my data", *options, "--validation", "none")
    assert code == 0, capfd.readouterr().err
    assert classes_of(tmp_path / "new.safetensors") == classes
    header = read_model_header(tmp_path / "new.safetensors").header
    colored = name in ("drive", "dsb2018")
    assert header.input.channels == (("red", "green", "blue") if colored else ("channel 0",))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--separation", "gap"], "--separation gap keeps objects apart, but the labels of drive"),
        (["--axes", "yx"], "--axes yx is for images of your own"),
        (["--channel", "0"], "leave --channel out"),
    ],
)
def test_options_that_do_not_go_with_a_data_set_are_refused(
    tmp_path: Path,
    rng: np.random.Generator,
    capfd: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    make_dataset("drive", tmp_path / "drive", rng)
    assert train("--dataset", "drive", "--root", "drive", *options) == 2
    assert message in capfd.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--label-kind", "classes"], "--class-values is missing"),
        (["--label-kind", "classes", "--class-values", "0"], "--class-values: class values '0'"),
        (["--label-kind", "instances", "--class-values", "0=a,1=b"], "but their kind is instances"),
        ([*CLASSES, "--separation", "gap"], "say --label-kind instances"),
        ([*CLASSES, "--classes", "in,in"], "--classes in,in: the class 'in' is named twice"),
        ([*CLASSES, "--output", "new.pth"], "write new.safetensors for a file, or only new for"),
        ([*CLASSES, "--output", "a/new"], "write a/new.safetensors for a file, or only new for"),
        ([*CLASSES, "--output", "/"], "is neither a name nor a .safetensors file"),
        ([*CLASSES, "--run", "tiny.toml"], "is a file, not a run folder"),
        ([*CLASSES, "--run", "."], "which is of no run that could go on"),
    ],
)
def test_what_does_not_go_together_ends_with_2_and_a_sentence(
    pair: list[str], capfd: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert train(*pair, *options) == 2
    said = capfd.readouterr().err
    assert said.startswith("error: ")
    assert message in said


def test_a_model_that_exists_is_named_before_a_run_folder_is_made(
    tmp_path: Path, pair: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "new.safetensors").write_bytes(b"a model")
    assert train(*pair, *CLASSES) == 2
    assert "new.safetensors exists" in capfd.readouterr().err
    assert not (tmp_path / "new.run").exists()


def test_after_a_mistake_the_corrected_command_runs(tmp_path: Path, pair: list[str]) -> None:
    assert train(*pair, "--label-kind", "classes", "--class-values", "0=out") == 3
    assert (tmp_path / "new.run").is_dir()
    assert train(*pair, *CLASSES) == 0


def test_the_kept_command_repeats_the_training(tmp_path: Path, pair: list[str]) -> None:
    assert train(*pair, *CLASSES, "--run", "my run") == 0
    again = shlex.split((tmp_path / "my run/command.txt").read_text("utf-8").splitlines()[3])
    with pytest.raises(SystemExit) as ended:
        app([*again[1:], "--progress", "none"])
    assert ended.value.code == 0
    first, second = (
        load_model(tmp_path / name, fold=False).net.state_dict()
        for name in ("new.safetensors", "new-again.safetensors")
    )
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_fine_tune_goes_on_from_another_folder(
    tmp_path: Path, pair: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(*pair, *CLASSES, "--output", "old.safetensors") == 0
    assert train(*pair, *CLASSES, "--from", "old.safetensors") == 0
    (tmp_path / "new.safetensors").unlink()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(SystemExit) as ended:
        app(["train", "--output", "../new.safetensors", "--run", "../new.run", "--resume"])
    assert ended.value.code == 0
    assert (tmp_path / "new.safetensors").exists()


def test_a_network_that_the_parent_does_not_have_is_refused(
    tmp_path: Path, pair: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert train(*pair, *CLASSES, "--output", "old.safetensors") == 0
    (tmp_path / "tiny.toml").write_text(TINY.replace("depth = 2", "depth = 3"), encoding="utf-8")
    assert train(*pair, *CLASSES, "--from", "old.safetensors") == 2
    assert "network.depth = 3 does not fit the model old, whose network has 2" in (
        capfd.readouterr().err
    )


def test_a_finished_training_says_so(pair: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert train(*pair, *CLASSES) == 0
    with pytest.raises(SystemExit) as ended:
        app(["train", "--output", "new.safetensors", "--resume"])
    assert ended.value.code == 2
    assert "is finished, and its model is" in capfd.readouterr().err


def test_events_go_to_standard_output_and_nothing_else_does(
    pair: list[str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert train(*pair, *CLASSES, progress="json") == 0
    said = capfd.readouterr()
    events = [json.loads(line)["event"] for line in said.out.splitlines()]
    assert events[0] == "stage_changed"
    assert events[-1] == "training_finished"
    assert {"training_started", "step_done", "saved"} <= set(events)
    # Too little is given to hold something out, and the warning of that is an event, too.
    assert said.err == ""
    assert "warned" in events


def started(**changed: Any) -> TrainingStarted:
    fields: dict[str, Any] = {
        "run": "m.run",
        "output": "m.safetensors",
        "parent": None,
        "classes": (("a", "#112233"), ("b", "#445566")),
        "new_classes": ("a", "b"),
        "annotated": {"a": 5, "b": 7},
        "held_out": {"a": 0, "b": 0},
        "validation": "nothing is held out",
        "device": "cpu (2 threads)",
        "threads": 2,
        "output_edge": 48,
        "steps": None,
        "seconds": 0.5,
        "first_step": 0,
    }
    return TrainingStarted(**fields | changed)


def test_the_start_is_said_once_and_without_what_goes_without_saying() -> None:
    assert describe_training(started()) == (
        "training from random weights for 0.5 s on cpu (2 threads), patches of 48 pixels; "
        "labeled pixels to learn from: a 5, b 7"
    )
    fine_tune = describe_training(
        started(
            parent="old",
            new_classes=("b",),
            held_out={"a": 1, "b": 0},
            validation="9% is held out",
            first_step=3,
            steps=8,
        )
    )
    assert fine_tune == (
        "training from old for 8 steps on cpu (2 threads), patches of 48 pixels; "
        "goes on after step 3; new classes: b; labeled pixels to learn from: a 5, b 7; "
        "9% is held out"
    )


def test_scores_are_said_in_the_order_of_the_classes_and_short() -> None:
    metrics = {
        "score": 0.4625,
        "score_error": 0.026,
        "loss": 0.786,
        "iou/b": 0.5,
        "iou/a": 0.1,
        "f1/b": 0.697,
        "f1/a": 0.228,
    }
    said = describe_training(Validated(6, metrics, is_best=True))
    assert said is not None
    assert said.startswith("step 6: mean F1 0.463 +- 0.026 (b 0.697, a 0.228), loss 0.786 (")
    assert describe_training(Validated(7, {"score": 0.5}, False)) == "step 7: mean F1 0.500"


def test_a_verdict_is_said_once() -> None:
    note = "better: mean F1 of a 0.400 -> 0.500 on 5 blocks, 95 % interval +0.02 to +0.20"
    classes = {"a": (0.4, 0.5), "b": (None, 0.25), "c": (None, None)}
    judged = Judged(
        "judging blocks", 5, "mean F1 of a", 0.4, 0.5, 0.02, 0.2, "better", classes, note
    )
    assert describe_training(judged) == (
        f"judged on judging blocks: {note}; F1 of classes: a 0.400 -> 0.500, b 0.250, c unknown"
    )
