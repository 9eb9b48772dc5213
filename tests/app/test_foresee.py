"""What a plan says is what the run then does."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from tests.nets import save_lively_model

from napari_unet.app import foresee as module
from napari_unet.app.array_script import array_script
from napari_unet.app.foresee import foresee
from napari_unet.app.foreseeing.storage import count_files
from napari_unet.app.foreseeing.timing import MeasuredTile
from napari_unet.app.plan import plan_segment
from napari_unet.app.segment import run_job
from napari_unet.core.events import BlockDone, JobStarted
from napari_unet.core.job import SegmentJob
from napari_unet.errors import ConfigError, StorageError

METADATA = {"zarr.json", ".zattrs", ".zgroup", ".zarray"}


def job_of(tmp_path: Path, stack_path: str, model: str, **options: Any) -> SegmentJob:
    fields = {"tile_size": 32, "block_size": 48, "threads": 1, "name": "found"} | options
    fields |= {"input": stack_path, "model": model, "output": str(tmp_path / "out.zarr")}
    return SegmentJob.parse(fields, source="test")


def stored_files(output: str, folder: str) -> int:
    files = (path for path in (Path(output) / folder / "found").rglob("*") if path.is_file())
    return sum(path.name not in METADATA for path in files)


def test_counts_are_those_of_the_run(tmp_path: Path, stack_path: str, model: str) -> None:
    job = job_of(tmp_path, stack_path, model, region="1:3,20:80,:")
    foresight = foresee(job)
    assert not Path(job.output).exists(), "a plan writes nothing"
    started = next(event for event in run_job(job) if isinstance(event, JobStarted))
    assert (started.tiles, started.blocks, started.pixels) == (
        foresight.cost.tiles,
        foresight.cost.blocks,
        foresight.cost.pixels,
    )
    assert foresight.begun is None
    assert foresight.blocks_left == started.blocks


@pytest.mark.parametrize("shards", [False, True])
def test_files_are_those_that_the_run_writes(
    tmp_path: Path, stack_path: str, model: str, shards: bool
) -> None:
    job = job_of(tmp_path, stack_path, model, shards=shards, probabilities=True)
    storage = foresee(job, measure=False).storage
    for _ in run_job(job):
        pass
    written = stored_files(job.output, "labels") + stored_files(job.output, "probabilities")
    assert written == storage.files
    assert (storage.files_sharded == written) == shards


def test_files_of_all_levels_of_a_region_are_counted(tmp_path: Path, model: str) -> None:
    path = tmp_path / "wide.zarr"
    zarr.create_array(
        path,
        shape=(2, 600, 5000),
        chunks=(1, 200, 200),
        dtype="u1",
        dimension_names=("z", "y", "x"),
    )
    job = job_of(tmp_path, str(path), model, region="0:1,100:400,990:1500", block_size=200)
    plan = plan_segment(job, 512)
    # By hand: chunks of 192 pixels do not divide 200, so they are 200; levels are halved twice.
    touched = [
        {(y // 200, x // 200) for y, x in product((100 // k, 399 // k), (990 // k, 1499 // k))}
        for k in (1, 2, 4)
    ]
    rows = [max(y for y, _ in t) - min(y for y, _ in t) + 1 for t in touched]
    columns = [max(x for _, x in t) - min(x for _, x in t) + 1 for t in touched]
    expected = sum(r * c for r, c in zip(rows, columns, strict=True))
    assert count_files(plan, None, shards=False) == expected
    plan.source.close()


def test_what_is_done_is_not_counted_again(tmp_path: Path, stack_path: str, model: str) -> None:
    job = job_of(tmp_path, stack_path, model)
    events = run_job(job)
    for event in events:
        if isinstance(event, BlockDone) and event.blocks_done == 3:
            break
    events.close()
    foresight = foresee(job, (1, 2), measure=False)
    assert foresight.begun is not None
    assert foresight.begun.state == "incomplete"
    # The block that was being written when the run was dropped may have come through.
    assert 3 <= foresight.begun.blocks_done <= 5
    assert foresight.blocks_left == 12 - foresight.begun.blocks_done
    assert set(foresight.begun.last_run) == {"host", "pid", "started"}
    assert foresee(job.model_copy(update={"overwrite": True}), measure=False).blocks_left == 12
    for _ in run_job(job):
        pass
    complete = foresee(job)
    assert complete.begun is not None
    assert (complete.begun.state, complete.blocks_left, complete.hours(1)) == ("complete", 0, 0)


def test_other_options_on_an_output_are_named(tmp_path: Path, stack_path: str, model: str) -> None:
    for _ in run_job(job_of(tmp_path, stack_path, model)):
        pass
    foresight = foresee(job_of(tmp_path, stack_path, model, probabilities=True), measure=False)
    assert foresight.begun is not None
    assert foresight.begun.differs == ("probabilities: None -> float32",)
    assert any("would be refused" in note for note in foresight.notes)
    assert foresight.blocks_left == foresight.cost.blocks


def test_a_foreign_output_is_refused(tmp_path: Path, stack_path: str, model: str) -> None:
    (tmp_path / "out.zarr").mkdir()
    (tmp_path / "out.zarr" / "thesis.txt").write_text("mine")
    with pytest.raises(StorageError, match="other content"):
        foresee(job_of(tmp_path, stack_path, model), measure=False)


def test_hours_follow_from_the_slower_of_reading_and_computing(
    tmp_path: Path, stack_path: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(tmp_path, stack_path, model)
    foresight = foresee(job)
    assert foresight.measured is not None
    assert 0 < foresight.measured.network_seconds < 5
    assert foresight.measured.reading_seconds is not None
    slow = MeasuredTile("cpu", "here", 1, 1, network_seconds=2.0, reading_seconds=9.0)
    monkeypatch.setattr(module, "measure_tile", lambda plan, backend: (slow, ()))
    foresight = foresee(job, (1, 5, 100))
    tiles_per_block = foresight.cost.tiles / 12
    hours = [12 * tiles_per_block, 3 * tiles_per_block, tiles_per_block]
    assert [foresight.hours(n) for n in (1, 5, 100)] == pytest.approx([h * 9 / 3600 for h in hours])


@pytest.mark.parametrize(
    ("changed", "probable"),
    [({}, "float32"), ({"probabilities": True, "probability_type": "float16"}, "float16")],
)
def test_disk_is_told_with_and_without_probabilities(
    tmp_path: Path, stack_path: str, model: str, changed: dict[str, Any], probable: str
) -> None:
    storage = foresee(job_of(tmp_path, stack_path, model, **changed), measure=False).storage
    voxels, classes = 3 * 90 * 70, 2
    assert storage.labels_bytes == voxels
    width = np.dtype(probable).itemsize
    assert storage.probabilities_bytes == voxels * (1 + classes * width)
    assert storage.free_bytes > 0


def test_a_damaged_tile_is_said_and_the_network_timed(
    tmp_path: Path, stack_path: str, model: str
) -> None:
    for chunk in (Path(stack_path) / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"")
    foresight = foresee(job_of(tmp_path, stack_path, model, normalization="100,30"))
    assert foresight.measured is not None
    assert foresight.measured.reading_seconds is None
    assert any("cannot be read" in note for note in foresight.notes)


def test_a_terabyte_is_planned_from_its_metadata(tmp_path: Path, model: str) -> None:
    path = tmp_path / "terabyte.zarr"
    zarr.create_array(
        path,
        shape=(1000, 32768, 32768),
        chunks=(1, 512, 512),
        dtype=np.uint8,
        dimension_names=("z", "y", "x"),
    )
    job = job_of(tmp_path, str(path), model, tile_size=256, block_size=1024)
    foresight = foresee(job, (1, 64))
    assert (foresight.cost.tiles, foresight.cost.blocks) == (1000 * 128**2, 1000 * 32**2)
    first, second = foresight.hours(1), foresight.hours(64)
    assert first is not None
    assert second is not None
    assert first / second == pytest.approx(64)
    assert any("never written" in note for note in foresight.notes)


def test_the_json_is_json_and_its_command_repeats_the_job(
    tmp_path: Path, stack_path: str, model: str
) -> None:
    job = job_of(tmp_path, stack_path, model, output_kind="instances")
    written = json.loads(json.dumps(foresee(job).to_json(), allow_nan=False))
    assert written["command"][:3] == ["napari-unet", "segment", stack_path]
    assert "--output-kind" in written["command"]
    assert written["objects"]["voxels"] == 3 * 90 * 70


def test_a_model_with_context_is_timed(tmp_path: Path, stack_path: str) -> None:
    path = tmp_path / "context.safetensors"
    save_lively_model(path, expects={"context": 1}, in_channels=3)
    foresight = foresee(job_of(tmp_path, stack_path, str(path)))
    assert foresight.measured is not None
    assert foresight.measured.network_seconds > 0


def test_what_shards_have_done_counts(tmp_path: Path, stack_path: str, model: str) -> None:
    job = job_of(tmp_path, stack_path, model)
    for _ in run_job(job.model_copy(update={"shard": "2/3"})):
        pass
    foresight = foresee(job, measure=False)
    assert foresight.begun is not None
    assert (foresight.begun.shards, foresight.begun.blocks_done) == (3, 4)
    assert foresight.blocks_left == 8
    assert any("--shard 1/3" in note for note in foresight.notes)
    assert "--array=1-3\n" in array_script(foresight, 3, "run.sh")
    with pytest.raises(ConfigError, match="in 3 shards"):
        array_script(foresight, 2, "run.sh")


@pytest.mark.parametrize("options", [{"rescale": 0.5}, {"average": "mirror"}, {"batch_size": 3}])
def test_every_kind_of_job_is_timed(
    tmp_path: Path, stack_path: str, model: str, options: dict[str, Any]
) -> None:
    foresight = foresee(job_of(tmp_path, stack_path, model, **options))
    assert foresight.measured is not None
    assert foresight.measured.batch_size == options.get("batch_size", 1)
    assert foresight.measured.reading_seconds is not None


def test_a_plane_is_foreseen(tmp_path: Path, model: str) -> None:
    tifffile.imwrite(tmp_path / "plane.tif", np.zeros((90, 70), np.uint8))
    foresight = foresee(job_of(tmp_path, str(tmp_path / "plane.tif"), model))
    assert foresight.to_json()["shape"] == [90, 70]
    assert foresight.measured is not None


def test_a_job_of_one_shard_is_planned_as_a_whole(
    tmp_path: Path, stack_path: str, model: str
) -> None:
    foresight = foresee(job_of(tmp_path, stack_path, model, shard="2/3"), measure=False)
    assert foresight.blocks_left == 12
    assert "--shard" not in foresight.to_json()["command"]


def test_far_gray_values_are_named_where_the_model_knows_its_own(
    tmp_path: Path, stack_path: str
) -> None:
    for name, low, said in (("near", -1.6, False), ("far", 0.5, True)):
        model = tmp_path / f"{name}.safetensors"
        save_lively_model(model, expects={"intensities": [{"low": [low, low], "high": [1.6, 1.6]}]})
        notes = foresee(job_of(tmp_path, stack_path, str(model)), measure=False).notes
        assert any("gray values" in note for note in notes) == said


def test_the_factor_that_the_model_needs_is_told_even_where_it_is_off(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    path = tmp_path / "fine.tif"
    image = rng.integers(0, 255, (2, 64, 64), dtype=np.uint8)
    metadata = {"axes": "ZYX", "PhysicalSizeX": 4, "PhysicalSizeY": 4}
    units = {f"PhysicalSize{axis}Unit": "nm" for axis in "XYZ"}
    tifffile.imwrite(path, image, metadata=metadata | {"PhysicalSizeZ": 4} | units, ome=True)
    model = tmp_path / "coarse.safetensors"
    save_lively_model(model, expects={"voxel_size": (8.0, 8.0), "unit": "nanometer"})
    told = {}
    for rescale in ("auto", "off"):
        job = job_of(tmp_path, str(path), str(model), rescale=rescale)
        plan = foresee(job, measure=False).to_json()
        told[rescale] = (plan["rescale"], plan["suggested_rescale"])
    assert told == {"auto": ([0.5, 0.5], [0.5, 0.5]), "off": (None, [0.5, 0.5])}
