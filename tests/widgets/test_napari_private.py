"""What we use of napari's own insides gives what its public way gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.components import ViewerModel
from napari.utils.colormaps import DirectLabelColormap

from napari_unet.widgets._layers import class_options

if TYPE_CHECKING:
    import pytest

CLASSES = (("interior", "#3b6fb6"), ("membrane", "#e8a33d"))


def test_colors_are_known_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    def compile_for_seconds(*_: Any) -> None:
        raise RuntimeError("napari would compile a dictionary of numba now")

    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    options = class_options(CLASSES)
    colors = options["colormap"]
    monkeypatch.setattr(DirectLabelColormap, "_get_typed_dict_mapping", compile_for_seconds)
    layer = ViewerModel().add_labels(labels, **options)
    drawn = layer.colormap.map(labels)
    for label in range(256):
        np.testing.assert_array_equal(drawn[labels == label][0], colors.map(label))
    # One class alone, as "show selected" draws it.
    layer.selected_label = 2
    layer.show_selected_label = True
    alone = layer.colormap.map(labels)
    np.testing.assert_array_equal(alone[labels == 2][0], colors.map(2))
    assert not alone[labels != 2].any()
