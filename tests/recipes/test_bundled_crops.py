"""The crops of `em-membranes` that ship: of slices that it was scored on, and of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_unet.app.models import CROPS_SUFFIX, REHEARSAL_SUFFIX, find_model
from napari_unet.app.training.crops import find_crops
from napari_unet.core.normalization import normalize
from napari_unet.metrics.boundary import boundary_score
from napari_unet.model.weights import load_model

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_unet.app.training.crops import CropScaling

MARGIN = 29
"""Pixels of image around the labeled middle."""


def test_crops_are_small_and_labeled_in_their_middle_only() -> None:
    model = find_model("em-membranes")
    crops = find_crops(model, "regression")
    assert crops is not None
    assert crops.path.name == f"em-membranes{CROPS_SUFFIX}"
    assert crops.path.stat().st_size < 1_000_000
    assert crops.header.class_names == tuple(info.name for info in model.header.classes)
    assert "CC BY 3.0" in crops.header.license
    for image, labels in zip(crops.images, crops.labels, strict=True):
        assert image.shape[1:] == labels.shape == (1, 250, 250)
        middle = labels[:, MARGIN:-MARGIN, MARGIN:-MARGIN]
        assert set(np.unique(middle)) == {1, 2}
        assert np.count_nonzero(labels) == middle.size


def test_rehearsal_crops_are_whole_planes_of_all_directions() -> None:
    model = find_model("em-membranes")
    crops, judging = (find_crops(model, kind) for kind in ("rehearsal", "regression"))
    assert crops is not None
    assert judging is not None
    assert crops.path.name == f"em-membranes{REHEARSAL_SUFFIX}"
    assert crops.path.stat().st_size < 1_000_000
    assert crops.header.class_names == tuple(info.name for info in model.header.classes)
    assert "CC BY 3.0" in crops.header.license
    shapes = [labels.shape for labels in crops.labels]
    assert shapes == [(1, 250, 250)] * 6 + [(1, 120, 250)] * 4
    assert all(set(np.unique(labels)) == {1, 2} for labels in crops.labels)
    # What is judged on must not be learnt from.
    rows = {row.tobytes() for image in crops.images for row in image[0, 0]}
    assert not any(row.tobytes() in rows for image in judging.images for row in image[0, 0])


def membranes(image: npt.NDArray[np.uint8], scaling: CropScaling) -> npt.NDArray[np.bool_]:
    """Return the membranes that the model finds in a plane (1, 1, 250, 250)."""
    model = find_model("em-membranes")
    net, halo = load_model(model.path).net, model.header.architecture.geometry().halo[-1]
    found = normalize(image, scaling.normalization()).image
    # 250 + 2 * 92 = 434 pixels; the network takes 444.
    width = (halo, halo + 10)
    padded = np.pad(found[:, 0], ((0, 0), width, width), mode="reflect")
    with torch.inference_mode():
        classes = net(torch.from_numpy(padded)[None])[0].argmax(dim=0).numpy()
    return np.asarray(classes[:250, :250] == 1)


def test_the_model_scores_on_a_crop_as_on_the_test_slices() -> None:
    model = find_model("em-membranes")
    crops = find_crops(model, "regression")
    assert crops is not None
    middle = (slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
    found, true = [], []
    for k in (1, 3, 5):
        found.append(membranes(crops.images[k], crops.header.normalization[k])[middle])
        true.append(crops.labels[k][0][middle] == 2)
    plain = boundary_score(np.stack(found), np.stack(true), tolerance=0)
    assert abs(plain.f1 - model.header.provenance.scores["plain_f1"]) < 0.03


def test_rehearsal_crops_hold_what_the_model_learned() -> None:
    model = find_model("em-membranes")
    crops = find_crops(model, "rehearsal")
    assert crops is not None
    found = membranes(crops.images[2], crops.header.normalization[2])
    plain = boundary_score(found[None], crops.labels[2] == 2, tolerance=0)
    assert plain.f1 > model.header.provenance.scores["plain_f1"]
