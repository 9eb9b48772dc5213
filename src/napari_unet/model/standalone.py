# BSD 3-Clause License
#
# Copyright (c) 2026, the napari-unet developers
#
# Redistribution and use in source and binary forms, with or without
# modification, are permitted provided that the following conditions are met:
#
# 1. Redistributions of source code must retain the above copyright notice, this
#    list of conditions and the following disclaimer.
#
# 2. Redistributions in binary form must reproduce the above copyright notice,
#    this list of conditions and the following disclaimer in the documentation
#    and/or other materials provided with the distribution.
#
# 3. Neither the name of the copyright holder nor the names of its
#    contributors may be used to endorse or promote products derived from
#    this software without specific prior written permission.
#
# THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS "AS IS"
# AND ANY EXPRESS OR IMPLIED WARRANTIES, INCLUDING, BUT NOT LIMITED TO, THE
# IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS FOR A PARTICULAR PURPOSE ARE
# DISCLAIMED. IN NO EVENT SHALL THE COPYRIGHT HOLDER OR CONTRIBUTORS BE LIABLE
# FOR ANY DIRECT, INDIRECT, INCIDENTAL, SPECIAL, EXEMPLARY, OR CONSEQUENTIAL
# DAMAGES (INCLUDING, BUT NOT LIMITED TO, PROCUREMENT OF SUBSTITUTE GOODS OR
# SERVICES; LOSS OF USE, DATA, OR PROFITS; OR BUSINESS INTERRUPTION) HOWEVER
# CAUSED AND ON ANY THEORY OF LIABILITY, WHETHER IN CONTRACT, STRICT LIABILITY,
# OR TORT (INCLUDING NEGLIGENCE OR OTHERWISE) ARISING IN ANY WAY OUT OF THE USE
# OF THIS SOFTWARE, EVEN IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE.
"""The U-Net in one file that needs PyTorch only: it travels with exported models.

The weights are those of `napari_unet.UNet`, under the same names. Two things differ: the answer
is probabilities instead of logits, and every skip connection is cropped by a number that is known
beforehand, so that the network can be exported for images of any legal size. A valid network of
depth d takes images whose edges n fulfill: (n - smallest legal edge) is a multiple of 2**d.

References
----------
.. [1] O. Ronneberger, P. Fischer, T. Brox, "U-Net: Convolutional Networks for
   Biomedical Image Segmentation", MICCAI 2015, arXiv:1505.04597.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def crop(image: Tensor, margin: int) -> Tensor:
    """Return (N, C, H, W) without `margin` pixels on each of its four sides."""
    return image[..., margin:-margin, margin:-margin] if margin else image


class ConvBlock(nn.Module):
    """Two 3x3 convolutions with ReLU; optionally batch-normalized, optionally residual.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels before and after.
    valid : bool
        Whether each convolution takes one pixel off every side.
    norm, residual : str or None
        See `StandaloneUNet`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        valid: bool,
        norm: str | None,
        residual: str | None,
    ) -> None:
        super().__init__()
        edge, bias = (0 if valid else 1), norm is None
        self.margin = 2 if valid else 0
        self.project: nn.Conv2d | None = None
        if residual:
            self.project = nn.Conv2d(in_channels, out_channels, 1)
            in_channels = out_channels
        self.first = nn.Conv2d(in_channels, out_channels, 3, padding=edge, bias=bias)
        self.second: nn.Conv2d | None = None
        if not residual:
            self.second = nn.Conv2d(out_channels, out_channels, 3, padding=edge, bias=bias)
        self.norms = nn.ModuleList(nn.BatchNorm2d(out_channels) for _ in range(2 if norm else 0))

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, out_channels, H', W')."""
        shortcut: Tensor | None = None
        if self.project is not None:
            x = shortcut = self.project(x)
        x = self.first(x)
        if self.norms:
            x = self.norms[0](x)
        x = torch.relu(x)
        # With shared weights there is no second convolution: the first one is used twice.
        x = (self.first if self.second is None else self.second)(x)
        if self.norms:
            x = self.norms[1](x)
        if shortcut is not None:
            x = x + crop(shortcut, self.margin)
        return torch.relu(x)


class StandaloneUNet(nn.Module):
    """A 2D U-Net that answers with the probability of each class.

    Parameters
    ----------
    in_channels : int
        Channels of the image.
    num_classes : int
        Channels of the answer.
    base_channels : int
        Channels of the first level; every level below has twice as many.
    depth : int
        Number of poolings.
    padding : {"valid", "same"}
        Whether convolutions shrink the image or pad it with zeros.
    norm : {None, "batch"}
        Batch normalization after each 3x3 convolution.
    dropout : float
        Share of features dropped in training after the two deepest contracting levels.
    residual : {None, "shared"}
        "shared": residual blocks whose two 3x3 convolutions share one kernel.
    """

    def __init__(  # the arguments of an exported model's description
        self,
        in_channels: int = 1,
        num_classes: int = 2,
        base_channels: int = 64,
        depth: int = 4,
        padding: str = "valid",
        norm: str | None = None,
        dropout: float = 0.5,
        residual: str | None = None,
    ) -> None:
        super().__init__()
        valid = padding == "valid"
        widths = [base_channels * 2**level for level in range(depth + 1)]
        inputs = [in_channels, *widths]
        self.down = nn.ModuleList(
            ConvBlock(inputs[i], widths[i], valid, norm, residual) for i in range(depth + 1)
        )
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(widths[i + 1], widths[i], 2, stride=2)
            for i in reversed(range(depth))
        )
        self.merge = nn.ModuleList(
            ConvBlock(2 * widths[i], widths[i], valid, norm, residual)
            for i in reversed(range(depth))
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Conv2d(base_channels, num_classes, 1)
        self.margins = skip_margins(depth) if valid else [0] * depth

    def forward(self, image: Tensor) -> Tensor:
        """Return probabilities (N, num_classes, H', W') of an image (N, in_channels, H, W)."""
        skips: list[Tensor] = []
        x, depth = image, len(self.up)
        for level, block in enumerate(self.down):
            x = block(x)
            if level > depth - 2:
                x = self.dropout(x)
            if level < depth:
                skips.append(x)
                x = self.pool(x)
        for up, merge, margin in zip(self.up, self.merge, self.margins, strict=True):
            x = merge(torch.cat([crop(skips.pop(), margin), up(x)], dim=1))
        return torch.softmax(self.head(x), dim=1)


def skip_margins(depth: int) -> list[int]:
    """Return what valid skip connections lose on each side, from the deepest to the top.

    The paper's, of depth 4:

    >>> skip_margins(4)
    [4, 16, 40, 88]
    """
    margins, lost = [], 0
    for _ in range(depth):
        # Two convolutions cost 2 pixels a side; the pooling below doubles what was lost there.
        lost = 2 * (lost + 2)
        margins.append(lost)
        lost += 2
    return margins
