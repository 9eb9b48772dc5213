"""The regression crops of `em-membranes` that ship: readable, and what the model was scored on."""

from __future__ import annotations

import numpy as np
import torch

from napari_unet.app.models import CROPS_SUFFIX, find_model
from napari_unet.app.regression_crops import find_crops
from napari_unet.core.normalization import normalize
from napari_unet.metrics.boundary import boundary_score
from napari_unet.model.weights import load_model

MARGIN = 29
"""Pixels of image around the labeled middle."""


def test_crops_are_small_and_labeled_in_their_middle_only() -> None:
    model = find_model("em-membranes")
    crops = find_crops(model)
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


def test_the_model_scores_on_a_crop_as_on_the_test_slices() -> None:
    model = find_model("em-membranes")
    crops = find_crops(model)
    assert crops is not None
    net, halo = load_model(model.path).net, model.header.architecture.geometry().halo[-1]
    middle = (slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
    found, true = [], []
    for k in (1, 3, 5):
        image = normalize(crops.images[k], crops.header.normalization[k].normalization()).image
        # 250 + 2 * 92 = 434 pixels; the network takes 444.
        width = (halo, halo + 10)
        padded = np.pad(image[:, 0], ((0, 0), width, width), mode="reflect")
        with torch.inference_mode():
            classes = net(torch.from_numpy(padded)[None])[0].argmax(dim=0).numpy()
        found.append(classes[:250, :250][middle] == 1)
        true.append(crops.labels[k][0][middle] == 2)
    plain = boundary_score(np.stack(found), np.stack(true), tolerance=0)
    assert abs(plain.f1 - model.header.provenance.scores["plain_f1"]) < 0.03
