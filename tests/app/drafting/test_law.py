"""A draft that has learnt nothing is what `segment` says of the same region."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from tests.app.drafting.drafting import Drafting, labels_of
from tests.nets import save_lively_model

from napari_unet.app.drafting import kept_tiles, session, view
from napari_unet.app.segment import segment
from napari_unet.core.boxes import Box
from napari_unet.core.draft_job import DraftJob

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt


def job_for(tmp_path: Path, image: npt.NDArray[Any], axes: str, **options: Any) -> DraftJob:
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, image, metadata=None, photometric="minisblack")
    fields = {"classes": ("class 1", "class 2"), "device": "cpu", "threads": 1} | options
    model, folder = str(tmp_path / "net.safetensors"), str(tmp_path)
    return DraftJob(input=str(path), model=model, folder=folder, axes=axes, **fields)


def expected(job: DraftJob, **options: Any) -> npt.NDArray[np.uint8]:
    fields = ("axes", "channel", "rescale", "device", "threads")
    given = {name: getattr(job, name) for name in fields}
    found = segment(job.input, job.model, **(given | options))
    return found if found.ndim == 3 else found[None]


@pytest.mark.parametrize(
    ("network", "options"),
    [
        ({}, {}),
        ({"padding": "same", "norm": "batch"}, {}),
        ({"depth": 3, "residual": "shared"}, {}),
        ({"depth": 0}, {}),
        ({"depth": 1}, {}),
        ({"in_channels": 3, "expects": {"context": 1}}, {}),
        ({}, {"rescale": 0.7}),
        ({}, {"rescale": 1.6}),
    ],
)
def test_without_strokes_it_is_the_segmentation(
    tmp_path: Path, rng: np.random.Generator, network: dict[str, Any], options: dict[str, Any]
) -> None:
    save_lively_model(tmp_path / "net.safetensors", 3, **network)
    job = job_for(tmp_path, rng.normal(9, 2, (3, 150, 170)).astype(np.float32), "zyx", **options)
    whole = expected(job)
    drafting = Drafting(job)
    views = (Box((1, 0, 0), (2, 150, 170)), Box((0, 31, 67), (3, 145, 101)))
    for box in (*views, Box((2, -40, 120), (3, 30, 300))):
        ready = drafting.draft(box)
        assert ready.learned == 0
        assert not ready.box.is_empty
        np.testing.assert_array_equal(labels_of(ready), whole[ready.box.slices])
    assert len(np.unique(whole)) == 2, "an answer of one class would not show a shift"
    drafting.close()


def test_of_a_plane_with_channels(tmp_path: Path, rng: np.random.Generator) -> None:
    save_lively_model(tmp_path / "net.safetensors", 5, in_channels=2)
    image = rng.integers(0, 200, (3, 80, 90), dtype=np.uint8)
    job = job_for(tmp_path, image, "cyx", channel="2,0")
    drafting = Drafting(job)
    ready = drafting.draft(Box((0, 10, 20), (1, 70, 90)))
    np.testing.assert_array_equal(labels_of(ready), expected(job)[:, 10:70, 20:90])
    drafting.close()


def test_values_that_are_not_finite_do_not_spread(tmp_path: Path, rng: np.random.Generator) -> None:
    save_lively_model(tmp_path / "net.safetensors", 5)
    image = rng.normal(0, 1, (120, 130)).astype(np.float32)
    image[60:70, 50:55], image[3, 3] = np.nan, np.inf
    job = job_for(tmp_path, image, "yx", rescale=0.8)
    drafting = Drafting(job)
    ready = drafting.draft(Box((0, 0, 0), (1, 120, 130)))
    np.testing.assert_array_equal(labels_of(ready), expected(job))
    drafting.close()


def test_classes_are_renamed_dropped_and_in_another_order(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    save_lively_model(tmp_path / "net.safetensors", 5, num_classes=3)
    image = rng.normal(0, 1, (90, 90)).astype(np.float32)
    names = ("other", "new", "class 1")
    job = job_for(tmp_path, image, "yx", classes=names, rename={"class 3": "other"})
    drafting = Drafting(job)
    found = labels_of(drafting.draft(Box((0, 0, 0), (1, 90, 90))))
    assert set(np.unique(found)) == {1, 3}, "a new class never wins before it is learnt"
    whole = expected(job)
    np.testing.assert_array_equal(found[whole == 3], 1)
    np.testing.assert_array_equal(found[whole == 1], 3)
    drafting.close()


def test_a_large_view_grows_from_its_middle_in_small_tiles(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view, "MIDDLE_PIXELS", 80 * 80)
    monkeypatch.setattr(view, "VIEW_PIXELS", 170 * 170)
    monkeypatch.setattr(view, "GROWTH_SECONDS", 1000)
    monkeypatch.setattr(session, "TILE_EDGE", kept_tiles.CELL_EDGE)
    save_lively_model(tmp_path / "net.safetensors", 3)
    job = job_for(tmp_path, rng.normal(9, 2, (250, 300)).astype(np.float32), "yx")
    drafting = Drafting(job)
    middle = drafting.draft(Box((0, 0, 0), (1, 250, 300)))
    more = drafting.until(type(middle))
    assert middle.box == Box((0, 85, 110), (1, 165, 190))
    assert more.box == Box((0, 40, 65), (1, 210, 235))
    for ready in (middle, more):
        np.testing.assert_array_equal(labels_of(ready), expected(job)[ready.box.slices])
    drafting.close()
