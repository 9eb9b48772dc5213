"""What is said on the command line arrives in the job."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from napari_unet.app.training.run_folder import prepare_run_folder
from napari_unet.cli.train import as_fields, make_job
from napari_unet.core.train_job import TrainJob
from napari_unet.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

PAIR = {"images": ["a.tif"], "labels": ["b.tif"], "label_kind": "annotation"}


def test_lists_and_tables_are_taken_apart() -> None:
    fields = as_fields(
        {
            "classes": "cell, cell wall",
            "rename": ["membrane=cell wall"],
            "color": ["cell=#112233", "cell wall=#445566"],
        }
    )
    assert fields == {
        "classes": ["cell", "cell wall"],
        "rename": {"membrane": "cell wall"},
        "colors": {"cell": "#112233", "cell wall": "#445566"},
    }


@pytest.mark.parametrize("option", ["rename", "color"])
@pytest.mark.parametrize("text", ["membrane", "=wall", "membrane="])
def test_half_a_pair_is_refused(option: str, text: str) -> None:
    with pytest.raises(ConfigError, match=f"--{option}"):
        as_fields({option: [text]})


def test_paths_are_absolute_and_names_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job = make_job({**PAIR, "output": "mine", "run": "folder"}, resume=False)
    assert job.images == (str(tmp_path / "a.tif"),)
    assert job.labels == (str(tmp_path / "b.tif"),)
    assert job.run == str(tmp_path / "folder")
    assert job.output == "mine"
    file = make_job({**PAIR, "output": "mine.safetensors"}, resume=False)
    assert file.output == str(tmp_path / "mine.safetensors")


def test_models_and_pairs_to_validate_with_are_absolute_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("c:1.tif", "d.tif"):
        (tmp_path / name).touch()
    values = {**PAIR, "output": "mine", "parent": "old.safetensors", "validation": "c:1.tif:d.tif"}
    job = make_job(values, resume=False)
    assert job.parent == str(tmp_path / "old.safetensors")
    assert job.validation == f"{tmp_path / 'c:1.tif'}:{tmp_path / 'd.tif'}"
    named = make_job({**PAIR, "output": "mine", "parent": "old"}, resume=False)
    assert (named.parent, named.validation) == ("old", "auto")


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({}, "--output"),
        ({"output": "m"}, "--image"),
        ({**PAIR, "output": "m", "labels": []}, "--labels"),
        ({"images": ["a"], "labels": ["b"], "output": "m"}, "--label-kind"),
        ({**PAIR, "output": "m", "steps": 1, "minutes": 1.0}, "one of them"),
        ({**PAIR, "output": "m", "dataset": "drive", "root": "x"}, "leave out"),
        ({"dataset": "drive", "output": "m"}, "--root"),
        ({**PAIR, "output": "m", "rename": {"a": "b"}}, "--from"),
        ({**PAIR, "output": "m", "colors": {"a": "red"}}, "colors"),
        ({**PAIR, "output": "m", "stepps": 3}, "stepps"),
    ],
)
def test_what_is_missing_or_wrong_is_named(values: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        make_job(values, resume=False)


def test_a_run_to_resume_says_itself_what_it_was(tmp_path: Path) -> None:
    first = TrainJob.parse(
        {**PAIR, "output": "m", "run": str(tmp_path / "run"), "steps": 7, "loop": {"patience": 3}},
        source="test",
    )
    prepare_run_folder(first, resume=False)
    again = make_job({"output": "m", "run": str(tmp_path / "run")}, resume=True)
    assert again.steps == 7
    assert again.loop == {"patience": 3}


def test_a_run_of_minutes_is_not_resumed_with_steps(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    job = TrainJob.parse({**PAIR, "output": "m", "run": run, "minutes": 2.0}, source="test")
    prepare_run_folder(job, resume=False)
    other = make_job({"output": "m", "run": run, "steps": 5}, resume=True)
    assert (other.steps, other.minutes) == (5, None)
    with pytest.raises(ConfigError, match=r"steps: None -> 5; minutes: 2\.0 -> None"):
        prepare_run_folder(other, resume=True)


def test_there_must_be_a_run_to_resume(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.toml"):
        make_job({"output": str(tmp_path / "m.safetensors")}, resume=True)
