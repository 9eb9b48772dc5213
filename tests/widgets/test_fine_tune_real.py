"""Paint, fine-tune, keep, segment with what was kept: real viewer, real mouse, real engines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_unet.app.models import find_model, list_models
from napari_unet.widgets import _form, _train_form
from napari_unet.widgets._process import ENGINE_ARGUMENTS

if TYPE_CHECKING:
    from pathlib import Path

MINUTES = 0.1
"""Six seconds, held-out scores included."""

EDGE, BAND = 192, 24
"""Of the image, and of what is dark or bright in it, in pixels."""


def two_tissues(rng: np.random.Generator) -> tuple[Any, Any]:
    """Return bands, dark and bright by turns, in noise, and their classes."""
    rows = np.arange(EDGE)[:, np.newaxis] // BAND % 2
    truth = (1 + rows) * np.ones((1, EDGE), dtype=int)
    noisy = np.where(truth == 1, 60, 180) + rng.normal(0, 12, truth.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8), truth


@pytest.fixture
def real_fine_tune(
    make_dock: Any, tiny_model: Path, user_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """A dock over the real engines, with the tiny model among the user's own."""
    from napari_unet.app.model_store import add_model

    add_model(tiny_model.read_bytes(), "tiny")
    monkeypatch.setattr(_form, "list_models", list_models)
    monkeypatch.setattr(_train_form, "list_models", list_models)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    dock = make_dock(arguments=ENGINE_ARGUMENTS["segment"], show=True)
    dock.pages.setCurrentIndex(1)
    return dock


def segment(user: Any, dock: Any, model: str) -> Any:
    """Return the labels that the page Segment gives."""
    dock.pages.setCurrentIndex(0)
    assert dock.panel.form.model_combo.currentText() == model
    user.choose(dock, layer="tissue", region="this slice")
    words = user.segment_and_wait(dock)
    assert words.startswith("Done"), words
    return np.asarray(dock.panel._viewer.layers[f"tissue: {model}"].data)


def paint_strokes(user: Any, dock: Any, truth: Any) -> None:
    """Paint two strokes into each band of the tissue, of the class that it is."""
    for row in range(BAND // 2, EDGE, BAND):
        user.choose_class(dock, "interior" if truth[row, 0] == 1 else "membrane")
        for start in (20, 120):
            user.paint(dock, [(row, start + step) for step in range(0, 41, 8)])
    painted = dock.panel._viewer.layers["annotation of tissue"].data
    assert 0.02 < np.mean(painted > 0) < 0.3
    np.testing.assert_array_equal(painted[painted > 0], truth[painted > 0])


def test_paint_fine_tune_keep_segment(
    user: Any, real_fine_tune: Any, rng: np.random.Generator
) -> None:
    dock = real_fine_tune
    panel, viewer = dock.fine_tune, dock.panel._viewer
    image, truth = two_tissues(rng)
    viewer.add_image(image, name="tissue")
    user.choose(dock, model="tiny")
    before = np.mean(segment(user, dock, "tiny") == truth)
    dock.pages.setCurrentIndex(1)
    panel.form.model_combo.setCurrentText("tiny")
    user.click(panel.form.new_button)
    viewer.fit_to_view()
    paint_strokes(user, dock, truth)

    panel.form.options.minutes.setValue(MINUTES)
    words = user.fine_tune_and_wait(dock)
    assert panel.outcome.is_open, words
    assert len(panel.curves.steps) > 2
    assert panel.curves.scores["f1/membrane"]
    assert "too few for a verdict" in panel.outcome.verdict.text()
    assert "preview" in viewer.layers
    panel.outcome.name.setText("tiny-tissue")
    user.click(panel.outcome.keep_button)
    parent = find_model("tiny-tissue").header.provenance.parent
    assert parent is not None
    assert parent.sha256 == find_model("tiny").sha256

    assert np.mean(segment(user, dock, "tiny-tissue") == truth) > before + 0.1
