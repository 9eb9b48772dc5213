"""What we use of napari's own insides gives what its public way gives."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap

from napari_unet.widgets import _napari_private
from napari_unet.widgets._layers import class_options
from napari_unet.widgets._napari_private import prepare_labels, put_data, spare_tools

if TYPE_CHECKING:
    from collections.abc import Callable

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


def test_what_the_first_labels_need_is_there_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    from vispy.visuals.line import dash_atlas

    prepare_labels()
    assert "skimage.color.colorconv" in sys.modules
    before = dash_atlas._make_pattern.cache_info()
    dash_atlas.DashAtlas()
    after = dash_atlas._make_pattern.cache_info()
    assert after.misses == before.misses
    assert after.hits > before.hits

    # Another vispy: nothing is computed, and nothing said.
    monkeypatch.delattr(dash_atlas, "DashAtlas")
    prepare_labels()


def test_painting_tools_come_with_the_right_to_paint(
    make_napari_viewer: Callable[..., Any],
) -> None:
    viewer = make_napari_viewer()
    drawn = viewer.window._qt_viewer.canvas._layer_overlay_to_visual
    usual = viewer.add_labels(np.zeros((8, 8), np.uint8))
    layer = Labels(np.zeros((8, 8), np.uint8))
    layer.editable = False
    spare_tools(layer)
    viewer.add_layer(layer)
    tools = {layer._overlays[name] for name in _napari_private.PAINTING_TOOLS}
    assert len(tools) == 2
    assert not tools & set(drawn[layer])
    # Other data do not make it one to paint on.
    put_data(layer, np.ones((8, 8), np.uint8), is_drawn=False)
    assert not layer.editable
    assert not tools & set(drawn[layer])
    layer.editable = True
    assert tools <= set(drawn[layer])
    assert len(drawn[layer]) == len(drawn[usual])
    layer.mode = "paint"
    layer.paint((4, 4), 2)
    assert layer.data[4, 4] == 2


def test_a_layer_without_known_tools_is_left_alone() -> None:
    layer = Labels(np.zeros((8, 8), np.uint8))
    layer._overlays.clear()
    spare_tools(layer)
    layer.events.editable(value=True)
    assert not layer._overlays
