"""The loss is the paper's, and what is not labeled does not exist for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_unet.errors import TrainingError
from napari_unet.training.loss import DICE_SMOOTHING, Rehearsed, segmentation_loss
from napari_unet.training.weight_map import balance_weights, border_weights, pixel_weights


@pytest.fixture
def logits(rng: np.random.Generator) -> torch.Tensor:
    values = torch.from_numpy(rng.normal(size=(2, 3, 5, 6)).astype(np.float32))
    return values.requires_grad_()


@pytest.fixture
def labels(rng: np.random.Generator) -> torch.Tensor:
    return torch.from_numpy(rng.integers(0, 4, (2, 5, 6)))


def defined_loss(
    logits: np.ndarray, labels: np.ndarray, weight: np.ndarray, dice_weight: float
) -> float:
    """Return cross-entropy and soft Dice as the textbook has them: pixel by pixel."""
    classes = logits.shape[1]
    entropy = weight_sum = 0.0
    both, found, true = np.zeros((3, classes))
    for (n, y, x), label in np.ndenumerate(labels):
        if label == 0:
            continue
        probabilities = np.exp(logits[n, :, y, x]) / np.exp(logits[n, :, y, x]).sum()
        w = weight[n, y, x]
        entropy -= w * np.log(probabilities[label - 1])
        weight_sum += w
        for k in range(classes):
            found[k] += w * probabilities[k]
            if label == k + 1:
                both[k] += w * probabilities[k]
                true[k] += w
    terms = [
        1 - (2 * both[k] + DICE_SMOOTHING) / (found[k] + true[k] + DICE_SMOOTHING)
        for k in range(classes)
        if true[k] > 0
    ]
    return entropy / weight_sum + dice_weight * sum(terms) / len(terms)


@pytest.mark.parametrize("dice_weight", [0.0, 0.7])
@pytest.mark.parametrize("absent", [None, 2])
def test_map_balance_and_ignoring_meet_as_defined(
    logits: torch.Tensor,
    labels: torch.Tensor,
    rng: np.random.Generator,
    dice_weight: float,
    absent: int | None,
) -> None:
    if absent is not None:
        labels[labels == absent] = 0
    of_class = np.array([0.5, 1.0, 3.0])
    of_pixel = rng.random((2, 5, 6))
    of_pixel[0, 0] = 0
    weight = np.zeros(of_pixel.shape)
    for place, label in np.ndenumerate(labels.numpy()):
        weight[place] = of_class[label - 1] * of_pixel[place] if label else 0
    values = logits.detach().numpy().astype(np.float64)
    loss = segmentation_loss(
        logits,
        labels,
        class_weights=torch.from_numpy(of_class),
        pixel_weights=torch.from_numpy(of_pixel),
        dice_weight=dice_weight,
    )
    expected = defined_loss(values, labels.numpy(), weight, dice_weight)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_the_papers_map_goes_into_both_terms(
    logits: torch.Tensor, rng: np.random.Generator
) -> None:
    instances = np.zeros((5, 6), int)
    instances[:, :2], instances[:, 3:5] = 1, 2
    labels = np.where(instances > 0, 2, 1)
    labels[0] = 0
    balance = balance_weights(labels, 3)
    weight = pixel_weights(labels, balance, border_weights(instances, sigma=1.0))
    assert weight[1, 2] > balance[0]
    values = logits[:1].detach().numpy().astype(np.float64)
    loss = segmentation_loss(
        logits[:1],
        torch.from_numpy(labels[None]),
        pixel_weights=torch.from_numpy(weight[None]),
        dice_weight=1.0,
    )
    assert loss.item() == pytest.approx(
        defined_loss(values, labels[None], weight[None], 1.0), rel=1e-5
    )


def test_dice_is_0_for_certain_truth_and_1_for_certain_error() -> None:
    labels = torch.tensor([[[1, 2, 0]]])
    certain = torch.tensor([[[[50.0, -50.0, -50.0]], [[-50.0, 50.0, 50.0]]]])
    right, wrong = (
        segmentation_loss(sign * certain, labels, dice_weight=1.0)
        - segmentation_loss(sign * certain, labels)
        for sign in (1, -1)
    )
    assert right.item() == pytest.approx(0, abs=1e-5)
    assert wrong.item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("dice_weight", [0.0, 1.0])
def test_unlabeled_pixels_change_neither_loss_nor_gradient(
    logits: torch.Tensor, labels: torch.Tensor, dice_weight: float
) -> None:
    loss = segmentation_loss(logits, labels, dice_weight=dice_weight)
    (gradient,) = torch.autograd.grad(loss, logits)
    unlabeled = (labels == 0).unsqueeze(1).expand_as(logits)
    other = torch.where(unlabeled, torch.inf, logits.detach()).requires_grad_()
    other_loss = segmentation_loss(other, labels, dice_weight=dice_weight)
    assert other_loss.item() == loss.item()
    assert not gradient[unlabeled].any()
    assert gradient[~unlabeled].any()


@pytest.mark.parametrize("dice_weight", [0.0, 1.0])
def test_nothing_labeled_is_zero_with_zero_gradient(
    logits: torch.Tensor, dice_weight: float
) -> None:
    nothing = torch.zeros(2, 5, 6, dtype=torch.long)
    loss = segmentation_loss(logits, nothing, dice_weight=dice_weight)
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


def rehearsed_loss(
    logits: np.ndarray, labels: np.ndarray, weight: np.ndarray, patches: list[int], new: list[int]
) -> float:
    """Return the first term, pixel by pixel: both kinds of patch apart, new classes left out."""
    sums = {True: [0.0, 0.0], False: [0.0, 0.0]}
    for (n, y, x), label in np.ndenumerate(labels):
        if label:
            probabilities = np.exp(logits[n, :, y, x]) / np.exp(logits[n, :, y, x]).sum()
            unknown = set(new if n in patches else []) - {label - 1}
            known = sum(p for k, p in enumerate(probabilities) if k not in unknown)
            error = -np.log(probabilities[label - 1] / known)
            sums[n in patches][0] += weight[n, y, x] * error
            sums[n in patches][1] += weight[n, y, x]
    count = len(labels)
    shares = {True: len(patches) / count, False: 1 - len(patches) / count}
    return sum(shares[kind] * total / of for kind, (total, of) in sums.items() if of)


def rehearsed(patches: list[int], new: list[int], shape: tuple[int, int]) -> Rehearsed:
    chosen = torch.zeros(shape[0], dtype=torch.bool)
    unknown = torch.zeros(shape, dtype=torch.bool)
    for n in patches:
        chosen[n] = True
        unknown[n, new] = True
    return Rehearsed(chosen, unknown)


@pytest.mark.parametrize("patches", [[], [1], [0, 2], [0, 1, 2]])
@pytest.mark.parametrize("new", [[], [2], [0, 3]])
@pytest.mark.parametrize("dice_weight", [0.0, 0.7])
def test_a_rehearsed_pixel_is_judged_among_the_classes_that_its_labels_know(
    rng: np.random.Generator, patches: list[int], new: list[int], dice_weight: float
) -> None:
    values, labels = rng.normal(size=(3, 4, 5, 6)), rng.integers(0, 5, (3, 5, 6))
    of_class, of_pixel = np.array([0.5, 1.0, 3.0, 0.2]), rng.random((3, 5, 6))
    weight = np.where(labels > 0, of_class[labels - 1] * of_pixel, 0)
    # Classes of crops are as frequent as they are: no balance.
    weight[patches] = np.where(labels > 0, of_pixel, 0)[patches]
    others = [n for n in range(3) if n not in patches]
    expected = rehearsed_loss(values, labels, weight, patches, new)
    if dice_weight and others:
        part = values[others], labels[others], weight[others]
        expected += defined_loss(*part, dice_weight) - defined_loss(*part, 0.0)
    loss = segmentation_loss(
        torch.from_numpy(values),
        torch.from_numpy(labels),
        class_weights=torch.from_numpy(of_class),
        pixel_weights=torch.from_numpy(of_pixel),
        dice_weight=dice_weight,
        rehearsed=rehearsed(patches, new, (3, 4)),
    )
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_rehearsal_teaches_nothing_about_a_new_class(logits: torch.Tensor) -> None:
    labels = torch.ones(2, 5, 6, dtype=torch.long)
    loss = segmentation_loss(logits, labels, rehearsed=rehearsed([0, 1], [2], (2, 3)))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert (gradient[:, 0] < 0).all()
    assert (gradient[:, 1] > 0).all()
    assert (gradient[:, 2] == 0).all()


def test_a_dense_crop_does_not_outweigh_the_strokes_beside_it(logits: torch.Tensor) -> None:
    labels = torch.ones(2, 5, 6, dtype=torch.long)
    labels[0] = 0
    labels[0, 2, 3] = 2
    both = segmentation_loss(logits, labels, rehearsed=rehearsed([1], [], (2, 3)))
    parts = [segmentation_loss(logits[k : k + 1], labels[k : k + 1]) for k in (0, 1)]
    assert both.item() == pytest.approx(sum(p.item() for p in parts) / 2, rel=1e-5)
