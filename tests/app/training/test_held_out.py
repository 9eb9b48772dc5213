"""Scores on held-out labels are those of one pass over the whole image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from tests.nets import lively_net

from napari_unet.app.training.held_out import HeldOutLabels, ImageInput, Scorer, predict_box
from napari_unet.core.annotation import Annotation
from napari_unet.core.arrays import read_mirrored
from napari_unet.core.boxes import Box
from napari_unet.core.normalization import measure_normalization, normalize
from napari_unet.core.receptive import unet_geometry
from napari_unet.core.tiling import slices_as_channels, whole_image_tile
from napari_unet.inference.device import choose_backend
from napari_unet.io.image import Selection, wrap_array
from napari_unet.metrics.classes import Confusion, confusion

if TYPE_CHECKING:
    import numpy.typing as npt

NAMES = ("a", "b")
SHAPE = (3, 300, 331)


def strokes(rng: np.random.Generator, count: int = 9) -> npt.NDArray[np.uint8]:
    labels = np.zeros(SHAPE, np.uint8)
    for _ in range(count):
        z, y, x = rng.integers(0, (3, 290, 320))
        labels[z, y : y + 3, x : x + 11] = rng.integers(1, 3)
    return labels


@pytest.mark.parametrize("context", [0, 1])
def test_counts_and_loss_are_those_of_the_whole_image(
    rng: np.random.Generator, context: int
) -> None:
    net = lively_net(3, in_channels=2 * context + 1, norm="batch")
    geometry, backend = unet_geometry(2, context=context), choose_backend("cpu", threads=1)
    source = wrap_array(rng.normal(10, 3, SHAPE).astype(np.float32), Selection(axes="zyx"))
    image = ImageInput(source, measure_normalization(source))
    labels = strokes(rng)
    annotation = Annotation.from_array(labels, NAMES)
    boxes = [Box((0, 0, 0), (3, 150, 331)), Box((0, 150, 0), (3, 300, 331))]
    scorer = Scorer([HeldOutLabels(image, annotation, b) for b in boxes], geometry, backend, 2)
    scores = scorer.score(net)
    tile = whole_image_tile((1, *SHAPE[1:]), geometry)
    expected = np.zeros((2, *SHAPE), np.float32)
    for z in range(SHAPE[0]):
        read = Box((z - context, *tile.read.start[1:]), (z + context + 1, *tile.read.stop[1:]))
        seen = normalize(read_mirrored(source, read), image.normalization).image
        with torch.inference_mode():
            logits = net(torch.from_numpy(slices_as_channels(seen))[None])
        expected[:, z] = torch.softmax(logits, 1)[0, :, : SHAPE[1], : SHAPE[2]].numpy()
    predicted = expected.argmax(axis=0) + 1
    for found, box in zip(scores.blocks, boxes, strict=True):
        assert found == confusion(labels[box.slices], predicted[box.slices], 2)
    where = np.nonzero(labels)
    right = expected[(labels[where] - 1, *where)].astype(np.float64)
    assert scores.loss == pytest.approx(float(-np.log(right).mean()), rel=1e-4)
    box = Box((1, 70, 33), (2, 101, 60))
    np.testing.assert_array_equal(
        predict_box(net, image, box, geometry, backend), predicted[box.slices]
    )


def test_a_bounded_scorer_keeps_whole_blocks_and_every_class(rng: np.random.Generator) -> None:
    source = wrap_array(rng.integers(0, 255, SHAPE, np.uint8), Selection(axes="zyx"))
    image = ImageInput(source, measure_normalization(source))
    blocks = []
    for k, labels in enumerate(np.eye(12, dtype=np.uint8)):
        dense = np.zeros(SHAPE, np.uint8)
        dense[0, 20, 5 + 20 * k : 9 + 20 * k] = 2 if k == 7 else 1
        assert labels[k] == 1
        blocks.append(
            HeldOutLabels(image, Annotation.from_array(dense, NAMES), Box.of_shape(SHAPE))
        )
    backend = choose_backend("cpu", threads=1)
    scorer = Scorer(blocks, unet_geometry(2), backend, 2)
    for seed in range(5):
        few = scorer.limited(scorer.pixels // 3, seed)
        assert few.pixels <= scorer.pixels // 3
        counts = Confusion.total(few.score(lively_net(1)).blocks)
        assert min(counts.true) > 0
        assert few.num_blocks == scorer.limited(scorer.pixels // 3, seed).num_blocks
    assert scorer.limited(1, 0).num_blocks == 1
    assert scorer.limited(scorer.pixels, 0) is scorer


def test_metrics_leave_absent_classes_out(rng: np.random.Generator) -> None:
    source = wrap_array(rng.integers(0, 255, SHAPE, np.uint8), Selection(axes="zyx"))
    image = ImageInput(source, measure_normalization(source))
    labels = np.zeros(SHAPE, np.uint8)
    labels[1, 4:9, 4:9] = 1
    annotation = Annotation.from_array(labels, NAMES)
    scorer = Scorer(
        [HeldOutLabels(image, annotation, Box.of_shape(SHAPE))],
        unet_geometry(2),
        choose_backend("cpu", threads=1),
        2,
    )
    net = lively_net(1)
    with torch.no_grad():
        assert net.head.bias is not None
        net.head.bias[0] += 1000
    metrics = scorer.score(net).metrics(NAMES)
    assert metrics == {"score": 1.0, "score_error": 0.0, "loss": 0.0, "iou/a": 1.0, "f1/a": 1.0}
