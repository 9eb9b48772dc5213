"""The run folder: what a training leaves, and what it takes to go on."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

import pytest

from napari_unet.app.training.run_folder import (
    COMMAND,
    CURVES,
    LOG,
    WORTHLESS_ALONE,
    prepare_run_folder,
    read_log,
    record_run,
    run_folder,
    stored_job,
    write_command,
)
from napari_unet.core.train_events import Saved, StepDone, TrainingStarted, Validated
from napari_unet.core.train_job import TrainJob
from napari_unet.errors import ConfigError, OutputExistsError, StorageError
from napari_unet.training.checkpoint import LAST

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


def make_job(folder: Path, **values: object) -> TrainJob:
    pair = {"images": ["a.tif"], "labels": ["b.tif"], "label_kind": "annotation"}
    return TrainJob.parse(
        {**pair, "output": "m", "run": str(folder), "steps": 6, **values}, source="test"
    )


def started(run: Path, first_step: int = 0) -> TrainingStarted:
    return TrainingStarted(
        run=str(run),
        output="m.safetensors",
        parent=None,
        classes=(("cell", "#112233"),),
        new_classes=(),
        annotated={"cell": 3},
        held_out={},
        validation="runs without a claim",
        device="cpu",
        threads=1,
        output_edge=4,
        steps=6,
        seconds=None,
        first_step=first_step,
    )


def steps(run: Path, first: int, last: int, saved: int) -> Generator[object]:
    yield started(run, first)
    for step in range(first + 1, last + 1):
        yield StepDone(step, 1 / step, 1e-3)
        yield Validated(step, {"score": 0.5, "f1/cell": 0.5}, step == 1)
        if step == saved:
            (run / LAST).write_bytes(b"checkpoint")
            yield Saved(step, str(run / LAST))


def test_a_job_comes_back_as_it_was(tmp_path: Path) -> None:
    job = make_job(tmp_path / "a run", classes=("cell",), colors={"cell": "#112233"}, minutes=None)
    assert stored_job(prepare_run_folder(job, resume=False)) == job


def test_the_folder_lies_beside_the_file_or_in_the_store(tmp_path: Path) -> None:
    assert run_folder(str(tmp_path / "m.safetensors")) == tmp_path / "m.run"
    assert run_folder("mine").parts[-2:] == ("runs", "mine")
    assert run_folder("mine", str(tmp_path)) == tmp_path


def test_a_run_with_a_checkpoint_is_never_overwritten(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    prepare_run_folder(job, resume=False)
    for name in (*WORTHLESS_ALONE, ".last.pt.0123456789abcdef.part"):
        (tmp_path / name).write_bytes(b"")  # it ended before its first checkpoint
    prepare_run_folder(job, resume=False)
    (tmp_path / LAST).write_bytes(b"checkpoint")
    with pytest.raises(OutputExistsError, match="--resume"):
        prepare_run_folder(job, resume=False)
    assert (tmp_path / LAST).read_bytes() == b"checkpoint"


def test_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputExistsError, match="not empty"):
        prepare_run_folder(make_job(tmp_path), resume=False)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(OutputExistsError, match=r"notes\.txt is a file"):
        prepare_run_folder(make_job(tmp_path / "notes.txt"), resume=False)


def test_a_folder_that_cannot_be_made_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"file.run cannot be made: .*; choose another --output"):
        prepare_run_folder(make_job(tmp_path / "file" / "run"), resume=False)


def test_a_finished_run_is_not_gone_on_with_unless_its_model_is_gone(tmp_path: Path) -> None:
    run, model = tmp_path / "run", tmp_path / "m.safetensors"
    job = make_job(run, output=str(model))
    prepare_run_folder(job, resume=False)
    (run / LAST).write_bytes(b"checkpoint")
    line = {"event": "training_finished", "model": str(model)}
    (run / LOG).write_text(f"{json.dumps(line)}\n", encoding="utf-8")
    assert prepare_run_folder(job, resume=True) == run
    model.write_bytes(b"a model")
    with pytest.raises(OutputExistsError, match="finished"):
        prepare_run_folder(job, resume=True)
    other = make_job(run, output=str(tmp_path / "other.safetensors"))
    assert prepare_run_folder(other, resume=True) == run


def test_going_on_needs_the_same_settings_and_a_checkpoint(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    prepare_run_folder(job, resume=False)
    with pytest.raises(ConfigError, match="no checkpoint"):
        prepare_run_folder(job, resume=True)
    (tmp_path / LAST).write_bytes(b"checkpoint")
    assert prepare_run_folder(job, resume=True) == tmp_path
    with pytest.raises(ConfigError, match=r"steps: 6 -> 7; seed: 0 -> 1"):
        prepare_run_folder(make_job(tmp_path, steps=7, seed=1), resume=True)


def test_a_resumed_log_reads_as_if_nothing_had_happened(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    prepare_run_folder(job, resume=False)
    ticks = iter(range(100))
    for event in record_run(steps(tmp_path, 0, 6, 3), tmp_path, resume=False, clock=ticks.__next__):
        if isinstance(event, StepDone) and event.step == 5:
            break
    with (tmp_path / LOG).open("a", encoding="utf-8") as log:
        log.write('{"event": "step_done", "st')  # the crash
    for _ in record_run(steps(tmp_path, 3, 6, 6), tmp_path, resume=True, clock=ticks.__next__):
        pass
    events = read_log(tmp_path)
    for name in ("step_done", "validated"):
        assert [e["step"] for e in events if e["event"] == name] == [1, 2, 3, 4, 5, 6]
    seconds = [event["seconds"] for event in events]
    assert seconds == sorted(seconds)
    assert all(json.dumps(event) for event in events)


def test_closing_the_record_closes_the_training(tmp_path: Path) -> None:
    prepare_run_folder(make_job(tmp_path), resume=False)
    training = steps(tmp_path, 0, 6, 3)
    record = record_run(training, tmp_path, resume=False)
    next(record)
    record.close()
    assert list(training) == []


def test_curves_are_drawn_at_each_checkpoint(tmp_path: Path) -> None:
    prepare_run_folder(make_job(tmp_path), resume=False)
    for _ in record_run(steps(tmp_path, 0, 2, 2), tmp_path, resume=False):
        pass
    assert (tmp_path / CURVES).read_bytes().startswith(b"\x89PNG")


def test_the_command_is_kept_as_words(tmp_path: Path) -> None:
    words = ["napari-unet", "train", "--image", "my stack.tif"]
    write_command(tmp_path, words, make_job(tmp_path))
    lines = (tmp_path / COMMAND).read_text(encoding="utf-8").splitlines()
    assert shlex.split(lines[1]) == words
    assert shlex.split(lines[3])[:4] == [
        "napari-unet",
        "train",
        "--config",
        f"{tmp_path}/train.toml",
    ]


@pytest.mark.parametrize(
    ("output", "another"),
    [
        ("mine.v2", "mine.v2-again"),
        ("m" * 64, "m" * 58 + "-again"),
        ("/my data/m.safetensors", "/my data/m-again.safetensors"),
    ],
)
def test_the_command_that_repeats_names_a_legal_model(
    tmp_path: Path, output: str, another: str
) -> None:
    folder = tmp_path / "my run"  # a space is legal in a folder's name, not in a model's
    folder.mkdir()
    write_command(folder, ["napari-unet"], make_job(folder, output=output))
    again = shlex.split((folder / COMMAND).read_text(encoding="utf-8").splitlines()[3])
    assert again[4:] == ["--output", another, "--run", f"{folder}-again"]
