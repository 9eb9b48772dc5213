"""From an image on disk to labels on disk: the whole job, and what it refuses to do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
import torch
import zarr
from tests.nets import save_lively_model

import napari_unet
from napari_unet.app.job_files import read_record
from napari_unet.app.segment import run_job
from napari_unet.core.events import (
    AlreadyDone,
    BlockDone,
    Cancelled,
    Finished,
    JobEvent,
    JobStarted,
    StageChanged,
    TileDone,
    Warned,
)
from napari_unet.core.job import SegmentJob
from napari_unet.errors import (
    AxesError,
    ConfigError,
    InputError,
    OutputExistsError,
    TilingError,
    UNetError,
)
from napari_unet.inference.control import JobControl

if TYPE_CHECKING:
    import numpy.typing as npt


def run(job: SegmentJob, control: JobControl | None = None) -> list[JobEvent]:
    return list(run_job(job, control))


def job_of(tmp_path: Path, stack_path: str, model: str, **options: Any) -> SegmentJob:
    return SegmentJob(input=stack_path, model=model, output=str(tmp_path / "out.zarr"), **options)


def labels_of(events: list[JobEvent]) -> npt.NDArray[np.uint8]:
    (started,) = (event for event in events if isinstance(event, JobStarted))
    return np.asarray(zarr.open_array(started.labels, mode="r")[:])


def reference(net: torch.nn.Module, stack: npt.NDArray[Any], halo: int) -> npt.NDArray[np.uint8]:
    """Each slice as one tile, without the engine; depth 2 has a stride of 4."""
    values = (stack - stack.mean(dtype=float)) / stack.std(dtype=float)
    height, width = stack.shape[1:]
    pads = [(halo, halo + -n % 4) for n in (height, width)]
    planes = []
    for plane in values:
        padded = np.pad(plane, pads, mode="reflect").astype(np.float32)
        with torch.inference_mode():
            planes.append(net(torch.from_numpy(padded)[None, None])[0, :, :height, :width].numpy())
    return (np.stack(planes).argmax(axis=1) + 1).astype(np.uint8)


def test_the_labels_on_disk_are_those_of_the_whole_image(
    tmp_path: Path, stack: npt.NDArray[np.uint8], stack_path: str
) -> None:
    path = tmp_path / "tiny.safetensors"
    net = save_lively_model(path)
    expected = reference(net, stack, net.architecture.geometry().halo[1])
    events = run(job_of(tmp_path, stack_path, str(path), tile_size=32, block_size=64))
    labels = labels_of(events)
    assert labels.dtype == np.uint8
    assert set(np.unique(labels)) == {1, 2}, "both classes occur, and nothing is left undone"
    assert (labels == expected).mean() > 0.9999
    in_memory = napari_unet.segment(stack, str(path), axes="zyx", tile_size=32, block_size=64)
    np.testing.assert_array_equal(in_memory, labels)
    np.testing.assert_array_equal(napari_unet.segment(stack_path, str(path), tile_size=48), labels)


def test_the_events_tell_the_story_in_order(tmp_path: Path, stack_path: str, model: str) -> None:
    events = run(job_of(tmp_path, stack_path, model, tile_size=32, block_size=64))
    stages = [event.stage for event in events if isinstance(event, StageChanged)]
    assert stages == ["opening", "normalizing", "loading", "segmenting", "pyramid", "finishing"]
    (started,) = (event for event in events if isinstance(event, JobStarted))
    tiles = [event for event in events if isinstance(event, TileDone)]
    blocks = [event for event in events if isinstance(event, BlockDone)]
    assert len(tiles) == started.tiles
    assert len(blocks) == started.blocks
    assert tiles[-1].pixels_done == started.pixels == 3 * 90 * 70
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.pixels == started.pixels
    assert finished.nonfinite == finished.missing_chunks == 0


def test_a_region_is_written_into_the_full_extent(
    tmp_path: Path, stack_path: str, model: str
) -> None:
    full = labels_of(run(job_of(tmp_path, stack_path, model, name="full", tile_size=32)))
    region = (slice(1, 3), slice(10, 77), slice(33, 70))
    part = labels_of(
        run(job_of(tmp_path, stack_path, model, region="1:3,10:77,33:70", tile_size=32))
    )
    assert part.shape == full.shape
    np.testing.assert_array_equal(part[region], full[region])
    part[region] = 0
    assert not part.any()


def test_probabilities_sum_to_one_and_decide_the_labels(
    tmp_path: Path, stack_path: str, model: str
) -> None:
    for kind, tolerance in (("float32", 1e-6), ("float16", 2e-3)):
        job = job_of(
            tmp_path, stack_path, model, name=kind, probabilities=True, probability_type=kind
        )
        labels = labels_of(run(job))
        path = tmp_path / "out.zarr" / "probabilities" / kind / "0"
        chances = np.asarray(zarr.open_array(path, mode="r")[:]).astype(np.float64)
        assert chances.shape == (2, *labels.shape)
        np.testing.assert_allclose(chances.sum(axis=0), 1, atol=tolerance)
        clear = np.abs(chances[0] - chances[1]) > tolerance
        assert clear.mean() > 0.9
        assert (chances.argmax(axis=0) + 1 == labels)[clear].all()


def test_the_same_job_again_does_nothing_and_other_options_are_refused(
    tmp_path: Path, stack_path: str, model: str
) -> None:
    job = job_of(tmp_path, stack_path, model)
    before = labels_of(run(job))
    array = tmp_path / "out.zarr" / "labels" / "tiny" / "0"
    times = {path: path.stat().st_mtime_ns for path in array.rglob("*")}
    assert isinstance(run(job)[-1], AlreadyDone)
    assert isinstance(run(job.model_copy(update={"tile_size": 32}))[-1], AlreadyDone)
    assert {path: path.stat().st_mtime_ns for path in array.rglob("*")} == times
    with pytest.raises(OutputExistsError, match=r"region: 0:3,0:90,0:70 -> 0:1,0:90,0:70"):
        run(job.model_copy(update={"region": "0:1,:,:"}))
    np.testing.assert_array_equal(zarr.open_array(array, mode="r")[:], before)
    replaced = labels_of(run(job.model_copy(update={"region": "0:1,:,:", "overwrite": True})))
    np.testing.assert_array_equal(replaced[0], before[0])
    assert not replaced[1:].any()


def test_another_image_or_model_under_the_same_name_is_refused(
    tmp_path: Path, stack: npt.NDArray[np.uint8], stack_path: str, model: str
) -> None:
    job = job_of(tmp_path, stack_path, model)
    run(job)
    zarr.open_array(stack_path, mode="r+")[:] = 255 - stack
    with pytest.raises(OutputExistsError, match="input sha256"):
        run(job)
    zarr.open_array(stack_path, mode="r+")[:] = stack
    assert isinstance(run(job)[-1], AlreadyDone)
    save_lively_model(Path(model), seed=7)
    with pytest.raises(OutputExistsError, match="model_sha256"):
        run(job)


def test_an_image_that_was_moved_is_the_same_image(
    tmp_path: Path, stack_path: str, model: str
) -> None:
    job = job_of(tmp_path, stack_path, model)
    run(job)
    moved = Path(stack_path).rename(tmp_path / "elsewhere.zarr")
    assert isinstance(run(job.model_copy(update={"input": str(moved)}))[-1], AlreadyDone)


def test_a_stopped_job_is_marked_incomplete_and_goes_on(
    tmp_path: Path, stack_path: str, model: str
) -> None:
    job = job_of(tmp_path, stack_path, model, tile_size=16, block_size=32)
    control = JobControl()
    events = []
    for event in run_job(job, control):
        events.append(event)
        if isinstance(event, TileDone):
            control.stop()
    (started,) = (event for event in events if isinstance(event, JobStarted))
    last = events[-1]
    assert isinstance(last, Cancelled)
    assert 0 < last.tiles_done < last.tiles
    assert not any(isinstance(event, Finished) for event in events)
    assert read_record(Path(started.record)).state == "incomplete"
    group = zarr.open_group(tmp_path / "out.zarr" / "labels" / "tiny", mode="r")
    assert group.attrs["napari_unet"]["state"] == "incomplete"  # type: ignore[index,call-overload]
    again = run(job)
    assert any(isinstance(e, Warned) and "blocks of tiny are done" in e.message for e in again)
    fresh = labels_of(run(job_of(tmp_path, stack_path, model, name="fresh", tile_size=16)))
    np.testing.assert_array_equal(labels_of(again), fresh)


def test_closing_the_stream_leaves_an_incomplete_output(
    tmp_path: Path, stack_path: str, model: str
) -> None:
    events = run_job(job_of(tmp_path, stack_path, model, tile_size=16, block_size=32))
    while not isinstance(next(events), TileDone):
        pass
    events.close()
    group = zarr.open_group(tmp_path / "out.zarr" / "labels" / "tiny", mode="r")
    assert group.attrs["napari_unet"]["state"] == "incomplete"  # type: ignore[index,call-overload]


def test_the_recorded_command_repeats_the_result(
    tmp_path: Path, stack_path: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job = SegmentJob(
        input=Path(stack_path).name,
        model="tiny.safetensors",
        output="out.zarr",
        region="0:2,5:80,0:70",
        tile_size=32,
        threads=2,
    )
    (started,) = (event for event in run(job) if isinstance(event, JobStarted))
    record = read_record(Path(started.record))
    before = np.asarray(zarr.open_array(record.labels, mode="r")[:])
    words = [*record.command[1:], "--name", "again", "--progress", "none"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    subprocess.run([sys.executable, "-m", "napari_unet", *words], cwd=elsewhere, check=True)
    again = zarr.open_array(tmp_path / "out.zarr" / "labels" / "again" / "0", mode="r")[:]
    np.testing.assert_array_equal(again, before)
    assert record.provenance["model"]["sha256"]
    assert record.provenance["normalization"]["source"] == "measured"
    assert record.state == "complete"
    json.dumps(record.model_dump(mode="json"))


def test_planes_and_other_formats(tmp_path: Path, stack: npt.NDArray[np.uint8], model: str) -> None:
    expected = napari_unet.segment(stack[0], model)
    assert expected.shape == (90, 70)
    iio.imwrite(tmp_path / "a.png", stack[0])
    tifffile.imwrite(tmp_path / "b.tif", stack[0])
    np.save(tmp_path / "c.npy", stack[0])
    for name in ("a.png", "b.tif", "c.npy"):
        out = str(tmp_path / f"{name}.zarr")
        events = run(SegmentJob(input=str(tmp_path / name), model=model, output=out))
        np.testing.assert_array_equal(labels_of(events), expected)


@pytest.mark.parametrize(
    "dtype", ["bool", "uint16", ">u2", "int32", "uint64", "float16", "float32", ">f8"]
)
def test_every_type_of_number_is_segmented(
    stack: npt.NDArray[np.uint8], model: str, dtype: str
) -> None:
    values = (stack[0] > 127) if dtype == "bool" else stack[0]
    plain = napari_unet.segment(values.astype(np.float64), model)
    assert (napari_unet.segment(values.astype(dtype), model) == plain).mean() > 0.999


@pytest.mark.parametrize("shape", [(1, 1), (1, 77), (5, 3)])
def test_tiny_images(model: str, shape: tuple[int, int]) -> None:
    image = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    assert (napari_unet.segment(image, model) > 0).all()


def test_nonfinite_voxels_and_missing_chunks_are_counted_and_said(
    tmp_path: Path, model: str
) -> None:
    path = tmp_path / "holes.zarr"
    array = zarr.create_array(
        path, shape=(64, 64), chunks=(32, 32), dtype=np.float32, dimension_names=("y", "x")
    )
    array[:32] = np.random.default_rng(0).normal(size=(32, 64)).astype(np.float32)
    array[3, 4:7] = [np.nan, np.inf, -np.inf]
    events = run(SegmentJob(input=str(path), model=model, output=str(tmp_path / "o.zarr")))
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.nonfinite == 3
    assert finished.missing_chunks == 2
    said = " ".join(event.message for event in events if isinstance(event, Warned))
    assert "3 voxels" in said
    assert "2 chunks" in said


def test_a_given_normalization_replaces_the_measured_one(
    stack: npt.NDArray[np.uint8], model: str
) -> None:
    given = f"{stack[0].mean()},{stack[0].std()}"
    measured = napari_unet.segment(stack[0], model)
    np.testing.assert_array_equal(
        napari_unet.segment(stack[0], model, normalization=given), measured
    )
    other = napari_unet.segment(stack[0], model, normalization="0,1000")
    assert (other != measured).any()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"region": "0:9,0:9,0:9"}, TilingError, "axis z, which has 3 voxels"),
        ({"region": "2:2,0:9,0:9"}, TilingError, "region"),
        ({"block_size": 30}, TilingError, "choose 32"),
        ({"normalization": "bright"}, ConfigError, "MEAN,STD"),
        ({"normalization": "1,2;3,4"}, ConfigError, "2 channels"),
        ({"normalization": "1,0"}, ConfigError, "scale"),
        ({"precision": "fp16", "device": "cpu"}, ConfigError, "fp16 needs a GPU"),
        ({"axes": "yx"}, AxesError, "--axes"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(
    tmp_path: Path,
    stack_path: str,
    model: str,
    options: dict[str, Any],
    error: type[UNetError],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        run(job_of(tmp_path, stack_path, model, **options))
    assert not (tmp_path / "out.zarr").exists()


def test_a_model_for_two_channels_asks_for_them(
    tmp_path: Path, stack: npt.NDArray[np.uint8]
) -> None:
    path = tmp_path / "two.safetensors"
    save_lively_model(path, in_channels=2)
    with pytest.raises(AxesError, match="--channel 0,1"):
        napari_unet.segment(stack[0], str(path))
    colors = np.stack([stack[0], stack[1], stack[2]], axis=-1)
    labels = napari_unet.segment(colors, str(path), axes="yxc", channel="2,0")
    swapped = napari_unet.segment(colors[..., [2, 0]], str(path), axes="yxc", channel="0,1")
    np.testing.assert_array_equal(labels, swapped)


def test_a_model_that_sees_neighbors_takes_a_stack(
    tmp_path: Path, stack: npt.NDArray[np.uint8], stack_path: str
) -> None:
    path = tmp_path / "context.safetensors"
    save_lively_model(path, in_channels=3, expects={"context": 1})
    job = job_of(tmp_path, stack_path, str(path), region="1:3,:,:", tile_size=32)
    labels = labels_of(run(job))
    whole = napari_unet.segment(stack, str(path), axes="zyx")
    assert not labels[0].any()
    assert (labels[1:] == whole[1:]).mean() > 0.9999
    changed = stack.copy()
    changed[2] = stack[2].T.reshape(stack[2].shape)
    other = napari_unet.segment(changed, str(path), axes="zyx")
    np.testing.assert_array_equal(other[0], whole[0])
    assert (other[1] != whole[1]).any(), "the next slice counts"


def test_a_missing_image_and_a_missing_model_are_named(tmp_path: Path, model: str) -> None:
    with pytest.raises(InputError, match=r"none\.tif"):
        napari_unet.segment(tmp_path / "none.tif", model)
    with pytest.raises(ConfigError, match="there is no model 'nothing'"):
        napari_unet.segment(np.zeros((4, 4)), "nothing")


def test_a_constant_image_has_an_answer(model: str) -> None:
    assert (napari_unet.segment(np.full((20, 20), 7, np.uint16), model) > 0).all()
