"""The model that ships: the tile law holds for it on real data, and its card tells the truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
import torch
import zarr
from skimage.segmentation import find_boundaries

import napari_unet
from napari_unet.app.demo import SAMPLE, run_demo
from napari_unet.app.models import DEFAULT_MODEL, find_model, list_models
from napari_unet.app.segment import run_job
from napari_unet.core.events import AlreadyDone, Finished, JobEvent
from napari_unet.core.job import SegmentJob
from napari_unet.metrics.boundary import boundary_score
from napari_unet.model.weights import load_model

if TYPE_CHECKING:
    import numpy.typing as npt

BODIES = Path(__file__).parents[1] / "data" / "fib_sem_bodies.tif"
MAX_BYTES = 16 * 2**20
MEMBRANE = 2


def sample() -> npt.NDArray[np.uint8]:
    return np.asarray(zarr.open_array(SAMPLE / "0", mode="r")[:])


def probabilities(tmp_path: Path, image: npt.NDArray[Any], tile: int) -> npt.NDArray[np.float32]:
    path = tmp_path / "image.npy"
    np.save(path, image)
    output = tmp_path / f"{tile}.zarr"
    job = SegmentJob(
        input=str(path),
        model=DEFAULT_MODEL,
        output=str(output),
        tile_size=tile,
        device="cpu",
        probabilities=True,
    )
    for _ in run_job(job):
        pass
    array = zarr.open_array(output / "probabilities" / DEFAULT_MODEL / "0", mode="r")
    return np.asarray(array[:])


def test_it_is_listed_small_and_has_a_card() -> None:
    (entry,) = (entry for entry in list_models() if entry.name == DEFAULT_MODEL)
    assert entry.origin == "bundled"
    assert entry.path.stat().st_size < MAX_BYTES
    header = entry.header
    assert [item.name for item in header.classes] == ["interior", "membrane"]
    assert header.architecture.base_channels <= 32
    assert "CC BY 3.0" in header.provenance.data
    assert header.provenance.seed is not None
    assert header.provenance.recipe
    assert header.license
    assert header.provenance.scores["boundary_f1"] >= 0.90


def test_its_tiles_agree_with_the_whole_image(tmp_path: Path) -> None:
    """The reference is computed without the engine: one forward pass over the mirrored image."""
    planes = sample()
    image = np.block([[planes[0], planes[4]], [planes[8], planes[12]]])[:470, :333]
    values = (image - image.mean(dtype=float)) / image.std(dtype=float)
    net = load_model(find_model(DEFAULT_MODEL).path).net
    halo, stride = 92, 16
    pads = [(halo, halo + 4 + (-n) % stride) for n in image.shape]
    padded = np.pad(values, pads, mode="reflect").astype(np.float32)
    with torch.inference_mode():
        logits = net(torch.from_numpy(padded)[None, None])[0]
    whole = torch.softmax(logits, dim=0).numpy()[:, : image.shape[0], : image.shape[1]]
    assert whole.std() > 0.3, "the answer varies, so that a shift would show"
    for tile in (96, 192, 512):
        tiled = probabilities(tmp_path, image, tile)
        np.testing.assert_allclose(tiled, whole, rtol=0, atol=1e-5)
        clear = np.abs(whole[0] - whole[1]) > 1e-4
        assert (tiled.argmax(axis=0) == whole.argmax(axis=0))[clear].all()


def test_its_boundaries_are_as_good_as_its_card_says() -> None:
    """On 16 of the 20 slices of the card: all that the package and its tests carry."""
    labels = napari_unet.segment(SAMPLE, DEFAULT_MODEL, device="cpu")
    bodies = tifffile.imread(BODIES)
    truth = np.stack([find_boundaries(plane, mode="thick") for plane in bodies]) | (bodies == 0)
    score = boundary_score(labels == MEMBRANE, truth, tolerance=2)
    assert score.f1 >= 0.90
    stated = find_model(DEFAULT_MODEL).header.provenance.scores["boundary_f1"]
    assert score.f1 == pytest.approx(stated, abs=0.02)


def test_the_demo_leaves_labels_and_a_picture(tmp_path: Path) -> None:
    events: list[JobEvent] = []
    result = run_demo(tmp_path / "my demo", "cpu", events.append)
    assert isinstance(events[-1], Finished)
    labels = np.asarray(zarr.open_array(result.labels / "0", mode="r")[:])
    assert labels.shape == sample().shape
    assert set(np.unique(labels)) == {1, 2}
    assert result.record.exists()
    picture = iio.imread(result.overlay)
    assert picture.shape == (250, 500, 3)
    grey, drawn = picture[:, :250].astype(int), picture[:, 250:].astype(int)
    membrane = labels[8] == MEMBRANE
    warmth = (drawn - grey)[..., 0] - (drawn - grey)[..., 2]
    assert warmth[membrane].mean() > 50 + warmth[~membrane].mean(), "membranes are drawn in orange"
    run_demo(tmp_path / "my demo", "cpu", events.append)
    assert isinstance(events[-1], AlreadyDone)
