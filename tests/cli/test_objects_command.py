"""The command `objects`, and `segment` that goes on to objects: output, exit codes, job files."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from tests.segmentations import smooth_chances, write_segmentation

from napari_unet.app.objecting.record import objects_command, read_objects_record
from napari_unet.app.segment import run_job
from napari_unet.cli.main import app
from napari_unet.core.events import AlreadyDone, Finished, JobStarted
from napari_unet.core.job import SegmentJob
from napari_unet.core.objects_events import ObjectsCancelled, ObjectsFound, ObjectsStarted
from napari_unet.core.objects_job import ObjectsJob
from napari_unet.inference.control import JobControl

if TYPE_CHECKING:
    from collections.abc import Iterator

EM = ("interior", "membrane")


def call(*words: str) -> int:
    """Run the command in this process and return its exit code."""
    with pytest.raises(SystemExit) as ended:
        app(list(words))
    return int(ended.value.code or 0)


def events_in(text: str) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in text.splitlines())


@pytest.fixture
def out(tmp_path: Path) -> Path:
    path = tmp_path / "out.zarr"
    write_segmentation(path, smooth_chances(0, (3, 40, 50), 2), EM)
    return path


def test_it_says_how_many_and_where(out: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert call("objects", str(out)) == 0
    first = capfd.readouterr()
    assert "objects in" in first.err
    assert "net-objects.csv" in first.err
    assert first.out == "", "standard output belongs to programs"
    assert call("objects", str(out)) == 0
    assert "nothing to do" in capfd.readouterr().err
    assert call("objects", str(out), "--watershed-merge", "0.1") == 2
    assert "--overwrite" in capfd.readouterr().err
    assert call("objects", str(out), "--watershed-merge", "0.1", "--overwrite") == 0
    assert call("objects", str(out / "nowhere")) == 3


def test_events_are_lines_of_json(
    out: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert call("objects", str(out), "--dimension", "2d", "--progress", "json") == 0
    events = list(events_in(capfd.readouterr().out))
    names = list(dict.fromkeys(event["event"] for event in events))
    assert names == ["stage_changed", "objects_started", "objects_progress", "objects_found"]
    assert events[-1]["objects"] > 0
    assert all(Path(path).is_file() for path in events[-1]["tables"])


def test_a_record_repeats_its_job(out: Path, tmp_path: Path) -> None:
    options = ["--name", "mine", "--dimension", "linked", "--watershed-h", "0.5", "--workers", "2"]
    options += ["--link-threshold", "0.1", "--no-link-mutual", "--min-size", "4", "--fill-holes"]
    settings = tmp_path / "job.toml"
    assert call("objects", str(out), *options, "--save-config", str(settings)) == 0
    path = out.parent / "mine.unet.json"
    record = read_objects_record(path)
    assert record.job.watershed == {"h": 0.5}
    assert record.job.link == {"threshold": 0.1, "mutual": False}
    before = zarr.open_array(record.labels, mode="r")[:]
    for words in (record.command[2:], ["--config", str(path)], ["--config", str(settings)]):
        assert call("objects", *words, "--overwrite") == 0
        np.testing.assert_array_equal(zarr.open_array(record.labels, mode="r")[:], before)
        again = read_objects_record(path).job
        assert again.model_copy(update={"overwrite": False}) == record.job
    assert call("objects", "--config", str(path), "--link-threshold", "0.9", "--name", "other") == 0
    other = read_objects_record(out.parent / "other.unet.json").job
    assert other.link == {"threshold": 0.9, "mutual": False}, "a table is changed, not replaced"


def test_every_option_is_in_the_recorded_command() -> None:
    job = ObjectsJob(output="o", source="s", clear_border=True, block_size=64, connectivity=2)
    words = objects_command(job)
    assert words[:3] == ("napari-unet", "objects", "o")
    assert words[3:] == (
        "--from", "s", "--connectivity", "2", "--clear-border", "--block-size", "64",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--from", "no"], "there are: net"),
        (["--method", "magic"], "method"),
        (["--min-size", "some"], "write a number of voxels such as 30"),
        (["--progress", "loud"], "loud"),
        (["--config", "/no/such.toml"], "such.toml"),
    ],
)
def test_bad_options_end_with_2_and_a_sentence(
    out: Path, options: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert call("objects", str(out), *options) == 2
    error = capfd.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_without_an_output_it_asks_for_one(capfd: pytest.CaptureFixture[str]) -> None:
    assert call("objects", "--dimension", "2d") == 2
    assert "OUT is missing" in capfd.readouterr().err


def test_a_dry_run_says_the_cost_and_writes_nothing(
    out: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert call("objects", str(out), "--dry-run") == 0
    shown = capfd.readouterr().out
    for words in ("watershed of interior, linked", "blocks  3", "memory  about", "disk"):
        assert words in shown
    assert call("objects", str(out), "--dry-run", "--dimension", "3d", "--progress", "json") == 0
    cost = json.loads(capfd.readouterr().out)
    assert (cost["voxels"], cost["blocks"], cost["name"]) == (6000, 1, "net-objects")
    assert call("objects", str(out), "--dry-run", "--classes", "axon") == 2
    assert not (out / "tables").exists()
    assert sorted(path.name for path in (out / "labels").iterdir()) == ["net", "zarr.json"]


def test_help_loads_none_of_the_libraries() -> None:
    code = (
        "import sys\nfrom napari_unet.cli.main import main\n"
        "sys.argv = ['napari-unet', 'objects', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print('|', *[p for p in ('torch', 'cc3d', 'pyarrow', 'skimage') if p in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--fill-holes" in shown.stdout
    assert shown.stdout.split()[-1] == "|"


# ---- segment --output-kind instances


def job_of(stack_path: str, model: str, out: Path, **options: Any) -> SegmentJob:
    return SegmentJob(
        input=stack_path, model=model, output=str(out), output_kind="instances", **options
    )


def test_a_segmentation_goes_on_to_objects(tmp_path: Path, stack_path: str, model: str) -> None:
    out = tmp_path / "i.zarr"
    job = job_of(stack_path, model, out)
    events = list(run_job(job))
    (found,) = (event for event in events if isinstance(event, ObjectsFound))
    (begun,) = (event for event in events if isinstance(event, ObjectsStarted))
    assert events.index(begun) > next(
        i for i, event in enumerate(events) if isinstance(event, JobStarted)
    )
    last = events[-1]
    assert isinstance(last, Finished)
    assert last.name == "tiny"
    assert sum(isinstance(event, Finished) for event in events) == 1
    chances = zarr.open_array(out / "probabilities" / "tiny" / "0", mode="r")
    assert chances.dtype == np.float16
    objects = np.asarray(zarr.open_array(found.labels, mode="r")[:])
    assert objects.max() == found.objects
    again = list(run_job(job))
    assert isinstance(again[-1], AlreadyDone)
    assert again[-1].name == "tiny"


def test_objects_that_are_missing_are_made_up_for(
    tmp_path: Path, stack_path: str, model: str
) -> None:
    out = tmp_path / "i.zarr"
    job = job_of(stack_path, model, out, probability_type="float32", region="0:1,:,:")
    control = JobControl()
    events = []
    for event in run_job(job, control):
        events.append(event)
        if isinstance(event, ObjectsStarted):
            control.stop()
    assert isinstance(events[-1], ObjectsCancelled)
    last = list(run_job(job))[-1]
    assert isinstance(last, Finished)
    assert last.name == "tiny-objects"
    assert zarr.open_array(out / "probabilities" / "tiny" / "0", mode="r").dtype == np.float32


def test_the_cost_of_objects_is_foreseen(
    tmp_path: Path, stack_path: str, model: str, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["segment", stack_path, "--model", model, "--output", str(tmp_path / "i.zarr")]
    words += ["--output-kind", "instances", "--dry-run"]
    assert call(*words) == 0
    assert "objects then by components in" in capfd.readouterr().out
    assert call(*words, "--progress", "json") == 0
    assert json.loads(capfd.readouterr().out)["objects"]["voxels"] == 3 * 90 * 70
    assert call(*words[:-2], "cells") == 2
