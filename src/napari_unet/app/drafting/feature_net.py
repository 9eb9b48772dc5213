"""The network without its last layer: from an image to features of every level."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

import torch

from napari_unet.app.drafting.feature_tile import FeatureTile, LevelGrid
from napari_unet.core.boxes import Box
from napari_unet.core.tiling import slices_as_channels
from napari_unet.errors import BackendError, NonFiniteError, OutOfMemoryError
from napari_unet.inference.patience import patiently
from napari_unet.inference.predictor import ALLOCATION_FAILED

if TYPE_CHECKING:
    from torch import Tensor

    from napari_unet.app.drafting.network_image import NetworkImage
    from napari_unet.core.header import ModelHeader
    from napari_unet.inference.device import Backend
    from napari_unet.model.unet import UNet


class FeatureNet:
    """Computes the features that a draft is made from.

    Those of both paths at all levels, but not the coarsest ones of the expanding path nor the
    bottom: these say what the coarsest of the contracting path say, and a fit to few strokes
    is better without (``benchmarks/draft.py``).

    Parameters
    ----------
    net : UNet
        In evaluation mode; moved to the device.
    header : ModelHeader
        What its file says.
    backend : Backend
        Where it runs, in fp32.
    """

    def __init__(self, net: UNet, header: ModelHeader, backend: Backend) -> None:
        self._net = net.eval().to(device=backend.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # stubs lack memory_format
        self._backend = backend
        self._geometry = header.geometry()
        self._grid = LevelGrid.of(header.architecture.padding, self._geometry.halo[-1])
        base, depth = header.architecture.base_channels, header.architecture.depth
        self._expanding = max(depth - 1, 1)
        self.widths = tuple(
            base * 2**level * ((level < self._expanding) + (level < depth))
            for level in range(max(depth, 1))
        )

    @property
    def bytes_per_pixel(self) -> float:
        """Memory that features take, per pixel of a large tile."""
        return float(sum(width * 4.0 ** (1 - level) for level, width in enumerate(self.widths)))

    def tile(self, image: NetworkImage, box: Box) -> FeatureTile:
        """Return the features of a box of the network's grid, one slice thick.

        Parameters
        ----------
        image : NetworkImage
            The image.
        box : Box
            Begins at multiples of the stride, inside the image.

        Raises
        ------
        InputError
            If a part of the image that it needs is damaged.
        OutOfMemoryError
            If the device has not enough memory for it.
        NonFiniteError
            If the network answers with NaN or infinity.
        BackendError
            If it fails in another way.
        """
        start = tuple(a - h for a, h in zip(box.start, self._geometry.halo, strict=True))
        shape = self._geometry.input_shape(box.shape)
        read = Box(start, tuple(a + n for a, n in zip(start, shape, strict=True)))
        values = patiently(partial(image.read_input, read), threading.Event())
        try:
            maps = self._maps(torch.from_numpy(slices_as_channels(values)[None]))
            # Copies on the device are made here, too.
            tile = FeatureTile(box, maps, self._grid)
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise self._out_of_memory(box) from error
        except RuntimeError as error:
            if any(words in str(error) for words in ALLOCATION_FAILED):
                raise self._out_of_memory(box) from error
            raise BackendError(f"the network failed on {self._backend.label}: {error}") from error
        if not tile.is_finite:
            raise NonFiniteError(
                f"the network answers with NaN or infinity at {box.start}..{box.stop}; check the "
                "image's intensity range"
            )
        return tile

    def _maps(self, image: Tensor) -> list[Tensor]:
        """Return the features of each level, (channels, h, w)."""
        with torch.no_grad():
            tensor = image.to(self._backend.device, memory_format=torch.channels_last)
            expanding, contracting = self._net.level_features(tensor)
        kept = expanding[: self._expanding]
        levels: list[list[Tensor]] = [[] for _ in self.widths]
        for path in (kept, contracting):
            for level, features in enumerate(path):
                levels[level].append(features[0])
        return [torch.cat(parts) for parts in levels]

    def _out_of_memory(self, box: Box) -> OutOfMemoryError:
        height, width = box.shape[1:]
        return OutOfMemoryError(
            f"out of memory on {self._backend.label} with {height} x {width} pixels at once; end "
            "other programs that use this device, or choose another --device"
        )
