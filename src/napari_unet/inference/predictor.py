"""From a batch of tiles to classes and probabilities, on one device."""

from __future__ import annotations

import ctypes
import sys
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_unet.core.classes import FIRST_CLASS
from napari_unet.core.tiling import slices_as_channels
from napari_unet.errors import BackendError, NonFiniteError, OutOfMemoryError
from napari_unet.inference.device import AUTOCAST

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from torch import Tensor, nn

    from napari_unet.core.boxes import Box, Shape
    from napari_unet.core.job import Average
    from napari_unet.core.receptive import NetGeometry
    from napari_unet.inference.device import Backend

ALLOCATION_FAILED = (
    "allocate memory",
    "could not create a primitive",
    "could not create a memory",
    "ALLOC_FAILED",
    "out of memory",
)
"""What errors say that mean too little memory.

Of PyTorch's CPU allocator, oneDNN (seen with 300 MB left), cuDNN and cuBLAS, and Metal.
"""

VERSIONS: dict[Average, tuple[tuple[int, bool], ...]] = {
    "none": ((0, False),),
    "mirror": ((0, False), (0, True), (2, True), (2, False)),
    "rotate": ((0, False), (1, False), (2, False), (3, False)),
    "d4": tuple((turns, mirrored) for mirrored in (False, True) for turns in range(4)),
}
"""Quarter turns and mirroring of each version of the input that is averaged.

Tiles keep the tile law under them: the far ends of all legal inputs lie on one grid, as their
origins do, so a mirrored or turned tile sees the pooling windows of the mirrored or turned image.
"""


class Predictor:
    """A network on a device.

    Parameters
    ----------
    net : torch.nn.Module
        Maps (N, C, H, W) to logits; moved to the device, in channels-last order, in eval mode.
    geometry : NetGeometry
        Its halo on (z, y, x).
    backend : Backend
        Device and precision.
    batch_size : int
        Tiles computed together. A smaller batch is filled up, because libraries choose other
        kernels for other batch sizes and then the last digits differ.
    average : {"none", "mirror", "rotate", "d4"}
        Versions of the input whose probabilities are averaged.

    Attributes
    ----------
    batch_size : int
        As given, until `inference.fitting` finds that the device has not enough memory for it.
    largest_tile : tuple of int or None
        Edges of the largest write box that the device has memory for, (z, y, x) in voxels of the
        image; None = none was too large yet.
    """

    def __init__(
        self,
        net: nn.Module,
        geometry: NetGeometry,
        backend: Backend,
        batch_size: int = 1,
        average: Average = "none",
    ) -> None:
        self._net = net.eval().to(device=backend.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # stubs lack memory_format
        self._halo = geometry.halo[-2:]
        self._backend = backend
        self._versions = VERSIONS[average]
        self.batch_size = batch_size
        self.largest_tile: Shape | None = None

    def release_memory(self) -> None:
        """Give back what the device's allocator keeps for later; call it after running out."""
        if self._backend.device.type == "cuda":
            torch.cuda.empty_cache()
        elif self._backend.device.type == "mps":
            torch.mps.empty_cache()
        elif sys.platform == "linux":
            # Without that, what a tile of 256 had taken before it failed was missing to one of 16.
            with suppress(OSError, AttributeError):
                ctypes.CDLL(None).malloc_trim(0)

    def __call__(
        self,
        images: Sequence[npt.NDArray[np.float32]],
        crops: Sequence[Box],
        *,
        probabilities: bool,
    ) -> list[tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32] | None]]:
        """Return each tile's classes, and its probabilities when asked for.

        Parameters
        ----------
        images : sequence of ndarray
            Up to `batch_size` network inputs of one shape, (c, 2k + 1, h, w): a slice with the k
            neighbors on each side that the network takes as channels.
        crops : sequence of Box
            Wanted part of each output, (z, y, x).
        probabilities : bool
            Whether to return them too.

        Returns
        -------
        list of (labels, probabilities or None)
            uint8 (1, h', w'), the k-th class being k; float32 (class, 1, h', w').

        Raises
        ------
        OutOfMemoryError
            If the device has not enough memory for the batch.
        NonFiniteError
            If the network answers with NaN or infinity.
        BackendError
            If it fails in another way.
        """
        try:
            return self._answers(images, crops, probabilities=probabilities)
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise self._out_of_memory(images) from error
        except BackendError:
            raise
        except RuntimeError as error:
            # These libraries have no exception class for it.
            if any(words in str(error) for words in ALLOCATION_FAILED):
                raise self._out_of_memory(images) from error
            raise BackendError(f"the network failed on {self._backend.label}: {error}") from error

    def _answers(
        self,
        images: Sequence[npt.NDArray[np.float32]],
        crops: Sequence[Box],
        *,
        probabilities: bool,
    ) -> list[tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32] | None]]:
        """Return what `__call__` does, with the errors of the library."""
        batch = np.stack([slices_as_channels(image) for image in images])
        missing = self.batch_size - len(batch)
        if missing > 0:
            batch = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)])
        scores = self._forward(batch)
        chances = None
        if len(self._versions) > 1:
            scores = chances = self._averaged(batch, scores)
        elif probabilities:
            # Before the crop: vectorized loops round their last few values otherwise, and the bytes
            # of a pixel would depend on where the crop ends.
            chances = torch.softmax(scores, dim=1)
        results = []
        for index, crop in enumerate(crops):
            inside: tuple[int | slice, ...] = (index, slice(None), *crop.slices[1:])
            labels = (scores[inside].argmax(dim=0) + FIRST_CLASS).to(torch.uint8).cpu().numpy()
            kept = None
            if probabilities and chances is not None:
                kept = chances[inside].cpu().numpy()[:, None]
            results.append((labels[None], kept))
        return results

    def _averaged(self, batch: npt.NDArray[np.float32], first: Tensor) -> Tensor:
        """Return the mean probabilities of all versions, given the logits of the first."""
        total = torch.softmax(first, dim=1)
        for turns, mirrored in self._versions[1:]:
            version = np.rot90(batch, turns, axes=(-2, -1))
            version = version[..., ::-1] if mirrored else version
            logits = self._forward(np.ascontiguousarray(version))
            logits = logits.flip(-1) if mirrored else logits
            total += torch.softmax(torch.rot90(logits, -turns, (-2, -1)), dim=1)
        return total / len(self._versions)

    def _forward(self, batch: npt.NDArray[np.float32]) -> Tensor:
        device = self._backend.device
        reduced = AUTOCAST.get(self._backend.precision)
        context = nullcontext() if reduced is None else torch.autocast(device.type, dtype=reduced)
        with torch.inference_mode(), context:
            tensor = torch.from_numpy(batch).to(device, memory_format=torch.channels_last)
            logits: Tensor = self._net(tensor).float()
            if logits.shape[-2:] == tensor.shape[-2:]:
                top, left = self._halo
                height, width = tensor.shape[-2:]
                logits = logits[..., top : height - top, left : width - left]
            finite = bool(torch.isfinite(logits).all())
        if not finite:
            raise NonFiniteError(
                "the network answered with NaN or infinity; with --precision fp16 try bf16 or "
                "fp32, and check the image's intensity range"
            )
        return logits

    def _out_of_memory(self, images: Sequence[npt.NDArray[np.float32]]) -> OutOfMemoryError:
        height, width = images[0].shape[-2:]
        return OutOfMemoryError(
            f"out of memory on {self._backend.label} with {self.batch_size} "
            f"input{'s' * (self.batch_size > 1)} of "
            f"{height} x {width} pixels at once; choose a smaller --batch-size or --tile-size"
        )
