"""How large a training patch should be: as large as memory, time and the images allow.

A large patch is better than many small ones (Ronneberger et al. 2015, sec. 3): its halo costs less.
The choice depends on the machine, and so do the weights that follow from it; whoever trains records
the edge that was chosen and gives it as `output_edge` to train the same way again.
"""

from __future__ import annotations

import copy
import math
import time
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field
from torch import nn

from napari_unet.core.settings import Settings
from napari_unet.training.precision import AUTOCAST, FixedPrecision

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_unet.core.receptive import AxisGeometry, NetGeometry

SMALL_OUTPUT_EDGE = 64
"""Output edge, in pixels, that the time of a step is measured at."""

LEAST_HALOS = 2
"""Output edge, in halos, below which time does not push: 196 pixels at depth 4. A smaller patch is
mostly halo, and other programs, which come and go, would make it small. Per million pixels learnt,
with 16 channels at depth 4 and two threads in bf16, an edge of 132 took 3.26 s, one of 260 1.84 s.
"""

LARGEST_ON_CPU = 260
"""Output edge, in pixels, above which time allows nothing on a CPU: more steps are worth more.

In as much time, fine-tuning on strokes came out better with 260 steps of 260 pixels than with 150
of 388 (membrane F1 0.846 against 0.836) or 560 of 132 (0.843, and it began to learn by heart).
"""

LARGEST_OUTPUT_EDGE = 512
"""Output edge, in pixels, above which there is little halo left to save: at depth 4, 1.9 pixels are
read there per pixel learnt, against 3.2 at 232."""

MEASUREMENTS = 3
"""Steps measured; the shortest counts, because the first prepares and others may be disturbed."""

LONG_SECONDS = 0.5
"""A step that takes longer is measured once: preparations matter little then."""

BYTES_PER_PIXEL = 80
"""Peak memory of a step per input pixel, base channel and patch, in fp32 with batch normalization.

Measured on a CPU, all allocations of forward and backward counted: 43 to 68 at depth 2 and 4, 8 to
32 base channels and output edges from 68 to 388; 40 without batch normalization, 35 in bf16.
"""

MEMORY_SHARE = 0.5
"""Share of the free memory that a step may take; convolutions have workspaces of their own."""


class TileSizeSettings(Settings):
    """What bounds the edge of a training patch.

    Parameters
    ----------
    output_edge : int or None
        Edge of the label patch, in pixels: taken as it is, nothing is measured. None = choose.
    target_seconds : float
        Greatest estimated time of one step.
    batch_size : int
        Patches per step.
    """

    output_edge: Annotated[int, Field(ge=1)] | None = None
    target_seconds: Annotated[float, Field(gt=0)] = 0.25
    batch_size: Annotated[int, Field(ge=1)] = 1


def choose_output_edge(
    geometry: NetGeometry,
    base_channels: int,
    settings: TileSizeSettings,
    *,
    image_edge: int,
    memory_bytes: int | None = None,
    measure: Callable[[int], float] | None = None,
) -> int:
    """Return the edge of the label patch that a training should use, in pixels.

    It is the largest one that fits into half of the free memory, whose step takes no longer than
    the target, and that is no larger than the images need. Memory may push it down to the smallest
    edge that the network can have, time to about twice the halo: 196 pixels at depth 4. Time is
    estimated from one step that is measured at a small edge, in proportion to the multiplications;
    on a CPU, where free memory is not known, it allows no more than 260 pixels.

    Parameters
    ----------
    geometry : NetGeometry
        Of the network, (z, y, x).
    base_channels : int
        Channels of its first level.
    settings : TileSizeSettings
        Bounds; a given `output_edge` is returned as the next edge that the network can have.
    image_edge : int
        Longest edge of the largest plane, in pixels.
    memory_bytes : int or None
        Free memory of the device, see `free_memory`; None = no bound, as on a CPU.
    measure : callable or None
        Returns the seconds of one step with one patch for an input edge, see `step_seconds`;
        None = no bound.
    """
    axis = geometry.axes[-1]
    if settings.output_edge is not None:
        return axis.output_size(axis.input_size(settings.output_edge))
    edges = list(_edges(axis, min(image_edge, LARGEST_OUTPUT_EDGE)))
    fitting = edges
    if memory_bytes is not None:
        bound = MEMORY_SHARE * memory_bytes / (BYTES_PER_PIXEL * base_channels)
        fitting = [e for e in fitting if settings.batch_size * axis.input_size(e) ** 2 <= bound]
    if measure is not None:
        small = axis.input_size(min(SMALL_OUTPUT_EDGE, edges[-1]))
        seconds = settings.batch_size * measure(small)
        affordable = settings.target_seconds / seconds * multiplications(axis, small)
        least = axis.output_size(axis.input_size(max(LEAST_HALOS * axis.halo, SMALL_OUTPUT_EDGE)))
        most = LARGEST_ON_CPU if memory_bytes is None else edges[-1]
        fitting = [
            e
            for e in fitting
            if e <= least or (e <= most and multiplications(axis, axis.input_size(e)) <= affordable)
        ]
    return fitting[-1] if fitting else edges[0]


def step_seconds(net: nn.Module, input_edge: int, precision: FixedPrecision = "fp32") -> float:
    """Return how long a network takes to learn from one square patch; its weights stay as they are.

    Drawing the patch is not part of it.

    Parameters
    ----------
    net : torch.nn.Module
        A `UNet` on its device.
    input_edge : int
        Legal edge of its input, in pixels.
    precision : {"fp32", "bf16", "fp16"}
        Arithmetic of the convolutions.
    """
    # A copy, because a forward pass in training changes the statistics of batch normalization.
    net = copy.deepcopy(net).train()
    parameters = [p for p in net.parameters() if p.requires_grad]
    device = parameters[0].device
    channels = next(m.in_channels for m in net.modules() if isinstance(m, nn.Conv2d))
    image = torch.zeros((1, channels, input_edge, input_edge), device=device)
    image = image.contiguous(memory_format=torch.channels_last)
    dtype = AUTOCAST.get(precision, torch.bfloat16)
    seconds = math.inf
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        for _ in range(MEASUREMENTS):
            start = time.perf_counter()
            with torch.autocast(device.type, dtype, enabled=precision in AUTOCAST):
                loss = net(image).float().square().mean()
            # Reading a number waits for the device.
            float(torch.autograd.grad(loss, parameters)[0].sum())
            seconds = min(seconds, time.perf_counter() - start)
            if seconds > LONG_SECONDS:
                break
    return seconds


def free_memory(device: torch.device) -> int | None:
    """Return the free bytes of a GPU; None where nothing is known, as on a CPU."""
    if device.type != "cuda":
        return None
    return int(torch.cuda.mem_get_info(device)[0])


def multiplications(axis: AxisGeometry, input_edge: int) -> int:
    """Return the multiplications of a U-Net on a square, up to a factor that all edges share.

    Only convolutions inside levels are counted: those from the image, to the classes and up take
    little. With the time of one edge, on one core of a CPU at depth 4, this foretells the time of
    others from 220 to 572 within 20 %; the number of pixels does so within 45 %.

    Examples
    --------
    >>> from napari_unet.core.receptive import unet_geometry
    >>> axis = unet_geometry(depth=4).axes[-1]
    >>> round(multiplications(axis, 572) / multiplications(axis, 252), 1)
    9.8
    """
    depth, total, size = len(axis.pools), 0, input_edge

    def pass_level(level: int, inputs: int) -> None:
        nonlocal total, size
        for channels in (inputs, 2**level):
            size -= 0 if axis.padding == "same" else axis.kernels[level] - 1
            total += size**2 * channels * 2**level

    for level in range(depth + 1):
        size //= axis.pools[level - 1] if level else 1
        pass_level(level, 2**level // 2)
    for level in reversed(range(depth)):
        size *= axis.pools[level]
        pass_level(level, 2 * 2**level)
    return total


def _edges(axis: AxisGeometry, wanted: int) -> Iterator[int]:
    """Yield the output edges that the network can have, up to the first that covers `wanted`."""
    edge = axis.output_size(axis.input_size(1))
    yield edge
    while edge < wanted:
        edge += axis.stride
        yield edge
