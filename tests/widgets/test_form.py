"""The form of Segment keeps what was chosen while layers come and go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from napari.components import ViewerModel

from napari_unet.widgets._form import SegmentForm
from napari_unet.widgets._output import OutputPlace

if TYPE_CHECKING:
    from pathlib import Path


def stored(path: Path) -> Any:
    """Return an array of a file, next to which results can be written."""
    return zarr.create_array(path, shape=(8, 8), dtype="uint8")


def choose(form: SegmentForm, place: OutputPlace) -> None:
    """Choose where to write, as a user does."""
    form.output_combo.setCurrentIndex(list(OutputPlace).index(place))
    form.output_combo.activated.emit(form.output_combo.currentIndex())


def test_where_to_write_stays_while_other_layers_come_and_go(
    user_folders: Path, tmp_path: Path, qtbot: Any
) -> None:
    viewer = ViewerModel()
    viewer.add_image(stored(tmp_path / "a.zarr"), name="a")
    form = SegmentForm(viewer)
    qtbot.addWidget(form)
    assert form.output_combo.currentText() == OutputPlace.NEXT_TO_IMAGE.value
    choose(form, OutputPlace.TEMPORARY)
    # As a result does.
    result = viewer.add_labels(np.zeros((8, 8), np.uint8))
    form.reset_choices()
    assert form.output_combo.currentText() == OutputPlace.TEMPORARY.value
    viewer.layers.remove(result)
    viewer.layers["a"].name = "renamed"
    form.reset_choices()
    assert form.output_combo.currentText() == OutputPlace.TEMPORARY.value


def test_another_image_begins_with_the_place_that_is_right_for_it(
    user_folders: Path, tmp_path: Path, qtbot: Any
) -> None:
    viewer = ViewerModel()
    viewer.add_image(stored(tmp_path / "a.zarr"), name="a")
    viewer.add_image(np.zeros((8, 8), np.uint8), name="in memory")
    form = SegmentForm(viewer)
    qtbot.addWidget(form)
    places = {}
    for name in ("a", "in memory", "a"):
        form.layer_combo.setCurrentText(name)
        places[name] = form.place
    assert places == {"a": OutputPlace.NEXT_TO_IMAGE, "in memory": OutputPlace.TEMPORARY}
    # The image has lost its file: what was chosen cannot be done any more.
    viewer.layers["a"].data = np.zeros((8, 8), np.uint8)
    form.reset_choices()
    assert form.output_combo.currentText() == OutputPlace.TEMPORARY.value
