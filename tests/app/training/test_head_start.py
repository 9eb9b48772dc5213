"""The head start sees the features of the labels that are learnt from, and of no other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tests.nets import lively_net

from napari_unet.app.training import head_start
from napari_unet.app.training.data import LabeledVolume, TrainingData
from napari_unet.app.training.ground import OpenedData, TrainingGround
from napari_unet.app.training.head_start import DOUBT, HeadStart
from napari_unet.app.training.held_out import HeldOutLabels, ImageInput
from napari_unet.app.training.rehearsal import Rehearsal
from napari_unet.app.training.session import Network
from napari_unet.core.annotation import Annotation
from napari_unet.core.axes import VoxelSize
from napari_unet.core.boxes import Box
from napari_unet.core.classes import ClassInfo
from napari_unet.core.header import InputExpectation
from napari_unet.core.normalization import Normalization
from napari_unet.core.receptive import unet_geometry
from napari_unet.inference.device import choose_backend
from napari_unet.io.image import Selection, wrap_array
from napari_unet.training.parts import Split, VolumeSplit
from napari_unet.training.retention import Parent

if TYPE_CHECKING:
    from napari_unet.model.unet import UNet

CLASSES = (ClassInfo(name="a", color="#000000"), ClassInfo(name="b", color="#ffffff"))
SHAPE = (1, 100, 120)


def test_features_are_those_under_the_labels(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = rng.normal(0, 1, SHAPE).astype(np.float32)
    source = wrap_array(values, Selection(axes="zyx"))
    image = ImageInput(source, Normalization(offset=(0.0,), scale=(1.0,)))
    labels = np.zeros(SHAPE, np.uint8)
    labels[0, 33:37, 50:80], labels[0, 90, 3:9] = 1, 2
    learnt, held = (Annotation.from_array(part, ("a", "b")) for part in (labels, labels * 0 + 2))
    volume = LabeledVolume("x", source, learnt, None, VoxelSize(), {})
    opened = OpenedData(TrainingData(CLASSES, [volume]), None)
    split = Split((VolumeSplit(learnt, held, held),), (), (), 0, 0, "")
    net, geometry = lively_net(3, norm="batch"), unet_geometry(2)
    backend = choose_backend("cpu", threads=1)
    network = Network(net, InputExpectation(channels=("x",)), geometry, backend, ("a", "b"))
    seen: dict[str, Any] = {}

    def keep(head: object, features: torch.Tensor, classes: torch.Tensor, *_: object) -> None:
        seen.update(head=head, features=features, classes=classes)

    monkeypatch.setattr(head_start, "fit_head", keep)
    HeadStart(network, TrainingGround(opened, [image], split), 10**9, 0).give((), 1.0)
    halo = geometry.halo[1]
    padded = np.pad(values[0], halo + 16, mode="reflect")[16:, 16:]
    with torch.inference_mode():
        edge = geometry.input_shape((1, 104, 120))[1:]
        tensor = torch.from_numpy(padded[: edge[0], : edge[1]].copy())[None, None]
        whole = net.features(tensor)[0, :, :100, :120]
    at = labels[0] > 0
    expected = np.sort(whole[:, at].numpy(), axis=1)
    np.testing.assert_allclose(np.sort(seen["features"].T.numpy(), axis=1), expected, atol=1e-4)
    assert np.bincount(seen["classes"].numpy()).tolist() == [120, 6]
    assert seen["head"] is net.head


def test_rehearsed_labels_are_a_share_of_what_it_is_fitted_to(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = rng.normal(0, 1, SHAPE).astype(np.float32)
    source = wrap_array(values, Selection(axes="zyx"))
    image = ImageInput(source, Normalization(offset=(0.0,), scale=(1.0,)))
    labels, names = np.zeros(SHAPE, np.uint8), ("a", "b")
    labels[0, 33:37, 50:80] = 1
    learnt = Annotation.from_array(labels, names)
    dense = Annotation.from_array(np.full(SHAPE, 2, np.uint8), names)
    volume = LabeledVolume("x", source, learnt, None, VoxelSize(), {})
    opened = OpenedData(TrainingData(CLASSES, [volume]), None)
    nothing = Annotation(SHAPE, names)
    split = Split((VolumeSplit(learnt, nothing, nothing),), (), (), 0, 0, "")
    crops = (HeldOutLabels(image, dense, Box.of_shape(SHAPE)),)
    ground = TrainingGround(opened, [image], split, Rehearsal(crops, (1,), 0.25, ""))
    backend = choose_backend("cpu", threads=1)
    network = Network(
        lively_net(3), InputExpectation(channels=("x",)), unet_geometry(2), backend, ()
    )
    seen: list[Any] = []
    monkeypatch.setattr(head_start, "fit_head", lambda *given: seen.extend(given))
    HeadStart(network, ground, 10**9, 0).give((0.5, 3.0), 1.0)
    _, features, classes, weights, unknown, retained = seen
    assert retained is None
    assert len(features) == len(classes) == 160
    assert np.bincount(classes.numpy()).tolist() == [120, 40]
    assert torch.equal(weights, torch.where(classes == 0, 0.5, 1.0))
    assert torch.equal(unknown, torch.stack([classes == 1, torch.zeros(160) > 0], dim=1))


def test_what_the_parent_has_wrong_is_counted_and_pixels_between_labels_are_held(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parent knows the first two of three classes."""
    values = rng.normal(0, 1, SHAPE).astype(np.float32)
    source = wrap_array(values, Selection(axes="zyx"))
    image = ImageInput(source, Normalization(offset=(0.0,), scale=(1.0,)))
    net, geometry, backend = lively_net(3, num_classes=3), unet_geometry(2), choose_backend("cpu")
    box = Box((0, 32, 48), (1, 36, 80))
    answers = predict_known(net, image, box)
    labels = np.zeros(SHAPE, np.uint8)
    labels[box.slices] = answers
    labels[0, 32, 48:68] = 3 - labels[0, 32, 48:68]
    labels[0, 60, 50:60] = 3
    names = ("a", "b", "c")
    learnt, nothing = Annotation.from_array(labels, names), Annotation(SHAPE, names)
    classes = (*CLASSES, ClassInfo(name="c", color="#ff0000"))
    volume = LabeledVolume("x", source, learnt, None, VoxelSize(), {})
    split = Split((VolumeSplit(learnt, nothing, nothing),), (), (), 0, 0, "")
    opened = OpenedData(TrainingData(classes, [volume]), None)
    ground = TrainingGround(opened, [image], split)
    parent = Parent.of(net, (0, 1))
    network = Network(net, InputExpectation(channels=("x",)), geometry, backend, ("a", "b"), parent)
    seen: list[Any] = []
    monkeypatch.setattr(head_start, "fit_head", lambda *given: seen.extend(given))
    start = HeadStart(network, ground, 10**9, 0)
    assert start.contradicted == pytest.approx((20 + DOUBT) / (4 * 32 + DOUBT))
    start.give((), 0.7)
    _, features, found, *_, retained = seen
    assert np.bincount(found.numpy(), minlength=3)[2] == 10
    assert (retained.known, retained.weight) == ((0, 1), 0.7)
    held, painted = (x[x.any(1)].double() for x in (retained.features, features))
    assert len(held) > 100
    assert (torch.cdist(held, painted) > 1e-9).all()
    start.give((), 0.0)
    assert seen[-1] is None


def predict_known(net: UNet, image: ImageInput, box: Box) -> Any:
    """Return which of the first two classes is likelier in a box, from 1."""
    halo = net.architecture.geometry().halo[1:]
    edges = [n - n % 4 for n in box.start[1:]]
    assert edges == list(box.start[1:])
    size = [
        net.architecture.geometry().axes[1].input_size(b - a)
        for a, b in zip(box.start[1:], box.stop[1:], strict=True)
    ]
    begin = [a - h for a, h in zip(edges, halo, strict=True)]
    stop = [b + n for b, n in zip(begin, size, strict=True)]
    read = image.read(Box((0, *begin), (1, *stop)))
    with torch.inference_mode():
        logits = net(torch.from_numpy(read[:, 0])[None])[0, :2]
    shape = box.shape
    return logits.argmax(0)[: shape[1], : shape[2]].numpy()[None] + 1
