"""The U-Net of Ronneberger, Fischer and Brox (2015), in one file.

::

    image -> [conv conv]----------- crop ----------> [conv conv] -> 1x1 -> logits
                 | pool                                  ^ up
             [conv conv]----------- crop ----------> [conv conv]
                 | pool                                  ^ up
                 ...                                    ...
                 `----------------> [conv conv] ---------'

No layer here looks at more than its receptive field: there is no group, instance or
layer normalization, because their statistics are taken over the tile, and then a
pixel's answer would depend on which tile it fell into (measured: 0.6 to 1.7 % of the
labels change). Batch normalization is allowed: at inference its statistics are
constants.

References
----------
.. [1] O. Ronneberger, P. Fischer, T. Brox, "U-Net: Convolutional Networks for
   Biomedical Image Segmentation", MICCAI 2015, arXiv:1505.04597.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from napari_unet.core.architecture import (
    PAPER_BASE_CHANNELS,
    PAPER_DEPTH,
    PAPER_DROPOUT,
    Architecture,
)
from napari_unet.model.layers import ConvBlock, center_crop

if TYPE_CHECKING:
    from napari_unet.core.architecture import Norm, Residual
    from napari_unet.core.receptive import Padding

DROPOUT_LEVELS = 2
"""The authors' definition drops features after the two deepest contracting levels."""


class UNet(nn.Module):
    """A 2D U-Net; with the defaults, the paper's: 23 convolutions, 31,030,658 parameters.

    Parameters
    ----------
    in_channels : int
        Channels of the image.
    num_classes : int
        Classes told apart, i.e. channels of the logits.
    base_channels : int
        Channels of the first level; every level below has twice as many.
    depth : int
        Number of poolings.
    padding : {"valid", "same"}
        "valid" loses the halo on each side (572 -> 388 at depth 4), as the paper does. "same" pads
        with zeros and keeps the size; within the halo of its border it is then wrong, and exactly
        equal to the valid net further inside.
    norm : {None, "batch"}
        Batch normalization after each 3x3 convolution; None in the paper.
    dropout : float
        Share of features dropped in training at the end of the contracting path, after its two
        deepest levels.
    residual : {None, "shared"}
        "shared" makes each level a residual block whose two 3x3 convolutions share one kernel,
        after a 1x1 convolution that sets the number of channels.

    Raises
    ------
    ConfigError
        If an argument is out of range.

    Examples
    --------
    >>> net = UNet(base_channels=2, depth=2)
    >>> net(torch.zeros(1, 1, 60, 60)).shape
    torch.Size([1, 2, 20, 20])
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        base_channels: int = PAPER_BASE_CHANNELS,
        depth: int = PAPER_DEPTH,
        padding: Padding = "valid",
        norm: Norm | None = None,
        dropout: float = PAPER_DROPOUT,
        residual: Residual | None = None,
    ) -> None:
        super().__init__()
        self.architecture = Architecture.parse(
            {
                "in_channels": in_channels,
                "num_classes": num_classes,
                "base_channels": base_channels,
                "depth": depth,
                "padding": padding,
                "norm": norm,
                "dropout": dropout,
                "residual": residual,
            },
            source="UNet",
        )
        widths = [base_channels * 2**level for level in range(depth + 1)]
        inputs = [in_channels, *widths]
        self.down = nn.ModuleList(
            ConvBlock(inputs[i], widths[i], padding=padding, norm=norm, residual=residual)
            for i in range(depth + 1)
        )
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(widths[i + 1], widths[i], kernel_size=2, stride=2)
            for i in reversed(range(depth))
        )
        self.merge = nn.ModuleList(
            ConvBlock(2 * widths[i], widths[i], padding=padding, norm=norm, residual=residual)
            for i in reversed(range(depth))
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Conv2d(base_channels, num_classes, kernel_size=1)
        initialize_weights(self)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits.

        Parameters
        ----------
        image : Tensor
            (N, C, H, W); H and W legal, see `napari_unet.core.receptive.AxisGeometry`.

        Returns
        -------
        Tensor
            (N, num_classes, H - 2 * halo, W - 2 * halo); for ``padding="same"``, H and W.

        Raises
        ------
        TilingError
            If H or W is not legal for this depth.
        """
        return self.head(self.features(image))  # type: ignore[no-any-return]  # nn.Module calls are untyped

    def features(self, image: Tensor) -> Tensor:
        """Return the last `base_channels` features, before the 1x1 convolution to the classes."""
        skips = self._contracted(image)
        x = skips.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            # Nothing here holds a map longer than it is needed: they decide how large a tile fits.
            x = up(x)
            x = merge(torch.cat([center_crop(skips.pop(), x.shape[-2:]), x], dim=1))
        return x

    def level_features(self, image: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return the features of both paths at every level but the bottom, the finest first.

        Parameters
        ----------
        image : Tensor
            As in `forward`.

        Returns
        -------
        expanding, contracting : tuple of Tensor
            For each level i, (N, base_channels * 2**i, h, w): what the expanding path ends with
            there, for level 0 what `features` returns; and what the contracting path has at the
            same places. Pixel k of a level lies in pixel (k + 2) // 2 of the level below; in k // 2
            for ``padding="same"``. Without poolings: `features`, and nothing.
        """
        skips = self._contracted(image)
        x = skips.pop()
        expanding: list[Tensor] = []
        for up, merge, skip in zip(self.up, self.merge, reversed(skips), strict=True):
            x = up(x)
            x = merge(torch.cat([center_crop(skip, x.shape[-2:]), x], dim=1))
            expanding.append(x)
        expanding.reverse()
        contracting = (
            center_crop(skip, end.shape[-2:]) for skip, end in zip(skips, expanding, strict=True)
        )
        return tuple(expanding or [x]), tuple(contracting)

    def _contracted(self, image: Tensor) -> list[Tensor]:
        """Return the end of the contracting path at every level, the bottom last."""
        self.architecture.geometry().output_shape((1, *image.shape[-2:]))
        ends: list[Tensor] = []
        depth = len(self.up)
        for level, block in enumerate(self.down):
            x = block(self.pool(ends[-1]) if ends else image)
            if level > depth - DROPOUT_LEVELS:
                x = self.dropout(x)
            ends.append(x)
        return ends


def initialize_weights(net: nn.Module) -> None:
    """Draw weights from a Gaussian of standard deviation sqrt(2 / N); biases are 0.

    N is the number of incoming nodes of one neuron, e.g. 9 * 64 = 576 for a 3x3 convolution on 64
    channels (Ronneberger et al. 2015, sec. 3). An up-convolution of stride 2 and kernel 2 puts one
    node per channel into each output pixel.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            if module.weight.is_meta:
                # No numbers to draw; asking torch to would import its compiler, which takes 1 s.
                continue
            taps = math.prod(module.kernel_size)
            if isinstance(module, nn.ConvTranspose2d):
                taps //= math.prod(module.stride)
            nn.init.normal_(module.weight, std=math.sqrt(2 / (taps * module.in_channels)))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
