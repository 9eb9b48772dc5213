"""When an image is rescaled, by how much, and what the result and its record say about it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
import zarr
from tests.nets import save_lively_model

import napari_unet
from napari_unet.app.job_files import command_line, read_record
from napari_unet.app.models import find_model
from napari_unet.app.plan import estimate, plan_segment
from napari_unet.app.rescale import decide_rescaling
from napari_unet.app.segment import run_job
from napari_unet.core.axes import VoxelSize
from napari_unet.core.events import AlreadyDone, Finished, JobStarted, TileDone, Warned
from napari_unet.core.header import InputExpectation
from napari_unet.core.job import SegmentJob
from napari_unet.errors import ConfigError, OutputExistsError
from napari_unet.io.image import wrap_array

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_unet.core.events import JobEvent

TEN_NM = InputExpectation(channels=("EM",), voxel_size=(10.0, 10.0), unit="nanometer")


@pytest.fixture
def model_10nm(tmp_path: Path) -> str:
    """Path of a model that was trained at 10 nm."""
    path = tmp_path / "ten.safetensors"
    save_lively_model(path, expects={"voxel_size": (10.0, 10.0), "unit": "nanometer"})
    return str(path)


@pytest.fixture
def image_46nm(tmp_path: Path) -> str:
    """Path of an OME-TIFF with voxels of 4.6 nm, written as 0.0046 micrometers."""
    path = tmp_path / "fine.ome.tif"
    size = {f"PhysicalSize{axis}": 0.0046 for axis in "XY"}
    units = {f"PhysicalSize{axis}Unit": "µm" for axis in "XY"}
    values = np.random.default_rng(0).integers(0, 255, (101, 87), dtype=np.uint8)
    tifffile.imwrite(path, values, metadata={"axes": "YX", **size, **units})
    return str(path)


def size_of(y: float, x: float, unit: str | None = "nanometer") -> VoxelSize:
    return VoxelSize(1.0, y, x, unit)


@pytest.mark.parametrize(
    ("wanted", "own", "factors"),
    [
        ("auto", size_of(4.6, 4.6), (0.46, 0.46)),
        ("auto", size_of(0.0046, 0.0046, "micrometer"), (0.46, 0.46)),
        ("auto", size_of(46, 200, "angstrom"), (0.46, 2.0)),
        ("auto", size_of(10, 4), (1.0, 0.4)),
        ("auto", size_of(8, 12.5), None),
        ("auto", size_of(7.9, 10), (0.79, 1.0)),
        ("auto", size_of(4.6, 4.6, None), None),
        ("auto", size_of(4.6, 4.6, "pixel"), None),
        ("off", size_of(4.6, 4.6), None),
        (0.5, size_of(4.6, 4.6), (0.5, 0.5)),
        (2.0, size_of(1, 1, None), (2.0, 2.0)),
        (1.0, size_of(4.6, 4.6), None),
    ],
)
def test_the_factor_is_decided(wanted: Any, own: VoxelSize, factors: Any) -> None:
    decided = decide_rescaling(wanted, own, TEN_NM)
    assert decided.factors == factors
    assert (decided.note is not None) == (wanted == "auto" and factors is not None)


def test_a_model_of_unknown_voxel_size_is_never_rescaled_for() -> None:
    unknown = InputExpectation(channels=("EM",))
    assert decide_rescaling("auto", size_of(4.6, 4.6), unknown).factors is None
    strange = TEN_NM.model_copy(update={"unit": "pixel"})
    assert decide_rescaling("auto", size_of(4.6, 4.6), strange).factors is None


@pytest.mark.parametrize("unit", ["micrometer", "picometer"])
def test_an_absurd_voxel_size_is_said_and_not_believed(unit: str) -> None:
    decided = decide_rescaling("auto", size_of(4.6, 4.6, unit), TEN_NM)
    assert decided.factors is None
    assert decided.note is not None
    assert f"4.6 x 4.6 {unit}" in decided.note
    assert "--rescale FACTOR" in decided.note


@pytest.mark.parametrize("text", ["fast", "0", "-1", "11", "nan", "0.5,0.5", True, None])
def test_a_bad_value_is_refused_with_what_is_legal(text: Any) -> None:
    with pytest.raises(ConfigError, match=r"auto, off, or a factor from 0\.1 to 10"):
        SegmentJob.parse({"input": "", "model": "", "output": "", "rescale": text}, source="job")


def test_the_factor_of_a_command_line_is_a_number_again() -> None:
    job = SegmentJob.parse({"input": "a", "model": "m", "output": "o", "rescale": "0.5"}, source="")
    assert job.rescale == 0.5
    words = command_line(job)
    assert words[words.index("--rescale") + 1] == "0.5"
    assert "--rescale" not in command_line(job.model_copy(update={"rescale": "auto"}))
    assert SegmentJob.parse(job.model_dump(mode="json"), source="") == job


def run(tmp_path: Path, image: str, model: str, **options: Any) -> list[JobEvent]:
    out = str(tmp_path / "out.zarr")
    return list(run_job(SegmentJob(input=image, model=model, output=out, **options)))


def labels_of(events: list[JobEvent]) -> npt.NDArray[np.uint8]:
    (started,) = (event for event in events if isinstance(event, JobStarted))
    return np.asarray(zarr.open_array(started.labels, mode="r")[:])


def test_auto_rescales_says_so_and_labels_the_images_own_grid(
    tmp_path: Path, image_46nm: str, model_10nm: str
) -> None:
    events = run(tmp_path, image_46nm, model_10nm, name="auto")
    (said,) = (event.message for event in events if isinstance(event, Warned))
    assert "rescaled by 0.46" in said
    assert "0.0046 x 0.0046 micrometer" in said
    assert "10 x 10 nanometer" in said
    labels = labels_of(events)
    assert labels.shape == (101, 87)
    assert set(np.unique(labels)) == {1, 2}
    given = labels_of(run(tmp_path, image_46nm, model_10nm, name="given", rescale=0.46))
    np.testing.assert_array_equal(labels, given)
    off = labels_of(run(tmp_path, image_46nm, model_10nm, name="off", rescale="off"))
    assert (off != labels).any()
    small = labels_of(run(tmp_path, image_46nm, model_10nm, name="small", tile_size=16))
    np.testing.assert_array_equal(small, labels)
    (started,) = (event for event in events if isinstance(event, JobStarted))
    provenance = read_record(Path(started.record)).provenance
    assert provenance["rescale"] == [0.46, 0.46]


def test_progress_counts_the_images_own_pixels(
    tmp_path: Path, image_46nm: str, model_10nm: str
) -> None:
    events = run(tmp_path, image_46nm, model_10nm, rescale=2.0, tile_size=32, probabilities=True)
    (started,) = (event for event in events if isinstance(event, JobStarted))
    tiles = [event for event in events if isinstance(event, TileDone)]
    assert started.pixels == 101 * 87
    assert tiles[-1].pixels_done == started.pixels
    assert len(tiles) == started.tiles == 7 * 6, "parts of at most 32 / 2 pixels"
    covered = np.zeros((101, 87), int)
    for event in tiles:
        covered[event.box.slices[1:]] += 1
    assert (covered == 1).all()
    chances = np.asarray(
        zarr.open_array(tmp_path / "out.zarr/probabilities/ten/0", mode="r")[:], dtype=float
    )
    assert chances.shape == (2, 101, 87)
    np.testing.assert_allclose(chances.sum(axis=0), 1, atol=1e-5)
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.pixels == 101 * 87


def test_the_effective_factor_is_part_of_the_fingerprint(
    tmp_path: Path, image_46nm: str, model_10nm: str
) -> None:
    run(tmp_path, image_46nm, model_10nm)
    assert isinstance(run(tmp_path, image_46nm, model_10nm, rescale=0.46)[-1], AlreadyDone)
    with pytest.raises(OutputExistsError, match=r"rescale: \[0.46, 0.46\] -> None"):
        run(tmp_path, image_46nm, model_10nm, rescale="off")


def test_a_region_is_the_crop_of_the_whole(
    tmp_path: Path, image_46nm: str, model_10nm: str
) -> None:
    full = labels_of(run(tmp_path, image_46nm, model_10nm, name="full"))
    part = labels_of(run(tmp_path, image_46nm, model_10nm, region="13:70,20:61"))
    np.testing.assert_array_equal(part[13:70, 20:61], full[13:70, 20:61])
    part[13:70, 20:61] = 0
    assert not part.any()


def test_an_array_in_memory_is_rescaled_by_a_factor(
    model: str, stack: npt.NDArray[np.uint8]
) -> None:
    plain = napari_unet.segment(stack, model, axes="zyx")
    halved = napari_unet.segment(stack, model, axes="zyx", rescale=0.5)
    assert halved.shape == plain.shape
    means = stack.reshape(3, 45, 2, 35, 2).mean(axis=(2, 4))
    small = napari_unet.segment(means, model, axes="zyx")
    np.testing.assert_array_equal(halved, small.repeat(2, axis=1).repeat(2, axis=2))


def test_an_estimate_counts_what_the_network_reads(model: str) -> None:
    source = wrap_array(np.zeros((1000, 1000), np.uint8))
    costs = {}
    for factor in (0.5, 1.0, 2.0):
        job = SegmentJob(input="", model=model, output="", rescale=factor, tile_size=256)
        costs[factor] = estimate(plan_segment(job, 512, source))
    # Halo 20 at depth 2, and tiles of 250 and 125 pixels widened to the stride of 4.
    assert costs[1.0].redundancy == pytest.approx((296 / 256) ** 2)
    assert costs[0.5].redundancy == pytest.approx((292 / 500) ** 2, rel=0.02)
    assert costs[2.0].redundancy == pytest.approx((292 / 125) ** 2, rel=0.02)
    assert {cost.pixels for cost in costs.values()} == {10**6}


def test_the_bundled_model_knows_its_voxel_size() -> None:
    """Else "auto" would never do anything with it."""
    expected = find_model("em-membranes").header.input
    assert decide_rescaling("auto", size_of(4.6, 4.6), expected).factors is not None
