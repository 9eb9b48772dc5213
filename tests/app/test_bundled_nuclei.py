"""The model `nuclei` that ships finds nuclei in its own regression crops, also in gray ones."""

from __future__ import annotations

import json

import numpy as np
import pytest
import safetensors.numpy
from safetensors import safe_open

import napari_unet
from napari_unet.app.models import BUNDLED_FOLDER, find_model
from napari_unet.app.training.crops import find_crops
from napari_unet.core.classes import UNLABELED
from napari_unet.labels.interior_instances import interior_instances
from napari_unet.labels.objects import BORDER, INTERIOR
from napari_unet.metrics.objects import ObjectScore, object_score, pool

CHOSEN = (1, 3)
"""A crop of fluorescence and one of color."""

CROPS = BUNDLED_FOLDER / "nuclei.crops.safetensors"
MAX_BYTES = 16 * 2**20


def objects_of(classes: np.ndarray) -> np.ndarray:
    """Return the nuclei of class labels, which are sure of themselves."""
    return interior_instances(*((classes == k).astype(np.float32) for k in (BORDER, INTERIOR)))


def scores() -> list[ObjectScore]:
    """Return the scores of the chosen crops, computed at argmax from their labels."""
    with safe_open(CROPS, framework="numpy") as file:
        said = json.loads(file.metadata()["crops"])
    tensors = safetensors.numpy.load_file(CROPS)
    found = []
    for k in CHOSEN:
        scaling = said["normalization"][k]
        image, labels = tensors[f"image_{k}"][:, 0], tensors[f"labels_{k}"][0]
        pairs = zip(scaling["offset"], scaling["scale"], strict=True)
        given = ";".join(f"{offset},{scale}" for offset, scale in pairs)
        # Labels are written as they are; a crop is normalized as the whole image that it is from.
        classes = napari_unet.segment(
            image, model="nuclei", axes="cyx", channel="0,1,2", normalization=given, device="cpu"
        )
        classes[labels == UNLABELED] = UNLABELED
        found.append(object_score(objects_of(classes), objects_of(labels)))
    return found


def test_it_is_small_and_says_what_it_is() -> None:
    entry = find_model("nuclei")
    header = entry.header
    assert entry.path.stat().st_size <= MAX_BYTES
    assert CROPS.stat().st_size < 10**6
    assert [info.name for info in header.classes] == ["background", "border", "interior"]
    assert header.input.channels == ("red", "green", "blue")
    assert header.input.voxel_size is None
    assert "BBBC038" in header.provenance.data
    assert "CC0" in header.license


def test_what_it_rehearses_is_not_what_judges() -> None:
    model = find_model("nuclei")
    rehearsed, judging = (find_crops(model, kind) for kind in ("rehearsal", "regression"))
    assert rehearsed is not None
    assert judging is not None
    assert rehearsed.path.stat().st_size < 2 * 10**6
    assert rehearsed.header.class_names == judging.header.class_names
    assert len(rehearsed.images) == 10
    # Every kind that was learnt from is there: gray and colored images.
    assert {bool((image == image[:1]).all()) for image in rehearsed.images} == {True, False}
    for image, labels in zip(rehearsed.images, rehearsed.labels, strict=True):
        assert image.shape[1:] == labels.shape == (1, 192, 192)
        assert set(np.unique(labels)) == {1, 2, 3}
    rows = {row.tobytes() for image in rehearsed.images for row in image[0, 0] if row.any()}
    assert not any(row.tobytes() in rows for image in judging.images for row in image[0, 0])


def test_it_finds_the_nuclei_of_its_crops() -> None:
    found = scores()
    assert [score.true for score in found] == [33, 21]
    assert pool(found).f1() > 0.7


def test_a_gray_image_is_the_same_as_three_equal_channels(rng: np.random.Generator) -> None:
    gray = rng.integers(0, 200, (70, 60), dtype=np.uint8)
    gray[20:40, 20:45] += 50
    given = {"model": "nuclei", "device": "cpu"}
    colors = napari_unet.segment(np.stack([gray] * 3), axes="cyx", channel="0,1,2", **given)
    assert np.array_equal(napari_unet.segment(gray, **given), colors)


@pytest.mark.parametrize("group", ["all", "fluorescence", "color", "brightfield"])
def test_the_card_has_all_scores(group: str) -> None:
    card = find_model("nuclei").header.provenance.scores
    for suffix in ("", "_pooled"):
        precisions = [card[f"{group}_ap_{t}{suffix}"] for t in (0.5, 0.6, 0.7, 0.8, 0.9)]
        assert precisions == sorted(precisions, reverse=True)
        assert precisions[-1] < card[f"{group}_ap_mean{suffix}"] < precisions[0]
        assert precisions[0] < card[f"{group}_object_f1{suffix}"] < 1
