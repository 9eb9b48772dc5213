"""The parts of the page Fine-tune that need no window, or no engine."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels

from napari_unet.core.boxes import Box
from napari_unet.core.train_events import Judged, PreviewReady
from napari_unet.widgets._annotation_layer import PaintClass, new_to, remove_label, renamed
from napari_unet.widgets._preview import PreviewLayer
from napari_unet.widgets._train_files import RunFolder, make_run_folder
from napari_unet.widgets._verdict import score_table, verdict_words

if TYPE_CHECKING:
    from pathlib import Path

JUDGED = Judged(
    on="judging blocks", blocks=12, metric="mean F1", before=0.71, after=0.82, low=0.05, high=0.17,
    verdict="better", classes={"a<b": (None, 0.5)}, note="a sentence",
)  # fmt: skip


@pytest.mark.parametrize(
    ("judged", "words"),
    [
        (JUDGED, "Better: mean F1 0.71 \N{RIGHTWARDS ARROW} 0.82 on 12 judging blocks; 95 % "
         "interval of the difference +0.05 to +0.17."),
        (replace(JUDGED, verdict="worse", low=-0.2, high=-0.1), "difference -0.20 to -0.10."),
        (replace(JUDGED, verdict="no difference shown", low=-0.02), "No difference shown: mean F1"),
        (replace(JUDGED, low=None, high=None), "Runs without a claim. A sentence."),
        (replace(JUDGED, before=None), "Runs without a claim: mean F1 0.82 on 12 judging blocks"),
    ],
)  # fmt: skip
def test_verdicts_in_words(judged: Judged, words: str) -> None:
    assert words in verdict_words([judged], None)


def test_scores_are_shown_for_each_class() -> None:
    both = [JUDGED, replace(JUDGED, on="regression crops")]
    assert verdict_words(both, None).splitlines()[1].count("regression crops") == 1
    table = score_table(both, {"a<b": "#123456"})
    assert "color:#123456" in table
    assert "a&lt;b</td><td align='right'>\N{EM DASH}</td><td align='right'>0.50" in table
    told = replace(JUDGED, differences={"a<b": (-0.05, 0.171, "no difference shown")})
    assert "no difference shown, -0.05 to +0.17" in score_table([told], {})
    assert score_table([], {}) == ""


def test_classes_are_matched_with_those_of_the_parent() -> None:
    parent = ("interior", "membrane")
    cell = PaintClass("cell", "#000000", "interior")
    nucleus = PaintClass("nucleus", "#000000")
    membrane = PaintClass("membrane", "#000000")
    assert renamed([cell, membrane, nucleus], parent) == {"interior": "cell"}
    assert new_to([cell, membrane, nucleus], parent) == ["nucleus"]
    # A class of another model's name is no rename of this model's.
    assert new_to([PaintClass("cell", "#000000", "cytoplasm")], parent) == ["cell"]
    # A name that the parent has is that class, wherever it came from.
    swapped = [PaintClass("membrane", "#000000", "interior"), nucleus]
    assert renamed(swapped, parent) == {}


@pytest.mark.parametrize("shape", [(9, 8), (3, 9, 8)])
def test_a_removed_label_is_erased_everywhere(shape: Any, rng: np.random.Generator) -> None:
    data = rng.integers(0, 5, shape, dtype=np.uint8)
    layer = Labels(data.copy())
    remove_label(layer, 2)
    np.testing.assert_array_equal(layer.data, np.array([0, 1, 0, 2, 3])[data])
    assert layer.editable


def preview_event(path: Path, labels: Any, box: Box) -> PreviewReady:
    np.save(path, labels)
    return PreviewReady(3, str(path), box)


def test_previews_lie_on_turned_images_too(tmp_path: Path) -> None:
    viewer = ViewerModel()
    image = viewer.add_image(
        np.zeros((5, 40, 50)), scale=(40, 8, 8), translate=(7, 9, -5), rotate=(0, 0, 30),
        affine=np.array([[1, 0, 0, 3], [0, 2, 0.5, 4], [0, 0, 1, 5], [0, 0, 0, 1]]),
    )  # fmt: skip
    annotation = viewer.add_labels(np.zeros((5, 40, 50), np.uint8))
    preview = PreviewLayer(viewer, image, annotation, [("a", "#ff0000")])
    box = Box((2, 10, 20), (3, 16, 28))
    event = preview_event(tmp_path / "p.npy", np.ones((1, 6, 8), np.uint8), box)
    preview.show(event)
    layer: Any = preview.layer
    for corner in [(0, 0, 0), (0, 5, 7)]:
        at = np.add(corner, box.start)
        np.testing.assert_allclose(layer.data_to_world(corner), image.data_to_world(at))
    # Another place and size, in place; gone for good when the user removes it.
    small = preview_event(
        tmp_path / "p.npy", np.ones((1, 2, 2), np.uint8), Box((0,) * 3, (1, 2, 2))
    )
    preview.show(small)
    assert layer.data.shape == (1, 2, 2)
    np.testing.assert_allclose(layer.data_to_world((0, 0, 0)), image.data_to_world((0, 0, 0)))
    viewer.layers.remove(layer)
    preview.show(small)
    assert len(viewer.layers) == 2
    (tmp_path / "p.npy").unlink()
    preview.show(small)


def test_previews_of_planes_have_two_axes(tmp_path: Path) -> None:
    viewer = ViewerModel()
    image = Image(np.zeros((1, 40, 50)), scale=(1, 2, 2), translate=(0, 1, 1))
    viewer.layers.append(image)
    annotation = viewer.add_labels(np.zeros((1, 40, 50), np.uint8))
    preview = PreviewLayer(viewer, image, annotation, [("a", "#ff0000")])
    box = Box((0, 4, 6), (1, 8, 9))
    preview.show(preview_event(tmp_path / "p.npy", np.ones((1, 4, 3), np.uint8), box))
    layer: Any = preview.layer
    np.testing.assert_allclose(layer.data_to_world((0, 0, 0)), (0, 9, 13))


def test_a_run_folder_without_weights_is_worth_nothing(user_folders: Path) -> None:
    folder = make_run_folder()
    assert folder.path.parent == user_folders
    folder.run.mkdir()
    (folder.run / "log.jsonl").write_text("{}")
    assert not folder.has_weights
    (folder.run / "best.pt").write_bytes(b"")
    assert RunFolder(folder.path).has_weights
    folder.delete_image()
    assert not folder.image.exists()
    folder.delete()
    assert not folder.path.exists()
