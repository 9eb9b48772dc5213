r"""Another set of classes for a trained network: rows of its last layer are moved, added, dropped.

The body keeps its weights. The logit of a class that the network did not know starts as the mean
of the known ones, less `NEW_CLASS_MARGIN`:

.. math:: z_{new} = \frac{1}{K} \sum_{k=1}^{K} z_k - m \le \max_k z_k - m

So it never wins at the start, whatever the image, and because the geometric mean is at most the
arithmetic one, its probability is at most :math:`e^{-m} / K` of that of the known classes
together. A bias alone could not promise that: softmax does not care for the level of its logits, so
no constant is low for every network and image.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from napari_unet.core.class_labels import check_class_names
from napari_unet.errors import ConfigError
from napari_unet.model.unet import UNet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

NEW_CLASS_MARGIN = math.log(100)
"""Of a new class below the mean logit: of two known classes, 0.5 % of the probability at most."""


def adapt_head(
    net: UNet,
    old_classes: Sequence[str],
    new_classes: Sequence[str],
    rename: Mapping[str, str] | None = None,
) -> UNet:
    """Return a network of other classes with the same body; `net` itself stays as it is.

    Parameters
    ----------
    net : UNet
        Its batch normalization is not folded.
    old_classes : sequence of str
        What its outputs stand for.
    new_classes : sequence of str
        What the outputs are to stand for. Classes are matched by name: known ones keep their row
        of the last layer, new ones start low (see this module), others vanish. If none is known,
        the last layer is drawn anew from torch's generator.
    rename : mapping, optional
        Old names -> new names, applied before they are matched.

    Returns
    -------
    UNet
        In the mode (training or evaluation) and on the device of `net`. With the same classes in
        the same order its answers are the same, bit by bit.

    Raises
    ------
    ConfigError
        If names do not fit the outputs, an unknown class is renamed, or two get the same name.
    """
    known = renamed_classes(old_classes, rename or {})
    if len(known) != net.architecture.num_classes:
        raise ConfigError(
            f"{len(known)} classes ({', '.join(known)}) do not name the "
            f"{net.architecture.num_classes} outputs of the network; name each output once"
        )
    names = check_class_names(new_classes)
    adapted = UNet(**{**net.architecture.arguments(), "num_classes": len(names)})
    body = {name: t for name, t in net.state_dict().items() if not name.startswith("head.")}
    if set(names) & set(known):
        rows = {name: t.detach() for name, t in net.head.named_parameters()}
        body |= {f"head.{k}": class_rows(t, names, known) for k, t in rows.items()}
    else:
        body |= {f"head.{name}": t for name, t in adapted.head.state_dict().items()}
    adapted.load_state_dict(body)
    device = next(net.parameters()).device
    return adapted.to(device).train(net.training)


def renamed_classes(classes: Sequence[str], rename: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of a model's classes after some are renamed.

    Raises
    ------
    ConfigError
        If a name to be changed is none of them, or two classes get the same name.
    """
    for name in rename:
        if name not in classes:
            raise ConfigError(
                f"the class {name!r} cannot be renamed: the model has {', '.join(classes)}"
            )
    names = tuple(rename.get(name, name) for name in classes)
    if len(set(names)) < len(names):
        raise ConfigError(
            f"after renaming, the classes would be {', '.join(names)}; give each another name"
        )
    return names


def class_rows(old: Tensor, names: Sequence[str], known: Sequence[str]) -> Tensor:
    """Return weights or biases of a last layer for other classes, at least one of them known.

    Parameters
    ----------
    old : Tensor
        (known, ...) of the last layer; biases have no second axis.
    names : sequence of str
        The classes wanted.
    known : sequence of str
        Those of `old`.

    Returns
    -------
    Tensor
        (names, ...): the rows of known classes, and for others what this module says; the margin
        goes into the biases.
    """
    kept = [known.index(name) for name in names if name in known]
    new_row = old[kept].mean(dim=0)
    if old.ndim == 1:
        new_row = new_row - NEW_CLASS_MARGIN
    return torch.stack([old[known.index(n)] if n in known else new_row for n in names])
