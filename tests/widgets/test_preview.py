"""A preview that comes again at the same place is drawn without slicing the layer anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels

from napari_unet.core.boxes import Box
from napari_unet.core.draft_events import DraftReady
from napari_unet.widgets._preview import PreviewLayer

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("shape", [(40, 50), (3, 40, 50)])
def test_the_same_place_is_drawn_anew_in_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]
) -> None:
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros(shape))
    viewer.dims.set_point(0, 1 if len(shape) == 3 else 0)
    plane = len(shape) - 2
    here, there = Box((plane, 0, 0), (plane + 1, 8, 9)), Box((plane, 8, 8), (plane + 1, 16, 17))
    preview = PreviewLayer(viewer, image, None, [("a", "#ff0000"), ("b", "#00ff00")])
    rng = np.random.default_rng(3)
    path = tmp_path / "d.npy"

    def show(box: Box) -> Any:
        labels = rng.integers(1, 3, box.shape, np.uint8)
        np.save(path, labels)
        preview.show(DraftReady(str(path), box, 5, 0.1, ()))
        return labels[0]

    show(here)
    layer: Any = preview.layer
    sliced: list[Labels] = []
    whole = Labels.refresh

    def noted(self: Labels, *args: Any, **options: Any) -> None:
        sliced.append(self)
        whole(self, *args, **options)

    monkeypatch.setattr(Labels, "refresh", noted)
    before = layer.thumbnail.copy()
    labels = show(here)
    assert not sliced
    np.testing.assert_array_equal(layer._slice.image.raw, labels)
    np.testing.assert_array_equal(layer._slice.image.view, layer.colormap._data_to_texture(labels))
    assert (layer.thumbnail != before).any()
    # Another place is sliced: napari has to know where it lies now.
    labels = show(there)
    assert sliced
    np.testing.assert_array_equal(layer._slice.image.raw, labels)
    assert not layer.editable
