"""The loss is the paper's, and what is not labeled does not exist for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_unet.errors import TrainingError
from napari_unet.training.loss import segmentation_loss
from napari_unet.training.weight_map import balance_weights


@pytest.fixture
def logits(rng: np.random.Generator) -> torch.Tensor:
    values = torch.from_numpy(rng.normal(size=(2, 3, 5, 6)).astype(np.float32))
    return values.requires_grad_()


@pytest.fixture
def labels(rng: np.random.Generator) -> torch.Tensor:
    return torch.from_numpy(rng.integers(0, 4, (2, 5, 6)))


def test_equals_its_definition(
    logits: torch.Tensor, labels: torch.Tensor, rng: np.random.Generator
) -> None:
    of_class = np.array([0.5, 1.0, 3.0])
    of_pixel = rng.random((2, 5, 6))
    total = weight_sum = 0.0
    values = logits.detach().numpy().astype(np.float64)
    for (n, y, x), label in np.ndenumerate(labels.numpy()):
        if label == 0:
            continue
        column = values[n, :, y, x]
        weight = of_class[label - 1] * of_pixel[n, y, x]
        total -= weight * np.log(np.exp(column[label - 1]) / np.exp(column).sum())
        weight_sum += weight
    loss = segmentation_loss(
        logits,
        labels,
        class_weights=torch.from_numpy(of_class),
        pixel_weights=torch.from_numpy(of_pixel),
    )
    assert loss.item() == pytest.approx(total / weight_sum, rel=1e-5)


def test_unlabeled_pixels_change_neither_loss_nor_gradient(
    logits: torch.Tensor, labels: torch.Tensor
) -> None:
    loss = segmentation_loss(logits, labels)
    (gradient,) = torch.autograd.grad(loss, logits)
    unlabeled = (labels == 0).unsqueeze(1).expand_as(logits)
    other = torch.where(unlabeled, torch.inf, logits.detach()).requires_grad_()
    other_loss = segmentation_loss(other, labels)
    assert other_loss.item() == loss.item()
    assert not gradient[unlabeled].any()
    assert gradient[~unlabeled].any()


def test_nothing_labeled_is_zero_with_zero_gradient(logits: torch.Tensor) -> None:
    loss = segmentation_loss(logits, torch.zeros(2, 5, 6, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def test_ignoring_is_cropping(logits: torch.Tensor, labels: torch.Tensor) -> None:
    masked = labels.clone()
    masked[..., 3:] = 0
    cropped = segmentation_loss(logits[..., :3], labels[..., :3])
    assert segmentation_loss(logits, masked).item() == pytest.approx(cropped.item())


@pytest.mark.parametrize("bad", [-1, 4])
def test_labels_of_no_class_are_refused(
    logits: torch.Tensor, labels: torch.Tensor, bad: int
) -> None:
    labels[0, 0, 0] = bad
    with pytest.raises(TrainingError, match="1 to 3 for the classes"):
        segmentation_loss(logits, labels)


def test_labels_of_another_size_are_refused(logits: torch.Tensor) -> None:
    with pytest.raises(TrainingError, match="do not fit logits"):
        segmentation_loss(logits, torch.ones(2, 5, 5, dtype=torch.long))


def test_balance_gives_each_class_the_same_share() -> None:
    labels = np.array([0, 0, 1, 1, 1, 1, 1, 1, 3, 3])
    weights = balance_weights(labels, 3)
    assert weights[0] * 6 == pytest.approx(weights[2] * 2)
    assert weights[1] == 0
    assert weights[0] * 6 + weights[2] * 2 == pytest.approx(8)
    assert balance_weights(labels, 3, power=0) == pytest.approx([1, 0, 1])


def test_there_is_no_balance_of_nothing() -> None:
    with pytest.raises(TrainingError, match="paint some pixels"):
        balance_weights(np.zeros((4, 4), np.uint8), 2)
