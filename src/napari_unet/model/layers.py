"""The parts of a U-Net: two convolutions per level, and the crop of a skip connection."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, cast

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.core.architecture import Norm, Residual
    from napari_unet.core.receptive import Padding


def center_crop(image: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the central (H, W) part of (N, C, H, W); differences are even by construction."""
    top = (image.shape[-2] - shape[-2]) // 2
    left = (image.shape[-1] - shape[-1]) // 2
    return image[..., top : top + shape[-2], left : left + shape[-1]]


class ConvBlock(nn.Module):
    """Two 3x3 convolutions with ReLU; optionally batch-normalized, optionally residual.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels before and after.
    padding, norm, residual
        See `napari_unet.model.unet.UNet`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        padding: Padding,
        norm: Norm | None,
        residual: Residual | None,
    ) -> None:
        super().__init__()
        edge = 1 if padding == "same" else 0
        bias = norm is None
        first_in = in_channels
        self.project: nn.Conv2d | None = None
        if residual:
            self.project = nn.Conv2d(in_channels, out_channels, kernel_size=1)
            first_in = out_channels
        self.first = nn.Conv2d(first_in, out_channels, kernel_size=3, padding=edge, bias=bias)
        self.second: nn.Conv2d | None = None
        if not residual:
            self.second = nn.Conv2d(
                out_channels, out_channels, kernel_size=3, padding=edge, bias=bias
            )
        self.norms = nn.ModuleList(nn.BatchNorm2d(out_channels) for _ in range(2 if norm else 0))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, out_channels, H', W'), H' = H - 4 for valid and H for same padding."""
        shortcut = None
        if self.project is not None:
            x = shortcut = self.project(x)
        x = self.first(x)
        if self.norms:
            x = self.norms[0](x)
        x = self.relu(x)
        # With shared weights there is no second convolution: the first one is used twice.
        x = (self.first if self.second is None else self.second)(x)
        if self.norms:
            x = self.norms[1](x)
        if shortcut is not None:
            x = x + center_crop(shortcut, x.shape[-2:])
        return self.relu(x)  # type: ignore[no-any-return]  # nn.Module calls are untyped

    def fold_norm(self) -> None:
        """Fold batch normalization into the convolutions, in place; only right in eval mode.

        The two uses of a shared convolution have different statistics, so they become two.
        """
        if not self.norms:
            return
        second = copy.deepcopy(self.first) if self.second is None else self.second
        first_norm, second_norm = self.norms
        self.first = fuse_conv_bn_eval(self.first, cast("nn.BatchNorm2d", first_norm))
        self.second = fuse_conv_bn_eval(second, cast("nn.BatchNorm2d", second_norm))
        self.norms = nn.ModuleList()
