r"""U-Net shape arithmetic: which inputs are legal and what they lose.

A valid 3 x 3 convolution takes one pixel off every side, a pooling halves, an
up-convolution doubles. Counted in input pixels, level *i* of a net with two
convolutions per level costs ``2 * 2**i`` pixels on each side on the way down and
as much on the way up::

    572 570 568                                         392 390 388
        \                                              ^
        284 282 280                          200 198 196
            \                                ^
            140 138 136            104 102 100
                \                  ^
                68 66 64    56 54 52
                   \        ^
                   32 30 28

so the halo of the paper's net is ``4 * (1 + 2 + 4 + 8) + 2 * 16 = 92`` [1]_, Fig. 1.
Everything here is written per axis, for any number of axes: the 2D net that works
on the slices of a volume has halo 0 and stride 1 along z.

References
----------
.. [1] O. Ronneberger, P. Fischer, T. Brox, "U-Net: Convolutional Networks for
   Biomedical Image Segmentation", MICCAI 2015, Figs. 1 and 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from napari_unet.errors import TilingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_unet.core.boxes import Shape

Padding = Literal["valid", "same"]
"""Whether convolutions shrink their input (the paper) or pad it with zeros."""

CONVOLUTIONS_PER_LEVEL = 2
"""Ronneberger et al. 2015, sec. 2: two 3x3 convolutions at every level, each way."""


@dataclass(frozen=True, slots=True)
class AxisGeometry:
    """What one axis of a U-Net does to sizes.

    Parameters
    ----------
    kernels : tuple of int
        Kernel edge at each level from the top to the bottom, odd; ``depth + 1`` numbers.
    pools : tuple of int
        Pooling factor below each level but the last; ``depth`` numbers. 1 = not pooled.
    padding : {"valid", "same"}
        "same" nets keep the size of their input; their outer `halo` is contaminated by the
        zeros they pad with and is cut off, so that both kinds obey the same tile law. Their
        pooling windows lie otherwise than those of the valid net, so the halo is wider (94
        instead of 92 at depth 4): the same net on *n* voxels equals, inside its halo, the valid
        net on the central *n* - 4.
    context : int
        Voxels more on each side that the net takes as channels of its input.

    Examples
    --------
    >>> axis = AxisGeometry(kernels=(3,) * 5, pools=(2,) * 4)
    >>> axis.halo, axis.stride, axis.output_size(572)
    (92, 16, 388)
    """

    kernels: tuple[int, ...]
    pools: tuple[int, ...]
    padding: Padding = "valid"
    context: int = 0

    def __post_init__(self) -> None:
        if len(self.kernels) != len(self.pools) + 1:
            raise TilingError(
                f"{len(self.pools)} poolings need {len(self.pools) + 1} kernels, "
                f"got {len(self.kernels)}"
            )
        if any(k < 1 or k % 2 == 0 for k in self.kernels) or any(p < 1 for p in self.pools):
            raise TilingError(
                f"kernels {self.kernels} must be odd and poolings {self.pools} positive"
            )
        if self.context < 0:
            raise TilingError(f"a context of {self.context} voxels must not be negative")

    @property
    def stride(self) -> int:
        """Shift, in input voxels, under which the net is equivariant: the product of the poolings.

        Tiles whose origins differ by a multiple of it see the same pooling windows, and only
        such tiles agree with one pass over the whole image.
        """
        return math.prod(self.pools)

    @property
    def halo(self) -> int:
        """Voxels lost on each side: ``(input - output) / 2``."""
        one_way, scale = 0, 1
        for kernel, pool in zip(self.kernels, self.pools, strict=False):
            one_way += self._lost_per_pass(kernel) * scale
            scale *= pool
        valid = 2 * one_way + self._lost_per_pass(self.kernels[-1]) * scale + self.context
        if self.padding == "valid":
            return valid
        # Shift that puts a same net's pooling windows where the valid net has them.
        return valid + -one_way % self.stride

    @staticmethod
    def _lost_per_pass(kernel: int) -> int:
        return CONVOLUTIONS_PER_LEVEL * (kernel - 1) // 2

    @property
    def _residue(self) -> int:
        """Legal inputs are this number modulo `stride`."""
        if self.padding == "same":
            return 2 * self.context % self.stride
        return 2 * self.halo + self._output_residue

    @property
    def _output_residue(self) -> int:
        size = 0
        for kernel, pool in zip(reversed(self.kernels[:-1]), reversed(self.pools), strict=True):
            size = size * pool - 2 * self._lost_per_pass(kernel)
        return size % self.stride

    def is_legal(self, size: int) -> bool:
        """Return whether an input of `size` voxels fits: every pooling divides, output is left."""
        return size > 2 * self.halo and (size - self._residue) % self.stride == 0

    def output_size(self, size: int) -> int:
        """Return the size of the usable output: the input less one halo on each side.

        Raises
        ------
        TilingError
            If `size` is not legal.
        """
        if not self.is_legal(size):
            nearest = self.input_size(max(size - 2 * self.halo, 1))
            raise TilingError(
                f"an input edge of {size} does not fit this network; choose {nearest} or a larger "
                f"size from {nearest + self.stride}, {nearest + 2 * self.stride}, ..."
            )
        return size - 2 * self.halo

    def input_size(self, output: int) -> int:
        """Return the smallest legal input that yields at least `output` usable voxels.

        Raises
        ------
        TilingError
            If `output` is not positive.
        """
        if output < 1:
            raise TilingError(f"an output edge must be at least 1 voxel, not {output}")
        least = output + 2 * self.halo
        return least + (self._residue - least) % self.stride


@dataclass(frozen=True, slots=True)
class NetGeometry:
    """The geometry of a network on a volume: one `AxisGeometry` per spatial axis.

    Examples
    --------
    >>> net = unet_geometry(depth=4)
    >>> net.halo, net.stride, net.output_shape((1, 572, 572))
    ((0, 92, 92), (1, 16, 16), (1, 388, 388))
    """

    axes: tuple[AxisGeometry, ...]

    @property
    def halo(self) -> Shape:
        """Voxels read around a write box, on each side of each axis."""
        return tuple(axis.halo for axis in self.axes)

    @property
    def stride(self) -> Shape:
        """Grid on which tile origins must lie, per axis."""
        return tuple(axis.stride for axis in self.axes)

    def output_shape(self, shape: Sequence[int]) -> Shape:
        """Return the usable output of an input of `shape`; raise `TilingError` if not legal."""
        return tuple(a.output_size(n) for a, n in zip(self.axes, shape, strict=True))

    def input_shape(self, output: Sequence[int]) -> Shape:
        """Return the smallest legal input shape whose output covers `output`."""
        return tuple(a.input_size(n) for a, n in zip(self.axes, output, strict=True))


FLAT_AXIS_KERNEL = 1
"""Kernel edge along an axis that a network does not look along."""


def unet_geometry(
    depth: int,
    *,
    padding: Padding = "valid",
    kernel: int = 3,
    flat_axes: int = 1,
    axes: int = 3,
    context: int = 0,
) -> NetGeometry:
    """Return the geometry of a U-Net of `depth` poolings on a volume.

    Parameters
    ----------
    depth : int
        Number of poolings; 4 in the paper.
    padding : {"valid", "same"}
        See `AxisGeometry`.
    kernel : int
        Edge of the convolutions, odd.
    flat_axes : int
        Leading axes that the network does not look along: 1 for a 2D net on (z, y, x).
    axes : int
        Number of spatial axes.
    context : int
        Neighbors on each side along the flat axes that the network takes as channels: the halo of
        these axes.
    """
    flat = AxisGeometry((FLAT_AXIS_KERNEL,) * (depth + 1), (1,) * depth, padding, context)
    seen = AxisGeometry((kernel,) * (depth + 1), (2,) * depth, padding)
    return NetGeometry((flat,) * flat_axes + (seen,) * (axes - flat_axes))
