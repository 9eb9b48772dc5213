"""Features of every level: the same from every tile, in the right place, and worth what is said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tests.nets import lively_net
from torch import nn

from napari_unet.app.drafting.feature_net import FeatureNet
from napari_unet.app.drafting.feature_tile import FeatureTile, LevelGrid
from napari_unet.app.drafting.head import Head
from napari_unet.app.drafting.kept_tiles import CELL_EDGE, KeptTiles
from napari_unet.app.drafting.network_image import NetworkImage
from napari_unet.core.boxes import Box
from napari_unet.core.classes import ClassInfo
from napari_unet.core.header import InputExpectation, ModelHeader
from napari_unet.core.normalization import Normalization
from napari_unet.inference.device import choose_backend
from napari_unet.io.image import Selection, wrap_array
from napari_unet.model.unet import UNet

if TYPE_CHECKING:
    import numpy.typing as npt

SHAPE = (2, 190, 170)
PLAIN = Normalization(offset=(0.0,), scale=(1.0,))


def network_image(values: npt.NDArray[Any]) -> NetworkImage:
    return NetworkImage(wrap_array(values, Selection(axes="zyx")), PLAIN, None)


def feature_net(net: UNet) -> FeatureNet:
    header = ModelHeader(
        name="net",
        architecture=net.architecture,
        classes=tuple(ClassInfo(name=name, color="#000000") for name in "ab"),
        input=InputExpectation(channels=("x",)),
    )
    return FeatureNet(net, header, choose_backend("cpu", threads=1))


def pixels(box: Box) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    y, x = np.indices(box.shape[1:])
    return y.ravel() + box.start[1], x.ravel() + box.start[2]


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_features_do_not_depend_on_the_tile(rng: np.random.Generator, padding: str) -> None:
    image = network_image(rng.normal(0, 1, SHAPE).astype(np.float32))
    net = feature_net(lively_net(2, depth=3, padding=padding))
    whole = net.tile(image, Box((1, 0, 0), (2, 190, 170)))
    inside = Box((1, 64, 64), (2, 128, 170))
    part = net.tile(image, inside)
    np.testing.assert_allclose(
        part.features(*pixels(inside)), whole.features(*pixels(inside)), atol=1e-5
    )


def test_both_paddings_have_the_same_features(rng: np.random.Generator) -> None:
    image = network_image(rng.normal(0, 1, SHAPE).astype(np.float32))
    box = Box((0, 64, 0), (1, 140, 100))
    nets = [lively_net(2, depth=3, padding=padding) for padding in ("valid", "same")]
    nets[1].load_state_dict(nets[0].state_dict())
    valid, same = (feature_net(net).tile(image, box) for net in nets)
    np.testing.assert_allclose(valid.features(*pixels(box)), same.features(*pixels(box)), atol=1e-5)


def test_features_lie_where_their_pixels_are() -> None:
    # Means of a ramp are the ramp; each pooling takes the upper of two pixels, half a pixel off.
    net = UNet(base_channels=1, depth=3, num_classes=1).eval()
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1 / (9 * module.in_channels))
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.zeros_(module.bias)
    edge = net.architecture.geometry().input_shape((1, 64, 64))[1]
    halo = net.architecture.geometry().halo[1]
    ramp = (torch.arange(edge) + 1000.0 - halo)[None, None, :, None].expand(1, 1, edge, edge)
    with torch.no_grad():
        _, contracting = net.level_features(ramp)
    box = Box((0, 0, 0), (1, 64, 64))
    tile = FeatureTile(box, [level[0] for level in contracting], LevelGrid.of("valid", halo))
    y, _ = where = pixels(box)
    found = tile.features(*where).numpy()
    for level, first in enumerate((0, 1, 3)):
        # All channels of a level are the same here.
        np.testing.assert_allclose(found[:, first], 1000 + y + (2**level - 1) / 2, atol=1e-2)


def test_a_head_says_of_a_tile_what_it_says_of_each_pixel(rng: np.random.Generator) -> None:
    image = network_image(rng.normal(0, 1, SHAPE).astype(np.float32))
    net = feature_net(lively_net(2, depth=3))
    tile = net.tile(image, Box((0, 0, 0), (1, 128, 170)))
    matrix = torch.from_numpy(rng.normal(0, 1, (4, sum(net.widths)))).float()
    head = Head(tuple("abcd"), matrix, torch.tensor([0.5, 0.0, -0.5, 0.1]), net.widths)
    part = Box((0, 17, 30), (1, 90, 151))
    expected = tile.features(*pixels(part)) @ matrix.T + head.bias
    found = tile.logits(head, part).flatten(1).T
    np.testing.assert_allclose(found, expected, atol=2e-4)
    labels = tile.classes(head, part)
    assert labels.shape == part.shape
    np.testing.assert_array_equal(labels.ravel(), found.argmax(dim=1) + 1)


def test_the_features_are_those_of_both_paths(rng: np.random.Generator) -> None:
    net = feature_net(lively_net(2, depth=3))
    assert net.widths == (4 + 4, 8 + 8, 16)
    tile = net.tile(network_image(rng.normal(0, 1, SHAPE)), Box((0, 0, 0), (1, 64, 64)))
    assert [level.values.shape[2] for level in tile.levels] == [8, 16, 16]
    assert tile.size == pytest.approx(net.bytes_per_pixel * 64**2, rel=0.2)


def test_missing_boxes_cover_what_is_not_known_once(rng: np.random.Generator) -> None:
    kept = KeptTiles((2, 500, 610), max_bytes=0)
    seen = Box((1, 30, 40), (2, 480, 600))
    known = (Box((1, 128, 128), (2, 320, 256)), Box((0, 0, 0), (1, 500, 610)))
    for box in known:
        kept.add(box, None)
    missing = kept.missing(seen, 3 * CELL_EDGE)
    count = np.zeros((500, 610), int)
    for box in (*missing, known[0]):
        assert max(box.shape) <= 3 * CELL_EDGE
        assert all(a % CELL_EDGE == 0 for a in box.start[1:])
        count[box.slices[1:]] += 1
    assert (count[seen.slices[1:]] == 1).all()
    assert count.max() == 1
    for box in missing:
        kept.add(box, None)
    assert kept.missing(seen, 64) == []


def test_tiles_longest_unused_are_dropped_but_not_those_in_use(rng: np.random.Generator) -> None:
    image = network_image(rng.normal(0, 1, SHAPE))
    net = feature_net(lively_net(2))
    boxes = [Box((0, 0, a), (1, 64, a + 64)) for a in (0, 64)] + [Box((1, 0, 0), (2, 64, 64))]
    tiles = [net.tile(image, box) for box in boxes]
    kept = KeptTiles(SHAPE, max_bytes=2 * tiles[0].size + 10)
    kept.add(boxes[0], tiles[0])
    kept.add(boxes[1], tiles[1])
    list(kept.touching(boxes[0]))
    kept.add(boxes[2], tiles[2])
    assert [box for box, _ in kept.items()] == [boxes[0], boxes[2]]
    kept.in_use = boxes[0]
    kept.add(boxes[1], tiles[1])
    assert {box for box, _ in kept.items()} == {boxes[0], boxes[1]}
