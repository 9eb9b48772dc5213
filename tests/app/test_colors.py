"""Color models take color images as their files hold them, and gray ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
import zarr
from tests.nets import save_lively_model

import napari_unet
from napari_unet.app.segment import run_job
from napari_unet.core.events import JobStarted, Warned
from napari_unet.core.job import SegmentJob
from napari_unet.errors import AxesError, ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

COLORS = ("red", "green", "blue")


@pytest.fixture
def color_model(tmp_path: Path) -> str:
    path = tmp_path / "colors.safetensors"
    save_lively_model(path, in_channels=3, expects={"channels": COLORS})
    return str(path)


@pytest.fixture
def rgba(rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    return rng.integers(0, 255, (50, 60, 4), dtype=np.uint8)


@pytest.fixture
def expected(color_model: str, rgba: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """What the colors give when they are named."""
    return napari_unet.segment(rgba, color_model, axes="yxc", channel="0,1,2")


@pytest.mark.parametrize("name", ["rgb.png", "rgba.png", "rgb.tif", "rgba.tif", "folder"])
def test_files_that_say_that_they_are_in_color_need_no_options(
    tmp_path: Path,
    color_model: str,
    rgba: npt.NDArray[np.uint8],
    expected: npt.NDArray[np.uint8],
    name: str,
) -> None:
    path = tmp_path / name
    values = rgba if "rgba" in name else rgba[..., :3]
    if path.suffix == ".tif":
        extra = {"extrasamples": ["unassalpha"]} if "rgba" in name else {}
        tifffile.imwrite(path, values, photometric="rgb", **extra)
    elif path.suffix == ".png":
        iio.imwrite(path, values)
    else:
        path.mkdir()
        for z in range(2):
            iio.imwrite(path / f"z{z}.png", values)
        expected = np.stack([expected, expected])
    job = SegmentJob(input=str(path), model=color_model, output=str(tmp_path / "out.zarr"))
    events = list(run_job(job))
    (started,) = (event for event in events if isinstance(event, JobStarted))
    np.testing.assert_array_equal(zarr.open_array(started.labels, mode="r")[:], expected)
    assert not any(isinstance(event, Warned) for event in events)


def test_a_gray_image_is_shown_as_three_equal_colors(
    tmp_path: Path, color_model: str, rgba: npt.NDArray[np.uint8]
) -> None:
    gray = rgba[..., 0]
    expected = napari_unet.segment(np.stack([gray] * 3), color_model, axes="cyx", channel="0,1,2")
    np.testing.assert_array_equal(napari_unet.segment(gray, color_model), expected)
    iio.imwrite(tmp_path / "gray.png", gray)
    job = SegmentJob(
        input=str(tmp_path / "gray.png"), model=color_model, output=str(tmp_path / "out.zarr")
    )
    (said,) = (event.message for event in run_job(job) if isinstance(event, Warned))
    assert "gray is gray" in said
    assert "red, green and blue alike" in said


def test_a_normalization_of_a_gray_image_is_one_pair(
    color_model: str, rgba: npt.NDArray[np.uint8]
) -> None:
    gray = rgba[..., 0]
    given = f"{gray.mean()},{gray.std()}"
    np.testing.assert_array_equal(
        napari_unet.segment(gray, color_model, normalization=given),
        napari_unet.segment(gray, color_model),
    )
    with pytest.raises(ConfigError, match="is for 3 channels, the image has 1"):
        napari_unet.segment(gray, color_model, normalization=";".join([given] * 3))


def test_a_chosen_channel_of_a_color_image_is_gray(
    color_model: str, rgba: npt.NDArray[np.uint8]
) -> None:
    one = napari_unet.segment(rgba, color_model, axes="yxc", channel="1")
    np.testing.assert_array_equal(one, napari_unet.segment(rgba[..., 1], color_model))


def test_channels_that_are_no_colors_are_still_to_be_chosen(
    tmp_path: Path, color_model: str, rgba: npt.NDArray[np.uint8]
) -> None:
    planes = rgba.transpose(2, 0, 1)
    with pytest.raises(AxesError, match="choose with --channel"):
        napari_unet.segment(planes, color_model, axes="cyx")
    with pytest.raises(AxesError, match="takes 3"):
        napari_unet.segment(planes, color_model, axes="cyx", channel="0,1")
    path = tmp_path / "fluorescence.safetensors"
    save_lively_model(path, in_channels=3, expects={"channels": ("DAPI", "GFP", "RFP")})
    with pytest.raises(AxesError, match="choose with --channel"):
        napari_unet.segment(rgba[..., :3], str(path), axes="yxc")
    with pytest.raises(AxesError, match="takes 3"):
        napari_unet.segment(rgba[..., 0], str(path))
