"""The last layer of a draft: weights for the features of every level, fitted to strokes at once.

A multinomial logistic regression, as in `napari_unet.training.linear_head`, but on the features of
all levels, and in fractions of a second. Features are scaled to the spread that they have around
the strokes, not on them: what a first stroke shares with its surroundings says little, what sets
it apart says much. The squared distance from what the model says by itself is penalized, the bias
like every other weight: where strokes are silent the model decides, and a single stroke does not
flood the image with its class.

Who paints where the labels are wrong shows little of what is right. So if the model is wrong on a
larger share of the strokes than it can be of the image, unpainted pixels nearby join them, with
what the model says of them as soft labels [1]_. Of classes that it does not know it says nothing,
and such classes are not held. All of this was chosen on slices that no reported number comes from
(``benchmarks/draft.py``, ``benchmarks/corrections.py``).

References
----------
.. [1] Z. Li, D. Hoiem, "Learning without Forgetting", ECCV 2016.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import optimize
from torch.nn import functional

from napari_unet.core.classes import FIRST_CLASS
from napari_unet.model.head import class_rows, renamed_classes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt
    from torch import Tensor, nn

PULL_PER_FEATURE = 0.6
"""Weight of the squared distance from the model's own head, beside the summed loss of all pixels.

Grows with the number of features, as what one pixel can move does.
"""

PULL_OF_NEW = 0.03
"""The same for classes that the model does not know: nothing speaks for where they start."""

WRONG_SHARES = (1 / 6, 1 / 3)
"""Of stroke pixels, what the model is wrong on: up to the first, strokes are learnt alone.

Strokes drawn anywhere are below, even in tissue that the model does not know. From the second on,
as many unpainted pixels join as ever do.
"""

MAX_HELD = 2.0
"""Of unpainted pixels that join, per stroke pixel: more, and the draft would not learn a stroke."""

LEAST_SPREAD = 0.1
"""Of a feature, as a share of the median spread: one that was silent must not count hundredfold."""

MAX_ITERATIONS = 30
"""Of the quasi-Newton method; each takes some milliseconds."""

LEAST_CURVATURE = 0.02
"""Of a class that few pixels have, for the preconditioner."""

GRAM_ROWS = 1024
"""Pixels that the preconditioner is estimated from."""

_NEVER = -1e9
"""Logit of a class that a pixel is not asked about; finite, so that 0 times it is 0."""

TOLERANCE = 1e-3
"""Largest entry of the preconditioned gradient, per pixel, at which the fit has converged.

Beyond, one pixel in three hundred still changes its class, and no score its third digit.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """A linear map from the features of a pixel to its classes.

    Parameters
    ----------
    classes : tuple of str
        The k-th class is k.
    matrix : Tensor
        (classes, features).
    bias : Tensor
        (classes,).
    widths : tuple of int
        How many of the features each level has, the finest first.
    new : tuple of str
        Those of the classes that the model does not know.
    learned : int
        Stroke pixels that it was fitted to.
    """

    classes: tuple[str, ...]
    matrix: Tensor
    bias: Tensor
    widths: tuple[int, ...]
    new: tuple[str, ...] = ()
    learned: int = 0

    @property
    def is_blank(self) -> bool:
        """Whether it can tell nothing apart: no class is the model's, and nothing was learnt."""
        return not bool(self.matrix.any())

    def levels(self) -> list[Tensor | None]:
        """Return the weights of each level, (classes, channels); None = all 0."""
        parts = torch.split(self.matrix, list(self.widths), dim=1)
        return [part if bool(part.any()) else None for part in parts]

    def predict(self, features: Tensor) -> npt.NDArray[np.uint8]:
        """Return the classes (n,) of pixels, given their features; 0 if it is blank."""
        if self.is_blank:
            return np.zeros(len(features), np.uint8)
        logits = features @ self.matrix.T + self.bias
        return (logits.argmax(dim=1) + FIRST_CLASS).to(torch.uint8).numpy()


@dataclass(frozen=True, slots=True, eq=False)
class StrokeFeatures:
    """What a head is fitted to.

    Parameters
    ----------
    rows : Tensor
        (n, features) of stroke pixels.
    labels : Tensor
        (n,) their classes, from 0.
    mean, spread : Tensor
        (features,) mean and standard deviation of pixels around the strokes.
    total : int
        Stroke pixels that the rows stand for.
    unpainted : Tensor or None
        (m, features) of unpainted pixels beside the strokes; None = of none.
    """

    rows: Tensor
    labels: Tensor
    mean: Tensor
    spread: Tensor
    total: int
    unpainted: Tensor | None = None


class HeadMaker:
    """Makes heads for a network.

    Parameters
    ----------
    head : torch.nn.Conv2d
        The last layer of the network.
    model_classes : sequence of str
        What its outputs stand for.
    widths : sequence of int
        Channels of each level; the last layer's own come first.
    """

    def __init__(
        self, head: nn.Conv2d, model_classes: Sequence[str], widths: Sequence[int]
    ) -> None:
        if head.bias is None:
            raise ValueError("the last layer of a U-Net has a bias")
        self._weight = head.weight.detach().cpu().flatten(1)
        self._bias = head.bias.detach().cpu()
        self._model_classes = tuple(model_classes)
        self.widths = tuple(widths)

    @property
    def features(self) -> int:
        """How many features a pixel has."""
        return sum(self.widths)

    def start(self, classes: Sequence[str], rename: Mapping[str, str]) -> Head:
        """Return the model's own head for other classes, as `adapt_head` makes it.

        Raises
        ------
        ConfigError
            If a class that does not exist is renamed, or two get the same name.
        """
        known, names = renamed_classes(self._model_classes, rename), tuple(classes)
        matrix, bias = torch.zeros((len(names), self.features)), torch.zeros(len(names))
        if set(known) & set(names):
            rows = class_rows(self._weight, names, known)
            matrix[:, : rows.shape[1]] = rows
            bias = class_rows(self._bias, names, known)
        new = tuple(name for name in names if name not in known)
        return Head(names, matrix, bias, self.widths, new)

    def fit(self, start: Head, strokes: StrokeFeatures) -> Head:
        """Return the head that suits strokes best, close to where it starts.

        The same strokes give the same head, whatever was fitted before.
        """
        mean, spread = (
            strokes.mean,
            torch.maximum(strokes.spread, LEAST_SPREAD * strokes.spread.median()),
        )
        # Where nothing differs, such as in a black image, there is nothing to scale.
        spread = torch.where(spread > 0, spread, 1.0)
        rows, logits, wanted = _examples(start, strokes)
        inputs = torch.cat([(rows - mean) / spread, torch.ones((len(rows), 1))], dim=1)
        # Each row stands for several pixels where there are too many of them.
        share = len(strokes.rows) / strokes.total
        each = [PULL_OF_NEW if name in start.new else PULL_PER_FEATURE for name in start.classes]
        pull = torch.tensor(each)[:, None] * (self.features * share)
        change = _solve(inputs, wanted, logits, pull)
        weight = change[:, :-1] / spread
        bias = start.bias + change[:, -1] - weight @ mean
        return replace(start, matrix=start.matrix + weight, bias=bias, learned=strokes.total)


def _examples(start: Head, strokes: StrokeFeatures) -> tuple[Tensor, Tensor, Tensor]:
    """Return features, the model's logits, and wanted chances of what is learnt.

    Those of strokes come first, then, if they correct the model, those of unpainted pixels. Chances
    sum to what a pixel counts.
    """
    rows, labels = strokes.rows, strokes.labels
    logits = rows @ start.matrix.T + start.bias
    wanted = functional.one_hot(labels, len(start.classes)).to(rows)
    beside = strokes.unpainted
    new = torch.tensor([name in start.new for name in start.classes])
    is_known = ~new[labels]
    is_wrong = logits.masked_fill(new, _NEVER).argmax(dim=1) != labels
    count = _held(int((is_wrong & is_known).sum()), int(is_known.sum()))
    if beside is None or not len(beside) or not count:
        return rows, logits, wanted
    said = (beside @ start.matrix.T + start.bias).masked_fill(new, _NEVER)
    held = torch.softmax(said, dim=1) * (count / len(beside))
    return torch.cat([rows, beside]), torch.cat([logits, said]), torch.cat([wanted, held])


def _held(wrong: int, painted: int) -> float:
    """Return for how many unpainted pixels they count, given what the model is wrong on."""
    none, most = WRONG_SHARES
    share = wrong / max(painted, 1)
    return MAX_HELD * painted * min(max((share - none) / (most - none), 0.0), 1.0)


def _solve(inputs: Tensor, wanted: Tensor, logits: Tensor, pull: Tensor) -> Tensor:
    r"""Return the change of weights, (classes, inputs), that minimizes loss and penalty.

    .. math:: -\sum_{ik} y_{ik} \log p_k(z_i + D x_i) + \sum_k \lambda_k \|D_k\|^2

    Limited-memory BFGS in coordinates in which the curvature is about the same in all directions.
    """
    count, width = inputs.shape
    shape = (logits.shape[1], width)
    counts = wanted.sum(dim=1, keepdim=True)
    back = _preconditioner(inputs * counts.sqrt(), wanted.sum(dim=0) / counts.sum(), pull)

    def loss(at: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        change = _applied(torch.from_numpy(at).float().reshape(shape), back)
        chances = torch.log_softmax(logits + inputs @ change.T, dim=1)
        error = (chances.exp() * counts - wanted).T @ inputs + 2 * pull * change
        value = float((pull * change**2).double().sum() - (chances * wanted).double().sum())
        slope = _applied(error, back.mT).double().numpy().ravel()
        return value / count, slope / count

    found = optimize.minimize(
        loss,
        np.zeros(math.prod(shape)),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": MAX_ITERATIONS, "gtol": TOLERANCE},
    )
    return _applied(torch.from_numpy(found.x).float().reshape(shape), back)


def _preconditioner(inputs: Tensor, shares: Tensor, pull: Tensor) -> Tensor:
    """Return, for each class, the way from coordinates in which steps have length 1 to weights.

    The curvature of a class is about p (1 - p) everywhere; a guess costs steps, not precision.
    """
    count, width = inputs.shape
    some = inputs[:: max(1, math.ceil(count / GRAM_ROWS))]
    # Single precision cannot tell a penalty of millionths of the largest curvature from nothing.
    some = some.double()
    gram = some.T @ some * (count / len(some))
    ways = []
    for share, own in zip(shares, pull[:, 0], strict=True):
        curvature = gram * max(float(share * (1 - share)), LEAST_CURVATURE)
        curvature.diagonal().add_(2 * own)
        root = torch.linalg.cholesky(curvature)
        unit = torch.eye(width, dtype=root.dtype)
        ways.append(torch.linalg.solve_triangular(root, unit, upper=False))
    return torch.stack(ways).to(inputs) * math.sqrt(count)


def _applied(rows: Tensor, ways: Tensor) -> Tensor:
    """Return each row times its own matrix."""
    return torch.bmm(rows[:, None], ways)[:, 0]
